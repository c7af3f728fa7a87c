"""Risks that lie in the rows: too few, of too few classes, unlike those of training, or repeated.

Every threshold is named with its reason, so that it can be argued with.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from normexp.report.evidence import Evidence, name_classes, percent
from normexp.report.facts import Verdict
from normexp.report.scores import MIN_ROWS_FOR_INTERVAL

# 10 training rows for a class: the usual least number of cases for an event to be modelled (Peduzzi et al. 1996).
FEW_TRAINING_ROWS = 10
# With 10 rows an observed recall is uncertain by about 0.3 either way.
FEW_ROWS = 10
# An accuracy known to within 0.05 either way is enough for most choices between models.
WIDE_INTERVAL = 0.10
# Cohen's w of the class frequencies, less its bias: 0.1 is called small and 0.5 large (Cohen 1988, chapter 7).
SMALL_DRIFT, LARGE_DRIFT, DRIFT_SURE = 0.1, 0.5, 0.001
# Repeated rows make intervals too narrow by about sqrt(1 / (1 - share)): 5 % at a share of a tenth.
MANY_REPEATS = 0.10


def judge_training_rows(e: Evidence) -> Verdict | None:
    """Judge whether every class had rows enough to be learnt."""
    known = [(c.name, c.n_training) for c in e.classes if c.n_training is not None]
    if not known:
        return None
    few = [name for name, n in sorted(known, key=lambda pair: pair[1]) if n < FEW_TRAINING_ROWS]
    least = min(n for _, n in known)
    if few:
        return Verdict(
            "training_rows",
            "Classes with few training rows",
            "amber",
            f"{len(few)} of {len(known)} classes were learnt from fewer than {FEW_TRAINING_ROWS} rows, the smallest "
            f"from {least}: {name_classes(few)}.",
            "Collect more rows of these classes, or merge them; their probabilities follow the penalty more than the "
            "rows.",
        )
    seen = f"Every class was learnt from at least {least:,} rows."
    return Verdict("training_rows", "Enough training rows", "green", seen, "")


def judge_rows(e: Evidence) -> Verdict:
    """Judge whether there are rows enough to judge by."""
    accuracy = e.score("accuracy")
    advice = "Judge it on more rows before choosing between models by these numbers."
    if e.n_rows < MIN_ROWS_FOR_INTERVAL:
        seen = (
            f"{e.n_rows} row{'s are' if e.n_rows > 1 else ' is'} too few to judge a model by; no number here is sure."
        )
        return Verdict("rows", "Far too few rows", "red", seen, advice)
    reach = f"between {percent(accuracy.low)} and {percent(accuracy.high)}"
    seen = f"From {e.n_rows:,} rows, accuracy is known to lie {reach}."
    if accuracy.high - accuracy.low > WIDE_INTERVAL:
        return Verdict("rows", "Few rows", "amber", seen, advice)
    return Verdict("rows", "Enough rows", "green", seen, "")


def judge_class_rows(e: Evidence) -> Verdict:
    """Judge whether each class can be judged by itself."""
    absent = [c.name for c in e.classes if c.n_rows == 0]
    few = [c.name for c in e.classes if 0 < c.n_rows < FEW_ROWS]
    if not absent and not few:
        least = min(c.n_rows for c in e.classes)
        seen = f"Every class can be judged by at least {least:,} rows."
        return Verdict("class_rows", "Rows of every class", "green", seen, "")
    told = []
    if absent:
        told.append(f"{len(absent)} of {len(e.classes)} classes have no row here: {name_classes(absent)}.")
    if few:
        told.append(f"{len(few)} of {len(e.classes)} have fewer than {FEW_ROWS}: {name_classes(few)}.")
    advice = "Read nothing into the scores of these classes; judge them on more rows."
    return Verdict("class_rows", "Classes that cannot be judged", "amber", " ".join(told), advice)


def judge_drift(e: Evidence) -> Verdict:
    """Judge whether the classes are as frequent here as they were in training."""
    observed = np.array([c.n_rows for c in e.classes], dtype=np.float64)
    prior = np.array([c.prior for c in e.classes])
    training_rows = e.training.rows if e.training is not None else np.inf
    effect, chance = class_drift(observed, prior, training_rows=float(training_rows))
    moved = max(e.classes, key=lambda c: abs(c.frequency - c.prior))
    seen = f"“{moved.name}” moved most: {percent(moved.prior)} in training, {percent(moved.frequency)} here."
    advice = (
        "If the rows to come look like these, correct the probabilities for the new class frequencies (prior shift); "
        "if not, judge on a sample that looks like them."
    )
    if chance < DRIFT_SURE and effect > LARGE_DRIFT:
        return Verdict("drift", "Other class frequencies", "red", f"{seen} That is far beyond chance.", advice)
    if chance < DRIFT_SURE and effect > SMALL_DRIFT:
        return Verdict("drift", "Class frequencies moved", "amber", f"{seen} Chance does not explain it.", advice)
    return Verdict("drift", "Class frequencies as in training", "green", seen, "")


def class_drift(
    observed: NDArray[np.float64], prior: NDArray[np.float64], *, training_rows: float
) -> tuple[float, float]:
    """Compute Cohen's w of the observed counts against the prior, less its bias, and the chi-square test's p-value.

    The prior is itself an estimate from `training_rows`, which widens what chance explains. Classes that are expected
    fewer than 5 times are pooled, as the chi-square approximation asks.
    """
    n = float(observed.sum())
    expected = n * prior
    rare = expected < 5.0
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    if observed.size < 2 or not (expected > 0).all():
        return (0.0, 1.0) if (observed[expected <= 0] == 0).all() else (float("inf"), 0.0)
    statistic = float(((observed - expected) ** 2 / expected).sum())
    degrees = observed.size - 1
    spread = 1.0 + n / training_rows  # variance of a difference of two estimates, relative to that of one
    effect = sqrt(max(0.0, statistic - degrees * spread) / n)
    return effect, float(chi2.sf(statistic / spread, degrees))


def judge_repeats(e: Evidence) -> Verdict:
    """Judge whether rows are repeated."""
    share = e.n_repeated / e.n_rows
    seen = f"{e.n_repeated:,} of {e.n_rows:,} rows ({percent(share)}) get exactly the logits of an earlier row."
    if share > MANY_REPEATS:
        return Verdict(
            "repeats",
            "Repeated rows",
            "amber",
            seen,
            "If these are copies, drop them and judge again: the intervals take rows as independent, and copies of "
            "training rows flatter every score.",
        )
    return Verdict("repeats", "Hardly any repeated rows", "green", seen, "")
