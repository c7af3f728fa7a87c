"""Sparsemax and entmax: softmax-like maps that give exactly 0 to classes far behind."""

from typing import Any

from normexp.backends import cpu
from normexp.backends import sparse_maps as _backend
from normexp.backends.dispatch import by_library
from normexp.backends.masks import Mask
from normexp.base.checks import check_axis, check_logits, check_number
from normexp.base.precision import result_dtype
from normexp.base.types import Array, Axis


@by_library
def sparsemax(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Probabilities nearest to the logits in Euclidean distance: most of them exactly 0.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        In the logits' shape and dtype; float64 for integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    entmax : the family between softmax (alpha = 1) and this (alpha = 2).

    Notes
    -----
    ``p_k = max(z_k - tau, 0)`` with tau such that the sum is 1 [1]_ (alg. 1, exact). Only classes less than 1 behind
    the best are sorted. Error at most 1 ULP and 2**-51 for K up to 2^10 classes in the support, growing with its
    size; a class on the border of the support may be 0 or that small.

    A class at ``-inf`` gets 0; a row of ``-inf``, with NaN or with ``+inf`` gives NaN; what a masked array hides gets
    0. Reproducible to the bit, as ``softmax`` is.

    References
    ----------
    .. [1] Martins and Astudillo (2016), "From softmax to sparsemax: a sparse model of attention and multi-label
       classification", ICML.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.sparsemax([1.0, 0.75, -1.0])
    array([0.625, 0.375, 0.   ])
    """
    return _mapped("sparsemax", logits, 2.0, axis)


@by_library
def entmax(logits: Array, /, *, alpha: float = 1.5, axis: Axis = -1) -> Array:
    """Probabilities between softmax (alpha = 1) and sparsemax (alpha = 2): the larger alpha, the more zeros.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    alpha : float, default 1.5
        At least 1.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        In the logits' shape and dtype; float64 for integers and bool.

    Raises
    ------
    RangeError, ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    softmax, sparsemax : the special cases.

    Notes
    -----
    ``p_k = [(alpha - 1) z_k - tau]_+ ** (1 / (alpha - 1))`` with tau such that the sum is 1 [1]_ (eq. 6). For alpha 2
    and 1.5 the support is found by sorting (alg. 2), else tau by Newton's method between closing bounds; the unknown
    is chosen so that alpha near 1 loses no digits. Error at most 1 ULP and 2**-48 for alpha up to 2. Beyond, the
    slope of p is infinite where the support ends, and a class there may be off by the square root of that.

    A class at ``-inf`` gets 0; a row of ``-inf``, with NaN or with ``+inf`` gives NaN; what a masked array hides gets
    0. Reproducible to the bit, as ``softmax`` is.

    References
    ----------
    .. [1] Peters, Niculae and Martins (2019), "Sparse sequence-to-sequence models", ACL.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.entmax([2.0, 1.0, -1.0]).round(6)
    array([0.830719, 0.169281, 0.      ])
    """
    return _mapped("entmax", logits, check_number(alpha, of="entmax", name="alpha", low=1.0), axis)


def _mapped(of: str, logits: Any, alpha: float, axis: Axis) -> Any:
    """Check at the door, then map each row."""
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    mask = Mask.of(None, hidden)
    dtype = result_dtype(array.dtype)
    if alpha == 1.0:
        return cpu.normalise("softmax", array, axes, None, mask, None, dtype)[()]
    return _backend.entmax(array, axes, mask, dtype, alpha=alpha)[()]
