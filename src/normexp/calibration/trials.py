"""Cross-validation of the menu: each kind judged on rows that it was not fitted on, and no work done twice."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.affine import AffineMap
from normexp.calibration.affine_folds import AffineFolds, Fold, FoldViews, Promise, search
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.folds import split_folds
from normexp.calibration.menu import Entry, Identity
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.structured import StructuredMatrixScaling, VectorScaling
from normexp.calibration.temperature import fit_temperature
from normexp.ops import log_softmax

# Standard errors by which a gain over identity must exceed 0, for many rows and (added) for few. Measured on
# problems calibrated by construction: bench/calibration.py, table "already calibrated".
MANY_ROWS_MARGIN: Final = 1.0
FEW_ROWS_MARGIN: Final = 2.0
FEW_ROWS: Final = 300.0
RICH_MARGIN: Final = 1.0  # added for methods with a strength to choose: the best of several is lucky
SLACK: Final = 1.0  # standard errors by which a promise may fall short and is looked at all the same
MOST_POOL_ELEMENTS: Final = 2_000_000  # N x K: held-out log-probabilities of five kinds are kept, 40 MB


class Trial(NamedTuple):
    """Held-out gains of one kind in its best variant: mean, each row's, and each row's variance were p right.

    With them the calibrators fitted outside each fold, the map on all rows where the kind is an affine one, and the
    held-out log-probabilities, (N, K), where a pool may be made of them.
    """

    entry: Entry
    variant: float
    gain: float
    gains: Floats
    variance: Floats
    outside: list[Calibrator]
    start: AffineMap | None
    held_out: NDArray[np.float32] | None

    def fitted(self, rows: CalibrationRows) -> Calibrator:
        """The kind in its best variant, on all rows."""
        method = self.outside[0]
        if self.start is not None and isinstance(method, (VectorScaling, StructuredMatrixScaling)):
            return method.fit_near(rows, self.variant, self.start)
        return self.entry.fit(rows, (self.variant,))[0]


def cross_validate(menu: Sequence[Entry], rows: CalibrationRows, n_folds: int, /) -> list[Trial]:
    """Judge each kind of the menu in its best variant; those without a chance are left out.

    Parameters
    ----------
    menu : sequence of Entry
        Identity first, then from the simplest to the richest.
    rows : CalibrationRows
        N rows.
    n_folds : int
        How many folds.

    Returns
    -------
    list of Trial
        Identity first.

    Notes
    -----
    Vector and matrix scaling are tried where some strength promises a gain over the temperature, and where something
    else has beaten identity already or the promise comes within a standard error of what beats it.
    """
    if len(menu) > 1:
        fit_temperature(rows, 1.0)  # the folds' searches begin there
    folds = split_folds(rows.target, n_folds)
    court = _Court(rows, folds, keeps=any(entry.name == "vector" for entry in menu))
    views: FoldViews | None = None
    trials: list[Trial] = []
    for entry in menu:
        if entry.name not in {"vector", "matrix"}:
            trials.append(court.trial(entry))
            continue
        views = views or FoldViews(rows, folds, court.trains)
        found = _affine_trial(entry, views, court, trials)
        if found is not None:
            trials.append(found)
    return trials


def beats_identity(trial: Trial, weight: Floats) -> bool:
    """Whether so large a mean gain is more than chance would show were the given probabilities right."""
    total = float(weight.sum())
    chance = math.sqrt(float((weight * weight) @ trial.variance)) / total
    return trial.gain > _margin(weight, rich=len(trial.entry.variants) > 1) * chance


def _margin(weight: Floats, *, rich: bool) -> float:
    """Standard errors that a gain over identity has to exceed."""
    n_rows = float(weight.sum()) ** 2 / float(weight @ weight)
    return MANY_ROWS_MARGIN + FEW_ROWS_MARGIN * math.exp(-n_rows / FEW_ROWS) + (RICH_MARGIN if rich else 0.0)


def _affine_trial(entry: Entry, views: FoldViews, court: "_Court", before: list[Trial]) -> Trial | None:
    """Vector or matrix scaling in its best strength; None where it has no chance."""
    full, strengths, weight = entry.name == "matrix", entry.variants, views.rows.weight
    fits = AffineFolds(views, full=full)
    promises = fits.promises(strengths) if fits.problem.newton else []
    if promises and _hopeless(promises, before, weight):
        return None
    method = StructuredMatrixScaling() if full else VectorScaling()
    found: dict[int, Trial] = {}
    total = float(weight.sum())
    tempered = next((trial.gain for trial in before if trial.entry.name == "temperature"), 0.0)

    def gain_of(place: int) -> float:
        start, maps = fits.fit(strengths[place])
        outside: list[Calibrator] = [
            method.of_map(strengths[place], heat, views.bottom, one)
            for heat, one in zip(views.temperatures, maps, strict=True)
        ]
        found[place] = court.judged(entry, strengths[place], outside, start)
        return (found[place].gain - tempered) * total

    return found[search(strengths, promises, gain_of)]


def _hopeless(promises: list[Promise], before: list[Trial], weight: Floats) -> bool:
    """Whether no strength gains, or none could be told from chance where nothing simpler can."""
    if all(one.gain <= 0.0 for one in promises):
        return True
    if any(beats_identity(trial, weight) for trial in before):
        return False
    tempered = next((trial.gain for trial in before if trial.entry.name == "temperature"), 0.0) * float(weight.sum())
    bar = _margin(weight, rich=True) - SLACK
    return all(tempered + one.gain < bar * one.chance for one in promises)


class _Court:
    """The rows of each fold, what was given for them, and what a calibrator makes of it."""

    def __init__(self, rows: CalibrationRows, folds: list[Fold], *, keeps: bool) -> None:
        self.rows, self.folds = rows, folds
        self.trains = [rows.take(kept) for kept, _ in folds]
        self.tests = [rows.take(held) for _, held in folds]
        self.keeps = keeps and rows.n_rows * rows.n_classes <= MOST_POOL_ELEMENTS

    def trial(self, entry: Entry) -> Trial:
        """A kind, fitted in each fold in all its variants."""
        if entry.name == "identity":
            same = [Identity().fit_rows(train) for train in self.trains]
            return self.judged(entry, entry.variants[0], list(same), None)
        fitted = [entry.fit(train, entry.variants) for train in self.trains]
        trials = [
            self.judged(entry, variant, [one[v] for one in fitted], None) for v, variant in enumerate(entry.variants)
        ]
        return max(trials, key=lambda trial: trial.gain)

    def judged(self, entry: Entry, variant: float, outside: list[Calibrator], start: AffineMap | None) -> Trial:
        """Held-out gains of calibrators fitted outside each fold."""
        n_rows, n_classes = self.rows.n_rows, self.rows.n_classes
        gains, variance = np.zeros(n_rows), np.zeros(n_rows)
        kept = np.empty((n_rows, n_classes), np.float32) if self.keeps else None
        if entry.name != "identity" or self.keeps:
            for fitted, test, (_, held) in zip(outside, self.tests, self.folds, strict=True):
                gains[held], variance[held] = _gain(fitted, test, kept, held)
        mean = float(self.rows.weight @ gains) / float(self.rows.weight.sum())
        return Trial(entry, variant, mean, gains, variance, outside, start, kept)


def _gain(
    fitted: Calibrator, test: CalibrationRows, kept: NDArray[np.float32] | None, at: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Gain in log-probability of the truth on each row, and its variance were the given probabilities right.

    The log-probabilities go to kept[at].
    """
    gain, variance = np.empty(test.n_rows), np.empty(test.n_rows)
    for block, z in test.blocks():
        before = np.asarray(log_softmax(z))
        after = np.asarray(log_softmax(fitted.map_block(z)))
        if kept is not None:
            with np.errstate(over="ignore"):  # beyond float32: -inf, and then no pool is made
                kept[at[block]] = after
        possible = np.isfinite(before)
        difference = np.subtract(after, before, out=np.zeros_like(before), where=possible)
        weighted = np.exp(before) * difference
        mean = weighted.sum(axis=1)
        square = np.einsum("nk,nk->n", weighted, difference)
        variance[block] = np.maximum(square - mean * mean, 0.0)
        gain[block] = difference[np.arange(z.shape[0]), test.target[block]]
    return gain, variance
