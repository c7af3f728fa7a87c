"""Several models: pool their probabilities first, then calibrate the pool."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import RangeError, ShapeError
from normexp.calibration.auto import AutoCalibrator
from normexp.calibration.rows import read_logits
from normexp.ops import log_softmax, softmax


def pool(members: Sequence[ArrayLike] | NDArray[Any], /, *, weight: ArrayLike | None = None) -> NDArray[np.float64]:
    r"""Logits of the mean of the members' probabilities.

    Parameters
    ----------
    members : sequence of array-like, each of shape (N, K)
        Logits of each model for the same rows.
    weight : array-like, shape (M,), optional
        Share of each member; equal by default.

    Returns
    -------
    ndarray of float64, shape (N, K)
        Log-probabilities of the pool.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If there are no members, they differ in shape, or hold NaN.

    Notes
    -----
    :math:`\log\sum_m w_m p_m`, computed without leaving log space. The mean of members that are each calibrated is
    under-confident; so pool what the members say, and calibrate the pool.

    References
    ----------
    Rahaman & Thiery (2021), "Uncertainty quantification and deep ensembles", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import pool
    >>> np.exp(pool([[[0.0, 0.0]], [[np.log(9.0), 0.0]]])).round(2)
    array([[0.7, 0.3]])
    """
    if len(members) == 0:
        raise ShapeError("pool: there are no members; at least one matrix of logits (N, K) is needed.")
    read = [read_logits(member, of="pool") for member in members]
    shapes = {z.shape for z in read}
    if len(shapes) > 1:
        raise ShapeError(f"pool: the members have shapes {sorted(shapes)}; the same rows and classes would be right.")
    share = np.ones(len(read)) if weight is None else np.asarray(weight, dtype=np.float64)
    if share.shape != (len(read),) or not (np.isfinite(share) & (share >= 0)).all() or not share.any():
        raise RangeError(f"pool: weight is {weight!r}; one number of at least 0 for each of {len(read)} members.")
    share = share / share.sum()
    out = np.full(read[0].shape, -np.inf)
    for z, w in zip(read, share, strict=True):
        if w > 0.0:
            np.logaddexp(out, np.asarray(log_softmax(z), dtype=np.float64) + np.log(w), out=out)
    return out


class PooledCalibrator(BaseEstimator):
    """Pool the members of an ensemble, then calibrate the pool.

    Parameters
    ----------
    calibrator : Calibrator, optional
        What calibrates the pool; `AutoCalibrator` by default.

    Attributes
    ----------
    calibrator_ : Calibrator
        The fitted one.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import PooledCalibrator
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(900, 3))
    >>> y = (z + rng.gumbel(size=(900, 3))).argmax(axis=1)
    >>> model = PooledCalibrator().fit([3 * z, 4 * z], y)
    >>> model.calibrator_.chosen_
    'temperature'
    """

    def __init__(self, calibrator: Any = None) -> None:
        self.calibrator = calibrator

    def fit(self, members: Sequence[ArrayLike], y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Calibrate the pool of the members' logits, each of shape (N, K), on the class indices y, (N,)."""
        chosen = AutoCalibrator() if self.calibrator is None else clone(self.calibrator)
        self.calibrator_ = chosen.fit(pool(members), y, sample_weight=sample_weight)
        return self

    def transform(self, members: Sequence[ArrayLike]) -> NDArray[Any]:
        """Calibrated logits of the pool, (N, K)."""
        check_is_fitted(self, "calibrator_")
        return np.asarray(self.calibrator_.transform(pool(members)))

    def predict_proba(self, members: Sequence[ArrayLike]) -> NDArray[Any]:
        """Calibrated probabilities of the pool, (N, K)."""
        return np.asarray(softmax(self.transform(members)))
