"""Scores of the model beside those of predicting the prior, all on the same bootstrap resamples.

"The prior" predicts the class frequencies of the training rows for every row: what somebody without features would
do. A model is worth having by what it gains over that, and because both are judged on the same resamples, the
interval of the gain is that of a paired difference, narrower than the two intervals beside each other suggest.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from normexp.metrics.accuracy import accuracy_form, balanced_accuracy_form, top_k_form
from normexp.metrics.brier import brier_form
from normexp.metrics.door import Rows
from normexp.metrics.ece import ece_form, overconfidence_form
from normexp.metrics.interval import quantile_range, summarised
from normexp.metrics.log_loss import log_loss_form
from normexp.metrics.sums import Floats, GroupedSums, resampled, weighted_mean
from normexp.report.facts import Score

LEVEL = 0.95
MIN_ROWS_FOR_INTERVAL = 20  # below, the resamples are so few distinct ones that their quantiles mean nothing
MAX_ROWS_PER_RESAMPLE = 100_000  # above, fewer rows are drawn and the spread is scaled by sqrt(drawn / rows)
TOP = 5
MANY_CLASSES = 10  # beyond so many, whether the true class is among the first five is worth telling


@dataclass(frozen=True)
class _Entry:
    """A score to be computed: its words, its statement, and that of the prior where the two can be compared."""

    name: str
    title: str
    meaning: str
    better: Literal["higher", "lower", "zero"]
    statement: GroupedSums
    prior: GroupedSums | None


def score_all(rows: Rows, prior: Floats, *, seed: int, n_resamples: int) -> tuple[tuple[Score, ...], str]:
    """All scores, and a note on how the bootstrap was shortened (empty where it was not)."""
    entries = _entries(rows, prior)
    statements = [s for entry in entries for s in (entry.statement, entry.prior) if s is not None]
    if rows.n_rows < MIN_ROWS_FOR_INTERVAL:
        replicates, note = (
            None,
            (f"No intervals: {rows.n_rows} rows are too few for a bootstrap, which needs {MIN_ROWS_FOR_INTERVAL}."),
        )
        return tuple(_score(entry, rows.weight, {}, 1.0) for entry in entries), note
    replicates = resampled(
        statements,
        rows.weight,
        n_resamples=n_resamples,
        rng=np.random.default_rng([seed, 0]),
        rows_per_resample=MAX_ROWS_PER_RESAMPLE,
    )
    shrink, note = 1.0, ""
    if rows.n_rows > MAX_ROWS_PER_RESAMPLE:
        shrink = float(np.sqrt(MAX_ROWS_PER_RESAMPLE / rows.n_rows))
        note = (
            f"Each bootstrap resample draws {MAX_ROWS_PER_RESAMPLE:,} of the {rows.n_rows:,} rows, and the intervals "
            f"are narrowed by the factor {shrink:.3f} that the full number of rows deserves."
        )
    by_statement = {id(s): r for s, r in zip(statements, replicates, strict=True)}
    return tuple(_score(entry, rows.weight, by_statement, shrink) for entry in entries), note


def _entries(rows: Rows, prior: Floats) -> list[_Entry]:
    """List the scores of a report, in its order."""
    right = (rows.target == int(prior.argmax())).astype(np.float64)[None]
    balanced = balanced_accuracy_form(rows)
    with np.errstate(divide="ignore"):  # a class that training never saw costs the prior infinitely much
        prior_nll = -np.log(prior)[rows.target]
    prior_squared = prior @ prior - 2.0 * prior[rows.target] + 1.0
    entries = [
        _Entry(
            "accuracy",
            "Accuracy",
            "share of rows decided rightly",
            "higher",
            accuracy_form(rows),
            GroupedSums(weighted_mean, right, proportion=True),
        ),
        _Entry(
            "balanced_accuracy",
            "Balanced accuracy",
            "the same, every class counting alike",
            "higher",
            balanced,
            GroupedSums(balanced.finish, right, rows.target, rows.n_classes, proportion=True),
        ),
        _Entry(
            "log_loss",
            "Log loss",
            "surprise at the truth, in nats; punishes certain errors",
            "lower",
            log_loss_form(rows),
            GroupedSums(weighted_mean, prior_nll[None]),
        ),
        _Entry(
            "brier",
            "Brier score",
            "squared error of the probabilities, 0 to 2",
            "lower",
            brier_form(rows),
            GroupedSums(weighted_mean, prior_squared[None]),
        ),
        _Entry(
            "ece",
            "Calibration error",
            "typical gap between confidence and accuracy, freed from bias by noise",
            "lower",
            ece_form(rows, kind="debiased"),
            None,
        ),
        _Entry(
            "overconfidence",
            "Overconfidence",
            "mean confidence minus accuracy; negative: too timid",
            "zero",
            overconfidence_form(rows),
            None,
        ),
    ]
    if rows.n_classes > MANY_CLASSES:
        first = np.argsort(-prior, kind="stable")[:TOP]
        among = np.isin(rows.target, first).astype(np.float64)[None]
        top = _Entry(
            f"top_{TOP}_accuracy",
            f"Top-{TOP} accuracy",
            f"share of rows whose class is among the {TOP} likeliest",
            "higher",
            top_k_form(rows, k=TOP),
            GroupedSums(weighted_mean, among, proportion=True),
        )
        entries.insert(2, top)
    return entries


def _score(entry: _Entry, weight: Floats, replicates: dict[int, Floats], shrink: float) -> Score:
    """One score from its replicates; none give NaN for every end."""
    value = entry.statement.value(weight)
    low = high = prior = gain = gain_low = gain_high = math.nan
    own = replicates.get(id(entry.statement))
    if own is not None:
        _, low, high = summarised(entry.statement, weight, own, level=LEVEL, shrink=shrink)
    if entry.prior is not None:
        sign = 1.0 if entry.better == "higher" else -1.0
        prior = entry.prior.value(weight)
        gain = _difference(value, prior, sign)
        if own is not None:
            differences = _differences(own, replicates[id(entry.prior)], sign)
            gain_low, gain_high = quantile_range(differences, level=LEVEL)
            if np.isfinite([gain, gain_low, gain_high]).all():
                gain_low, gain_high = gain + shrink * (gain_low - gain), gain + shrink * (gain_high - gain)
    return Score(
        entry.name,
        entry.title,
        entry.meaning,
        entry.better,
        value,
        low,
        high,
        prior,
        gain,
        gain_low,
        gain_high,
    )


def _difference(value: float, prior: float, sign: float) -> float:
    """How much better than the prior; 0 where both are infinitely bad."""
    return 0.0 if np.isinf(value) and np.isinf(prior) else sign * (value - prior)


def _differences(own: Floats, prior: Floats, sign: float) -> NDArray[np.float64]:
    """Do the same for each resample."""
    both = np.isinf(own) & np.isinf(prior)
    with np.errstate(invalid="ignore"):  # inf - inf, replaced in the same line
        return np.where(both, 0.0, sign * (own - prior))
