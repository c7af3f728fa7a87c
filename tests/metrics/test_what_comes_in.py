"""Labels, predictions and weights as people have them: of other libraries, out of reach, or of no meaning at all."""

from functools import partial

import numpy as np
import pytest

from normexp import metrics
from refusals import refused

PREDICTING = [
    metrics.log_loss,
    metrics.brier,
    metrics.accuracy,
    metrics.aurc,
    metrics.overconfidence,
    partial(metrics.ece, kind="classwise"),
    partial(metrics.interval, metrics.aurc, n_resamples=5, rng=0),
    partial(metrics.interval, metrics.log_loss, n_resamples=5, rng=0),
]


def rows(n_rows=60, n_classes=4):
    rng = np.random.default_rng(0)
    return rng.integers(n_classes, size=n_rows), 2.0 * rng.normal(size=(n_rows, n_classes))


@pytest.mark.parametrize("metric", PREDICTING)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_tensors_that_ask_for_a_gradient_are_judged_as_their_values(metric, kind):
    torch = pytest.importorskip("torch")
    y, z = rows()
    logits = torch.tensor(z, dtype=getattr(torch, kind))
    found = metric(torch.tensor(y), logits.requires_grad_(), sample_weight=torch.ones(60, requires_grad=True))
    assert found == metric(y, logits.detach().float().numpy())


@pytest.mark.parametrize("metric", PREDICTING)
def test_columns_of_pandas_that_may_hold_gaps_are_read_and_a_gap_is_named(metric):
    pandas = pytest.importorskip("pandas")
    y, z = rows()
    table = pandas.DataFrame(z).convert_dtypes()
    assert metric(pandas.Series(y, dtype="Int64"), table) == metric(y, z)
    table.iloc[7, 1] = pandas.NA
    refused(ValueError, "NaN in row 7", metric, y, table)
    refused(TypeError, "numbers would be right", metric, y, pandas.DataFrame(z.astype(str)))


@pytest.mark.parametrize("metric", PREDICTING)
def test_hidden_entries_of_masked_arrays_are_refused_and_not_laid_bare(metric):
    y, z = rows()
    refused(ValueError, "hidden entries", metric, y, np.ma.masked_array(z, mask=z > 3))
    refused(ValueError, "hidden entries", metric, np.ma.masked_array(y, mask=y == 0), z)
    refused(ValueError, "hidden entries", metric, y, z, sample_weight=np.ma.masked_less(np.arange(60.0), 5))
    assert metric(np.ma.asarray(y), np.ma.asarray(z)) == metric(y, z)  # nothing hidden


@pytest.mark.parametrize("metric", PREDICTING)
def test_lists_of_unequal_lengths_are_named(metric):
    y, z = rows(2)
    refused(ValueError, "unequal lengths", metric, [0, 1], [[1.0, 2.0], [1.0]])
    refused(ValueError, "unequal lengths", metric, [[0], [0, 1]], z)
    refused(ValueError, "unequal lengths", metric, y, z, sample_weight=[[1], [1, 2]])


@pytest.mark.parametrize("metric", PREDICTING)
@pytest.mark.parametrize("weight", [["heavy"] * 60, np.full(60, 1.0 + 1.0j)])
def test_weights_that_are_no_real_numbers_are_refused(metric, weight):
    refused(TypeError, "sample_weight has dtype", metric, *rows(), sample_weight=weight)


@pytest.mark.parametrize("metric", PREDICTING)
@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1e308])
def test_weights_whose_squares_are_no_numbers_are_refused_and_give_no_nan(metric, size):
    refused(ValueError, "largest sample_weight is", metric, *rows(), sample_weight=np.full(60, size))


def test_a_bin_of_the_faintest_weights_has_an_interval():
    y, z = rows()
    weight = np.where(z.max(axis=1) > 2.5, 1e-300, 1.0)  # squares of these are 0
    curve = metrics.reliability_curve(y, z, n_bins=5, sample_weight=weight)
    assert np.isfinite([curve.low, curve.high, curve.accuracy]).all()
    assert np.isfinite(metrics.ece(y, z, sample_weight=weight))
    plain = metrics.log_loss(y[weight == 1.0], z[weight == 1.0])
    assert metrics.log_loss(y, z, sample_weight=weight) == pytest.approx(plain, rel=1e-14)


@pytest.mark.parametrize("value", [2.5, "5", None, float("nan"), True, 0])
def test_counts_are_whole_numbers_of_at_least_one(value):
    y, z = rows()
    for name, function in (
        ("n_bins", metrics.ece),
        ("n_bins", partial(metrics.ece, kind="classwise")),
        ("n_bins", metrics.reliability_curve),
        ("n_bins", metrics.calibration_test),
        ("n_resamples", metrics.calibration_test),
        ("n_resamples", partial(metrics.interval, metrics.log_loss)),
        ("k", metrics.top_k_accuracy),
    ):
        refused(
            (TypeError, ValueError), f"{name} is {value}" if value != "5" else name, function, y, z, **{name: value}
        )


@pytest.mark.parametrize("value", [0, 1, -1, "0.95", None, float("nan"), [0.5]])
def test_levels_lie_between_0_and_1(value):
    y, z = rows()
    refused((TypeError, ValueError), "level is", metrics.reliability_curve, y, z, level=value)
    refused((TypeError, ValueError), "level is", metrics.wilson, 1, 3, level=value)
    refused((TypeError, ValueError), "level is", metrics.interval, metrics.log_loss, y, z, level=value)
    if value != 1:
        refused((TypeError, ValueError), "tpr is", metrics.fpr_at_tpr, y > 1, z[:, 0], tpr=value)


@pytest.mark.parametrize("rng", ["seven", -1, 1.5])
def test_seeds_are_whole_numbers_or_generators(rng):
    y, z = rows()
    refused(TypeError, "rng is", metrics.interval, metrics.log_loss, y, z, rng=rng)
    refused(TypeError, "rng is", metrics.calibration_test, y, z, rng=rng)


@pytest.mark.parametrize("value", [None, "yes", 1])
def test_from_logits_is_true_or_false(value):
    refused(TypeError, "from_logits is", metrics.log_loss, *rows(), from_logits=value)


@pytest.mark.parametrize("label", ["a", 1.5, True, 4, -1])
def test_the_label_of_a_reliability_curve_is_a_class_index(label):
    refused((TypeError, ValueError), "label is", metrics.reliability_curve, *rows(), label=label)


@pytest.mark.parametrize("metric", ["log_loss", None, len, lambda y, prediction: 0.0, [1.0]])
def test_an_interval_of_what_cannot_be_told_of_weights_is_refused(metric):
    refused(TypeError, "interval:", metrics.interval, metric, *rows())


def test_an_interval_of_no_rows_is_refused():
    refused(ValueError, "array (N,)", metrics.interval, metrics.aurc, 3, rows()[1])
    refused(ValueError, "no rows", metrics.interval, metrics.auroc, [], [])


def test_an_interval_of_a_callable_object_that_has_no_hash_is_that_of_its_function():
    class Unhashable:
        __hash__ = None

        def __call__(self, y, prediction, *, sample_weight):
            return metrics.aurc(y, prediction, sample_weight=sample_weight)

    options = {"n_resamples": 5, "rng": 0}
    assert metrics.interval(Unhashable(), *rows(), **options) == metrics.interval(metrics.aurc, *rows(), **options)


@pytest.mark.parametrize(
    ("successes", "trials"), [(5, 3), (-1, 3), (float("nan"), 3), (1, -3), ("a", 3), ([1, 2], [1, 2, 3]), (1, np.inf)]
)
def test_wilson_refuses_counts_that_are_none(successes, trials):
    refused((TypeError, ValueError), "wilson: ", metrics.wilson, successes, trials)


def test_sets_and_scores_of_tensors_are_taken_and_ragged_ones_refused():
    torch = pytest.importorskip("torch")
    y, z = rows()
    scores = torch.tensor(z[:, 0], requires_grad=True)
    assert metrics.auroc(torch.tensor(y > 1), scores) == metrics.auroc(y > 1, z[:, 0])
    assert metrics.coverage(torch.tensor(y), torch.tensor(z > 0)) == metrics.coverage(y, z > 0)
    refused(ValueError, "unequal lengths", metrics.coverage, y[:2], [[True], [True, False]])
    refused(ValueError, "unequal lengths", metrics.auroc, [[1], [1, 0]], [1.0, 2.0])
