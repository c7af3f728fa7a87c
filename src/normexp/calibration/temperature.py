"""One temperature for all rows, by Newton's method on its logarithm."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Final

import numpy as np

from normexp.base.checks import check_number
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.columns import pieces
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.metrics.door import BLOCK_ELEMENTS

MOST_STEPS: Final = 100  # bisection alone needs 60 for the whole bracket; Newton takes 5 to 8
STEP_TOLERANCE: Final = 1e-10
SMALL_STEP: Final = 1e-5  # of log T: what a Newton step of this size leaves is its square
LEFT: Final = 1e-2  # nats in the sum over all rows that a fold's temperature may leave
NEARLY_UNIFORM: Final = 100.0  # at 100 times the widest row no probability is 1 % off uniform
IMPOSSIBLE: Final = -1e150  # stands for -inf in sums of p d and p d^2: exp gives 0, and the square is finite


class TemperatureScaling(Calibrator):
    r"""Divide the logits by one temperature: cures over- and under-confidence, never changes a decision.

    Parameters
    ----------
    shrinkage : float, default 1.0
        Strength of the prior that holds the temperature near 1, in rows; above 0.

    Attributes
    ----------
    temperature_ : float
        Above 1: the logits were over-confident; below 1: under-confident.
    n_iter_ : int
        Passes over the rows.

    Notes
    -----
    With :math:`\beta = 1/T` the objective

    .. math:: \sum_i w_i \left[\log\sum_k e^{\beta z_{ik}} - \beta z_{iy_i}\right] + \lambda(\beta - 1 - \log\beta)

    is strictly convex in :math:`\beta`, so there is one optimum, which a Newton method on :math:`\log T`, kept inside
    a bracket, always reaches. The second term is a Gamma prior with its mode at T = 1. It bounds the temperature for
    any rows: with W the sum of weights and R the largest range of a row,

    .. math:: \frac{1}{1 + W(K-1)/(e\lambda)} \le T \le \min(1 + WR/\lambda,\; 100\max(1, R)).

    Rows that are all right do not drive T to 0, nor rows that are all wrong drive it to infinity.

    Cost: 5 to 8 passes over the logits; memory is that of a block of rows (16 MiB), for any K.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", ICML, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import TemperatureScaling
    >>> logits = np.array([[4.0, 0.0]] * 100)
    >>> y = np.array([0] * 80 + [1] * 20)  # right in 80 % of the rows, and 98 % sure of each
    >>> model = TemperatureScaling().fit(logits, y)
    >>> round(model.temperature_, 2)
    2.83
    >>> model.predict_proba(logits[:1]).round(2)
    array([[0.8, 0.2]])
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def _fit(self, rows: CalibrationRows) -> None:
        strength = check_number(self.shrinkage, of="TemperatureScaling", name="shrinkage", low=1e-9)
        self.temperature_, self.n_iter_ = fit_temperature(rows, strength)

    def _map(self, z: Floats) -> Floats:
        return z / self.temperature_

    def map_columns(self, z: Floats, /) -> Floats:
        """The same of rows that lie class by class."""
        return z / self.temperature_


def fit_temperature(rows: CalibrationRows, strength: float, /) -> tuple[float, int]:
    """Temperature of the rows, and how many passes it took."""
    if rows.n_classes == 1:
        return 1.0, 0
    if strength not in rows.temperatures:
        rows.temperatures[strength] = _fit_temperature(rows, strength, _Shifted(rows))
    return rows.temperatures[strength]


def fold_temperatures(rows: CalibrationRows, folds: list[slice], strength: float, /) -> list[float]:
    r"""Temperatures of the rows outside each fold, where the rows of a fold lie side by side.

    Parameters
    ----------
    rows : CalibrationRows
        N rows.
    folds : list of slice
        The rows held out in each fold.
    strength : float
        That of the prior, as in `TemperatureScaling`.

    Returns
    -------
    list of float
        One temperature for each fold.

    Notes
    -----
    One pass tells the derivatives of each fold's rows at the temperature of all rows, and so a Newton step from there
    for each fold. A step of :math:`\delta` in log T leaves one of about :math:`\delta^2`, and with it
    :math:`\tfrac12 h\delta^4` nats of the sum over the rows, h the second derivative. Where that is more than 1/100
    the steps go on.
    """
    if rows.n_classes == 1:
        return [1.0] * len(folds)
    shifted = _Shifted(rows)
    if strength not in rows.temperatures:
        rows.temperatures[strength] = _fit_temperature(rows, strength, shifted)
    log_t = math.log(rows.temperatures[strength][0])
    low, high = _bracket(rows, shifted.widest, strength)
    beta = math.exp(-log_t)
    slopes, curvatures = shifted.by_fold(beta, folds)
    found = []
    for f, fold in enumerate(folds):
        slope, bend = _in_log(float(slopes.sum() - slopes[f]), float(curvatures.sum() - curvatures[f]), beta, strength)
        step = beta * slope / bend if bend > 0.0 else math.nan
        if 0.5 * bend * step**4 <= LEFT and low < log_t + step < high:
            found.append(math.exp(log_t + step))
            continue
        found.append(math.exp(_newton(partial(shifted.derivatives, outside=fold), log_t, low, high, strength)[0]))
    return found


def _fit_temperature(rows: CalibrationRows, strength: float, shifted: "_Shifted") -> tuple[float, int]:
    """Newton's method on log T, from what is known to be near."""
    low, high = _bracket(rows, shifted.widest, strength)
    log_t = min(max(math.log(rows.near.get(strength, 1.0)), low), high)
    log_t, steps = _newton(shifted.derivatives, log_t, low, high, strength)
    return math.exp(log_t), steps


def _in_log(slope: float, curvature: float, beta: float, strength: float) -> tuple[float, float]:
    """The slope in beta and the second derivative in log T, both with the prior."""
    slope += strength * (1.0 - 1.0 / beta)
    curvature += strength / beta**2
    return slope, beta * beta * curvature + beta * slope


def _newton(
    derivatives: Callable[[float], tuple[float, float]], log_t: float, low: float, high: float, strength: float
) -> tuple[float, int]:
    """Newton's method on log T, kept between bounds that close in."""
    for step in range(1, MOST_STEPS + 1):  # noqa: B007  (counted for the caller)
        beta = math.exp(-log_t)
        slope, bend = _in_log(*derivatives(beta), beta, strength)
        if slope > 0.0:  # the objective rises with beta: the optimum is hotter
            low = log_t
        else:
            high = log_t
        wanted = log_t + beta * slope / bend if bend > 0.0 else math.nan
        if abs(wanted - log_t) <= STEP_TOLERANCE or high - low <= STEP_TOLERANCE:
            break
        if abs(wanted - log_t) <= SMALL_STEP and low < wanted < high:
            log_t = wanted
            break
        log_t = wanted if low < wanted < high else 0.5 * (low + high)
    return log_t, step


def _bracket(rows: CalibrationRows, widest: float, strength: float) -> tuple[float, float]:
    """Bounds of log T that the Notes prove."""
    total = float(rows.weight.sum())
    low = -math.log1p(total * (rows.n_classes - 1) / (math.e * strength))
    high = math.log(min(1.0 + total * widest / strength, NEARLY_UNIFORM * max(1.0, widest)))
    return low - 1e-9, high + 1e-9


class _Shifted:
    """The logits less the largest of their row, class by class; kept from pass to pass where they fill one block."""

    def __init__(self, rows: CalibrationRows) -> None:
        self.rows = rows
        self.kept = list(self._blocks()) if rows.n_rows * rows.n_classes <= BLOCK_ELEMENTS else None

    @cached_property
    def widest(self) -> float:
        """The largest range of a row, classes of probability 0 left out."""
        return max((_depth(d) for _, d, _ in (self._blocks() if self.kept is None else self.kept)), default=0.0)

    def derivatives(self, beta: float, outside: slice | None = None) -> tuple[float, float]:
        """First and second derivative of the weighted log loss with respect to the inverse temperature.

        Of all rows, or of those outside a fold.
        """
        slopes = curvatures = 0.0
        for block, weight, slope, curvature in self._each(beta):
            heft = weight.copy()
            if outside is not None:
                heft[_within(outside, block)] = 0.0
            slopes += float(heft @ slope)
            curvatures += float(heft @ curvature)
        return slopes, curvatures

    def by_fold(self, beta: float, folds: list[slice]) -> tuple[Floats, Floats]:
        """Both derivatives of the rows of each fold."""
        slopes, curvatures = np.zeros(len(folds)), np.zeros(len(folds))
        for block, weight, slope, curvature in self._each(beta):
            for f, fold in enumerate(folds):
                here = _within(fold, block)
                slopes[f] += weight[here] @ slope[here]
                curvatures[f] += weight[here] @ curvature[here]
        return slopes, curvatures

    def _each(self, beta: float) -> Iterator[tuple[slice, Floats, Floats, Floats]]:
        """Weights and both derivatives of each row, a block at a time."""
        for block, d, own in self._blocks() if self.kept is None else self.kept:
            slope, curvature = np.empty(own.size), np.empty(own.size)
            for at in pieces(len(d), slice(0, own.size)):
                term = np.exp(d[:, at] * beta)  # the largest is 1, so that the sums are at least that
                total = term.sum(axis=0)
                term *= d[:, at]
                mean = term.sum(axis=0) / total
                slope[at] = mean - own[at]
                curvature[at] = np.maximum(np.einsum("kn,kn->n", term, d[:, at]) / total - mean * mean, 0.0)
            yield block, self.rows.weight[block], slope, curvature

    def _blocks(self) -> Iterator[tuple[slice, Floats, Floats]]:
        for block, z in self.rows.column_blocks():
            d = z - z.max(axis=0)
            np.maximum(d, IMPOSSIBLE, out=d)
            yield block, d, d[self.rows.target[block], np.arange(d.shape[1])]


def _within(fold: slice, block: slice) -> slice:
    """Where a fold's rows stand in a block."""
    return slice(max(fold.start - block.start, 0), max(fold.stop - block.start, 0))


def _depth(d: Floats) -> float:
    """How far below 0 the numbers reach, those that stand for -inf left out."""
    lowest = float(d.min(initial=0.0))
    return -lowest if lowest > IMPOSSIBLE else -float(np.min(d, where=d > IMPOSSIBLE, initial=0.0))
