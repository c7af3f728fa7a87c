"""Several calibrators at once: their log-probabilities, mixed."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import clone

from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.ops import log_softmax

EVENNESS: Final = 0.5  # each member counts as if it had been right in so many more rows
LEAST_SHARE: Final = 0.02  # a member of less costs a fit and changes nothing that can be seen


class LogLinearPool(Calibrator):
    r"""Mix what several calibrators make of the same logits.

    Parameters
    ----------
    members : sequence of Calibrator
        What is mixed.
    share : sequence of float
        Share of each, positive, of sum 1.

    Attributes
    ----------
    members_ : list of Calibrator
        The same, fitted.

    Notes
    -----
    :math:`\sum_m w_m \log p_m`, a logarithmic opinion pool (Genest & Zidek (1986), "Combining probability
    distributions"). Where members map log-probabilities affinely, so does the pool.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import TemperatureScaling, VectorScaling
    >>> rng = np.random.default_rng(0)
    >>> right = 2.0 * rng.normal(size=(1000, 3))
    >>> y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    >>> model = LogLinearPool([TemperatureScaling(), VectorScaling()], [0.5, 0.5]).fit(2.0 * right, y)
    >>> float(model.members_[0].temperature_) > 1.5
    True
    """

    def __init__(self, members: Sequence[Calibrator], share: Sequence[float]) -> None:
        self.members = members
        self.share = share

    @classmethod
    def of_fitted(cls, members: Sequence[Calibrator], share: Sequence[float]) -> "LogLinearPool":
        """Mix calibrators that are fitted already, on the same rows."""
        pool = cls([same_method(member) for member in members], list(share))
        pool.n_classes_, pool.floor_, pool.members_ = members[0].n_classes_, None, list(members)
        return pool

    def _fit(self, rows: CalibrationRows) -> None:
        self.members_ = [clone(member).fit_rows(rows) for member in self.members]

    def _map(self, z: Floats) -> Floats:
        mixed = np.zeros(z.shape)
        for member, share in zip(self.members_, self.share, strict=True):
            mixed += share * np.asarray(log_softmax(member.map_block(z)), dtype=np.float64)
        return mixed


def same_method(fitted: Calibrator, /) -> Any:
    """Return the method of a fitted calibrator, unfitted, with the strength that was chosen for it."""
    method: Any = clone(fitted)
    if hasattr(fitted, "strength_"):
        method.set_params(strength=fitted.strength_)
    return method


def pool_shares(log_prob: Sequence[NDArray[np.floating]], target: NDArray[np.intp], weight: Floats, /) -> Floats:
    r"""Shares of a pool with the least log loss on rows that no member has seen.

    Parameters
    ----------
    log_prob : sequence of M ndarray, each (N, K)
        Log-probabilities of each member, finite for the true classes.
    target : ndarray of intp, shape (N,)
        True classes.
    weight : ndarray, shape (N,)
        Weight of each row.

    Returns
    -------
    ndarray, shape (M,)
        Positive, of sum 1.

    Notes
    -----
    Minimises :math:`\sum_i v_i [\log\sum_k e^{z_{ik}} - z_{i y_i}] - \tfrac12\sum_m \log w_m` with
    :math:`z = \sum_m w_m \log p_m`: convex in w, and kept off its corners, for few rows tell little.
    """
    place = np.arange(len(target)), target
    own = np.array([float(weight @ one[place].astype(np.float64)) for one in log_prob])

    def value_and_slope(free: Floats) -> tuple[float, Floats]:
        share = np.exp(free - free.max())
        share /= share.sum()
        mixed = sum(w * one for w, one in zip(share, log_prob, strict=True))
        normalised = np.asarray(log_softmax(mixed))
        prob = np.exp(normalised) * weight[:, None]
        spread = np.array([float(np.sum(prob * np.where(prob > 0.0, one, 0.0))) for one in log_prob])
        loss = -float(weight @ normalised[place])
        slope = spread - own
        logs = np.log(np.maximum(share, np.finfo(float).tiny))
        return loss - EVENNESS * float(logs.sum()), share * (slope - share @ slope) - EVENNESS * (1 - len(own) * share)

    found = minimize(value_and_slope, np.zeros(len(log_prob)), jac=True, method="L-BFGS-B")
    share = np.exp(found.x - found.x.max())
    return np.asarray(share / share.sum())
