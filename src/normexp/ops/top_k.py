"""The k likeliest classes, without the probabilities of the others."""

from normexp.backends import doubt as _backend
from normexp.backends.dispatch import by_library
from normexp.backends.masks import Mask
from normexp.base.checks import check_axis, check_logits, check_whole
from normexp.base.errors import AxisError, RangeError, ShapeError
from normexp.base.precision import result_dtype
from normexp.base.types import Array, TopK


@by_library
def top_k(logits: Array, k: int, /, *, axis: int = -1) -> TopK:
    """Likeliest ``k`` classes with their probabilities, normalised over all classes.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    k : int
        How many: from 1 to the number of classes.
    axis : int, default -1
        Where the classes are.

    Returns
    -------
    TopK
        ``prob``, ``log_prob`` (in the logits' dtype; float64 for integers and bool) and ``index`` (int64), each in the
        logits' shape with k in place of the number of classes; best first, of equal logits the earlier class first.

    Raises
    ------
    RangeError, DtypeError, ShapeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    softmax : the probabilities of all classes.

    Notes
    -----
    ``exp(z_k - m) / (1 + rest)`` and ``(z_k - m) - log1p(rest)``, where ``rest`` sums all terms but one largest.
    Softmax and the choice of the largest need one read of the logits together [1]_ (alg. 4); here the row goes by in
    chunks of 2 048, and a chunk whose largest logit is no larger than the k-th best so far is not looked at again.
    Bounds are those of ``softmax`` and ``log_softmax``: 1 ULP for float32, 3 for float64. The probabilities of the
    other classes are never built; extra memory is that of the answer and a few numbers for each chunk of one row a
    thread.

    A row of ``-inf``, with NaN or with ``+inf`` has NaN as probabilities, and distinct classes as index. Reproducible
    to the bit for any batch split, row order, number of threads, memory layout and axis.

    References
    ----------
    .. [1] Milakov and Gimelshein (2018), "Online normalizer calculation for softmax", arXiv:1805.02867.

    Examples
    --------
    >>> import normexp as nx
    >>> best = nx.top_k([1.0, 4.0, 2.0, 3.0], 2)
    >>> best.index
    array([1, 3])
    >>> best.prob.round(6)
    array([0.643914, 0.236883])
    """
    of = "top_k"
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    if len(axes) != 1:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {array.shape}; one axis of classes is right."
        )
    count, classes = check_whole(k, of=of, name="k"), array.shape[axes[0]]
    if classes == 0:
        raise ShapeError(f"{of}: the logits have shape {array.shape}, so no class; at least one would be right.")
    if not 1 <= count <= classes:
        raise RangeError(f"{of}: k is {count}; with {classes} classes, 1 to {classes} would be right.")
    mask = Mask.of(None, hidden)
    return TopK(*_backend.top_k(array, count, axes[0], mask, result_dtype(array.dtype)))
