"""Accuracy, log loss, Brier score and its parts, against scikit-learn and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from normexp import metrics
from normexp.base.errors import DtypeError, NormexpError, RangeError, ShapeError


def drawn(n=400, k=4, seed=0, spread=2.0):
    """Logits, labels drawn from a softer version of them (so: over-confident), and uneven weights."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(n, k))
    prob = softmax(0.6 * logits)
    y = (prob.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return y, logits, rng.uniform(0.1, 3.0, size=n)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_agree_with_scikit_learn(weighted):
    y, logits, w = drawn()
    w = w if weighted else None
    prob, label = softmax(logits), logits.argmax(axis=1)
    for given, from_logits in ((logits, True), (prob, False)):
        options = {"from_logits": from_logits, "sample_weight": w}
        assert metrics.accuracy(y, given, **options) == pytest.approx(
            sk.accuracy_score(y, label, sample_weight=w), abs=1e-14
        )
        assert metrics.balanced_accuracy(y, given, **options) == pytest.approx(
            sk.balanced_accuracy_score(y, label, sample_weight=w), abs=1e-14
        )
        assert metrics.log_loss(y, given, **options) == pytest.approx(sk.log_loss(y, prob, sample_weight=w), rel=1e-13)
        assert metrics.brier(y, given, **options) == pytest.approx(
            sk.brier_score_loss(y, prob, sample_weight=w, labels=[0, 1, 2, 3], scale_by_half=False), rel=1e-13
        )
        assert metrics.top_k_accuracy(y, given, k=2, **options) == pytest.approx(
            sk.top_k_accuracy_score(y, prob, k=2, sample_weight=w), abs=1e-14
        )


def test_per_class_agrees_with_scikit_learn():
    y, logits, w = drawn()
    table = metrics.per_class(y, logits, sample_weight=w)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, logits.argmax(axis=1), sample_weight=w)
    np.testing.assert_allclose(table.precision, precision, rtol=1e-13)
    np.testing.assert_allclose(table.recall, recall, rtol=1e-13)
    np.testing.assert_allclose(table.f1, f1, rtol=1e-13)
    np.testing.assert_allclose(table.support, np.bincount(y, w), rtol=1e-13)
    np.testing.assert_allclose(table.mean_probability, np.average(softmax(logits), axis=0, weights=w), rtol=1e-13)


def test_log_loss_of_a_confident_error_is_the_gap_of_the_logits_and_not_a_clipped_number():
    y, logits = [1], [[1000.0, 0.0]]
    assert metrics.log_loss(y, logits) == 1000.0
    clipped = sk.log_loss([1], softmax(np.array(logits)), labels=[0, 1])
    assert clipped < 800  # what clipping at the machine's precision makes of it


def test_log_loss_of_a_confident_hit_is_not_rounded_to_zero():
    assert metrics.log_loss([0], [[40.0, 0.0]]) == pytest.approx(math.exp(-40.0), rel=1e-12)


def test_probability_zero_at_the_true_class_costs_infinitely_much():
    assert metrics.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]], from_logits=False) == np.inf
    assert metrics.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]], from_logits=False, sample_weight=[1, 0]) == 0.0


def test_brier_by_hand():
    # (0.2^2 + 0.2^2 + (0.5^2 + 0.5^2)) / 2
    assert metrics.brier([0, 1], [[0.8, 0.2], [0.5, 0.5]], from_logits=False) == pytest.approx(0.29, abs=1e-15)


def test_doubling_a_row_is_doubling_its_weight():
    y, logits, _ = drawn(60)
    twice = np.r_[np.arange(60), 7, 7, 31]
    weight = np.bincount(twice).astype(float)
    for metric in (
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.log_loss,
        metrics.brier,
        metrics.overconfidence,
    ):
        assert metric(y, logits, sample_weight=weight) == pytest.approx(metric(y[twice], logits[twice]), rel=1e-12), (
            metric.__name__
        )
    parts, repeated = (
        metrics.decomposition(y, logits, sample_weight=weight),
        metrics.decomposition(y[twice], logits[twice]),
    )
    np.testing.assert_allclose(parts, repeated, rtol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_parts_sum_to_the_brier_score_and_are_not_negative(weighted):
    y, logits, w = drawn(seed=3)
    w = w if weighted else None
    parts = metrics.decomposition(y, logits, sample_weight=w)
    assert parts.score == pytest.approx(metrics.brier(y, logits, sample_weight=w), rel=1e-13)
    assert parts.calibration + parts.refinement == pytest.approx(parts.score, rel=1e-12)
    assert parts.calibration - parts.discrimination + parts.uncertainty == pytest.approx(parts.score, rel=1e-12)
    assert min(parts) >= 0


def test_softening_an_overconfident_model_moves_calibration_and_leaves_refinement():
    y, logits, _ = drawn(n=20_000, seed=4)
    sharp, soft = metrics.decomposition(y, logits), metrics.decomposition(y, 0.6 * logits)
    assert soft.calibration < 0.15 * sharp.calibration
    assert soft.refinement == pytest.approx(sharp.refinement, rel=0.02)


def test_the_decomposition_of_two_levels_by_hand():
    # Class 1 gets 0.2 (4 rows, 1 hit) or 0.7 (2 rows, 1 hit); recalibrated to 1/4 and 1/2.
    p = np.array([0.2, 0.2, 0.2, 0.2, 0.7, 0.7])
    y = np.array([1, 0, 0, 0, 1, 0])
    parts = metrics.decomposition(y, np.c_[1 - p, p], from_logits=False)
    calibration = 2 * (4 * 0.05**2 + 2 * 0.2**2) / 6
    refinement = 2 * (4 * 0.25 * 0.75 + 2 * 0.5 * 0.5) / 6
    np.testing.assert_allclose(parts[:2], [calibration, refinement], rtol=1e-12)
    assert parts.uncertainty == pytest.approx(2 * (1 / 3) * (2 / 3), rel=1e-12)


def test_confusion_pairs_by_hand():
    y = np.array([0, 0, 0, 1, 1, 2])
    label = np.array([1, 1, 2, 1, 0, 2])
    pairs = metrics.confusion_pairs(y, np.eye(3)[label])
    assert [tuple(pair) for pair in pairs] == [(0, 1, 2.0, 2 / 3), (0, 2, 1.0, 1 / 3), (1, 0, 1.0, 0.5)]


def test_a_class_that_is_never_decided_has_no_precision():
    table = metrics.per_class([0, 1], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(table.precision, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(table.recall, [1.0, 0.0, np.nan])


def test_ties_are_decided_the_same_by_accuracy_and_top_1():
    logits = np.zeros((3, 3))
    assert metrics.accuracy([0, 1, 2], logits) == metrics.top_k_accuracy([0, 1, 2], logits, k=1) == pytest.approx(1 / 3)


BAD = {
    "nan": (([0, 1, 0], [[0, 1], [np.nan, 1], [0, np.nan]]), {}, RangeError, "NaN in rows 1, 2"),
    "plus inf": (([0, 1], [[0, 1], [np.inf, 1]]), {}, RangeError, "row 1"),
    "all minus inf": (([0, 1], [[-np.inf, -np.inf], [0, 1]]), {}, RangeError, "row 0"),
    "not summing": (([0, 1], [[0.5, 0.5], [0.6, 0.5]]), {"from_logits": False}, RangeError, "row 1 sums to 1.1"),
    "negative": (([0], [[1.5, -0.5]]), {"from_logits": False}, RangeError, "from_logits=True"),
    "label": (([0, 2], [[0, 1], [0, 1]]), {}, RangeError, "row 1 says 2"),
    "negative label": (([-1, 0], [[0, 1], [0, 1]]), {}, RangeError, "row 0 says -1"),
    "float label": (([0.0, 1.0], [[0, 1], [0, 1]]), {}, DtypeError, "integers"),
    "one column": (([0, 1], [0.2, 0.8]), {}, ShapeError, "(N, K)"),
    "lengths": (([0, 1, 1], [[0, 1], [0, 1]]), {}, ShapeError, "(2,)"),
    "no rows": (([], np.empty((0, 2))), {}, ShapeError, "at least one row"),
    "weights": (([0, 1], [[0, 1], [0, 1]]), {"sample_weight": [1, -1]}, RangeError, "row 1"),
    "no weight": (([0, 1], [[0, 1], [0, 1]]), {"sample_weight": [0, 0]}, RangeError, "every sample_weight is 0"),
    "text": (([0, 1], [["a", "b"], ["c", "d"]]), {}, DtypeError, "numbers"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize(
    "metric",
    [metrics.accuracy, metrics.log_loss, metrics.brier, metrics.ece, metrics.aurc, metrics.per_class],
    ids=lambda m: m.__name__,
)
def test_a_bad_argument_is_named_in_a_sentence(metric, case):
    arguments, options, kind, words = BAD[case]
    with pytest.raises(kind, match=metric.__name__) as caught:
        metric(*arguments, **options)
    assert words in str(caught.value)
    assert isinstance(caught.value, NormexpError)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8])
def test_other_dtypes_of_logits_give_the_value_of_float64(dtype):
    y, logits, _ = drawn(50)
    rounded = logits.astype(dtype)
    assert metrics.log_loss(y, rounded) == pytest.approx(metrics.log_loss(y, rounded.astype(np.float64)), rel=1e-6)
    assert metrics.accuracy(y, rounded) == metrics.accuracy(y, rounded.astype(np.float64))


def test_prediction_and_weights_are_left_untouched():
    y, logits, w = drawn(30)
    before = logits.copy(), w.copy()
    logits.setflags(write=False)
    w.setflags(write=False)
    for metric in (metrics.brier, metrics.decomposition, metrics.per_class, metrics.aurc):
        metric(y, logits, sample_weight=w)
    metrics.ece(y, logits, kind="classwise", sample_weight=w)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(w, before[1])
