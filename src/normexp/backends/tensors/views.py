"""Tensors in CPU memory as NumPy arrays, and back, without a copy; and the dtypes of answers."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
INTEGERS = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip


def array_of(tensor: Any) -> NDArray[Any]:
    """The tensor's memory as an array; float16 and bfloat16 widened to float32, which NumPy has."""
    plain = tensor.detach()
    if plain.dtype in HALVES:
        plain = plain.to(torch.float32)
    found: NDArray[Any] = plain.resolve_neg().numpy()
    return found


def maybe_array_of(tensor: Any) -> NDArray[Any] | None:
    """None stays None."""
    return None if tensor is None else array_of(tensor)


def tensor_of(array: NDArray[Any], dtype: Any) -> Any:
    """A contiguous tensor of this dtype on the array's memory where possible."""
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)).to(dtype)


def compute_dtype(dtype: Any) -> Any:
    """The dtype of losses and log-sums: at least float32."""
    return torch.float32 if dtype in HALVES or dtype == torch.float32 else torch.float64


def result_dtype(dtype: Any) -> Any:
    """The dtype of probabilities and gradients: the logits' own; float64 for integers and bool."""
    return dtype if dtype in FLOATS else torch.float64


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """Float32 or float64, as NumPy calls it."""
    return np.dtype(np.float32 if dtype == torch.float32 else np.float64)


def batch_shape(shape: Any, axes: Any, *, keepdims: bool = False) -> tuple[Any, ...]:
    """The shape without ``axes``, or with 1 in their place."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def to_rows(x: Any, axes: Any) -> Any:
    """The axes of classes last, and as one."""
    if not len(axes):
        return x.unsqueeze(-1)
    batch = [axis for axis in range(x.ndim) if axis not in axes]
    moved = x.permute(*batch, *axes)
    return moved.reshape(*(x.shape[axis] for axis in batch), math.prod(x.shape[axis] for axis in axes))


def from_rows(rows: Any, shape: Any, axes: Any) -> Any:
    """Back to the shape that ``to_rows`` came from, contiguous."""
    if not len(axes):
        return rows.squeeze(-1)
    batch = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*batch, *axes]
    back = [order.index(axis) for axis in range(len(shape))]
    return rows.reshape([shape[axis] for axis in order]).permute(*back).contiguous()


def spread(one_each: Any, axes: Any) -> Any:
    """One number for each row, with 1 in place of the axes of classes."""
    for axis in sorted(axes):
        one_each = one_each.unsqueeze(axis)
    return one_each
