"""Several calibrators at once: their log-probabilities, mixed."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from normexp.calibration.calibrator import Calibrator
from normexp.calibration.columns import pieces
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.structured import StructuredMatrixScaling, VectorScaling
from normexp.ops import log_softmax

EVENNESS: Final = 0.5  # each member counts as if it had been right in so many more rows
LOWEST: Final = -1e15  # stands for -inf and what is near: exp gives 0, and float32 holds the square
MOST_STEPS: Final = 50  # half a dozen are enough
NEAR: Final = 1e-2  # nats in the sum over all rows that a step can still gain: Newton's then leaves 1e-4
MANY_ROWS: Final = 8000
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
        tempered: dict[float, Floats] = {}  # what several members read, computed once
        for member, share in zip(self.members_, self.share, strict=True):
            if not isinstance(member, (VectorScaling, StructuredMatrixScaling)) or member.floor_ is not None:
                mixed += share * member.map_block(z)
                continue
            if member.temperature_ not in tempered:
                tempered[member.temperature_] = np.asarray(log_softmax(z / member.temperature_))
            mixed += share * member.of_tempered(tempered[member.temperature_])
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
    :math:`z = \sum_m w_m \log p_m`: convex in w, and kept off its corners, for few rows tell little. Newton's method on
    the plane of sum 1, with steps that end within the corners.
    """
    members = np.stack([one.T for one in log_prob])
    np.maximum(members, LOWEST, out=members)
    share = np.full(len(members), 1.0 / len(members))
    if target.size <= MANY_ROWS:
        return _best_shares(members, target, weight, share)
    # Every eighth row, for eight, tells where to begin, and which members have no share worth a pass over all rows.
    share = _best_shares(np.ascontiguousarray(members[:, :, ::8]), target[::8], 8.0 * weight[::8], share)
    worth = share >= LEAST_SHARE
    together = float(share[worth].sum())
    share[worth] = together * _best_shares(members[worth], target, weight, share[worth] / together)
    return share


def _best_shares(members: NDArray[Any], target: NDArray[np.intp], weight: Floats, share: Floats) -> Floats:
    """Shares of least loss, from some on."""
    own = members[:, target, np.arange(target.size)].astype(np.float64) @ weight

    def at(share: Floats) -> tuple[float, Floats, Floats]:
        loss, slope, bend = _mixture(members, share, weight)
        value = loss - float(share @ own) - EVENNESS * float(np.log(share).sum())
        return value, slope - own - EVENNESS / share, bend + np.diag(EVENNESS / share**2)

    value, slope, bend = at(share)
    for _ in range(MOST_STEPS):
        step = _within_plane(slope, bend)
        promise = -float(slope @ step)
        length = min(1.0, 0.99 / max(float(np.max(-step / share)), 1e-300))
        if promise <= NEAR:
            share = share + length * step
            break
        while (found := at(share + length * step))[0] > value - 0.1 * length * promise and length > 1e-6:
            length *= 0.5
        if found[0] > value:
            break  # rounding hides what is left to gain
        share, (value, slope, bend) = share + length * step, found
    return np.asarray(share / share.sum())


def _within_plane(slope: Floats, bend: Floats) -> Floats:
    """The Newton step that leaves the sum of the unknowns as it is."""
    both = np.linalg.solve(bend, np.column_stack([slope, np.ones(slope.size)]))
    return np.asarray(both[:, 1] * (both[:, 0].sum() / both[:, 1].sum()) - both[:, 0])


def _mixture(members: NDArray[Any], share: Floats, weight: Floats) -> tuple[float, Floats, Floats]:
    """Sum of the mixtures' log-normalisers, and its derivatives in the shares, as far as the plane of sum 1 tells them.

    Members (M, K, N). There what all have in common weighs nothing; it is taken off, for the sake of float32.
    """
    count = share.size
    loss, slope, bend = 0.0, np.zeros(count), np.zeros((count, count))
    narrow: NDArray[Any] = share.astype(members.dtype)
    for at in pieces(2 * members.size // weight.size, slice(0, weight.size)):  # three arrays of the members' size
        apart: NDArray[Any] = members[:, :, at]
        prob: NDArray[Any] = np.tensordot(narrow, apart, 1)
        apart = apart - prob
        top = prob.max(axis=0)
        prob -= top
        np.exp(prob, out=prob)
        total = prob.sum(axis=0)
        loss += float(weight[at] @ (top + np.log(total)))
        heft = weight[at].astype(members.dtype)
        prob *= heft / total
        held: NDArray[Any] = apart * prob
        means = held.sum(axis=1).astype(np.float64)
        slope += means.sum(axis=1)
        bend += held.reshape(count, -1) @ apart.reshape(count, -1).T
        present = weight[at] > 0.0
        bend -= (means[:, present] / weight[at][present]) @ means[:, present].T
    return loss, slope, bend
