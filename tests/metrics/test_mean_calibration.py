"""mean_calibration_test: its level is kept whatever the classes, and it sees what is there."""

import numpy as np
import pytest
from scipy import stats

from normexp import metrics
from normexp.base.errors import DtypeError, RangeError, ShapeError


def drawn(n_rows, n_classes, seed, skew=0.0):
    """Logits that are right, with classes that become rarer by exp(-skew) each."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_rows, n_classes)) - skew * np.arange(n_classes)
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1), logits


def by_normal_approximation(y, logits):
    """The textbook's version: gaps in standard deviations, the largest of K, Bonferroni."""
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    gap = np.bincount(y, minlength=prob.shape[1]) - prob.sum(axis=0)
    sigmas = np.abs(gap) / np.sqrt((prob * (1.0 - prob)).sum(axis=0))
    return min(1.0, 2.0 * prob.shape[1] * stats.norm.sf(sigmas.max()))


@pytest.mark.parametrize(("n_rows", "n_classes", "skew"), [(200, 2, 3.0), (300, 40, 0.3), (1000, 5, 0.0)])
def test_right_probabilities_are_called_wrong_as_seldom_as_promised(n_rows, n_classes, skew):
    runs = [drawn(n_rows, n_classes, seed, skew) for seed in range(400)]
    assert np.mean([metrics.mean_calibration_test(*run) < 0.05 for run in runs]) <= 0.05
    if n_classes == 40:  # classes that are expected in a hundredth of a row break the textbook's level
        assert np.mean([by_normal_approximation(*run) < 0.05 for run in runs]) > 0.15


def test_a_class_that_is_named_too_often_is_seen():
    y, logits = drawn(2000, 4, 0)
    assert metrics.mean_calibration_test(y, logits) > 0.05
    logits[:, 1] += 0.4
    assert metrics.mean_calibration_test(y, logits) < 1e-4


def test_probabilities_weights_and_copies_mean_the_same():
    y, logits = drawn(500, 3, 1)
    logits[:, 0] += 0.6
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = metrics.mean_calibration_test(y, logits)
    assert 1e-6 < found < 0.5
    assert metrics.mean_calibration_test(y, prob, from_logits=False) == pytest.approx(found, rel=1e-9)
    assert metrics.mean_calibration_test(y, logits, sample_weight=np.full(500, 7.0)) == pytest.approx(found, rel=1e-9)
    more = np.r_[logits, drawn(200, 3, 2)[1]], np.r_[y, np.zeros(200, dtype=int)], np.r_[np.ones(500), np.zeros(200)]
    assert metrics.mean_calibration_test(more[1], more[0], sample_weight=more[2]) == pytest.approx(found, rel=1e-9)


def test_certainties():
    one = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert metrics.mean_calibration_test([0, 0], one) == 1.0
    assert metrics.mean_calibration_test([0, 1], one) == 0.0


def test_rounding_is_no_gap():
    weight = np.random.default_rng(0).random(300_000)  # sums of these, taken in two ways, differ in their last bits
    y = np.arange(300_000) % 2
    assert metrics.mean_calibration_test(y, np.eye(2)[y], from_logits=False, sample_weight=weight) == 1.0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (([0, 1, 2], np.zeros((3, 2))), RangeError),
        (([0, 1], np.zeros((3, 2))), ShapeError),
        (([0, 1], np.array([[0.0, np.nan], [0.0, 1.0]])), RangeError),
        ((["a", "b"], np.zeros((2, 2))), DtypeError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error, match="mean_calibration_test"):
        metrics.mean_calibration_test(*call)
