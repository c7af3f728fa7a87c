"""softmax, log_softmax and logsumexp: check at the door, lay out as rows, delegate, restore."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.registry import backend_for
from normexp.base.checks import check_axis, check_logits, check_out, check_temperature, check_where
from normexp.base.precision import loss_dtype, result_dtype
from normexp.base.types import Array, Axis
from normexp.ops.shapes import batch_shape


def softmax(logits: Array, /, *, axis: Axis = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Array:
    """Probabilities ``exp(z / t) / sum(exp(z / t))`` along ``axis``."""
    return _normalise(logits, "softmax", axis, temperature, where, out)


def log_softmax(
    logits: Array, /, *, axis: Axis = -1, temperature: Any = 1.0, where: Any = None, out: Any = None
) -> Array:
    """Logarithms of the probabilities along ``axis``: ``z / t - log(sum(exp(z / t)))``."""
    return _normalise(logits, "log_softmax", axis, temperature, where, out)


def logsumexp(logits: Array, /, *, axis: Axis = -1, where: Any = None, keepdims: bool = False) -> Array:
    """Log of the sum of exponentials of ``logits`` along ``axis``."""
    of = "logsumexp"
    array, shown = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    mask = _allowed(where, shown, array.shape, of=of)
    out = backend_for(array).logsumexp(array, axes, mask, loss_dtype(array.dtype))
    return out.reshape(batch_shape(array.shape, axes, keepdims=keepdims))[()]


def _normalise(logits: Any, of: str, axis: Axis, temperature: Any, where: Any, out: Any) -> Any:
    """Check at the door, then let the backend fill the answer."""
    array, shown = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    heat = check_temperature(temperature, array.shape, of=of)
    mask = _allowed(where, shown, array.shape, of=of)
    dtype = result_dtype(array.dtype)
    if out is not None:
        check_out(out, array.shape, dtype, of=of)
    tempered = None if (heat == 1.0).all() else heat
    result = backend_for(array).normalise(of, array, axes, tempered, mask, out, dtype)
    return result[()] if out is None else result


def _allowed(
    where: Any, shown: NDArray[np.bool_] | None, shape: tuple[int, ...], *, of: str
) -> NDArray[np.bool_] | None:
    """Where the logits count: where both the caller's mask and a masked array's own say so."""
    if where is None:
        return shown
    mask = check_where(where, shape, of=of)
    return mask if shown is None else mask & shown
