"""Cross-entropy of float32 rows in float32 arithmetic: bounds in both tails, and the rows that it leaves to others."""

import numpy as np
import pytest

import oracle
from normexp.kernels.cpu import single_loss

f = np.float32
needs_long_double = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
LOSS_BOUND = 2.5  # units of 2^-24, relative
GRAD_BOUND = 3.0  # ULP
CASES = [(1, 1.0), (2, 3.0), (7, 1.0), (40, 4.0), (100, 20.0), (2049, 1.0), (5000, 6.0)]


def rows(n_rows, n_classes, spread):
    rng = np.random.default_rng([n_rows, n_classes])
    return (spread * rng.standard_normal((n_rows, n_classes))).astype(np.float32)


def found_of(logits, target, scale=None, spare=5):
    """Losses, gradients, and how many rows are left, from a block wider than the classes."""
    n_rows, n_classes = logits.shape
    block = np.full((n_rows, n_classes + spare), np.nan, np.float32)
    block[:, :n_classes] = logits
    scale = np.ones(n_rows) if scale is None else scale
    losses = np.empty(n_rows)
    left = single_loss.index_loss_single(block, n_classes, target, scale, losses, True)
    assert np.isnan(block[:, n_classes:]).all()
    return losses, block[:, :n_classes], left


def truth_of(logits, target):
    """Losses and gradients in long double."""
    state = oracle.long_state(logits)
    at = np.arange(len(logits)), target
    grad = state.prob.copy()
    grad[at] = -state.others[at]
    loss = -state.log_prob[at]
    return loss, grad


def loss_error(found, truth):
    """The largest error, in units of 2^-24, relative."""
    return float(np.max(np.abs(found - truth) / np.where(truth == 0, 1, truth)) * 2.0**24)


@needs_long_double
@pytest.mark.parametrize(("n_classes", "spread"), CASES)
@pytest.mark.parametrize("lead", [0.0, 20.0, -60.0], ids=["as drawn", "true class leads", "true class trails"])
def test_loss_and_gradient_are_within_their_bounds(n_classes, spread, lead):
    logits = rows(200, n_classes, spread)
    target = np.random.default_rng(1).integers(n_classes, size=200)
    logits[np.arange(200), target] += f(lead)
    losses, grad, left = found_of(logits, target)
    wanted, slope = truth_of(logits, target)
    assert left == 0
    assert loss_error(losses, wanted) <= LOSS_BOUND
    large = np.abs(slope) > 1e-37  # subnormal numbers have fewer digits
    assert oracle.long_ulp_errors(grad, slope)[large].max(initial=0.0) <= GRAD_BOUND
    at = np.arange(200), target
    assert n_classes == 1 or (grad[at] < 0).all()


@needs_long_double
def test_the_bounds_reject_the_textbook_formulas():
    logits = rows(200, 40, 4.0)
    target = logits.argmax(axis=1)
    logits[np.arange(200), target] += f(20.0)
    wanted, slope = truth_of(logits, target)
    shifted = logits - logits.max(axis=1, keepdims=True)
    prob = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    at = np.arange(200), target
    with np.errstate(divide="ignore"):
        textbook = -np.log(prob[at])
    assert loss_error(textbook, wanted) > LOSS_BOUND
    grad = prob.copy()
    grad[at] -= 1.0
    assert oracle.long_ulp_errors(grad, slope).max() > GRAD_BOUND
    assert (grad[at] == 0.0).any()


def test_each_row_s_gradient_is_scaled():
    logits = rows(9, 33, 2.0)
    target, scale = np.arange(9), np.linspace(0.0, 4.0, 9)
    _, grad, _ = found_of(logits, target, scale)
    _, plain, _ = found_of(logits, target)
    assert np.allclose(grad, scale[:, None] * plain, rtol=1e-6, atol=0)
    assert not grad[0].any()


def test_losses_alone_are_the_same():
    logits, target = rows(9, 3000, 2.0), np.arange(9)
    losses = np.empty(9)
    single_loss.index_loss_single(logits.copy(), 3000, target, np.ones(9), losses, False)
    assert np.array_equal(losses, found_of(logits, target)[0])


def test_rows_out_of_reach_are_counted_and_stay_as_they_are():
    logits, target = rows(70, 40, 3.0), np.arange(70) % 40
    logits[3] += f(2.0**19)
    logits[4] = -np.inf
    logits[8, 1] = np.inf
    logits[9, 9] = -np.inf  # the true class
    logits[10, 3] = -np.inf  # another: counts as impossible
    logits[11, 5] = np.nan
    losses, grad, left = found_of(logits, target)
    out = [3, 4, 8, 9]
    assert left == 4
    assert (losses[out] == single_loss.LEFT).all()
    assert np.array_equal(grad[out], logits[out])
    assert grad[10, 3] == 0.0
    assert np.isnan(losses[11])
    assert np.isnan(grad[11]).all()
    assert (np.delete(losses, [*out, 11]) > 0.0).all()
