"""Checks at the door of the modules."""

import math
from typing import Any

import torch

from normexp.base.checks import check_whole
from normexp.base.errors import DtypeError, RangeError, ShapeError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_count(value: Any, *, of: str, name: str, low: int = 1) -> int:
    """A whole number of at least ``low``."""
    number = check_whole(value, of=of, name=name, right=f"a whole number of at least {low}")
    if number < low:
        raise RangeError(f"{of}: {name} is {number}; at least {low} would be right.")
    return number


def check_positive(value: Any, *, of: str, name: str) -> float:
    """A finite number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DtypeError(f"{of}: {name} is {value!r}; a number above 0 would be right.") from None
    if not (number > 0.0 and math.isfinite(number)):
        raise RangeError(f"{of}: {name} is {number:g}; a finite number above 0 would be right.")
    return number


def check_weights_dtype(dtype: Any, *, of: str) -> Any:
    """None, or a dtype that a head's parameters can have."""
    if dtype is not None and dtype not in FLOATS:
        raise DtypeError(
            f"{of}: dtype is {str(dtype).removeprefix('torch.')}; float16, bfloat16, float32 or float64 would be right."
        )
    return dtype


def check_features(x: Any, in_features: int, *, of: str) -> Any:
    """Floating features (..., D)."""
    if not isinstance(x, torch.Tensor):
        raise DtypeError(f"{of}: x is a {type(x).__name__}; a tensor of shape (..., {in_features}) would be right.")
    if x.dtype not in FLOATS:
        raise DtypeError(
            f"{of}: x has dtype {str(x.dtype).removeprefix('torch.')}; floating features of 16, 32 or 64 bits would be "
            f"right."
        )
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ShapeError(f"{of}: x has shape {tuple(x.shape)}; (..., {in_features}) would be right.")
    return x


def check_match(x: Any, weight: Any, *, mixes: bool, of: str) -> Any:
    """Features where the weights are, and of their dtype unless the head mixes dtypes, or autocast does."""
    if x.device != weight.device:
        raise DtypeError(f"{of}: x is on {x.device} and the weights on {weight.device}; one device would be right.")
    if x.dtype != weight.dtype and not (mixes or torch.is_autocast_enabled(x.device.type)):
        found, wanted = (str(dtype).removeprefix("torch.") for dtype in (x.dtype, weight.dtype))
        raise DtypeError(f"{of}: x has dtype {found} and the weights {wanted}; x.to(torch.{wanted}) would be right.")
    return x


def check_ignored(ignore_index: Any, *, of: str) -> int | None:
    """None, or the whole number that targets of no account have."""
    if ignore_index is None:
        return None
    return check_whole(ignore_index, of=of, name="ignore_index", right="a whole number or None")


def check_target(target: Any, *, of: str) -> Any:
    """A tensor."""
    if not isinstance(target, torch.Tensor):
        raise DtypeError(f"{of}: target is a {type(target).__name__}; a tensor of class indices would be right.")
    return target


def check_classes(target: Any, shape: Any, classes: int, ignore_index: int | None, *, of: str) -> tuple[Any, Any]:
    """Class indices as int64 (N,), and which rows count; out of range is an error that names the row."""
    check_target(target, of=of)
    if target.dtype.is_floating_point or target.dtype.is_complex or target.dtype == torch.bool:
        raise DtypeError(
            f"{of}: target has dtype {str(target.dtype).removeprefix('torch.')}; class indices would be right."
        )
    if tuple(target.shape) != tuple(shape):
        raise ShapeError(
            f"{of}: target has shape {tuple(target.shape)}; {tuple(shape)}, as x has rows, would be right."
        )
    ignore_index = check_ignored(ignore_index, of=of)
    index = target.reshape(-1).to(torch.int64)
    counts = torch.ones_like(index, dtype=torch.bool) if ignore_index is None else index != ignore_index
    wrong = ((index < 0) | (index >= classes)) & counts
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        or_ignored = "" if ignore_index is None else f" (or ignore_index, {ignore_index})"
        raise RangeError(
            f"{of}: target of row {row} is {int(index[row])}; with {classes} classes, 0 to {classes - 1} would be "
            f"right{or_ignored}."
        )
    return index, counts


def as_numbers(values: Any, device: Any, *, of: str, name: str) -> Any:
    """Make a float64 tensor without gradients of a tensor, an array or a list."""
    try:
        return torch.as_tensor(values).detach().to(device, torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise DtypeError(f"{of}: {name} is {values!r}; a tensor or an array of numbers would be right.") from None


def check_counts(counts: Any, classes: int, *, of: str) -> Any:
    """How often each class occurs, float64 (K,), none negative."""
    found = as_numbers(counts, "cpu", of=of, name="class_counts")
    if tuple(found.shape) != (classes,):
        raise ShapeError(
            f"{of}: class_counts have shape {tuple(found.shape)}; one for each class, ({classes},), is right."
        )
    if not bool((torch.isfinite(found) & (found >= 0)).all()):
        raise RangeError(f"{of}: class_counts hold a negative number, NaN or inf; counts of at least 0 would be right.")
    return found


def check_top(k: Any, classes: int, *, of: str) -> int:
    """How many classes are asked for."""
    number = check_count(k, of=of, name="k")
    if number > classes:
        raise RangeError(f"{of}: k is {number}; with {classes} classes, 1 to {classes} would be right.")
    return number


def class_weights(weight: Any, classes: int, like: Any, *, of: str) -> Any:
    """Weights (K,) of at least 0 on the device of ``like``; None stays None."""
    if weight is None:
        return None
    found = as_numbers(weight, like.device, of=of, name="weight")
    if tuple(found.shape) != (classes,):
        raise ShapeError(f"{of}: weight has shape {tuple(found.shape)}; one for each class, ({classes},), is right.")
    if not bool((torch.isfinite(found) & (found >= 0)).all()):
        raise RangeError(f"{of}: weight holds a negative number, NaN or inf; numbers of at least 0 would be right.")
    return found
