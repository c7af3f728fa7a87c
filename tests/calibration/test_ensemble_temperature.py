"""The shares of the mixture are those of greatest likelihood, also where an iteration creeps along an edge."""

import numpy as np
import pytest

from normexp.calibration.ensemble_temperature import _shares


def opinions(seed, scale, n=3000, k=4):
    """Log-probabilities of the truth: tempered, given, uniform."""
    rng = np.random.default_rng(seed)
    right = 2.0 * rng.normal(size=(n, k))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    z = np.stack([right, scale * right, np.zeros_like(right)])
    log_prob = z - np.logaddexp.reduce(z, axis=2, keepdims=True)
    return log_prob[:, np.arange(n), y].T, rng.uniform(0.5, 2.0, n)


def likelihood(share, log_prob, weight, strength):
    return float(weight @ np.log(np.exp(log_prob) @ share)) + strength * float(np.log(share[0]))


def em(log_prob, weight, strength, steps):
    """The textbook's iteration."""
    relative, share = np.exp(log_prob), np.array([0.8, 0.1, 0.1])
    for _ in range(steps):
        mixed = relative * share
        share = (mixed / mixed.sum(axis=1, keepdims=True)).T @ weight
        share[0] += strength
        share /= share.sum()
    return share


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.3, 0.9, 1.0, 1.7])
def test_no_other_shares_are_likelier(seed, scale):
    log_prob, weight = opinions(seed, scale)
    share = _shares(log_prob.T, weight, 1.0)
    assert share.sum() == pytest.approx(1.0)
    assert np.all(share >= 0.0)
    best = likelihood(share, log_prob, weight, 1.0)
    others = np.random.default_rng(9).dirichlet([1.0, 0.3, 0.3], size=300)
    assert max(likelihood(np.maximum(other, 1e-12), log_prob, weight, 1.0) for other in others) <= best + 1e-6
    assert likelihood(em(log_prob, weight, 1.0, 3000), log_prob, weight, 1.0) <= best + 1e-6


def test_the_textbooks_iteration_is_not_there_after_two_hundred_steps():
    log_prob, weight = opinions(0, 0.9)
    best = likelihood(_shares(log_prob.T, weight, 1.0), log_prob, weight, 1.0)
    assert likelihood(em(log_prob, weight, 1.0, 200), log_prob, weight, 1.0) < best - 1e-6


def test_one_row_and_rows_without_weight():
    log_prob, weight = opinions(3, 1.7, n=5)
    assert _shares(log_prob[:1].T, weight[:1], 1.0).sum() == pytest.approx(1.0)
    weight[1:] = 0.0
    np.testing.assert_allclose(
        _shares(log_prob.T, weight, 1.0), _shares(log_prob[:1].T, weight[:1], 1.0), rtol=1e-6, atol=1e-9
    )
