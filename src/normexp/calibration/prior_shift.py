"""Prior shift: the classes come in other shares than they did when the model was fitted."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import RangeError, ShapeError
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.metrics.door import BLOCK_ELEMENTS
from normexp.ops import softmax

SUM_TOLERANCE: Final = 1e-3
MOST_STEPS: Final = 1000
STEP_TOLERANCE: Final = 1e-8
PSEUDO_ROWS: Final = 1.0  # rows with the fitted shares, mixed in so that no class is estimated away altogether


class PriorShift(Calibrator):
    r"""Move probabilities from the class shares of the calibration rows to other ones.

    Parameters
    ----------
    prior : array-like, shape (K,), optional
        The shares in the new rows. By default they are estimated from the logits of those rows, without labels,
        each time that `transform` is called.

    Attributes
    ----------
    prior_ : ndarray, shape (K,)
        Shares of the classes in the rows given to `fit`. When a class has no row, half a row is added to each.
    target_prior_ : ndarray, shape (K,)
        Shares that were last moved to: `prior`, or the estimate.

    Notes
    -----
    :math:`z'_k = z_k + \log(\pi'_k / \pi_k)`, which is exact when only the shares have changed and the probabilities
    were calibrated for :math:`\pi`: calibrate first. The estimate maximises
    :math:`\sum_i \log\sum_k p_{ik}\pi'_k/\pi_k` by EM, with one pseudo-row of the fitted shares.

    References
    ----------
    Saerens, Latinne & Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14, eq. 2.4 and 2.9.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import PriorShift
    >>> y = np.array([0] * 50 + [1] * 50)
    >>> logits = np.zeros((100, 2))
    >>> PriorShift([0.9, 0.1]).fit(logits, y).predict_proba([[0.0, 0.0]])
    array([[0.9, 0.1]])
    """

    def __init__(self, prior: ArrayLike | None = None) -> None:
        self.prior = prior

    def _fit(self, rows: CalibrationRows) -> None:
        count: Floats = np.bincount(rows.target, rows.weight, minlength=rows.n_classes).astype(np.float64)
        if not count.all():
            count = count + 0.5
        self.prior_ = count / count.sum()
        self.target_prior_ = self.prior_ if self.prior is None else _read_prior(self.prior, rows.n_classes)

    def see(self, z: NDArray[Any], /) -> None:
        if self.prior is None:
            self.target_prior_ = _estimated(z, self.prior_) if z.shape[0] else self.prior_

    def _map(self, z: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            out = z + (np.log(self.target_prior_) - np.log(self.prior_))
        lost = np.isneginf(out).all(axis=1)
        out[lost] = z[lost]  # a row whose only classes have share 0 keeps its logits: there is no better answer
        return np.asarray(out)


def _read_prior(prior: ArrayLike, n_classes: int) -> Floats:
    """Shares (K,), not negative, that sum to 1."""
    share = np.asarray(prior, dtype=np.float64)
    if share.shape != (n_classes,):
        raise ShapeError(f"PriorShift.fit: prior has shape {share.shape}; one share a class, ({n_classes},), is right.")
    if not (np.isfinite(share) & (share >= 0.0)).all() or abs(share.sum() - 1.0) > SUM_TOLERANCE:
        raise RangeError(
            f"PriorShift.fit: prior sums to {share.sum():.6g} with a smallest share of {share.min():.3g}; "
            "shares of at least 0 that sum to 1 would be right."
        )
    normalised: Floats = share / share.sum()
    return normalised


def _estimated(z: NDArray[Any], prior: Floats) -> Floats:
    """Shares of the classes in unlabelled rows, by EM."""
    step = max(1, BLOCK_ELEMENTS // z.shape[1])
    share = prior.copy()
    for _ in range(MOST_STEPS):
        total = PSEUDO_ROWS * prior
        shift = np.log(share) - np.log(prior)
        for start in range(0, z.shape[0], step):
            total = total + softmax(z[start : start + step] + shift).sum(axis=0)
        following = total / total.sum()
        done = float(np.abs(following - share).sum()) <= STEP_TOLERANCE
        share = following
        if done:
            break
    return share
