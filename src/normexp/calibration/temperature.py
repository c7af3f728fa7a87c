"""One temperature for all rows, by Newton's method on its logarithm."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from normexp.base.checks import check_number
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.metrics.door import BLOCK_ELEMENTS

MOST_STEPS: Final = 100  # bisection alone needs 60 for the whole bracket; Newton takes 5 to 8
STEP_TOLERANCE: Final = 1e-10
SMALL_STEP: Final = 1e-5  # of log T: what a Newton step of this size leaves is its square
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


def fit_temperature(rows: CalibrationRows, strength: float, /) -> tuple[float, int]:
    """Temperature of the rows, and how many passes it took."""
    if rows.n_classes == 1:
        return 1.0, 0
    if strength not in rows.temperatures:
        rows.temperatures[strength] = _fit_temperature(rows, strength)
    return rows.temperatures[strength]


def _fit_temperature(rows: CalibrationRows, strength: float) -> tuple[float, int]:
    """Newton's method on log T, kept between bounds that close in."""
    shifted = _Shifted(rows)
    low, high = _bracket(rows, strength)
    log_t = min(max(math.log(rows.near.get(strength, 1.0)), low), high)
    for step in range(1, MOST_STEPS + 1):  # noqa: B007  (counted for the caller)
        beta = math.exp(-log_t)
        slope, curvature = shifted.derivatives(beta)
        slope += strength * (1.0 - 1.0 / beta)
        curvature += strength / beta**2
        if slope > 0.0:  # the objective rises with beta: the optimum is hotter
            low = log_t
        else:
            high = log_t
        bend = beta * beta * curvature + beta * slope  # second derivative with respect to log T
        wanted = log_t + beta * slope / bend if bend > 0.0 else math.nan
        if abs(wanted - log_t) <= STEP_TOLERANCE or high - low <= STEP_TOLERANCE:
            break
        if abs(wanted - log_t) <= SMALL_STEP and low < wanted < high:
            log_t = wanted
            break
        log_t = wanted if low < wanted < high else 0.5 * (low + high)
    return math.exp(log_t), step


def _bracket(rows: CalibrationRows, strength: float) -> tuple[float, float]:
    """Bounds of log T that the Notes prove."""
    widest = 0.0
    for _, z in rows.blocks():
        bottom = np.where(np.isneginf(z), np.inf, z).min(axis=1)
        widest = max(widest, float((z.max(axis=1) - bottom).max()))
    total = float(rows.weight.sum())
    low = -math.log1p(total * (rows.n_classes - 1) / (math.e * strength))
    high = math.log(min(1.0 + total * widest / strength, NEARLY_UNIFORM * max(1.0, widest)))
    return low - 1e-9, high + 1e-9


class _Shifted:
    """The logits less the largest of their row; kept between passes where they fill no more than one block."""

    def __init__(self, rows: CalibrationRows) -> None:
        self.rows = rows
        self.kept = list(self._blocks()) if rows.n_rows * rows.n_classes <= BLOCK_ELEMENTS else None

    def derivatives(self, beta: float) -> tuple[float, float]:
        """First and second derivative of the weighted log loss with respect to the inverse temperature."""
        slope = curvature = 0.0
        for block, d, own in self._blocks() if self.kept is None else self.kept:
            weight = self.rows.weight[block]
            term = np.exp(d * beta)  # the largest is 1, so that the sums are at least that
            total = term.sum(axis=1)
            term *= d
            mean = term.sum(axis=1) / total
            square = np.einsum("nk,nk->n", term, d) / total
            slope += float(weight @ (mean - own))
            curvature += float(weight @ np.maximum(square - mean * mean, 0.0))
        return slope, curvature

    def _blocks(self) -> Iterator[tuple[slice, Floats, Floats]]:
        for block, z in self.rows.blocks():
            d = z - z.max(axis=1, keepdims=True)
            np.maximum(d, IMPOSSIBLE, out=d)
            yield block, d, d[np.arange(d.shape[0]), self.rows.target[block]]
