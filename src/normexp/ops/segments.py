"""Softmax within groups of different sizes."""

from typing import Any

import numpy as np

from normexp.backends import segments as _backend
from normexp.backends.dispatch import by_library
from normexp.base.checks import check_array, check_logits, check_whole
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.precision import result_dtype
from normexp.base.types import Array


@by_library
def segment_softmax(logits: Array, segment_ids: Array, /, *, num_segments: int | None = None) -> Array:
    """Softmax of each group of entries, groups being named by ``segment_ids``.

    Parameters
    ----------
    logits : array, shape (N, ...)
        As for ``softmax``. Further axes are columns of their own, each normalised within the same groups.
    segment_ids : array of integers, shape (N,)
        The group of each entry, at least 0, in any order; groups may be empty.
    num_segments : int, optional
        How many groups there are; a group number that is not below it is an error.

    Returns
    -------
    array, shape (N, ...)
        Probabilities that sum to 1 in each group, in the logits' dtype; float64 for integers and bool.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If an argument does not fit. A group number out of range is named with its row, counted from 0.

    See Also
    --------
    softmax : rows of one length.

    Notes
    -----
    ``exp(z_i - m) / sum(exp(z_j - m))`` over the group of i, with m the largest logit of that group: what other
    groups hold never matters, NaN and infinities included. The formula, its bound and its edge cases are those of
    ``softmax`` [1]_ (eq. 3.9): at most 1 ULP for float32, 2 for float64. Entries are added in the order in which they
    stand. Cost: one sort of the group numbers, none where they rise already; extra memory is two columns.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.segment_softmax([1.0, 1.0, 5.0, 2.0], [0, 0, 2, 0]).round(6)
    array([0.211942, 0.211942, 1.      , 0.576117])
    """
    of = "segment_softmax"
    array, hidden = check_logits(logits, of=of)
    if array.ndim == 0:
        raise ShapeError(f"{of}: logits are a single number; an array of shape (N, ...) would be right.")
    segment = check_array(segment_ids, of=of, name="segment_ids")
    if segment.size == 0 and segment.dtype == np.float64:
        segment = segment.astype(np.int64)  # an empty list has no dtype of its own
    if segment.dtype.kind not in "iu":
        raise DtypeError(f"{of}: segment_ids have dtype {segment.dtype}; integers would be right.")
    if segment.shape != array.shape[:1]:
        raise ShapeError(
            f"{of}: segment_ids have shape {segment.shape} and the logits {array.shape}; "
            f"{array.shape[:1]} would be right."
        )
    limit = _limit(num_segments, of=of)
    wrong = segment < 0
    if limit is not None:
        wrong = wrong | (segment >= limit)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        right = "at least 0" if limit is None else f"0 to {limit - 1}"
        raise RangeError(f"{of}: segment_ids of row {row} is {segment[row]}; {right} would be right.")
    return _backend.segment_softmax(array, segment.astype(np.int64), hidden, result_dtype(array.dtype))


def _limit(num_segments: Any, *, of: str) -> int | None:
    """The number of groups, not negative; None stays None."""
    if num_segments is None:
        return None
    limit = check_whole(num_segments, of=of, name="num_segments", right="a whole number or None")
    if limit < 0:
        raise RangeError(f"{of}: num_segments is {limit}; at least 0 would be right.")
    return limit
