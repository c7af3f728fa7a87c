"""Yes-or-no questions: area under the ROC curve, false alarms at a given recall, coverage of sets."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.checks import check_number
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array, plain_numbers
from normexp.metrics.door import name_rows, read_target, read_weight
from normexp.metrics.sums import Floats, weighted_counts


def auroc(is_positive: ArrayLike, score: ArrayLike, /, *, sample_weight: ArrayLike | None = None) -> float:
    """Probability that a positive row scores above a negative one; ties count one half.

    Parameters
    ----------
    is_positive : array-like of bool or 0/1, shape (N,)
        Which rows are positive.
    score : array-like, shape (N,)
        Larger means more likely positive. Infinite scores are allowed, NaN is not.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]; 0.5 is what a score without information reaches.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or one of the two kinds has no row.

    Examples
    --------
    >>> auroc([False, False, True, True], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    positive, negative = _counts(is_positive, score, sample_weight, of="auroc")
    below = np.cumsum(negative) - negative
    return float(positive @ (below + 0.5 * negative) / (positive.sum() * negative.sum()))


def fpr_at_tpr(
    is_positive: ArrayLike, score: ArrayLike, /, *, tpr: float = 0.95, sample_weight: ArrayLike | None = None
) -> float:
    """Share of negative rows flagged when the threshold flags at least the share `tpr` of the positive ones.

    Parameters
    ----------
    is_positive : array-like of bool or 0/1, shape (N,)
        Which rows are positive.
    score : array-like, shape (N,)
        Larger means more likely positive. Infinite scores are allowed, NaN is not.
    tpr : float, default 0.95
        The share of positive rows to be found, within (0, 1].
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]; smaller is better. The threshold is the largest score that reaches `tpr`.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, one of the two kinds has no row, or `tpr` is out of range.

    Examples
    --------
    >>> fpr_at_tpr([False, False, True, True], [0.1, 0.4, 0.35, 0.8], tpr=1.0)
    0.5
    """
    tpr = check_number(tpr, of="fpr_at_tpr", name="tpr", low=0.0, high=1.0)
    if tpr == 0.0:
        raise RangeError(f"fpr_at_tpr: tpr is {tpr}; a share above 0 and at most 1 would be right.")
    positive, negative = _counts(is_positive, score, sample_weight, of="fpr_at_tpr")
    found = np.cumsum(positive[::-1])  # the largest score first
    alarms = np.cumsum(negative[::-1])
    enough = found >= tpr * found[-1] * (1.0 - 1e-12)  # rounding of the sums must not cost a positive row
    return float(alarms[np.argmax(enough)] / alarms[-1])


def coverage(y: ArrayLike, sets: ArrayLike, /, *, sample_weight: ArrayLike | None = None) -> float:
    """Share of rows whose set holds the true class.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    sets : array-like of bool, shape (N, K)
        Which classes each row's set holds.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1].

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together or name a class that is not there.

    Examples
    --------
    >>> coverage([0, 1], [[True, True], [True, False]])
    0.5
    """
    held = plain_array(sets, of="coverage", name="sets")
    if held.ndim != 2 or 0 in held.shape:
        raise ShapeError(f"coverage: sets has shape {held.shape}; (N, K), neither of them 0, would be right.")
    if held.dtype != np.bool_:
        raise DtypeError(f"coverage: sets has dtype {held.dtype}; booleans would be right.")
    n_rows, n_classes = held.shape
    target = read_target(y, of="coverage", n_rows=n_rows, n_classes=n_classes)
    weight = read_weight(sample_weight, of="coverage", n_rows=n_rows)
    return float(weight @ held[np.arange(n_rows), target] / weight.sum())


def _counts(
    is_positive: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None, *, of: str
) -> tuple[Floats, Floats]:
    """Weight of positive and of negative rows at each distinct score, the smallest score first."""
    flag = _read_flag(plain_array(is_positive, of=of, name="is_positive"), of=of)
    value = plain_numbers(score, of=of, name="score")
    if value.shape != flag.shape:
        raise ShapeError(f"{of}: score has shape {value.shape}; that of is_positive, {flag.shape}, would be right.")
    if value.dtype.kind == "f" and np.isnan(value).any():
        raise RangeError(f"{of}: score holds NaN in {name_rows(np.isnan(value))}; drop or mend these rows.")
    weight = read_weight(sample_weight, of=of, n_rows=flag.size)
    for kind, name in ((flag, "positive"), (~flag, "negative")):
        if not weight[kind].any():
            raise RangeError(f"{of}: no row is {name}; rows of both kinds are needed.")
    distinct, place = np.unique(value, return_inverse=True)
    return (
        weighted_counts(place, weight * flag, distinct.size),
        weighted_counts(place, weight * ~flag, distinct.size),
    )


def _read_flag(flag: NDArray[np.generic], *, of: str) -> NDArray[np.bool_]:
    """Booleans (N,), from booleans or from 0 and 1."""
    if flag.ndim != 1:
        raise ShapeError(f"{of}: is_positive has shape {flag.shape}; one entry for each row, (N,), would be right.")
    if flag.dtype.kind not in "biu":
        raise DtypeError(f"{of}: is_positive has dtype {flag.dtype}; booleans, or 0 and 1, would be right.")
    other = (flag != 0) & (flag != 1)
    if other.any():
        raise RangeError(f"{of}: is_positive is neither 0 nor 1 in {name_rows(other)}.")
    return flag.astype(np.bool_)
