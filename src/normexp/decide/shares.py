"""Decisions that move with the shares of the classes and with thresholds, while probabilities stay as they are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import KINDS, plain_array
from normexp.decide.door import Floats, read_prediction

SUM_TOLERANCE = 1e-3
LEAST_QUOTIENT = 1e-300  # a probability divided by less may overflow


def threshold_decision(prob: ArrayLike, thresholds: ArrayLike, /) -> NDArray[np.intp]:
    r"""Decision by a threshold for each class.

    Parameters
    ----------
    prob : array-like, shape (N, K)
        Calibrated probabilities.
    thresholds : array-like, shape (K,)
        How probable a class should be before it is named; above 0. For two classes ``(1 - t, t)`` is the usual rule
        "class 1 where its probability is above t".

    Returns
    -------
    ndarray of int, shape (N,)
        Class indices.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If rows do not sum to 1, or the thresholds do not fit.

    Notes
    -----
    :math:`\arg\max_k p_k / t_k`: of the classes that reach their thresholds the one that exceeds its own by the largest
    factor; where none does, the one that comes nearest. Equal thresholds change nothing.

    Examples
    --------
    >>> from normexp.decide import threshold_decision
    >>> threshold_decision([[0.9, 0.1], [0.7, 0.3]], [0.8, 0.2])
    array([0, 1])
    """
    rows = read_prediction(prob, of="threshold_decision", from_logits=False)
    bar = read_thresholds(thresholds, rows.n_classes, of="threshold_decision")
    if bar.min() < LEAST_QUOTIENT:
        with np.errstate(divide="ignore"):
            excess = np.log(rows.prediction.astype(np.float64)) - np.log(bar)
    else:
        excess = rows.prediction / bar
    return np.asarray(excess.argmax(axis=1), dtype=np.intp)


def read_thresholds(thresholds: ArrayLike, n_classes: int, *, of: str) -> Floats:
    """Thresholds (K,), above 0 and finite."""
    bar = _numbers(thresholds, n_classes, of=of, name="thresholds")
    if not (np.isfinite(bar) & (bar > 0.0)).all():
        raise RangeError(
            f"{of}: thresholds hold {bar[~(np.isfinite(bar) & (bar > 0.0))][0]:g}; probabilities above 0 are right."
        )
    return bar


def read_shares(prior: ArrayLike, n_classes: int, *, of: str) -> Floats:
    """Shares (K,) above 0 that sum to 1."""
    share = _numbers(prior, n_classes, of=of, name="prior")
    if not (np.isfinite(share) & (share > 0.0)).all() or abs(float(share.sum()) - 1.0) > SUM_TOLERANCE:
        raise RangeError(
            f"{of}: prior sums to {share.sum():.6g} with a smallest share of {share.min():.3g}; shares above 0 that "
            "sum to 1 would be right."
        )
    normalised: Floats = share / share.sum()
    return normalised


def _numbers(values: ArrayLike, n_classes: int, *, of: str, name: str) -> Floats:
    """One number for each class."""
    given = plain_array(values, of=of, name=name)
    if given.dtype.kind not in KINDS:
        raise DtypeError(f"{of}: {name} is {values!r:.80}; one number for each class, ({n_classes},), is right.")
    read = given.astype(np.float64)
    if read.shape != (n_classes,):
        raise ShapeError(f"{of}: {name} has shape {read.shape}; one number for each class, ({n_classes},), is right.")
    return read
