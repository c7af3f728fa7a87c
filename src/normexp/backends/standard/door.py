"""Checks at the door for arrays of any library: what shapes and dtypes tell, and values where there are any."""

import math
from typing import Any

from normexp.backends.standard.spaces import FLOATING, Space, library_of, name_of
from normexp.base.checks import check_axis, check_number, check_reduction
from normexp.base.errors import AxisError, DtypeError, RangeError, ShapeError


def check_array(x: Any, *, of: str, name: str = "logits") -> Space:
    """The array's library, if its dtype can be computed with."""
    sp = Space.of(x)
    if not any(sp.kind(x.dtype, kind) for kind in ("bool", "integral", FLOATING)):
        raise DtypeError(
            f"{of}: {name} have dtype {name_of(x.dtype)}; float16, bfloat16, float32, float64, bool or integers "
            f"would be right. Convert them first."
        )
    return sp


def one_axis(axis: Any, logits: Any, *, of: str) -> tuple[int, ...]:
    """The one axis of classes; none for a single number."""
    axes = check_axis(axis, logits.ndim, of=of)
    if len(axes) != 1:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {tuple(logits.shape)}; one axis of classes is right."
        )
    return axes


def no_out(out: Any, logits: Any, *, of: str) -> None:
    """Only NumPy arrays and tensors can be filled."""
    if out is not None:
        raise DtypeError(
            f"{of}: out is a {type(out).__name__}, but the array API standard has no way to fill an array of "
            f"{library_of(logits)}; leave out away, and take what is returned."
        )


def fitting(sp: Space, x: Any, shape: Any, *, of: str, name: str) -> Any:
    """The array with as many dimensions as ``shape``, to which it can be broadcast."""
    fits = x.ndim <= len(shape) and all(
        size in {1, wanted} for size, wanted in zip(reversed(x.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{of}: {name} has shape {tuple(x.shape)}, which cannot be broadcast to the logits' {tuple(shape)}."
        )
    return sp.xp.reshape(x, (1,) * (len(shape) - x.ndim) + tuple(x.shape))


def temperature_of(sp: Space, temperature: Any, logits: Any, shape: Any, *, of: str) -> Any:
    """None for 1; else a wide array as deep as ``shape``."""
    if isinstance(temperature, (int, float)) and not isinstance(temperature, bool):
        if temperature == 1.0:
            return None
        if not temperature >= 0.0:
            raise RangeError(f"{of}: temperature is {temperature!r}; numbers of at least 0 would be right.")
        return sp.full((1,) * len(shape), float(temperature))
    heat = sp.array(temperature, of=of, name="temperature", beside=logits)
    if not any(sp.kind(heat.dtype, kind) for kind in ("bool", "integral", FLOATING)):
        raise DtypeError(
            f"{of}: temperature has dtype {name_of(heat.dtype)}; a number or an array of numbers would be right."
        )
    heat = sp.cast(heat, sp.wide)
    if sp.any(~(heat >= 0.0)):
        raise RangeError(f"{of}: temperature is {temperature!r}; numbers of at least 0 would be right.")
    return fitting(sp, heat, shape, of=of, name="temperature")


def mask_of(sp: Space, where: Any, logits: Any, *, of: str) -> Any:
    """None, or booleans as deep as the logits."""
    if where is None:
        return None
    mask = sp.array(where, of=of, name="where", beside=logits)
    if not sp.kind(mask.dtype, "bool"):
        raise DtypeError(
            f"{of}: where has dtype {name_of(mask.dtype)}; booleans, True where the logit counts, would be right."
        )
    return fitting(sp, mask, logits.shape, of=of, name="where")


def weight_of(sp: Space, weight: Any, logits: Any, classes: int, *, of: str) -> Any:
    """None, or wide class weights (K,), finite and not negative."""
    if weight is None:
        return None
    found = sp.array(weight, of=of, name="weight", beside=logits)
    if not any(sp.kind(found.dtype, kind) for kind in ("bool", "integral", FLOATING)):
        raise DtypeError(f"{of}: weight has dtype {name_of(found.dtype)}; numbers would be right.")
    if tuple(found.shape) != (classes,):
        raise ShapeError(
            f"{of}: weight has shape {tuple(found.shape)}; one for each class, ({classes},), would be right."
        )
    found = sp.cast(found, sp.wide)
    wrong = ~(sp.xp.isfinite(found) & (found >= 0.0))
    if sp.any(wrong):
        raise RangeError(
            f"{of}: weight holds {float(found[sp.first_true(wrong)])}; finite numbers of at least 0 would be right."
        )
    return found


def loss_numbers(label_smoothing: Any, z_loss: Any, focal_gamma: Any, reduction: Any, *, of: str) -> tuple[Any, ...]:
    """The options of a loss that are numbers or words, checked: smoothing, z_loss, gamma, reduction."""
    return (
        check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0),
        check_number(z_loss, of=of, name="z_loss", low=0.0),
        check_number(focal_gamma, of=of, name="focal_gamma", low=0.0),
        check_reduction(reduction, of=of),
    )


def check_indices(
    sp: Space, target: Any, shape: tuple[int, ...], classes: int, ignore_index: int | None, *, of: str
) -> tuple[Any, Any]:
    """Class indices, 0 where the row is ignored, and which rows count; out of range is an error."""
    if tuple(target.shape) != shape:
        raise ShapeError(
            f"{of}: target has shape {tuple(target.shape)}; class indices of shape {shape} would be right."
        )
    index = sp.cast(target, sp.index)
    counted = sp.xp.ones(shape, dtype=sp.xp.bool, device=sp.device)
    limits = sp.xp.iinfo(target.dtype)
    if ignore_index is not None and limits.min <= ignore_index <= limits.max:
        counted = target != ignore_index
    wrong = ((index < 0) | (index >= classes)) & counted
    if math.prod(shape) and sp.any(wrong):
        row = sp.first_true(wrong)
        or_ignored = "" if ignore_index is None else f" (or ignore_index, {ignore_index})"
        raise RangeError(
            f"{of}: target of row {row} is {int(sp.xp.reshape(target, (-1,))[row])}; with {classes} classes, "
            f"0 to {classes - 1} would be right{or_ignored}."
        )
    return sp.xp.where(counted, index, sp.xp.zeros_like(index)), counted


def check_proportions(sp: Space, target: Any, shape: tuple[int, ...], axis: int, ignore_index: Any, *, of: str) -> None:
    """Class proportions in the logits' shape: floats, none negative, summing to 1 along ``axis``."""
    if ignore_index is not None:
        raise RangeError(f"{of}: ignore_index is {ignore_index!r}, but the target holds proportions, not indices.")
    if not any(sp.kind(target.dtype, kind) for kind in ("bool", FLOATING)):
        raise DtypeError(
            f"{of}: target has dtype {name_of(target.dtype)}; integers (class indices) or floats (proportions) "
            f"would be right."
        )
    rows = tuple(size for at, size in enumerate(shape) if at != axis)
    if tuple(target.shape) != shape:
        raise ShapeError(
            f"{of}: target has shape {tuple(target.shape)} and the logits {shape}; proportions need the "
            f"logits' shape, class indices {rows} and an integer dtype."
        )
    if not math.prod(shape):
        return
    given = sp.cast(target, sp.wide)
    smallest = sp.xp.min(given, axis=axis)
    negative = ~(smallest >= 0.0)
    if sp.any(negative):
        row = sp.first_true(negative)
        held = float(sp.xp.reshape(smallest, (-1,))[row])
        raise RangeError(f"{of}: target of row {row} holds the proportion {held:g}; at least 0 would be right.")
    sums = sp.xp.sum(given, axis=axis)
    off = sp.xp.abs(sums - 1.0) > 1e-3
    if sp.any(off):
        row = sp.first_true(off)
        raise RangeError(
            f"{of}: target of row {row} sums to {float(sp.xp.reshape(sums, (-1,))[row]):.6g}; proportions that sum "
            f"to 1 would be right."
        )
