"""Products with the Jacobian of softmax, never a K x K matrix; and that matrix, for those who ask for it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import derivatives as _backend
from normexp.backends.dispatch import by_library
from normexp.base.checks import check_array, check_axis, check_logits
from normexp.base.errors import ShapeError
from normexp.base.precision import result_dtype
from normexp.base.types import Array, Axis


@by_library
def softmax_vjp(prob: Array, cotangent: Array, /, *, axis: Axis = -1) -> Array:
    """Gradient with respect to the logits, from the gradient with respect to ``prob = softmax(logits)``.

    Parameters
    ----------
    prob : array, any shape
        Probabilities, as ``softmax`` gives them.
    cotangent : array, the shape of ``prob``
        The derivative of something with respect to each probability.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        In the shape and dtype of ``prob``; float64 for integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    softmax_jvp : the same product from the other side.
    cross_entropy_with_grad : for the loss itself; it keeps digits that the probabilities have lost.

    Notes
    -----
    ``p_k (v_k - sum_j p_j v_j)``, computed after the cotangent of the likeliest class is taken off all, which changes
    nothing because every row of the Jacobian sums to 0 [1]_ (sec. 6.2.2). A constant cotangent gives exactly 0, and a
    confident class's entry keeps its digits where ``v_k - sum_j p_j v_j`` would cancel. In float64, rounded once: the
    error of an entry is at most ``u |g_k| + 2**-51 p_k (|w_k| + sum_j p_j |w_j|)`` with ``w = v - v_likeliest`` and
    up to 2^16 classes.

    Where the probability is exactly 0 the answer is 0 and the cotangent never matters. A row with NaN gives NaN. Cost:
    two reads, one write, one row of scratch a thread.

    References
    ----------
    .. [1] Goodfellow, Bengio and Courville (2016), "Deep Learning", MIT Press.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.softmax_vjp([0.5, 0.25, 0.25], [1.0, 0.0, 0.0])
    array([ 0.25 , -0.125, -0.125])
    """
    return _product("softmax_vjp", prob, cotangent, "cotangent", axis)


@by_library
def softmax_jvp(prob: Array, tangent: Array, /, *, axis: Axis = -1) -> Array:
    """Change of ``prob = softmax(logits)`` when the logits move along ``tangent``.

    Parameters
    ----------
    prob : array, any shape
        Probabilities, as ``softmax`` gives them.
    tangent : array, the shape of ``prob``
        The direction in which the logits move.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        In the shape and dtype of ``prob``; float64 for integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    softmax_vjp : the same product from the other side.

    Notes
    -----
    ``p_k (v_k - sum_j p_j v_j)``: the Jacobian ``diag(p) - p p'`` is symmetric, so this is the function that
    ``softmax_vjp`` computes [1]_ (sec. 6.2.2), with its bound, edge cases and cost. Moving all logits by the same
    amount changes nothing, exactly.

    References
    ----------
    .. [1] Goodfellow, Bengio and Courville (2016), "Deep Learning", MIT Press.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.softmax_jvp([0.5, 0.25, 0.25], [0.0, 0.0, 2.0])
    array([-0.25 , -0.125,  0.375])
    """
    return _product("softmax_jvp", prob, tangent, "tangent", axis)


@by_library
def softmax_jacobian(prob: Array, /) -> Array:
    """Jacobian of softmax, one K x K matrix for each row: ``diag(p) - p p'``.

    Parameters
    ----------
    prob : array, shape (..., K)
        Probabilities, as ``softmax`` gives them.

    Returns
    -------
    array, shape (..., K, K)
        Entry ``[..., j, k]`` is the derivative of probability j with respect to logit k, in the dtype of ``prob``;
        float64 for integers and bool.

    Raises
    ------
    ShapeError, DtypeError
        If ``prob`` is a single number, or of a dtype that cannot be computed with.

    See Also
    --------
    softmax_vjp, softmax_jvp : products with this matrix, without the matrix.

    Notes
    -----
    ``p_j ([j = k] - p_k)`` [1]_ (sec. 6.2.2); on the diagonal of the likeliest class, 1 - p is the sum of the other
    probabilities, so it keeps its digits. Computed in float64 and rounded once: at most 1 ULP for float32, 2 for
    float64. It takes K numbers for each probability; the products above take one.

    References
    ----------
    .. [1] Goodfellow, Bengio and Courville (2016), "Deep Learning", MIT Press.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.softmax_jacobian([0.5, 0.5])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    of = "softmax_jacobian"
    array, hidden = check_logits(prob, of=of, name="prob")
    if array.ndim == 0:
        raise ShapeError(f"{of}: prob is a single number; probabilities of shape (..., K) would be right.")
    if hidden is not None:
        array = np.where(hidden, array.dtype.type(0), array)
    return _backend.jacobian(array, result_dtype(array.dtype))


def _product(of: str, prob: Any, vector: Any, name: str, axis: Axis) -> NDArray[Any]:
    """Check both arrays, then multiply."""
    array, hidden = check_logits(prob, of=of, name="prob")
    other, _ = check_logits(check_array(vector, of=of, name=name), of=of, name=name)
    axes = check_axis(axis, array.ndim, of=of, holder="prob has")
    if other.shape != array.shape:
        raise ShapeError(
            f"{of}: {name} has shape {other.shape} and prob {array.shape}; the shape of prob would be right."
        )
    if hidden is not None:
        array = np.where(hidden, array.dtype.type(0), array)
    return _backend.jacobian_product(array, other, axes, result_dtype(array.dtype))[()]
