"""Cross-validation of the menu: each kind judged on rows that it was not fitted on, and no work done twice."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.affine import AffineMap
from normexp.calibration.affine_folds import AffineFolds, Promise, climb, search
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.columns import normalise, turned
from normexp.calibration.fold_views import FoldViews
from normexp.calibration.folds import outside
from normexp.calibration.menu import Entry, Identity
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.structured import StructuredMatrixScaling, VectorScaling
from normexp.calibration.temperature import fold_temperatures
from normexp.metrics.door import BLOCK_ELEMENTS

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

    With them the calibrators fitted outside each fold, the map on all rows and how it was found where the kind is an
    affine one, and the held-out log-probabilities, (K, N), where a pool may be made of them.
    """

    entry: Entry
    variant: float
    gain: float
    gains: Floats
    variance: Floats
    outside: list[Calibrator]
    near: tuple[AffineMap, AffineFolds] | None
    held_out: NDArray[np.float32] | None

    def fitted(self, rows: CalibrationRows) -> Calibrator:
        """The kind in its best variant, on all rows."""
        method = self.outside[0]
        if self.near is not None and isinstance(method, (VectorScaling, StructuredMatrixScaling)):
            start, fits = self.near
            metric = fits.metric(self.variant, float(rows.weight.sum()) / float(fits.problem.weight.sum()))
            return method.fit_near(rows, self.variant, start, metric)
        return self.entry.fit(rows, (self.variant,))[0]


def cross_validate(menu: Sequence[Entry], rows: CalibrationRows, folds: list[slice], /) -> list[Trial]:
    """Judge each kind of the menu in its best variant; those without a chance are left out.

    Parameters
    ----------
    menu : sequence of Entry
        Identity first, then from the simplest to the richest.
    rows : CalibrationRows
        N rows.
    folds : list of slice
        The rows held out in each fold, which lie side by side.

    Returns
    -------
    list of Trial
        Identity first.

    Notes
    -----
    Vector and matrix scaling are tried where some strength promises a gain over the temperature, and where something
    else has beaten identity already or the promise comes within a standard error of what beats it.
    """
    court = _Court(rows, folds, keeps=any(entry.name == "vector" for entry in menu))
    temperatures = fold_temperatures(rows, folds, 1.0) if len(menu) > 1 else []
    for train, heat in zip(court.trains, temperatures, strict=False):
        train.temperatures[1.0] = heat, 1
    views: FoldViews | None = None
    trials: list[Trial] = []
    for entry in menu:
        if entry.name not in {"vector", "matrix"}:
            trials.append(court.trial(entry))
            continue
        views = views or FoldViews(rows, folds, temperatures)
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
    promises = climb(strengths, fits.promise) if fits.problem.newton else []
    if promises and _hopeless(promises, before, weight):
        return None
    method = StructuredMatrixScaling() if full else VectorScaling()
    found: dict[int, Trial] = {}
    total = float(weight.sum())
    tempered = next((trial.gain for trial in before if trial.entry.name == "temperature"), 0.0)

    def gain_of(place: int) -> float:
        fit = fits.fit(strengths[place])
        outside: list[Calibrator] = [
            method.of_map(strengths[place], heat, views.bottom, one)
            for heat, one in zip(views.temperatures, fit.outside, strict=True)
        ]
        found[place] = court.judged(entry, strengths[place], outside, (fit.whole, fits), fit.held_out)
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

    def __init__(self, rows: CalibrationRows, folds: list[slice], *, keeps: bool) -> None:
        self.rows, self.folds = rows, folds
        self.trains = [rows.take(outside(fold, rows.n_rows)) for fold in folds]
        small = rows.n_rows * rows.n_classes <= MOST_POOL_ELEMENTS
        self.keeps = keeps and small
        self._given = [list(self._read(fold)) for fold in folds] if small else None
        for f, given in enumerate(self._given or []):
            for other, train in enumerate(self.trains):
                if other != f:
                    train.columns.extend(one.logits for one in given)
            rows.columns.extend(one.logits for one in given)

    def trial(self, entry: Entry) -> Trial:
        """A kind, fitted in each fold in all its variants."""
        if entry.name == "identity":
            same = [Identity().fit_raised(train) for train in self.trains]
            return self.judged(entry, entry.variants[0], list(same))
        fitted = []
        for f, train in enumerate(self.trains):
            train.near_shares.update(self.trains[f - 1].near_shares)
            fitted.append(entry.fit(train, entry.variants))
        self.rows.near_shares.update(self.trains[-1].near_shares)
        trials = [self.judged(entry, variant, [one[v] for one in fitted]) for v, variant in enumerate(entry.variants)]
        return max(trials, key=lambda trial: trial.gain)

    def judged(
        self,
        entry: Entry,
        variant: float,
        outside: list[Calibrator],
        near: tuple[AffineMap, AffineFolds] | None = None,
        held_out: list[NDArray[Any]] | None = None,
    ) -> Trial:
        """Held-out gains of calibrators fitted outside each fold; what they make of the fold may be known already."""
        n_rows = self.rows.n_rows
        gains, variance = np.zeros(n_rows), np.zeros(n_rows)
        kept = np.empty((self.rows.n_classes, n_rows), np.float32) if self.keeps else None
        for f, fold in enumerate(self.folds):
            if entry.name == "identity" and not self.keeps:
                break
            for given in self._read(fold) if self._given is None else self._given[f]:
                if entry.name == "identity":
                    after = given.log_prob
                elif held_out is not None:
                    after = held_out[f][:, given.at.start - fold.start : given.at.stop - fold.start]
                else:
                    after = normalise(outside[f].map_columns(given.logits))
                if kept is not None:
                    with np.errstate(over="ignore"):  # beyond float32: -inf, and then no pool is made
                        kept[:, given.at] = after
                if entry.name != "identity":
                    gains[given.at], variance[given.at] = given.gain(after)
        mean = float(self.rows.weight @ gains) / float(self.rows.weight.sum())
        return Trial(entry, variant, mean, gains, variance, outside, near, kept)

    def _read(self, fold: slice) -> Iterator["_Given"]:
        """Rows of a fold, a block at a time."""
        step = max(1, BLOCK_ELEMENTS // self.rows.n_classes)
        for start in range(fold.start, fold.stop, step):
            at = slice(start, min(start + step, fold.stop))
            yield _Given(at, turned(self.rows.logits[self.rows.index[at]]), self.rows.target[at])


class _Given:
    """Rows of a fold as they came, class by class."""

    def __init__(self, at: slice, logits: Floats, target: NDArray[np.intp]) -> None:
        self.at, self.logits = at, logits
        self.truth = target, np.arange(target.size)
        self.log_prob = normalise(logits.copy())
        self.prob = np.exp(self.log_prob)
        zeros = np.isneginf(self.log_prob)
        self.zeros = zeros if zeros.any() else None

    def gain(self, after: NDArray[Any]) -> tuple[Floats, Floats]:
        """Gain in log-probability of the truth on each row, and its variance were the given probabilities right."""
        if self.zeros is None:
            difference = after - self.log_prob
        else:
            difference = np.subtract(after, self.log_prob, out=np.zeros_like(self.log_prob), where=~self.zeros)
        weighted = self.prob * difference
        mean = weighted.sum(axis=0)
        square = np.einsum("kn,kn->n", weighted, difference)
        return difference[self.truth], np.maximum(square - mean * mean, 0.0)
