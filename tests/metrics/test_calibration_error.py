"""Calibration errors: their values by hand, their bias, and the curve."""

import numpy as np
import pytest
from scipy import stats

from normexp import metrics
from normexp.base.errors import RangeError


def calibrated(n, seed, *, claim=1.0, k=5):
    """Probabilities and labels drawn from them; `claim` > 1 sharpens what is claimed afterwards."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, k))
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.minimum((prob.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return y, claim * logits


def two_class(confidence, hit):
    """Two-class probabilities with the given confidences, and labels that hit where told."""
    c = np.asarray(confidence, dtype=float)
    return np.where(hit, 0, 1), np.c_[c, 1 - c]


def test_binned_ece_by_hand():
    # Bins (0.5, 0.6], (0.9, 1]: gaps |0.6 - 1/2| of 2 rows and |0.95 - 1/3| of 3.
    y, prob = two_class([0.6, 0.6, 0.95, 0.95, 0.95], [True, False, True, False, False])
    expected = (2 * 0.1 + 3 * abs(0.95 - 1 / 3)) / 5
    assert metrics.ece(y, prob, kind="binned", n_bins=10, from_logits=False) == pytest.approx(expected, rel=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # 0.5 falls into (0.25, 0.5], apart from 0.51; together they would cancel.
    y, prob = two_class([0.5, 0.51], [False, True])
    assert metrics.ece(y, prob, kind="binned", n_bins=4, from_logits=False) == pytest.approx((0.5 + 0.49) / 2)


def test_debiased_ece_by_hand():
    # 40 rows at 0.6 with 30 hits, 40 rows at 0.9 with 28: squared gaps less s^2 / (n - 1), over two bins of equal mass.
    hit = np.r_[np.arange(40) < 30, np.arange(40) < 28]
    y, prob = two_class(np.repeat([0.6, 0.9], 40), hit)
    squared = [(0.6 - 0.75) ** 2 - 0.75 * 0.25 / 39, (0.9 - 0.7) ** 2 - 0.7 * 0.3 / 39]
    expected = np.sqrt(np.mean(squared))
    assert metrics.ece(y, prob, kind="debiased", n_bins=2, from_logits=False) == pytest.approx(expected, rel=1e-10)


def test_classwise_ece_by_hand():
    y = np.array([0, 1])
    prob = np.array([[0.9, 0.1], [0.9, 0.1]])
    # class 0: |0.9 - 0.5|, class 1: |0.1 - 0.5|
    assert metrics.ece(y, prob, kind="classwise", from_logits=False) == pytest.approx(0.4)


def smooth_by_definition(confidence, gap, width, points=4000, images=4):
    """Integral of |mean of reflected Gaussians times gap| by the mid-point rule: slow, and shares no code."""
    t = (np.arange(points) + 0.5) / points
    total = np.zeros(points)
    for c, g in zip(confidence, gap, strict=True):
        centres = [sign * c + 2 * shift for shift in range(-images, images + 1) for sign in (1, -1)]
        total += g * sum(stats.norm.pdf(t, centre, width) for centre in centres)
    return np.abs(total).mean() / len(confidence)


def test_smooth_ece_is_the_width_that_equals_the_error_it_leaves():
    y, logits = calibrated(60, seed=5, claim=2.5)
    value = metrics.ece(y, logits, kind="smooth")
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gap = prob.max(axis=1) - (prob.argmax(axis=1) == y)
    assert value > 0.05
    assert smooth_by_definition(prob.max(axis=1), gap, value) == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize("n", [300, 3000])
def test_debiased_ece_is_near_zero_on_calibrated_predictions_where_binned_is_not(n):
    runs = [calibrated(n, seed) for seed in range(60)]
    binned = np.mean([metrics.ece(y, z, kind="binned") for y, z in runs])
    squared = [metrics.ece(y, z, kind="debiased") ** 2 for y, z in runs]
    noise = 15 * 0.2 / n  # about what the variance of the bins' means adds to the squared error
    assert binned > 0.6 * np.sqrt(15 * 0.2 / n) * 0.8  # the noise floor of the textbook number
    assert np.mean(squared) < 0.35 * noise
    assert np.mean(np.equal(squared, 0.0)) > 0.3  # the positive part cuts about half of the runs


def test_debiased_ece_finds_a_true_error():
    y, logits = calibrated(200_000, seed=1, claim=1.6)
    large_sample = metrics.ece(y, logits, kind="debiased")
    small = [metrics.ece(*calibrated(500, seed, claim=1.6), kind="debiased") for seed in range(40)]
    assert large_sample > 0.08
    assert np.mean(small) == pytest.approx(large_sample, rel=0.08)


def test_no_kind_minds_a_class_that_is_absent_or_a_single_row():
    for kind in ("binned", "debiased", "smooth", "classwise"):
        assert 0 <= metrics.ece([0, 0, 2], [[2.0, 0, 1], [1.0, 1.5, 0], [0, 0, 1.0]], kind=kind) <= 1
        assert 0 <= metrics.ece([0], [[2.0, 0.0]], kind=kind) <= 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(RangeError, match="kind is 'bined'"):
        metrics.ece([0], [[1.0, 0.0]], kind="bined")


def test_overconfidence_has_the_sign_of_the_claim():
    assert metrics.overconfidence(*calibrated(20_000, 2, claim=2.0)) > 0.05
    assert metrics.overconfidence(*calibrated(20_000, 2, claim=0.5)) < -0.05
    assert abs(metrics.overconfidence(*calibrated(20_000, 2))) < 0.01


def test_the_gap_of_a_confident_hit_is_not_rounded_to_zero():
    assert metrics.overconfidence([0], [[40.0, 0.0]]) == pytest.approx(-np.exp(-40.0), rel=1e-12)


def test_reliability_curve_by_hand():
    y, prob = two_class([0.6, 0.6, 0.95, 0.97], [True, False, True, True])
    curve = metrics.reliability_curve(y, prob, n_bins=10, from_logits=False)
    np.testing.assert_allclose(curve.n_rows, [2, 2])
    np.testing.assert_allclose(curve.confidence, [0.6, 0.96])
    np.testing.assert_allclose(curve.accuracy, [0.5, 1.0])
    reference = stats.binomtest(1, 2).proportion_ci(method="wilson")
    np.testing.assert_allclose([curve.low[0], curve.high[0]], reference, rtol=1e-12)


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_the_band_holds_the_diagonal_for_a_calibrated_model_and_not_for_another(bins):
    def share_inside(claim):
        curves = [
            metrics.reliability_curve(*calibrated(2000, seed, claim=claim), bins=bins, n_bins=10) for seed in range(20)
        ]
        inside = [(c.low <= c.confidence) & (c.confidence <= c.high) for c in curves]
        return np.concatenate(inside).mean()

    assert share_inside(1.0) > 0.9
    assert share_inside(2.0) < 0.5


def test_reliability_of_one_class_judges_its_probability():
    y, logits = calibrated(500, 7)
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    curve = metrics.reliability_curve(y, logits, label=3, n_bins=1)
    np.testing.assert_allclose(curve.confidence, [prob[:, 3].mean()], rtol=1e-12)
    np.testing.assert_allclose(curve.accuracy, [(y == 3).mean()], rtol=1e-12)
