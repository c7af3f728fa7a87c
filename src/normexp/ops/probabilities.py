"""softmax, log_softmax and logsumexp: check at the door, let the backend fill the answer."""

from typing import Any

import numpy as np

from normexp.backends import cpu
from normexp.backends.dispatch import by_library
from normexp.backends.masks import Mask
from normexp.base.checks import check_axis, check_logits, check_out, check_temperature, check_where
from normexp.base.precision import loss_dtype, result_dtype
from normexp.base.types import Array, Axis
from normexp.ops.shapes import batch_shape

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@by_library
def softmax(logits: Array, /, *, axis: Axis = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Array:
    """Probabilities ``exp(z / t) / sum(exp(z / t))`` along ``axis``.

    Parameters
    ----------
    logits : array, any shape
        float16, bfloat16, float32, float64, bool or integers; anything NumPy can make such an array of; or an
        array of another library that follows the array API standard.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.
    temperature : float or array, default 1.0
        At least 0, broadcastable to the logits: one for all, one for each row, or one for each class. 0 is the
        arg-max limit: the largest logits share the probability equally. Where classes of a row have temperatures of
        their own, those at 0 sink to it at one pace: a positive logit among them leaves no other class anything.
    where : array of bool, optional
        Broadcastable to the logits; False excludes a class: its logit never matters, its probability is 0.
    out : numpy.ndarray, optional
        Filled and returned; the shape of the logits and the dtype of the result. May be ``logits`` itself.

    Returns
    -------
    array
        In the logits' shape, library and dtype; float64 for integers and bool.

    Raises
    ------
    DtypeError, ShapeError, RangeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    log_softmax : when the logarithm is wanted. The log of a rounded probability has lost what log_softmax keeps.

    Notes
    -----
    With ``m = max(z)``: ``p_k = exp(z_k - m) / (1 + rest)``, where ``rest`` sums all terms but one largest
    [1]_ (eq. 1.3 and 3.9). The rounding error of ``z_k - m`` is carried through exp, so the error does
    not grow with the spread of the logits: at most 2.2 ULP for float32 and 4 for float64 (docs/numerics.md), subnormal
    results included; float16 and bfloat16 are the float32 answer, rounded.

    A row of ``-inf`` gives NaN, as does a row with NaN or ``+inf``; where ``where`` excludes a whole row, 0. Results
    are the same to the bit for any batch split, row order, number of threads, memory layout and axis.

    Each logit is read once from memory and each probability written once; scratch memory is a few rows a thread. The
    memory of a large result is kept for the next one when no view of it is left (`set_kept_memory`).

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.softmax([2.0, 1.0, 0.1]).round(8)
    array([0.65900114, 0.24243297, 0.09856589])
    >>> nx.softmax([[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]], temperature=0.0)
    array([[0.5       , 0.5       , 0.        ],
           [0.33333333, 0.33333333, 0.33333333]])
    """
    return _normalise(logits, "softmax", axis, temperature, where, out)


@by_library
def log_softmax(
    logits: Array, /, *, axis: Axis = -1, temperature: Any = 1.0, where: Any = None, out: Any = None
) -> Array:
    """Logarithms of the probabilities along ``axis``: ``z / t - log(sum(exp(z / t)))``.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.
    temperature : float or array, default 1.0
        At least 0, broadcastable to the logits. 0 is the arg-max limit.
    where : array of bool, optional
        Broadcastable to the logits; False excludes a class: its log-probability is ``-inf``.
    out : numpy.ndarray, optional
        Filled and returned; the shape of the logits and the dtype of the result. May be ``logits`` itself.

    Returns
    -------
    array
        In the logits' shape, library and dtype; float64 for integers and bool.

    Raises
    ------
    DtypeError, ShapeError, RangeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    Notes
    -----
    ``(z_k - m) - log1p(rest)`` with the state of [1]_ (sec. 3): leaving the largest term, 1, out of the sum
    keeps every digit of the leading class's log-probability. With a gap of 20, others answer exactly 0 for
    float32, where -2.06e-9 is right. Error at most 1 ULP for float32, 4 for float64. Edge cases, reproducibility
    and cost are those of ``softmax``; a row that ``where`` excludes gives ``-inf``.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330.

    Examples
    --------
    >>> import numpy as np
    >>> import normexp as nx
    >>> nx.log_softmax(np.float32([20.0, 0.0]))
    array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    return _normalise(logits, "log_softmax", axis, temperature, where, out)


@by_library
def logsumexp(logits: Array, /, *, axis: Axis = -1, where: Any = None, keepdims: bool = False) -> Array:
    """Log of the sum of exponentials of ``logits`` along ``axis``.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        What is summed over. None takes the whole array.
    where : array of bool, optional
        Broadcastable to the logits; False excludes a class.
    keepdims : bool, default False
        Leave 1 in place of the axes that are summed over.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool.

    Raises
    ------
    DtypeError, ShapeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    Notes
    -----
    ``m + log1p(rest)`` [1]_ (sec. 3). Error at most 1 ULP for float32 and 4 for float64, of the result or of the
    largest logit, whichever is larger in magnitude: near 0 the two cancel. A row of ``-inf``, a row of length 0, and a
    row that ``where`` excludes give ``-inf``; ``+inf`` gives ``+inf``; NaN gives NaN. Extra memory is one number
    for each row, masks and any layout included. Reproducible to the bit, as ``softmax`` is.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330.

    Examples
    --------
    >>> import normexp as nx
    >>> float(nx.logsumexp([1000.0, 1000.0]).round(6))
    1000.693147
    """
    of = "logsumexp"
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    mask = Mask.of(None if where is None else check_where(where, array.shape, of=of), hidden)
    out = cpu.logsumexp(array, axes, mask, loss_dtype(array.dtype))
    return out.reshape(batch_shape(array.shape, axes, keepdims=keepdims))[()]


def _normalise(logits: Any, of: str, axis: Axis, temperature: Any, where: Any, out: Any) -> Any:
    """Check at the door, then let the backend fill the answer."""
    if (  # the common small call: nothing to check, nothing to lay out
        type(logits) is np.ndarray
        and type(axis) is int
        and axis == -1
        and type(temperature) is float
        and temperature == 1.0
        and where is None
        and out is None
        and logits.dtype in _FLOATS
    ):
        answer = cpu.normalise_small(of, logits)
        if answer is not None:
            return answer
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    heat = check_temperature(temperature, array.shape, of=of)
    mask = Mask.of(None if where is None else check_where(where, array.shape, of=of), hidden)
    dtype = result_dtype(array.dtype)
    if out is not None:
        check_out(out, array.shape, dtype, of=of)
    tempered = None if (heat == 1.0).all() else heat
    result = cpu.normalise(of, array, axes, tempered, mask, out, dtype)
    return result[()] if out is None else result
