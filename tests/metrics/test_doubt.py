"""Risk against coverage, ROC, coverage of sets."""

import numpy as np
import pytest
from sklearn import metrics as sk

from normexp import metrics
from normexp.base.errors import DtypeError, RangeError, ShapeError


@pytest.mark.parametrize("weighted", [False, True])
def test_auroc_agrees_with_scikit_learn_ties_included(weighted):
    rng = np.random.default_rng(0)
    flag = rng.random(300) < 0.3
    score = np.round(flag + rng.normal(size=300), 1)
    w = rng.uniform(0.1, 2.0, 300) if weighted else None
    assert metrics.auroc(flag, score, sample_weight=w) == pytest.approx(
        sk.roc_auc_score(flag, score, sample_weight=w), rel=1e-12
    )


def test_fpr_at_tpr_is_the_first_point_of_the_roc_curve_that_reaches_it():
    rng = np.random.default_rng(1)
    flag = rng.random(400) < 0.4
    score = np.round(1.5 * flag + rng.normal(size=400), 1)
    fpr, tpr, _ = sk.roc_curve(flag, score, drop_intermediate=False)
    for wanted in (0.5, 0.8, 0.95, 1.0):
        assert metrics.fpr_at_tpr(flag, score, tpr=wanted) == pytest.approx(fpr[np.argmax(tpr >= wanted)], abs=1e-12)


def test_infinite_scores_are_ranked_and_nan_is_refused():
    assert metrics.auroc([0, 1, 1], [-np.inf, 0.0, np.inf]) == 1.0
    with pytest.raises(RangeError, match="row 1"):
        metrics.auroc([0, 1], [0.0, np.nan])
    with pytest.raises(RangeError, match="no row is negative"):
        metrics.auroc([1, 1], [0.0, 1.0])
    with pytest.raises(RangeError, match="neither 0 nor 1 in row 2"):
        metrics.auroc([0, 1, 2], [0.0, 1.0, 2.0])
    with pytest.raises(RangeError, match="tpr is 0"):
        metrics.fpr_at_tpr([0, 1], [0.0, 1.0], tpr=0)


def test_risk_coverage_by_hand():
    prob = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    curve = metrics.risk_coverage_curve([0, 1, 0, 1], prob, from_logits=False)
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0.0, 1 / 3, 0.5])
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.6])
    # Ties share their error: risks 0, (0.5)/2, 1/3, 2/4.
    assert metrics.aurc([0, 1, 0, 1], prob, from_logits=False) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)


def test_aurc_of_uninformative_confidence_is_the_error_rate():
    assert metrics.aurc([0, 0, 0, 1], [[1.0, 0.0]] * 4) == pytest.approx(0.25)


def test_rows_that_all_round_to_probability_one_are_still_ranked():
    logits = np.array([[60.0, 0.0], [50.0, 0.0], [45.0, 0.0], [40.0, 0.0]])
    curve = metrics.risk_coverage_curve([0, 0, 0, 1], logits)
    np.testing.assert_allclose(curve.risk, [0, 0, 0, 0.25])


def test_coverage_counts_the_rows_whose_set_holds_the_truth():
    sets = np.array([[True, True], [True, False], [False, False]])
    assert metrics.coverage([0, 1, 0], sets) == pytest.approx(1 / 3)
    assert metrics.coverage([0, 1, 0], sets, sample_weight=[2, 1, 1]) == pytest.approx(0.5)
    with pytest.raises(DtypeError, match="booleans"):
        metrics.coverage([0, 1, 0], sets.astype(float))
    with pytest.raises(ShapeError, match=r"\(N, K\)"):
        metrics.coverage([0], np.array([True]))
