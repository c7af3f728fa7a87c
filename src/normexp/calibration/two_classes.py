"""Quadratic and beta scaling: three numbers that map the log-odds of two classes."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from normexp.base.checks import check_number
from normexp.base.errors import ShapeError
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats

MOST_STEPS: Final = 100  # half a dozen are enough
TOLERANCE: Final = 1e-12  # nats a row that a step can still gain
LEAST_LENGTH: Final = 1e-8  # of a step: rounding hides what a shorter one gains
FARTHEST: Final = 700.0  # log-odds beyond this are a probability of 0 or 1 in float64


class QuadraticScaling(Calibrator):
    r"""Two classes: the log-odds s become :math:`a + bs + cs^2`, never falling.

    Parameters
    ----------
    shrinkage : float, default 1.0
        Strength of the ridge that holds the map near the identity, in rows; above 0.

    Attributes
    ----------
    coef_ : ndarray, shape (3,)
        a, b and c for log-odds in units of ``unit_``.
    unit_ : float
        Root mean square of the log-odds of the calibration rows.
    ends_ : tuple of float
        Where the parabola ends and its tangents go on: the range of the calibration rows, cut where it would fall.

    Notes
    -----
    Right for normally distributed log-odds of unequal spread in the two classes. The ridge is
    :math:`\lambda/2\,(a^2 + (b-1)^2 u^2 + c^2 u^2)` with u the unit, so it does not depend on the scale of s.
    The map is linear outside the calibration rows and flat where the parabola would fall, so the ranking is never
    reversed.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import QuadraticScaling
    >>> rng = np.random.default_rng(0)
    >>> s = rng.normal(scale=2.0, size=3000)
    >>> y = (rng.random(3000) < 1 / (1 + np.exp(-(s + 0.3 * s**2) / 2))).astype(int)
    >>> prob = QuadraticScaling().fit(np.c_[0 * s, s], y).predict_proba([[0.0, 2.0]])[0, 1]
    >>> abs(prob - 1 / (1 + np.exp(-1.6))) < 0.04
    np.True_
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def _fit(self, rows: CalibrationRows) -> None:
        strength = check_number(self.shrinkage, of="QuadraticScaling", name="shrinkage", low=1e-9)
        s = _log_odds(rows.dense(), "QuadraticScaling.fit")
        self.unit_ = float(np.sqrt(rows.weight @ (s * s) / rows.weight.sum())) or 1.0
        v = s / self.unit_
        shift = _ridge_logistic(
            np.stack([np.ones_like(v), v, v * v]), s, rows, strength=strength, low=np.full(3, -np.inf)
        )
        self.coef_ = shift + np.array([0.0, self.unit_, 0.0])
        self.ends_ = _rising_part(self.coef_, float(v.min()), float(v.max()))

    def _map(self, z: Floats) -> Floats:
        v = _log_odds(z, "QuadraticScaling.transform") / self.unit_
        inside = np.clip(v, *self.ends_)
        a, b, c = self.coef_
        out = a + inside * (b + c * inside) + np.maximum(b + 2.0 * c * inside, 0.0) * (v - inside)
        return _as_logits(out, z)


class BetaScaling(Calibrator):
    r"""Two classes: log-odds :math:`a \log p - b \log(1 - p) + c` with a and b not negative.

    Parameters
    ----------
    shrinkage : float, default 1.0
        Strength of the ridge that holds a, b near 1 and c near 0, in rows; above 0.

    Attributes
    ----------
    coef_ : ndarray, shape (3,)
        a, b and c.

    Notes
    -----
    p is the probability of class 1, whose logarithms are taken from the logits, not from rounded probabilities. The
    ridge is :math:`\lambda/2\,((a-1)^2 + (b-1)^2 + c^2)` in units of the root mean square of each feature.

    References
    ----------
    Kull, Silva Filho & Flach (2017), "Beta calibration", AISTATS, eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import BetaScaling
    >>> rng = np.random.default_rng(0)
    >>> s = rng.normal(size=4000)
    >>> y = (rng.random(4000) < 1 / (1 + np.exp(-(0.5 * s + 1)))).astype(int)
    >>> BetaScaling().fit(np.c_[0 * s, s], y).predict_proba([[0.0, 0.0]])[0, 1].round(1)
    np.float64(0.7)
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def _fit(self, rows: CalibrationRows) -> None:
        strength = check_number(self.shrinkage, of="BetaScaling", name="shrinkage", low=1e-9)
        s = _log_odds(rows.dense(), "BetaScaling.fit")
        features = np.stack([-np.logaddexp(0.0, -s), np.logaddexp(0.0, s), np.ones_like(s)])
        size = np.sqrt((features * features) @ rows.weight / rows.weight.sum())
        size[size == 0.0] = 1.0
        low = np.array([-size[0], -size[1], -np.inf])
        shift = _ridge_logistic(features / size[:, None], s, rows, strength=strength, low=low)
        self.coef_ = shift / size + np.array([1.0, 1.0, 0.0])

    def _map(self, z: Floats) -> Floats:
        s = _log_odds(z, "BetaScaling.transform")
        a, b, c = self.coef_
        return _as_logits(-a * np.logaddexp(0.0, -s) + b * np.logaddexp(0.0, s) + c, z)


def _log_odds(z: Floats, of: str) -> Floats:
    """Log-odds of class 1, (B,), cut where the probability is 0 or 1."""
    if z.shape[1] != 2:
        raise ShapeError(
            f"{of}: logits have {z.shape[1]} columns; this method is for two classes. "
            "StructuredMatrixScaling or AutoCalibrator take any number."
        )
    with np.errstate(over="ignore"):
        s: Floats = np.clip(z[:, 1] - z[:, 0], -FARTHEST, FARTHEST)
    return s


def _as_logits(s: Floats, z: Floats) -> Floats:
    """Log-odds as two columns; a class that cannot be stays so."""
    out = np.column_stack([np.zeros_like(s), s])
    out[np.isneginf(z)] = -np.inf
    return out


def _ridge_logistic(features: Floats, offset: Floats, rows: CalibrationRows, *, strength: float, low: Floats) -> Floats:
    """Coefficients, none below `low`, that minimise sum w nll(offset + theta @ features) + strength/2 theta^2.

    Newton's method; an unknown that stands at its bound and would leave it is held there (Bertsekas (1982), "Projected
    Newton methods", SIAM J. Control and Optimization 20).
    """
    sign: NDArray[np.float64] = np.where(rows.target == 1, 1.0, -1.0)
    signed, least = sign * features, TOLERANCE * float(rows.weight.sum())

    def at(theta: Floats) -> tuple[float, Floats, Floats]:
        margin = sign * offset + theta @ signed
        wrong = expit(-margin)
        value = rows.weight @ np.logaddexp(0.0, -margin) + 0.5 * strength * theta @ theta
        slope = strength * theta - signed @ (rows.weight * wrong)
        bend = (signed * (rows.weight * wrong * (1.0 - wrong))) @ signed.T + strength * np.eye(theta.size)
        return float(value), slope, bend

    theta = np.zeros(len(features))
    value, slope, bend = at(theta)
    for _ in range(MOST_STEPS):
        step, free = np.zeros(theta.size), (theta > low) | (slope < 0.0)
        for _ in range(theta.size):
            step[:] = 0.0
            step[free] = np.linalg.solve(bend[np.ix_(free, free)], slope[free])
            leaving = free & (theta <= low) & (step > 0.0)
            if not leaving.any():
                break
            free &= ~leaving
        if float(slope @ step) <= least:
            break
        length = 1.0
        while True:
            following = np.maximum(theta - length * step, low)
            found = at(following)
            if found[0] <= value - 0.1 * max(float(slope @ (theta - following)), 0.0):
                break
            length *= 0.5
            if length < LEAST_LENGTH:
                return theta
        theta, (value, slope, bend) = following, found
    return theta


def _rising_part(coef: Floats, low: float, high: float) -> tuple[float, float]:
    """The range of the calibration rows without the part where the parabola falls."""
    _, b, c = coef
    if c != 0.0:
        vertex = -b / (2.0 * c)
        if c > 0.0:
            low = max(low, min(vertex, high))
        else:
            high = min(high, max(vertex, low))
    return low, high
