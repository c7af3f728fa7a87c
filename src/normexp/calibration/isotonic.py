"""Isotonic scaling: a rising step function of each class's log-odds, smoothed so that no probability is 0 or 1."""

import numpy as np
from sklearn.isotonic import isotonic_regression

from normexp.base.checks import check_number
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.ops import log_softmax


class IsotonicScaling(Calibrator):
    r"""Free-form rising map of each class's log-odds; for many rows.

    Parameters
    ----------
    shrinkage : float, default 1.0
        How many rows, labelled as the model believes, each level set is mixed with; above 0.

    Attributes
    ----------
    knots_ : list of ndarray, one for each class (one for two classes)
        Log-odds before, shape (J, 2) first column, and after, second column.

    Notes
    -----
    The isotonic regression of "is of class k" on the log-odds of k is a step function with levels of exactly 0 and
    1 at its ends, which cost infinitely much when they are wrong, and with ties. Here each level set of n rows and
    mean belief q becomes :math:`(\text{hits} + \lambda q)/(n + \lambda)`, made rising again, and the log-odds are
    interpolated between the level sets' centres and go on with slope 1 outside: no 0, no 1, and rows in different
    places of a step stay apart. For K > 2 each class is mapped against the rest and the probabilities are normalised.

    References
    ----------
    Zadrozny & Elkan (2002), "Transforming classifier scores into accurate multiclass probability estimates", KDD.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import IsotonicScaling
    >>> rng = np.random.default_rng(0)
    >>> s = rng.normal(scale=3.0, size=5000)
    >>> y = (rng.random(5000) < np.where(s > 0, 0.8, 0.2)).astype(int)  # a step that no temperature can follow
    >>> prob = IsotonicScaling().fit(np.c_[0 * s, s], y).predict_proba([[0.0, 1.0], [0.0, 5.0]])[:, 1]
    >>> np.abs(prob - 0.8).max() < 0.05
    np.True_
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def _fit(self, rows: CalibrationRows) -> None:
        strength = check_number(self.shrinkage, of="IsotonicScaling", name="shrinkage", low=1e-9)
        odds = _log_odds(rows.dense())
        classes = [1] if rows.n_classes == 2 else range(rows.n_classes)
        self.knots_ = [
            _rising_knots(odds[:, k], (rows.target == k).astype(np.float64), rows.weight, strength) for k in classes
        ]

    def _map(self, z: Floats) -> Floats:
        odds = _log_odds(z)
        if z.shape[1] == 2:
            s = _follow(odds[:, 1], self.knots_[0])
            out = np.column_stack([np.zeros_like(s), s])
        else:
            mapped = np.column_stack([_follow(odds[:, k], knots) for k, knots in enumerate(self.knots_)])
            out = -np.logaddexp(0.0, -mapped)  # log of the one-against-the-rest probability
        out[np.isneginf(z)] = -np.inf
        return out


def _log_odds(z: Floats) -> Floats:
    """Log-odds of each class against the rest, (B, K), finite."""
    log_prob = np.asarray(log_softmax(z))
    if z.shape[1] == 2:
        odds = np.column_stack([z[:, 0] - z[:, 1], z[:, 1] - z[:, 0]])
    else:
        with np.errstate(divide="ignore"):
            odds = log_prob - np.log(-np.expm1(log_prob))
    return np.asarray(np.clip(odds, -700.0, 700.0))


def _rising_knots(s: Floats, hit: Floats, weight: Floats, strength: float) -> Floats:
    """Centre and smoothed log-odds of each level set, (J, 2), both rising."""
    value, place = np.unique(s, return_inverse=True)
    mass = np.bincount(place, weight)
    rate = np.bincount(place, weight * hit) / mass
    level = isotonic_regression(rate, sample_weight=mass, y_min=0.0, y_max=1.0)
    group = np.concatenate([[0], np.cumsum(np.diff(level) > 0)])
    count = np.bincount(group, mass)
    centre = np.bincount(group, mass * value) / count
    belief = np.bincount(group, mass / (1.0 + np.exp(-value))) / count
    hits = np.bincount(group, mass * rate)
    smooth = isotonic_regression((hits + strength * belief) / (count + strength), sample_weight=count + strength)
    smooth = np.clip(smooth, 1e-300, 1.0 - 1e-16)
    return np.column_stack([centre, np.log(smooth) - np.log1p(-smooth)])


def _follow(s: Floats, knots: Floats) -> Floats:
    """The piecewise linear map through the knots, with slope 1 outside them."""
    inside = np.clip(s, knots[0, 0], knots[-1, 0])
    return np.asarray(np.interp(inside, knots[:, 0], knots[:, 1]) + (s - inside))
