"""Bootstrap intervals: repeatable, quick, honest at the edge, and covering what they claim to cover."""

import time
from functools import partial

import numpy as np
import pytest

from normexp import metrics
from normexp.base.errors import DtypeError, RangeError
from normexp.metrics.interval import statement_of


def sharpened(n, seed, claim=1.5, k=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k))
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.minimum((prob.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return y, claim * logits


QUICK = [
    metrics.accuracy,
    metrics.balanced_accuracy,
    metrics.log_loss,
    metrics.brier,
    metrics.ece,
    metrics.overconfidence,
    partial(metrics.ece, kind="binned"),
    partial(metrics.ece, kind="smooth"),
    partial(metrics.top_k_accuracy, k=2),
]


def name(metric):
    return metric.func.__name__ + str(metric.keywords) if isinstance(metric, partial) else metric.__name__


@pytest.mark.parametrize("metric", QUICK, ids=name)
def test_the_quick_way_is_the_slow_way(metric):
    """Resampling grouped sums gives what calling the metric with the resample's weights gives."""
    y, logits = sharpened(200, 0)
    w = np.random.default_rng(3).uniform(0.5, 2.0, 200)
    assert statement_of(metric) is not None
    quick = metrics.interval(metric, y, logits, rng=1, n_resamples=40, sample_weight=w)

    def called(y, prediction, *, sample_weight):
        return metric(y, prediction, sample_weight=sample_weight)

    assert statement_of(called) is None
    slow = metrics.interval(called, y, logits, rng=1, n_resamples=40, sample_weight=w)
    if metric is metrics.ece:  # its bins of equal mass follow the weights when called anew
        np.testing.assert_allclose(quick, slow, atol=0.03)
    else:
        np.testing.assert_allclose(quick, slow, rtol=1e-9)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.log_loss, metrics.brier, metrics.ece], ids=name)
def test_intervals_cover_the_truth_about_as_often_as_they_say(metric):
    truth = metric(*sharpened(400_000, 12345))
    inside = [
        low <= truth <= high
        for _, low, high in (
            metrics.interval(metric, *sharpened(400, seed), n_resamples=200, rng=seed) for seed in range(120)
        )
    ]
    # 95 % nominal: 0.88 lies 3.5 binomial standard deviations below; the percentile bootstrap loses 1-2 %.
    assert np.mean(inside) >= 0.88


def test_an_interval_at_half_the_level_covers_half():
    """The test above can fail: narrower intervals do not pass it."""
    truth = metrics.log_loss(*sharpened(400_000, 12345))
    inside = [
        low <= truth <= high
        for _, low, high in (
            metrics.interval(metrics.log_loss, *sharpened(400, seed), n_resamples=200, rng=seed, level=0.5)
            for seed in range(120)
        )
    ]
    assert 0.35 <= np.mean(inside) <= 0.65


def test_debiased_ece_is_not_biased_again_by_resampling_where_binned_is():
    y, logits = sharpened(300, 8, claim=1.0)
    _, debiased_low, _ = metrics.interval(metrics.ece, y, logits, rng=0)
    _, binned_low, _ = metrics.interval(partial(metrics.ece, kind="binned"), y, logits, rng=0)
    assert debiased_low == 0.0
    assert binned_low > 0.02  # although the model is calibrated


def test_twenty_hits_of_twenty_do_not_prove_perfection():
    value, low, high = metrics.interval(metrics.accuracy, [0] * 20, [[1.0, 0.0]] * 20, rng=0)
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 20), rel=1e-12)  # Clopper & Pearson
    value, low, high = metrics.interval(metrics.accuracy, [1] * 20, [[1.0, 0.0]] * 20, rng=0)
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 20), rel=1e-12)


def test_a_seed_makes_the_interval_repeatable():
    y, logits = sharpened(100, 1)
    first = metrics.interval(metrics.brier, y, logits, rng=7, n_resamples=50)
    assert metrics.interval(metrics.brier, y, logits, rng=7, n_resamples=50) == first
    assert metrics.interval(metrics.brier, y, logits, rng=8, n_resamples=50) != first


def test_rows_of_weight_zero_are_never_drawn():
    y, logits = sharpened(100, 2)
    w = np.r_[np.ones(50), np.zeros(50)]
    logits[50:] = 1e6 * np.eye(3)[(y[50:] + 1) % 3]  # would ruin any log loss
    _, _, high = metrics.interval(metrics.log_loss, y, logits, rng=0, n_resamples=50, sample_weight=w)
    assert high < 10


def test_a_metric_of_other_arguments_is_resampled_too():
    rng = np.random.default_rng(0)
    flag = np.arange(200) % 2
    score = flag + rng.normal(size=200)
    value, low, high = metrics.interval(metrics.auroc, flag, score, rng=0, n_resamples=100)
    assert value == metrics.auroc(flag, score)
    assert 0.6 < low < value < high < 0.9


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.fpr_at_tpr, partial(metrics.fpr_at_tpr, tpr=0.8)])
@pytest.mark.parametrize("n_positive", [1, 3])
def test_rare_positives_have_an_interval_all_the_same(metric, n_positive):
    """Of 1 000 rows with 3 positive ones, every twentieth resample has none."""
    rng = np.random.default_rng(0)
    flag = np.arange(1000) < n_positive
    score = 2.0 * flag + rng.normal(size=1000)
    value, low, high = metrics.interval(metric, flag, score, rng=0, n_resamples=100)
    assert value == metric(flag, score)
    assert 0.0 <= low <= value <= high <= 1.0
    assert low < high
    with pytest.raises(RangeError, match="no row is positive"):  # the rows themselves
        metrics.interval(metric, np.zeros(1000, bool), score, rng=0, n_resamples=10)


def test_a_metric_of_several_numbers_is_refused_with_a_way_out():
    y, logits = sharpened(100, 1)
    with pytest.raises(DtypeError, match=r"decomposition\(y, p, \*\*options\).calibration"):
        metrics.interval(metrics.decomposition, y, logits)

    def part(y, p, **options):
        return metrics.decomposition(y, p, **options).calibration

    value, low, high = metrics.interval(part, y, logits, rng=0, n_resamples=20)
    assert value == metrics.decomposition(y, logits).calibration
    assert low < high


def test_an_infinite_loss_gives_an_infinite_end_and_no_nan():
    y, prob = [0, 1] * 20, [[1.0, 0.0], [0.5, 0.5]] * 20
    prob[1] = [1.0, 0.0]
    value, low, high = metrics.interval(metrics.log_loss, y, prob, rng=0, n_resamples=100, from_logits=False)
    assert value == high == np.inf
    assert np.isfinite(low)


def test_a_hundred_thousand_rows_take_seconds():
    y, logits = sharpened(100_000, 0, k=10)
    start = time.perf_counter()
    for metric in (metrics.accuracy, metrics.log_loss, metrics.ece):
        metrics.interval(metric, y, logits, rng=0, n_resamples=200)
    assert time.perf_counter() - start < 20  # about 2 s on two cores


def test_level_and_resamples_out_of_range_are_refused():
    with pytest.raises(RangeError, match="level is 95"):
        metrics.interval(metrics.accuracy, [0], [[1.0, 0.0]], level=95)
    with pytest.raises(DtypeError, match="level is 'a'"):
        metrics.interval(metrics.accuracy, [0], [[1.0, 0.0]], level="a")
    with pytest.raises(DtypeError, match=r"n_resamples is 2\.5"):
        metrics.interval(metrics.accuracy, [0], [[1.0, 0.0]], n_resamples=2.5)
    with pytest.raises(RangeError, match="n_resamples is 0"):
        metrics.interval(metrics.accuracy, [0], [[1.0, 0.0]], n_resamples=0)
