"""Arrays as rows, the classes last and as one axis, and back."""

import math
from typing import Any

from normexp.backends.standard.spaces import Space


def batch_shape(shape: Any, axes: Any, *, keepdims: bool = False) -> tuple[int, ...]:
    """The shape without ``axes``, or with 1 in their place."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def to_rows(sp: Space, x: Any, axes: Any) -> Any:
    """The axes of classes last, and as one, (..., K); K is 1 without axes."""
    batch = [axis for axis in range(x.ndim) if axis not in axes]
    order = (*batch, *axes)
    moved = x if order == tuple(range(x.ndim)) else sp.xp.permute_dims(x, order)
    return sp.xp.reshape(moved, (*(x.shape[axis] for axis in batch), math.prod(x.shape[axis] for axis in axes)))


def maybe_rows(sp: Space, x: Any, shape: Any, axes: Any) -> Any:
    """Rows of what is as deep as ``shape`` and broadcasts to it, in as little room as goes; None stays None."""
    if x is None:
        return None
    if len(axes) > 1 and any(x.shape[axis] != 1 for axis in axes):
        widened = tuple(shape[axis] if axis in axes else size for axis, size in enumerate(x.shape))
        x = sp.xp.broadcast_to(x, widened)
    return to_rows(sp, x, axes)


def from_rows(sp: Space, rows: Any, shape: Any, axes: Any) -> Any:
    """Back to the shape that ``to_rows`` came from."""
    batch = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*batch, *axes]
    found = sp.xp.reshape(rows, tuple(shape[axis] for axis in order))
    if order == list(range(len(shape))):
        return found
    return sp.xp.permute_dims(found, tuple(order.index(axis) for axis in range(len(shape))))
