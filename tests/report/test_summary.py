"""The facts of a report are those that can be worked out by hand."""

import json
import math
import time

import numpy as np
import pytest

from normexp import metrics
from normexp.base.errors import RangeError, ShapeError
from normexp.report import as_json, summarise
from normexp.report.labelled import Labelled
from normexp.report.scores import MAX_ROWS_PER_RESAMPLE
from report.made import facts_of, made


def small():
    """Four rows of three classes; probabilities are powers of two."""
    logits = np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    return Labelled(
        logits, np.array([0, 1, 1, 2]), ("a", "b", "c"), np.array([0.5, 0.25, 0.25]), ("one", "two", "three", "four")
    )


def test_scores_by_hand():
    summary = summarise(small(), source="four rows")
    expected = {
        "accuracy": (3 / 4, 1 / 4),
        "balanced_accuracy": ((1 + 1 / 2 + 1) / 3, 1 / 3),
        "log_loss": ((3 * math.log(2) + math.log(4)) / 4, (math.log(2) + 3 * math.log(4)) / 4),
        "brier": ((3 * 0.375 + (0.25 + 0.5625 + 0.0625)) / 4, ((0.25 + 0.125) + 3 * (0.25 + 0.5625 + 0.0625)) / 4),
        "overconfidence": (0.5 - 0.75, math.nan),
    }
    for name, (value, prior) in expected.items():
        score = summary.score(name)
        assert score.value == pytest.approx(value, abs=1e-12), name
        assert score.prior == pytest.approx(prior, abs=1e-12, nan_ok=True), name
    assert summary.score("log_loss").gain == pytest.approx(expected["log_loss"][1] - expected["log_loss"][0])
    assert summary.score("accuracy").gain == pytest.approx(0.5)


def test_classes_and_confusions_by_hand():
    summary = summarise(small(), source="four rows")
    b = summary.classes[1]
    assert (b.name, b.n_rows, b.n_decided, b.recall, b.precision) == ("b", 2, 1, 0.5, 1.0)
    assert (b.prior, b.frequency, b.n_training) == (0.25, 0.5, None)
    assert b.mean_probability == pytest.approx((0.25 + 0.5 + 0.25 + 0.25) / 4)
    (pair,) = summary.confusions
    assert (pair.true, pair.decided, pair.n_rows, pair.share, pair.examples) == ("b", "a", 1, 0.5, ("three",))
    assert summary.n_confusions == 1


def test_example_rows_show_the_way_from_logits_to_probabilities():
    summary = summarise(small(), source="four rows")
    mistake = summary.examples[0]
    assert (mistake.kind, mistake.row, mistake.text) == ("Surest mistake", 2, "three")
    assert (mistake.true, mistake.decided) == ("b", "a")
    assert [bar.name for bar in mistake.bars] == ["a", "b", "c"]
    np.testing.assert_allclose([bar.probability for bar in mistake.bars], [0.5, 0.25, 0.25])
    np.testing.assert_allclose([bar.logit for bar in mistake.bars], np.log([0.5, 0.25, 0.25]))
    assert [bar.is_true for bar in mistake.bars] == [False, True, False]
    assert len({example.row for example in summary.examples}) == len(summary.examples) <= 6


def test_bars_of_many_classes_leave_a_rest_and_always_hold_the_true_class():
    labelled = made(n=100, k=40)
    for example in summarise(labelled, source="x").examples:
        assert len(example.bars) == 5
        assert example.n_others == 35
        assert any(bar.is_true for bar in example.bars)
        assert any(bar.is_decided for bar in example.bars)
        assert sum(bar.probability for bar in example.bars) + example.others == pytest.approx(1.0, abs=1e-12)


def test_scores_are_those_of_the_metrics():
    labelled = made(n=500, claim=1.7)
    summary = summarise(labelled, facts_of(labelled), source="x")
    for name in ("accuracy", "balanced_accuracy", "log_loss", "brier", "ece", "overconfidence"):
        score = summary.score(name)
        assert score.value == pytest.approx(getattr(metrics, name)(labelled.target, labelled.logits), rel=1e-12)
        assert score.low < score.value < score.high
    assert summary.decomposition == metrics.decomposition(labelled.target, labelled.logits)


def test_the_interval_of_a_gain_is_paired():
    labelled = made(n=500)
    loss = summarise(labelled, source="x").score("log_loss")
    assert loss.gain == pytest.approx(loss.prior - loss.value)
    assert loss.gain_low < loss.gain < loss.gain_high
    # The classes are about equally frequent, so the prior's loss hardly varies and the gain's spread is the model's.
    assert loss.gain_high - loss.gain_low == pytest.approx(loss.high - loss.low, rel=0.2)


def test_the_same_seed_gives_the_same_summary_and_another_gives_other_intervals():
    labelled = made()
    assert summarise(labelled, source="x", seed=4) == summarise(labelled, source="x", seed=4)
    assert (
        summarise(labelled, source="x", seed=4).score("brier").low
        != summarise(labelled, source="x", seed=5).score("brier").low
    )


def test_one_row_is_judged_without_intervals():
    labelled = Labelled(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b"), np.array([0.5, 0.5]), ("only",))
    summary = summarise(labelled, source="one row")
    assert summary.score("accuracy").value == 0.0
    assert math.isnan(summary.score("accuracy").low)
    assert "too few" in summary.notes[0]
    assert {v.name: v.level for v in summary.verdicts}["rows"] == "red"


def test_a_class_that_training_never_saw_costs_the_prior_infinitely_much_and_json_says_none():
    labelled = made(n=60, k=3, prior=[0.5, 0.5, 0.0 + 1e-12])
    labelled = Labelled(
        np.zeros((60, 3)), np.arange(60) % 3, labelled.classes, np.array([0.5, 0.5, 0.0]), labelled.examples
    )
    summary = summarise(labelled, source="x")
    loss = summary.score("log_loss")
    assert (loss.prior, loss.gain) == (math.inf, math.inf)
    plain = as_json(summary)
    assert plain["prior"]["log_loss"] is None
    json.dumps(plain, allow_nan=False)


def test_a_million_rows_are_summarised_in_seconds_and_the_shortcut_is_told():
    n = 1_000_000
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3))
    target = (logits + rng.gumbel(size=(n, 3))).argmax(axis=1)
    labelled = Labelled(logits, target, ("a", "b", "c"), np.bincount(target) / n, ("",) * n)
    start = time.perf_counter()
    summary = summarise(labelled, source="big", n_resamples=100)
    assert time.perf_counter() - start < 120  # about 8 s on two cores
    assert any(f"{MAX_ROWS_PER_RESAMPLE:,} of the 1,000,000 rows" in note for note in summary.notes)
    accuracy = summary.score("accuracy")
    theory = 2 * 1.96 * math.sqrt(accuracy.value * (1 - accuracy.value) / n)
    assert accuracy.high - accuracy.low == pytest.approx(theory, rel=0.3)
    assert accuracy.low < accuracy.value < accuracy.high


def test_json_has_the_keys_that_people_rely_on():
    labelled = made(k=12)
    plain = as_json(summarise(labelled, facts_of(labelled), source="x.csv", seed=9))
    assert {"accuracy", "balanced_accuracy", "log_loss", "brier", "ece", "n", "per_class"} <= plain.keys()
    assert plain["n"] == 300
    assert plain["seed"] == 9
    assert plain["intervals"]["accuracy"][0] < plain["accuracy"] < plain["intervals"]["accuracy"][1]
    assert plain["prior"]["accuracy"] < plain["accuracy"]
    assert [row["label"] for row in plain["per_class"]] == list(labelled.classes)
    assert sum(row["support"] for row in plain["per_class"]) == 300
    assert plain["training"]["estimator"] == "SoftmaxClassifier()"
    assert plain["verdicts"][0].keys() == {"name", "title", "level", "sentence", "advice"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_labelled_that_contradicts_itself_is_refused():
    good = small()
    with pytest.raises(ShapeError, match="3 example texts"):
        summarise(Labelled(good.logits, good.target, good.classes, good.prior, good.examples[:3]), source="x")
    with pytest.raises(ShapeError, match="2 names"):
        summarise(Labelled(good.logits, good.target, good.classes[:2], good.prior, good.examples), source="x")
    bad = good.logits.copy()
    bad[1, 0] = np.nan
    with pytest.raises(RangeError, match="NaN in row 1"):
        summarise(Labelled(bad, good.target, good.classes, good.prior, good.examples), source="x")
