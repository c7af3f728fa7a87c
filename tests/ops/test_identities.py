"""What softmax must be, whatever computes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import PROMISED, assert_within
from strategies import FAMILIES, FLOATS, WIDE_FLOATS, family, logit_batches, logit_rows

MP = oracle.MP
wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
rows_of_any_dtype = st.sampled_from([np.float32, np.float64]).flatmap(logit_rows)
batches = st.sampled_from([np.float32, np.float64]).flatmap(logit_batches)
SMALL = (2, 3, 10, 100, 1_000)


@given(logits=batches)
def test_probabilities_sum_to_one(logits):
    """Each is right to 2.9 ULP (4 in float64), so their exact sum is as right, relative to 1."""
    prob = nx.softmax(logits)
    eps = float(np.finfo(prob.dtype).eps)
    allowed = PROMISED["prob"][prob.dtype] * eps + logits.shape[1] * 3 * float(oracle.smallest(prob.dtype))
    for row in prob:
        assert abs(MP.fsum([oracle.exact(p) for p in row]) - 1) <= allowed


@given(logits=batches)
def test_probabilities_lie_between_zero_and_one(logits):
    prob = nx.softmax(logits)
    assert ((prob >= 0) & (prob <= 1)).all()
    assert (nx.log_softmax(logits) <= 0).all()
    assert (nx.cross_entropy(logits, logits.argmax(axis=1), reduction="none") >= 0).all()


@wide
@pytest.mark.parametrize("shift", [1.0, -3.0, 1024.0, 2.0**20, -(2.0**22)])
def test_a_shift_changes_nothing(shift, dtype, rng):
    """The shifted logits are exact here, so both have one truth."""
    for _ in range(5):
        row = rng.integers(-60, 60, 30).astype(dtype)
        shifted = row + dtype.type(shift)
        assert (shifted.astype(np.float64) - shift == row).all()
        truth = oracle.state(row)
        assert_within(nx.softmax(shifted), truth.prob, "prob")
        assert_within(nx.log_softmax(shifted), truth.log_prob, "log")
        assert_within(nx.logsumexp(shifted), truth.lse + MP.mpf(shift), "log", scale=shifted.max())
        assert_within(nx.cross_entropy(shifted, 3), -truth.log_prob[3], "log")


@given(row=rows_of_any_dtype)
def test_the_order_is_kept_and_ties_stay_ties(row):
    order = np.argsort(row, kind="stable")
    for values in (nx.softmax(row)[order], nx.log_softmax(row)[order]):
        steps = row[order]
        assert (values[1:] >= values[:-1]).all()
        tied = steps[1:] == steps[:-1]
        assert (values[1:][tied] == values[:-1][tied]).all()


@wide
def test_the_order_is_kept_between_neighbouring_numbers(dtype):
    """Logits one ULP apart, around places where a piecewise exp would jump."""
    for start in (-0.35, -0.3466, -0.6932, -1.0, -5.55, -17.3, -50.1):
        row = np.full(400, start, dtype)
        for k in range(1, 400):
            row[k] = np.nextafter(row[k - 1], dtype.type(0))
        both = np.concatenate([row, np.zeros(1, dtype)])
        prob = nx.softmax(both)[:-1]
        assert (np.diff(prob) >= 0).all(), start


@wide
@pytest.mark.parametrize("n_classes", SMALL)
def test_a_probability_is_positive_wherever_the_dtype_can_say_so(n_classes, dtype):
    seen_tiny = 0
    for name in FAMILIES:
        logits = family(name, 24, n_classes, dtype)
        prob = nx.softmax(logits)
        some = max(2, 48 // n_classes) if name == "underflow" else 2
        for row, values in zip(logits[:some], prob[:some], strict=True):
            truth = oracle.softmax(row)
            can = np.array([t >= oracle.smallest(dtype) for t in truth])
            assert (values[can] > 0).all(), name
            seen_tiny += sum(oracle.smallest(dtype) <= t < 1e4 * oracle.smallest(dtype) for t in truth)
    assert seen_tiny > 0


def test_flushing_subnormals_to_zero_would_be_noticed():
    row = np.array([0.0, -95.0], np.float32)
    truth = oracle.softmax(row)[1]
    assert truth >= oracle.smallest(np.float32)
    flushed = np.float32(0.0)
    assert not flushed > 0
    assert oracle.ulp_error(flushed, truth, np.float32) > PROMISED["prob"][np.dtype(np.float32)]
    assert nx.softmax(row)[1] > 0


@given(row=st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=7))
def test_softmax_is_the_gradient_of_logsumexp(row):
    """The slopes come from differences in 60 digits, not from any formula for softmax."""
    slopes = oracle.numerical_gradient(oracle.logsumexp, row)
    for dtype in (np.float32, np.float64):
        assert_within(nx.softmax(np.array(row, dtype)), slopes, "prob")


@wide
def test_two_classes_give_the_sigmoid(dtype, rng):
    for z in np.concatenate([rng.uniform(-80, 80, 200), [0.0, -0.0, 1e-30, 88.0, -103.0]]).astype(dtype):
        sigmoid = 1 / (1 + MP.exp(-oracle.exact(z)))
        prob = nx.softmax(np.array([z, 0], dtype))
        assert_within(prob[0], sigmoid, "prob")
        assert_within(nx.log_softmax(np.array([z, 0], dtype))[0], -MP.log1p(MP.exp(-oracle.exact(z))), "log")
        assert_within(nx.logsumexp(np.array([z, 0], dtype)), MP.log1p(MP.exp(oracle.exact(z))), "log", scale=max(z, 0))


@given(logits=batches, draw=st.randoms(use_true_random=False))
def test_the_gradient_of_cross_entropy_is_p_minus_y(logits, draw):
    target = np.array([draw.choice(np.flatnonzero(row > -np.inf)) for row in logits])
    grad = nx.cross_entropy_with_grad(logits, target, reduction="sum").grad
    prob = nx.softmax(logits)
    one_hot = np.eye(logits.shape[1], dtype=prob.dtype)[target]
    assert grad.dtype == prob.dtype
    room = 4 * np.finfo(prob.dtype).eps
    assert np.abs(grad - (prob - one_hot)).max() <= room
    for row, row_prob, y in zip(grad, prob, target, strict=True):
        away = np.arange(row.size) != y
        limit = 6 * np.maximum(np.spacing(row_prob[away]), float(oracle.smallest(prob.dtype)))
        assert (np.abs(row[away] - row_prob[away]) <= limit).all()


@given(row=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=6), target=st.integers(0, 5))
def test_the_gradient_is_the_slope_of_the_loss(row, target):
    y = target % len(row)
    slopes = oracle.numerical_gradient(lambda z: -oracle.state(z).log_prob[y], row)
    for dtype in (np.float32, np.float64):
        grad = nx.cross_entropy_with_grad(np.array([row], dtype), [y]).grad
        assert_within(grad[0], slopes, "grad")


@wide
def test_every_row_of_the_gradient_sums_to_zero(dtype, rng):
    logits = (10 * rng.standard_normal((50, 33))).astype(dtype)
    grad = nx.cross_entropy_with_grad(logits, rng.integers(0, 33, 50), reduction="sum").grad
    size = np.abs(grad).astype(np.longdouble).sum(axis=1)
    assert (np.abs(grad.astype(np.longdouble).sum(axis=1)) <= 4 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n_classes", [1, 2, 3, 7, 64, 1_001])
def test_equal_logits_share_equally(dtype, n_classes):
    logits = np.full((2, n_classes), 3).astype(dtype)
    truth = MP.mpf(1) / n_classes
    assert_within(nx.softmax(logits)[0], [truth] * n_classes, "prob")
    assert_within(nx.log_softmax(logits)[0], [-MP.log(n_classes)] * n_classes, "log")


@given(row=rows_of_any_dtype)
def test_log_softmax_is_the_log_of_softmax(row):
    """Where the probability is a normal number: d log p = dp / p."""
    prob, log_prob = nx.softmax(row), nx.log_softmax(row)
    normal = prob >= np.finfo(row.dtype).tiny
    gap = np.abs(np.log(prob[normal].astype(np.longdouble)) - log_prob[normal])
    limit = PROMISED["prob"][prob.dtype] + PROMISED["log"][prob.dtype] * np.maximum(1, np.abs(log_prob[normal]))
    assert (gap <= limit * np.finfo(row.dtype).eps).all()


@wide
def test_a_tenfold_row_adds_its_log(dtype, rng):
    row = rng.standard_normal(13).astype(dtype)
    tenfold = nx.logsumexp(np.tile(row, 10))
    assert_within(tenfold, oracle.logsumexp(row) + MP.log(10), "log", scale=row.max())
