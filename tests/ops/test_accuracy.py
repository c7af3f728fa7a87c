"""The promised errors, over logits that hurt; and for each bound, the textbook formula that breaks it.

The truth is long double, which ``test_the_oracle.py`` holds to 60 digits within 1/100 ULP.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import PROMISED, assert_within
from strategies import FAMILIES, FLOATS, WIDE_FLOATS, family, logit_rows

pytestmark = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
CLASSES = [1, 2, 3, 7, 10, 17, 100, 1_000, 50_257]
sizes = pytest.mark.parametrize("n_classes", CLASSES)
wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
narrow = pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)


class Case(NamedTuple):
    """Logits with targets, and the truth about them."""

    logits: np.ndarray
    target: np.ndarray
    prob: np.ndarray
    log_prob: np.ndarray
    lse: np.ndarray
    scale: np.ndarray
    loss: np.ndarray
    grad: np.ndarray


@lru_cache(maxsize=len(FAMILIES))  # pytest goes through the results of one size and dtype before the next
def case(name, n_classes, dtype, seed=0):
    """A batch of one family; about half of the targets are the likeliest class, the rest any possible one."""
    n_rows = max(2, min(48, 40_000 // n_classes))
    logits = family(name, n_rows, n_classes, dtype, seed=seed)
    truth = oracle.long_state(logits)
    rng = np.random.default_rng(n_classes + seed)
    rows = np.arange(n_rows)
    lottery = np.where(np.isneginf(logits.astype(np.float64)), -1.0, rng.random(logits.shape))
    target = np.where(rng.random(n_rows) < 0.5, logits.astype(np.float64).argmax(axis=1), lottery.argmax(axis=1))
    grad = truth.prob.copy()
    grad[rows, target] = -truth.others[rows, target]
    loss = -truth.log_prob[rows, target]
    scale = np.maximum(np.abs(truth.lse), np.abs(truth.top))
    return Case(logits, target, truth.prob, truth.log_prob, truth.lse, scale, loss, grad)


class Ours:
    """The library."""

    prob = staticmethod(lambda c: nx.softmax(c.logits))
    log_prob = staticmethod(lambda c: nx.log_softmax(c.logits))
    lse = staticmethod(lambda c: nx.logsumexp(c.logits))
    loss = staticmethod(lambda c: nx.cross_entropy(c.logits, c.target, reduction="none"))
    grad = staticmethod(lambda c: nx.cross_entropy_with_grad(c.logits, c.target, reduction="none").grad)


class Textbook:
    """The formulas as books print them, in the dtype of the logits; of one class without the shift."""

    @staticmethod
    def _shift(c):
        return (
            np.zeros((len(c.logits), 1), c.logits.dtype) if c.logits.shape[1] == 1 else c.logits.max(1, keepdims=True)
        )

    @staticmethod
    def prob(c):
        e = np.exp(c.logits - Textbook._shift(c))
        return e / e.sum(axis=1, keepdims=True)

    @staticmethod
    def lse(c):
        m = Textbook._shift(c)
        return (m + np.log(np.exp(c.logits - m).sum(axis=1, keepdims=True)))[:, 0]

    @staticmethod
    def log_prob(c):
        return c.logits - Textbook.lse(c)[:, None]

    @staticmethod
    def loss(c):
        return -Textbook.log_prob(c)[np.arange(len(c.target)), c.target]

    @staticmethod
    def grad(c):
        grad = Textbook.prob(c)
        grad[np.arange(len(c.target)), c.target] -= 1
        return grad


KIND = {"prob": "prob", "log_prob": "log", "lse": "log", "loss": "log", "grad": "grad"}
results = pytest.mark.parametrize("what", list(KIND))


def worst(way, what, n_classes, dtype, families=tuple(FAMILIES)):
    """(error in ULP, family) of the worst result."""
    found = (-1.0, "")
    for name in families:
        c = case(name, n_classes, dtype)
        scale = c.scale if what == "lse" else None
        with np.errstate(all="ignore"):
            errors = oracle.long_ulp_errors(getattr(way, what)(c), getattr(c, what), scale=scale)
        found = max(found, (float(errors.max()), name))
    return found


@results
@sizes
@wide
def test_every_result_keeps_its_bound(what, n_classes, dtype):
    error, name = worst(Ours, what, n_classes, dtype)
    assert error <= PROMISED[KIND[what]][dtype], f"{what} of {n_classes} classes, {name}: {error:.3g} ULP"


@results
@sizes
@wide
def test_the_bound_rejects_the_textbook_formula(what, n_classes, dtype):
    error, _ = worst(Textbook, what, n_classes, dtype)
    assert error > PROMISED[KIND[what]][dtype]


@pytest.mark.parametrize("what", ["prob", "log_prob", "grad"])
@pytest.mark.parametrize("n_classes", [1, 2, 17, 1_000])
@narrow
def test_sixteen_bit_results_are_as_near_as_the_dtype_allows(what, n_classes, dtype):
    error, name = worst(Ours, what, n_classes, dtype)
    assert error <= PROMISED[KIND[what]][dtype], f"{what} of {n_classes} classes, {name}: {error:.4g} ULP"


@pytest.mark.parametrize("what", ["prob", "log_prob", "grad"])
@narrow
def test_the_sixteen_bit_bound_rejects_the_textbook_formula(what, dtype):
    error, _ = worst(Textbook, what, 17, dtype)
    assert error > PROMISED[KIND[what]][dtype]


@pytest.mark.parametrize("what", ["lse", "loss"])
@pytest.mark.parametrize("n_classes", [1, 2, 17, 1_000])
@narrow
def test_losses_of_sixteen_bit_logits_have_the_accuracy_of_float32(what, n_classes, dtype):
    error, name = worst(Ours, what, n_classes, dtype)
    assert error <= PROMISED["log"][np.dtype(np.float32)], f"{what} of {n_classes} classes, {name}: {error:.3g} ULP"


# ---------------------------------------------------------------- never falsely 0, never 100 % wrong


def falsely_zero(grad, c):
    """How many true-class gradients are 0 although the dtype has a number for them."""
    rows = np.arange(len(c.target))
    real = np.abs(c.grad[rows, c.target]) >= float(oracle.smallest(c.logits.dtype))
    return int((real & (grad[rows, c.target] == 0)).sum()), int(real.sum())


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100, 1_000])
@wide
def test_the_true_class_gradient_is_never_falsely_zero(n_classes, dtype):
    seen = 0
    for name in FAMILIES:
        c = case(name, n_classes, dtype)
        wrong, real = falsely_zero(Ours.grad(c), c)
        assert wrong == 0, f"{name}: {wrong} of {real} rows"
        seen += real
    assert seen > 30


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100, 1_000])
@wide
def test_the_textbook_gradient_is_falsely_zero(n_classes, dtype):
    c = case("dominant", n_classes, dtype)
    wrong, real = falsely_zero(Textbook.grad(c), c)
    assert wrong > 0.2 * real > 0


@wide
def test_a_leading_class_keeps_the_log_of_its_probability(dtype):
    """Others answer exactly 0 here, a 100 % error."""
    leads = [17.0, 30.0, 60.0, 87.0, 100.0] + ([300.0, 700.0] if dtype == np.float64 else [])
    for lead in leads:
        row = np.array([0.0, lead, 0.0], dtype)
        truth = oracle.log_softmax(row)
        got = nx.log_softmax(row)
        assert got[1] != 0
        assert_within(got, truth, "log")
        loss, grad = nx.cross_entropy_with_grad(row[None], [1])
        assert_within(loss, -truth[1], "log")
        assert_within(grad[0], oracle.cross_entropy_row(row, 1).grad, "grad")


@wide
def test_the_log_sum_keeps_what_is_below_the_maximum(dtype):
    row = np.array([0.0, -40.0, -41.0], dtype)
    assert nx.logsumexp(row) > 0
    assert_within(nx.logsumexp(row), oracle.logsumexp(row), "log")
    with np.errstate(all="ignore"):
        assert np.log(np.exp(row).sum()) == 0  # the textbook


# ---------------------------------------------------------------- against 60 digits, found by Hypothesis


@given(row=st.sampled_from([np.float32, np.float64]).flatmap(logit_rows), draw=st.randoms(use_true_random=False))
def test_any_row_keeps_every_bound_to_sixty_digits(row, draw):
    truth = oracle.state(row)
    assert_within(nx.softmax(row), truth.prob, "prob")
    assert_within(nx.log_softmax(row), truth.log_prob, "log")
    assert_within(nx.logsumexp(row), truth.lse, "log", scale=row.max())
    y = draw.choice([k for k in range(row.size) if row[k] > -np.inf])
    loss, grad = nx.cross_entropy_with_grad(row[None], [y], reduction="sum")
    assert_within(loss, -truth.log_prob[y], "log")
    assert_within(grad[0], oracle.cross_entropy_row(row, y).grad, "grad")


@wide
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_reduced_loss_and_its_gradient_stay_accurate(reduction, dtype):
    """Losses are positive, so a sum adds no more than a rounding to its worst term."""
    for name in ("normal 10", "dominant", "zero on top", "offset 1e8"):
        c = case(name, 17, dtype)
        loss, grad = nx.cross_entropy_with_grad(c.logits, c.target, reduction=reduction)
        count = len(c.target) if reduction == "mean" else 1
        error = oracle.long_ulp_errors(np.asarray(loss)[None], (c.loss.sum() / count)[None], dtype)
        assert error[0] <= 2 * PROMISED["log"][dtype] + 1, name
        extra = 1 if reduction == "mean" else 0
        assert oracle.long_ulp_errors(grad, c.grad / count).max() <= PROMISED["grad"][dtype] + extra, name


def test_a_mean_over_a_million_rows_does_not_drift(rng):
    logits = rng.standard_normal((1_000_000, 3)).astype(np.float32)
    target = rng.integers(0, 3, 1_000_000)
    rows = nx.cross_entropy(logits, target, reduction="none")
    mean = nx.cross_entropy(logits, target)
    truth = rows.astype(np.float64).mean()
    assert abs(float(mean) - truth) <= 1.5 * np.spacing(np.float32(truth))
    drifted = np.cumsum(rows, dtype=np.float32)[-1] / np.float32(1e6)  # a running sum in float32
    assert abs(float(drifted) - truth) > 1.5 * np.spacing(np.float32(truth))


# ---------------------------------------------------------------- very many classes


def _long_errors_at_scale(n_classes, dtype, name):
    """The worst error of each result for one row, computed one after the other to spare memory."""
    logits = family(name, 1, n_classes, dtype)
    truth = oracle.long_state(logits)
    y = int(logits[0].argmax())
    grad_truth = truth.prob.copy()
    grad_truth[0, y] = -truth.others[0, y]
    loss, grad = nx.cross_entropy_with_grad(logits, [y], reduction="none")
    scale = np.maximum(np.abs(truth.lse), np.abs(truth.top))
    return {
        "prob": oracle.long_ulp_errors(nx.softmax(logits), truth.prob).max(),
        "log_prob": oracle.long_ulp_errors(nx.log_softmax(logits), truth.log_prob).max(),
        "lse": oracle.long_ulp_errors(nx.logsumexp(logits), truth.lse, scale=scale).max(),
        "loss": oracle.long_ulp_errors(loss, -truth.log_prob[:, y]).max(),
        "grad": oracle.long_ulp_errors(grad, grad_truth).max(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
@wide
def test_a_million_classes_keep_the_bounds(name, dtype):
    for what, error in _long_errors_at_scale(1_000_000, dtype, name).items():
        assert error <= PROMISED[KIND[what]][dtype], f"{what}: {error:.3g} ULP"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal 10", "spread 1", "all equal", "spread 1e38", "dominant", "offset 1e8"])
@wide
def test_ten_million_classes_in_one_row_keep_the_bounds(name, dtype):
    for what, error in _long_errors_at_scale(10_000_000, dtype, name).items():
        assert error <= PROMISED[KIND[what]][dtype], f"{what}: {error:.3g} ULP"


@pytest.mark.slow
def test_the_textbook_fails_at_a_million_classes():
    logits = family("normal 10", 1, 1_000_000, np.float32)
    e = np.exp(logits - logits.max())
    running = e / np.cumsum(e, dtype=np.float32)[-1]  # summed one after the other
    error = oracle.long_ulp_errors(running, oracle.long_state(logits).prob).max()
    assert error > PROMISED["prob"][np.dtype(np.float32)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
@pytest.mark.parametrize("n_classes", [2, 3, 10, 100, 1_000])
@wide
def test_the_bounds_hold_for_many_more_rows(seed, n_classes, dtype):
    for name in FAMILIES:
        c = case(name, n_classes, dtype, seed=seed)
        for what, kind in KIND.items():
            scale = c.scale if what == "lse" else None
            error = oracle.long_ulp_errors(getattr(Ours, what)(c), getattr(c, what), scale=scale).max()
            assert error <= PROMISED[kind][dtype], f"{what}, {name}: {error:.3g} ULP"
