"""64-bit integers that float64 cannot hold: what a mask hides never costs the others their digits."""

import tracemalloc

import numpy as np
import pytest

import normexp as nx

TOP = 2**63 - 1
HIDDEN = [TOP, 0, 5]
CLOSE = [TOP, TOP - 1, TOP - 3]  # float64 holds multiples of 1024 there


def masked(values, dtype):
    return np.ma.array(np.array(values, dtype), mask=[True, False, False])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_what_is_masked_costs_the_others_no_digits(dtype):
    logits = masked(HIDDEN, dtype)
    right = nx.softmax([-5.0, 0.0])
    assert np.array_equal(nx.softmax(logits)[1:], right)
    assert np.array_equal(nx.segment_softmax(logits, [0, 0, 0])[1:], right)
    assert np.array_equal(nx.segment_softmax(logits, [3, 3, 3])[1:], right)
    draws = nx.sample(logits, size=4_000, rng=0)
    assert (draws == 2).mean() > 0.98
    assert set(draws.tolist()) <= {1, 2}
    heavy = nx.gumbel_softmax(np.ma.array(np.tile(logits.data, (500, 1)), mask=np.tile(logits.mask, (500, 1))), rng=0)
    assert (heavy[:, 0] == 0).all()
    assert (heavy.argmax(axis=1) == 2).mean() > 0.95
    textbook = logits.data.astype(np.float64) - float(TOP)  # off the hidden largest: both are -2**63
    assert textbook[1] == textbook[2]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("function", ["cross_entropy", "cross_entropy_with_grad"])
def test_losses_of_masked_integers_are_those_of_what_is_shown(dtype, function):
    logits = masked(CLOSE, dtype)
    found = getattr(nx, function)(logits, 1)
    true = nx.cross_entropy_with_grad([0.0, -2.0], 0)
    loss = found if function == "cross_entropy" else found.loss
    assert loss == true.loss == pytest.approx(0.126928, abs=1e-6)
    assert nx.cross_entropy(logits, [0.0, 0.75, 0.25]) == nx.cross_entropy([0.0, -2.0], [0.75, 0.25])
    if function != "cross_entropy":
        assert np.array_equal(found.grad, [0.0, *true.grad])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("target", [0, [1.0, 0.0, 0.0]], ids=["index", "proportions"])
def test_the_gradient_of_the_z_loss_follows_the_probabilities(dtype, target):
    logits = np.array([TOP, TOP - 1, TOP - 3], dtype)
    prob = nx.softmax(logits)
    loss, grad = nx.cross_entropy_with_grad(logits, target, z_loss=1e-4)
    assert loss == pytest.approx(1e-4 * float(TOP) ** 2, rel=1e-12)
    assert grad == pytest.approx(2e-4 * float(TOP) * prob, rel=1e-12)
    assert nx.cross_entropy(logits, target, z_loss=1e-4) == loss
    assert abs(grad[0] / grad.sum() - 1 / 3) > 0.3  # what float64 logits would give


def test_the_z_loss_of_integers_is_that_of_the_same_floats():
    rng = np.random.default_rng(2)
    logits, target = rng.integers(-20, 20, (300, 7)), rng.integers(0, 7, 300)
    mask = rng.random((300, 7)) < 0.3
    mask[5] = True
    target[7] = -1
    options = {"z_loss": 0.01, "ignore_index": -1, "reduction": "none"}
    for hidden in (np.zeros_like(mask), mask):
        loss, grad = nx.cross_entropy_with_grad(np.ma.array(logits, mask=hidden), target, **options)
        floats = np.where(hidden, -np.inf, logits.astype(float))
        true, slope = nx.cross_entropy_with_grad(floats, target, **options)
        assert loss == pytest.approx(true, rel=1e-13, nan_ok=True)
        assert grad == pytest.approx(slope, rel=1e-11, abs=1e-13)
        assert loss[7] == 0
        assert (grad[7] == 0).all()
        if hidden.any():
            assert np.isnan(loss[5])
            assert (grad[5] == 0).all()


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "i8", "u8"])
def test_masked_losses_are_those_of_minus_infinity_in_any_layout(dtype):
    rng = np.random.default_rng(3)
    logits, mask = rng.integers(0, 9, (40, 6)).astype(dtype), rng.random((40, 6)) < 0.3
    target = rng.integers(0, 6, 40)
    floats = np.where(mask, -np.inf, logits.astype(float)).astype(dtype if dtype[0] == "f" else float)
    for order in "CF":
        given = np.ma.array(np.asarray(logits, order=order), mask=mask)
        loss, grad = nx.cross_entropy_with_grad(given, target, reduction="none")
        true, slope = nx.cross_entropy_with_grad(floats, target, reduction="none")
        assert np.array_equal(loss, true, equal_nan=True)
        assert np.array_equal(grad, slope)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i1", "i8"])
def test_draws_and_masked_losses_copy_a_few_rows_at_a_time(dtype):
    logits, target = np.zeros((20_000, 1_000), dtype), np.zeros(20_000, np.int64)
    masked_logits = np.ma.array(logits, mask=False)
    masked_logits[:, 7] = np.ma.masked
    nx.cross_entropy(masked_logits[:5], target[:5])
    for work, most in (
        (lambda: nx.sample(logits, rng=0), 20),
        (lambda: nx.cross_entropy(masked_logits, target), 20 + 20),  # a byte each
    ):
        tracemalloc.start()
        try:
            work()
            peak = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        assert peak < most, peak  # a copy of all rows is 40 MB in 16 bits, 160 in 64
