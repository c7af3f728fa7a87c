"""Every option of cross_entropy, against 60 digits and against the closed forms people know."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import MP, PROMISED, assert_within
from strategies import WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
# exact in every dtype, so that oracle and library mean the same numbers
WEIGHT = [0.5, 2.0, 3.0, 0.25, 1.0]
LOGITS = [
    [2.0, 1.0, 0.125, -3.5, 0.0],
    [-1.0, 4.0, 30.0, 2.5, 29.0],
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [100.0, -20.0, 3.0, 99.5, 1.0],
    [-0.5, -0.25, -7.0, -6.5, -0.75],
    [5.0, 5.5, 1.0, 0.25, -9.0],
]
TARGET = [0, 2, 4, 1, 3, 0]
PROPORTIONS = [
    [0.5, 0.25, 0.125, 0.125, 0.0],
    [0.0, 0.0, 1.0, 0.0, 0.0],
    [0.25, 0.25, 0.25, 0.0, 0.25],
    [0.0, 0.5, 0.0, 0.5, 0.0],
    [0.0625, 0.0625, 0.375, 0.25, 0.25],
    [1.0, 0.0, 0.0, 0.0, 0.0],
]
INDEX_OPTIONS = [
    {},
    {"weight": WEIGHT},
    {"label_smoothing": 0.125},
    {"label_smoothing": 1.0},
    {"label_smoothing": 0.25, "weight": WEIGHT},
    {"ignore_index": 0},
    {"ignore_index": 0, "weight": WEIGHT},
    {"ignore_index": 4, "label_smoothing": 0.25, "weight": WEIGHT},
    {"z_loss": 0.25},
    {"z_loss": 0.0078125, "label_smoothing": 0.125},
    {"z_loss": 0.25, "ignore_index": 2},
    {"z_loss": 0.25, "weight": WEIGHT},
    {"z_loss": 0.25, "weight": WEIGHT, "label_smoothing": 0.125},
    {"z_loss": 0.25, "weight": WEIGHT, "focal_gamma": 2.0},
    {"focal_gamma": 2.0},
    {"focal_gamma": 1.0, "weight": WEIGHT},
    {"focal_gamma": 0.5},
    {"focal_gamma": 2.0, "ignore_index": 1},
]
SOFT_OPTIONS = [
    {},
    {"weight": WEIGHT},
    {"label_smoothing": 0.125},
    {"label_smoothing": 0.25, "weight": WEIGHT},
    {"z_loss": 0.25},
]


def compare(logits, target, dtype, reduction, options, true_target=None):
    """Loss to a few ULP; gradient to a few roundings of its largest term, where terms cancel."""
    given_options = dict(options)
    if "weight" in options:
        given_options["weight"] = np.array(options["weight"], dtype)
    x = np.array(logits, dtype)
    loss, grad = nx.cross_entropy_with_grad(x, target, reduction=reduction, **given_options)
    again = nx.cross_entropy(x, target, reduction=reduction, **given_options)
    assert np.asarray(loss).tobytes() == np.asarray(again).tobytes()
    true = target if true_target is None else true_target
    true_loss, true_grad = oracle.cross_entropy(x, true, reduction=reduction, **options)
    rows = [oracle.cross_entropy_row(z, t, **options) for z, t in zip(x, true, strict=True)]
    # each term of the loss is positive; options add a few roundings to each, a sum one more
    assert_within(loss, true_loss, "log", extra=4)
    assert grad.dtype == dtype
    assert grad.shape == x.shape
    share = 1.0
    if reduction == "mean":
        share = float(MP.fsum([r.share for r in rows])) or 1.0
    for i, (got, want) in enumerate(zip(grad, true_grad, strict=True)):
        lse = abs(float(oracle.logsumexp(x[i])))
        biggest = max(WEIGHT) if "weight" in options else 1.0
        terms = (biggest + 2 * options.get("z_loss", 0.0) * lse) / share
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            close = abs(oracle.exact(g) - w) <= 6 * np.finfo(dtype).eps * terms
            tight = oracle.ulp_error(g, w, dtype) <= PROMISED["grad"][dtype] + 4
            assert close, f"row {i}, class {k}: {g!r} for {MP.nstr(w, 18)}"
            if not {"z_loss", "label_smoothing"} & set(options) and np.ndim(true[0]) == 0:
                assert tight, f"row {i}, class {k}: {g!r} for {MP.nstr(w, 18)}"  # nothing cancels here


@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=str)
@reductions
@wide
def test_options_with_class_indices(options, reduction, dtype):
    compare(LOGITS, np.array(TARGET), dtype, reduction, options)


@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=str)
@reductions
@wide
def test_options_with_proportions(options, reduction, dtype):
    compare(LOGITS, np.array(PROPORTIONS, dtype), dtype, reduction, options)


@wide
@pytest.mark.parametrize("options", [{"label_smoothing": 0.25}, {"label_smoothing": 0.25, "weight": WEIGHT}], ids=str)
def test_smoothing_goes_to_the_possible_classes_only(options, dtype):
    logits = [[2.0, -np.inf, 0.125, -np.inf, 0.0], [-np.inf, 1.0, 3.0, -np.inf, -np.inf]]
    compare(logits, np.array([0, 2]), dtype, "none", options)
    x = np.array(logits, dtype)
    loss, grad = nx.cross_entropy_with_grad(x, [0, 2], label_smoothing=0.25, reduction="none")
    assert np.isfinite(loss).all()
    p = nx.softmax(x[0, [0, 2, 4]])
    q = np.array([0.75 + 0.25 / 3, 0.25 / 3, 0.25 / 3])
    assert loss[0] == pytest.approx(-(q * np.log(p)).sum(), rel=1e-5)
    assert grad[0, [0, 2, 4]] == pytest.approx(p - q, rel=1e-5)
    assert grad[0, [1, 3]].tolist() == [0, 0]


# ---------------------------------------------------------------- closed forms


def test_the_plain_loss_is_minus_the_log_probability_of_the_target():
    x = np.array(LOGITS)
    loss = nx.cross_entropy(x, TARGET, reduction="none")
    assert loss == pytest.approx(-nx.log_softmax(x)[np.arange(6), TARGET], rel=1e-15)
    assert nx.cross_entropy(x, TARGET, reduction="sum") == pytest.approx(loss.sum(), rel=1e-14)
    assert nx.cross_entropy(x, TARGET) == pytest.approx(loss.mean(), rel=1e-14)
    assert nx.cross_entropy(x, TARGET, reduction="mean") == nx.cross_entropy(x, TARGET)


def test_equal_logits_cost_the_log_of_the_number_of_classes():
    for n_classes in (1, 2, 10, 1000):
        assert nx.cross_entropy(np.zeros((3, n_classes)), [0] * 3) == pytest.approx(math.log(n_classes), abs=1e-15)


def test_the_mean_divides_by_the_sum_of_weights():
    loss = nx.cross_entropy(np.array(LOGITS), TARGET, reduction="none")
    w = np.array(WEIGHT)[TARGET]
    each = nx.cross_entropy(np.array(LOGITS), TARGET, weight=WEIGHT, reduction="none")
    assert each == pytest.approx(w * loss, rel=1e-14)
    assert nx.cross_entropy(np.array(LOGITS), TARGET, weight=WEIGHT) == pytest.approx((w * loss).sum() / w.sum())
    assert (w * loss).sum() / w.sum() != pytest.approx((w * loss).mean())


def test_weights_with_proportions_stand_inside_the_sum_and_the_mean_is_over_rows():
    q, log_prob = np.array(PROPORTIONS), nx.log_softmax(np.array(LOGITS))
    expected = -(np.array(WEIGHT) * q * log_prob).sum(axis=1)
    assert nx.cross_entropy(np.array(LOGITS), q, weight=WEIGHT, reduction="none") == pytest.approx(expected)
    assert nx.cross_entropy(np.array(LOGITS), q, weight=WEIGHT) == pytest.approx(expected.mean())


def test_smoothing_mixes_the_loss_with_the_mean_over_classes():
    log_prob = nx.log_softmax(np.array(LOGITS))
    plain = -log_prob[np.arange(6), TARGET]
    expected = 0.75 * plain - 0.25 * log_prob.mean(axis=1)
    got = nx.cross_entropy(np.array(LOGITS), TARGET, label_smoothing=0.25, reduction="none")
    assert got == pytest.approx(expected)
    weighted = nx.cross_entropy(np.array(LOGITS), TARGET, label_smoothing=0.25, weight=WEIGHT, reduction="none")
    assert weighted == pytest.approx(np.array(WEIGHT)[TARGET] * expected)


def test_z_loss_adds_the_square_of_the_log_sum():
    x = np.array(LOGITS)
    with_z = nx.cross_entropy(x, TARGET, z_loss=0.5, reduction="none")
    expected = nx.cross_entropy(x, TARGET, reduction="none") + 0.5 * nx.logsumexp(x) ** 2
    assert with_z == pytest.approx(expected)
    grad = nx.cross_entropy_with_grad(x, TARGET, z_loss=0.5, reduction="none").grad
    plain = nx.cross_entropy_with_grad(x, TARGET, reduction="none").grad
    assert grad == pytest.approx(plain + nx.logsumexp(x)[:, None] * nx.softmax(x), rel=1e-12)


def test_focal_loss_multiplies_by_the_missing_probability():
    x = np.array(LOGITS)
    p = nx.softmax(x)[np.arange(6), TARGET]
    for gamma in (0.5, 1.0, 2.0, 5.0):
        got = nx.cross_entropy(x, TARGET, focal_gamma=gamma, reduction="none")
        assert got == pytest.approx((1 - p) ** gamma * -np.log(p), rel=1e-8)
    assert np.array_equal(nx.cross_entropy(x, TARGET, focal_gamma=0.0), nx.cross_entropy(x, TARGET))


@wide
def test_focal_loss_keeps_confident_rows_apart_from_zero(dtype):
    """(1 - p)^2 of p = 1 - 1e-9, or 1 - 1e-17, must come from the other classes, not from 1 - p."""
    row = np.array([[21.0 if dtype == np.float32 else 40.0, 0.0, 0.0]], dtype)
    loss, grad = nx.cross_entropy_with_grad(row, [0], focal_gamma=2.0)
    true = oracle.cross_entropy_row(row[0], 0, focal_gamma=2)
    assert loss > 0
    assert grad[0, 0] < 0
    assert oracle.ulp_error(loss, true.loss, dtype) <= 12
    assert oracle.ulp_error(grad[0, 0], true.grad[0], dtype) <= 16
    p = nx.softmax(row)[0, 0]
    assert (1 - p) ** 2 * -np.log(p) == 0  # the textbook


@wide
def test_focal_loss_of_a_single_class_is_zero(dtype):
    for gamma in (0.5, 1.0, 2.0):
        loss, grad = nx.cross_entropy_with_grad(np.array([[3.0]], dtype), [0], focal_gamma=gamma)
        assert float(loss) == 0.0
        assert grad.tolist() == [[0.0]]


def test_one_hot_proportions_are_indices(rng):
    x = 5 * rng.standard_normal((20, 7))
    target = rng.integers(0, 7, 20)
    hard = nx.cross_entropy_with_grad(x, target, reduction="none")
    soft = nx.cross_entropy_with_grad(x, np.eye(7)[target], reduction="none")
    assert soft.loss == pytest.approx(hard.loss, rel=1e-14)
    assert soft.grad == pytest.approx(hard.grad, rel=1e-14, abs=1e-300)


@wide
def test_one_hot_proportions_keep_the_accuracy_of_confident_rows(dtype):
    row = np.array([[30.0, 0.0, -1.0]], dtype)
    loss, grad = nx.cross_entropy_with_grad(row, np.array([[1, 0, 0]], dtype))
    true = oracle.cross_entropy_row(row[0], 0)
    assert_within(loss, true.loss, "log", extra=1)
    assert_within(grad[0], true.grad, "grad", extra=1)


@wide
def test_a_zero_proportion_at_an_impossible_class_is_no_loss(dtype):
    logits = np.array([[-np.inf, 1.0, 2.0]], dtype)
    loss, grad = nx.cross_entropy_with_grad(logits, np.array([[0.0, 0.5, 0.5]], dtype), reduction="none")
    true = oracle.cross_entropy_row(logits[0], [0.0, 0.5, 0.5])
    assert_within(loss, [true.loss], "log", extra=2)
    assert grad[0, 0] == 0
    assert grad[0, 1:] == pytest.approx([float(g) for g in true.grad[1:]], rel=1e-6)
    loss, grad = nx.cross_entropy_with_grad(logits, np.array([[0.25, 0.25, 0.5]], dtype), reduction="none")
    assert loss.tolist() == [np.inf]
    assert grad[0, 0] == 0


# ---------------------------------------------------------------- ignored rows


@pytest.mark.parametrize("ignore_index", [-100, -1, 2, 255])
@reductions
@wide
def test_ignored_rows_do_not_count(ignore_index, reduction, dtype):
    x = np.array(LOGITS, dtype)
    target = np.array([ignore_index, 1, ignore_index, 3, 0, ignore_index])
    kept = [1, 3, 4]
    loss, grad = nx.cross_entropy_with_grad(x, target, ignore_index=ignore_index, reduction=reduction)
    rest = nx.cross_entropy_with_grad(x[kept], target[kept], reduction=reduction)
    assert grad[[0, 2, 5]].tolist() == [[0] * 5] * 3
    assert grad[kept] == pytest.approx(rest.grad, rel=1e-6)
    if reduction == "none":
        assert loss[[0, 2, 5]].tolist() == [0, 0, 0]
        assert loss[kept].tolist() == rest.loss.tolist()
    else:
        assert loss == pytest.approx(rest.loss, rel=1e-6)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_the_logits_of_ignored_rows_never_matter(rubbish):
    x = np.array(LOGITS)
    x[1] = rubbish
    target = [0, -100, 4, 1, 3, 0]
    loss, grad = nx.cross_entropy_with_grad(x, target, ignore_index=-100)
    clean = nx.cross_entropy_with_grad(np.array(LOGITS), target, ignore_index=-100)
    assert loss == clean.loss
    assert np.array_equal(grad, clean.grad)


@reductions
@wide
@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"z_loss": 0.5}, {"label_smoothing": 0.1}], ids=str)
def test_all_targets_ignored_give_zero(options, reduction, dtype):
    x = np.array(LOGITS, dtype)
    if "weight" in options:
        options = {"weight": np.array(WEIGHT, dtype)}
    loss, grad = nx.cross_entropy_with_grad(x, [-100] * 6, ignore_index=-100, reduction=reduction, **options)
    assert np.asarray(loss).ravel().tolist() == [0.0] * (6 if reduction == "none" else 1)
    assert grad.tolist() == [[0.0] * 5] * 6
    assert grad.dtype == dtype


# ---------------------------------------------------------------- found by Hypothesis


@st.composite
def problems(draw):
    n_rows, n_classes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    entry = st.integers(-512, 512).map(lambda n: n / 16)
    logits = [[draw(entry) for _ in range(n_classes)] for _ in range(n_rows)]
    target = [draw(st.integers(0, n_classes - 1)) for _ in range(n_rows)]
    options = {}
    if draw(st.booleans()):
        options["weight"] = [draw(st.sampled_from([0.25, 0.5, 1.0, 3.0])) for _ in range(n_classes)]
    kind = draw(st.sampled_from(["plain", "smoothing", "focal"]))
    if kind == "smoothing":
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.125, 0.5, 1.0]))
    if kind == "focal":
        options["focal_gamma"] = draw(st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    if "weight" not in options and kind != "focal":
        options["z_loss"] = draw(st.sampled_from([0.0, 0.0078125, 0.5]))
    if draw(st.booleans()):
        options["ignore_index"] = draw(st.integers(-1, n_classes - 1))
    return logits, target, options, draw(st.sampled_from(["none", "sum", "mean"]))


@given(problem=problems(), dtype=st.sampled_from(WIDE_FLOATS))
def test_any_combination_of_options(problem, dtype):
    logits, target, options, reduction = problem
    x = np.array(logits, dtype)
    loss, grad = nx.cross_entropy_with_grad(x, target, reduction=reduction, **options)
    true_loss, true_grad = oracle.cross_entropy(x, target, reduction=reduction, **options)
    wanted = true_loss if reduction == "none" else [true_loss]
    for got, true in zip(np.atleast_1d(loss), wanted, strict=True):
        assert abs(float(got) - float(true)) <= 40 * np.finfo(dtype).eps * float(true)
    size = 3.0 + 2 * options.get("z_loss", 0) * 40
    for got, true in zip(grad, true_grad, strict=True):
        assert np.abs(got - np.array([float(t) for t in true])).max() <= 8 * np.finfo(dtype).eps * size
