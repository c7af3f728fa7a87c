"""Each verdict is green where nothing is wrong, and speaks up where something is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special, stats

from normexp.report import summarise
from normexp.report.labelled import Labelled
from normexp.report.risks_of_rows import class_drift
from report.made import facts_of, made


def levels(labelled, training=None):
    return {v.name: v.level for v in summarise(labelled, training, source="x").verdicts}


def verdict(labelled, name, training=None):
    return next(v for v in summarise(labelled, training, source="x").verdicts if v.name == name)


def test_a_sound_model_gets_only_green():
    labelled = made(n=3000)
    assert set(levels(labelled, facts_of(labelled)).values()) == {"green"}


def test_the_worst_verdict_comes_first():
    labelled = made(n=3000, claim=4.0)
    order = [v.level for v in summarise(labelled, source="x").verdicts]
    assert order == sorted(order, key=["red", "amber", "green"].index)
    assert order[0] == "red"


def test_a_model_that_knows_nothing_is_called_useless():
    labelled = made(n=500)
    shuffled = replace(labelled, target=np.random.default_rng(0).permutation(labelled.target))
    told = verdict(shuffled, "prior")
    assert told.level == "red"
    assert "Do not use" in told.advice


def test_a_gain_that_could_be_chance_is_amber():
    rng = np.random.default_rng(2)
    logits = 0.12 * rng.normal(size=(200, 2))
    target = (logits + rng.gumbel(size=(200, 2))).argmax(axis=1)
    labelled = Labelled(logits, target, ("a", "b"), np.array([0.5, 0.5]), ("",) * 200)
    assert levels(labelled)["prior"] in {"amber", "red"}


def test_good_decisions_with_certain_errors_are_told_to_be_calibrated_and_not_to_seek_features():
    labelled = made(n=500)
    prior = -np.log(labelled.prior[labelled.target]).mean()

    def gain(claim):
        logits = claim * labelled.logits
        return prior + (logits[np.arange(500), labelled.target] - special.logsumexp(logits, axis=1)).mean()

    claim = optimize.brentq(lambda claim: gain(claim) - 0.01, 1.0, 50.0)  # a gain that could be chance
    told = verdict(replace(labelled, logits=claim * labelled.logits), "prior")
    assert told.level == "amber"
    assert told.title == "Decisions better than the prior, probabilities perhaps not"
    assert "Calibrate" in told.advice
    assert "features" not in told.advice


@pytest.mark.parametrize(("claim", "words"), [(3.0, "over-confident"), (0.35, "under-confident")])
def test_the_direction_of_miscalibration_is_told(claim, words):
    told = verdict(made(n=3000, claim=claim), "calibration")
    assert told.level in {"amber", "red"}
    assert words in told.sentence
    assert "temperature" in told.advice


def test_chance_gaps_on_few_rows_are_not_held_against_a_model():
    seen = [levels(made(n=100, seed=seed))["calibration"] for seed in range(20)]
    assert seen.count("red") == 0
    # Forty-five hits of forty-five at a confidence of 0.97: no spread in the hits, and no evidence either.
    logits = np.zeros((45, 2))
    logits[:, 0] = np.log(0.97 / 0.03)
    all_right = Labelled(logits, np.zeros(45, dtype=np.intp), ("a", "b"), np.array([1.0, 0.0]), ("",) * 45)
    assert levels(all_right)["calibration"] == "green"


def test_an_unfinished_fit_is_told_and_an_unknown_one_is_not_judged():
    labelled = made()
    told = verdict(labelled, "convergence", facts_of(labelled, converged=False, outcome="max_iter was not enough."))
    assert (told.level, told.sentence[:24]) == ("amber", "max_iter was not enough.")
    assert "convergence" not in levels(labelled)


def test_a_class_that_is_never_found_is_named():
    labelled = made(n=1000, k=4, prior=[0.32, 0.32, 0.32, 0.04], names=["a", "b", "c", "rare one"])
    logits = labelled.logits.copy()
    logits[:, 3] -= 30.0
    told = verdict(replace(labelled, logits=logits), "lost_classes")
    assert told.level == "red"
    assert "“rare one”" in told.sentence
    assert levels(labelled)["lost_classes"] == "green"


def test_accuracy_that_the_large_class_carries_is_seen():
    target = np.r_[np.zeros(900, dtype=np.intp), np.ones(100, dtype=np.intp)]
    logits = np.tile([2.0, 0.0], (1000, 1)) + 0.1 * np.random.default_rng(0).normal(size=(1000, 2))
    labelled = Labelled(logits, target, ("big", "small"), np.array([0.9, 0.1]), ("",) * 1000)
    assert levels(labelled)["balance"] == "red"


def test_few_training_rows_and_absent_classes_are_named():
    labelled = made(n=500, k=3)
    told = verdict(labelled, "training_rows", facts_of(labelled, class_counts=(500, 480, 4)))
    assert told.level == "amber"
    assert "“class_2”" in told.sentence
    absent = replace(labelled, target=np.minimum(labelled.target, 1))
    told = verdict(absent, "class_rows")
    assert told.level == "amber"
    assert "“class_2”" in told.sentence


def test_few_rows_are_told():
    assert levels(made(n=5))["rows"] == "red"
    assert levels(made(n=60))["rows"] == "amber"
    assert levels(made(n=3000))["rows"] == "green"


def test_drift_of_the_class_frequencies_is_seen_and_chance_is_not():
    labelled = made(n=2000)
    assert levels(replace(labelled, prior=np.array([0.55, 0.25, 0.1, 0.1])))["drift"] in {"amber", "red"}
    assert levels(replace(labelled, prior=np.array([0.94, 0.02, 0.02, 0.02])))["drift"] == "red"
    assert levels(labelled)["drift"] == "green"


def test_drift_is_the_chi_square_test():
    observed, prior = np.array([60.0, 30.0, 30.0]), np.array([0.4, 0.3, 0.3])
    statistic, p = stats.chisquare(observed, 120 * prior)
    effect, chance = class_drift(observed, prior, training_rows=np.inf)
    assert chance == pytest.approx(p, rel=1e-12)
    assert effect == pytest.approx(np.sqrt((statistic - 2) / 120), rel=1e-12)


def test_drift_allows_for_a_prior_that_is_itself_an_estimate():
    """Two samples of one distribution: the homogeneity test, not the test against known frequencies."""
    rng = np.random.default_rng(0)
    pairs = [(rng.multinomial(300, [0.25] * 4), rng.multinomial(300, [0.25] * 4)) for _ in range(400)]
    chances = [class_drift(a.astype(float), b / 300, training_rows=300.0)[1] for a, b in pairs]
    naive = [class_drift(a.astype(float), b / 300, training_rows=np.inf)[1] for a, b in pairs]
    assert np.mean(np.less(chances, 0.05)) < 0.09
    assert np.mean(np.less(naive, 0.05)) > 0.2  # what ignoring it would give


def test_a_class_outside_training_is_drift():
    effect, chance = class_drift(np.array([50.0, 50.0]), np.array([1.0, 0.0]), training_rows=np.inf)
    assert (effect, chance) == (np.inf, 0.0)


def test_repeated_rows_are_counted():
    labelled = made(n=200)
    twice = Labelled(
        np.repeat(labelled.logits, 2, axis=0),
        np.repeat(labelled.target, 2),
        labelled.classes,
        labelled.prior,
        ("",) * 400,
    )
    assert summarise(twice, source="x").n_repeated == 200
    assert levels(twice)["repeats"] == "amber"
    assert summarise(labelled, source="x").n_repeated == 0


def test_perfection_on_many_rows_is_doubted():
    target = np.arange(400) % 4
    perfect = Labelled(20.0 * np.eye(4)[target], target, tuple("abcd"), np.full(4, 0.25), ("",) * 400)
    assert levels(perfect)["perfection"] == "amber"
    assert "perfection" not in levels(made(n=400))
