"""Checks at the door for tensors: what shapes, dtypes and numbers tell. Values wait for the op."""

from typing import Any

import numpy as np
import torch

from normexp.backends.tensors.views import FLOATS, INTEGERS, batch_shape
from normexp.base.checks import check_axis, check_number, check_reduction, check_whole
from normexp.base.errors import AxisError, DtypeError, RangeError, ShapeError


def name_of(dtype: Any) -> str:
    """The dtype in NumPy's words."""
    return str(dtype).removeprefix("torch.")


def check_tensor(x: Any, *, of: str, name: str = "logits") -> Any:
    """A dense tensor of a dtype that can be computed with."""
    if x.dtype not in FLOATS and x.dtype not in INTEGERS and x.dtype != torch.bool:
        raise DtypeError(
            f"{of}: {name} have dtype {name_of(x.dtype)}; float16, bfloat16, float32, float64, bool or integers "
            f"would be right. Convert them first."
        )
    if x.layout != torch.strided:
        raise DtypeError(f"{of}: {name} are a {name_of(x.layout)} tensor; a dense one, x.to_dense(), would be right.")
    return x


def tensor_like(x: Any, like: Any, *, of: str, name: str) -> Any:
    """Make a tensor, on the device of ``like``, of what may be one, an array, a list or a number."""
    if isinstance(x, torch.Tensor):
        if x.device != like.device and x.ndim:
            raise DtypeError(f"{of}: {name} is on {x.device} and the logits on {like.device}; one device is right.")
        return x
    if isinstance(x, np.ndarray) and not x.flags.writeable:
        x = x.copy()  # torch warns of arrays that cannot be written
    try:
        return torch.as_tensor(x, device=like.device)
    except (TypeError, ValueError, RuntimeError):
        raise DtypeError(f"{of}: {name} is {x!r}; a tensor or an array of numbers would be right.") from None


def axes_of(axis: Any, logits: Any, *, of: str) -> list[int]:
    """The axes as non-negative numbers in rising order; all of them for None."""
    return list(check_axis(axis, logits.ndim, of=of))


def one_axis(axis: Any, logits: Any, *, of: str) -> int:
    """The one axis of classes."""
    axes = axes_of(axis, logits, of=of)
    if len(axes) != 1:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {tuple(logits.shape)}; one axis of classes is right."
        )
    return axes[0]


def fitting(x: Any, shape: Any, *, of: str, name: str) -> Any:
    """The tensor with as many dimensions as ``shape``, to which it can be broadcast."""
    fits = x.ndim <= len(shape) and all(
        size in {1, wanted} for size, wanted in zip(reversed(x.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{of}: {name} has shape {tuple(x.shape)}, which cannot be broadcast to the logits' {tuple(shape)}."
        )
    return x.reshape([1] * (len(shape) - x.ndim) + list(x.shape))


def temperature_of(temperature: Any, like: Any, shape: Any, *, of: str) -> Any:
    """None for 1; else a tensor as deep as the logits, on the device of ``like``."""
    if isinstance(temperature, (int, float)) and not isinstance(temperature, bool):
        if temperature == 1.0:
            return None
        if not temperature >= 0.0:
            raise RangeError(f"{of}: temperature is {temperature!r}; numbers of at least 0 would be right.")
        return torch.full([1] * len(shape), float(temperature), dtype=torch.float64, device=like.device)
    heat = tensor_like(temperature, like, of=of, name="temperature")
    if heat.dtype not in FLOATS and heat.dtype not in INTEGERS:
        raise DtypeError(
            f"{of}: temperature has dtype {name_of(heat.dtype)}; a number or an array of numbers would be right."
        )
    return fitting(heat, shape, of=of, name="temperature")


def mask_of(where: Any, logits: Any, *, of: str) -> Any:
    """None, or a tensor of bool as deep as the logits."""
    if where is None:
        return None
    mask = tensor_like(where, logits, of=of, name="where")
    if mask.dtype != torch.bool:
        raise DtypeError(
            f"{of}: where has dtype {name_of(mask.dtype)}; booleans, True where the logit counts, would be right."
        )
    return fitting(mask, logits.shape, of=of, name="where")


def weight_of(weight: Any, logits: Any, classes: int, *, of: str) -> Any:
    """None, or class weights (K,)."""
    if weight is None:
        return None
    found = tensor_like(weight, logits, of=of, name="weight")
    if found.dtype not in FLOATS and found.dtype not in INTEGERS:
        raise DtypeError(f"{of}: weight has dtype {name_of(found.dtype)}; numbers would be right.")
    if tuple(found.shape) != (classes,):
        raise ShapeError(
            f"{of}: weight has shape {tuple(found.shape)}; one for each class, ({classes},), would be right."
        )
    if found.requires_grad:
        raise RangeError(f"{of}: weight asks for a gradient, which class weights do not get; weight.detach() does.")
    return found


def target_of(target: Any, logits: Any, axis: int | None, *, of: str) -> Any:
    """Indices or proportions as a tensor; an empty list has no dtype of its own."""
    found = tensor_like(target, logits, of=of, name="target")
    rows = batch_shape(logits.shape, () if axis is None else (axis,))
    if not isinstance(target, torch.Tensor) and found.numel() == 0 and tuple(found.shape) == tuple(rows):
        return found.to(torch.int64)
    return found


def numbers(
    label_smoothing: Any, ignore_index: Any, z_loss: Any, focal_gamma: Any, reduction: Any, *, of: str
) -> tuple[Any, ...]:
    """The options of a loss, checked, in the order of the ops."""
    return (
        check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0),
        None if ignore_index is None else int(ignore_index),
        check_number(z_loss, of=of, name="z_loss", low=0.0),
        check_number(focal_gamma, of=of, name="focal_gamma", low=0.0),
        check_reduction(reduction, of=of),
    )


def out_of(out: Any, shape: Any, dtype: Any, *, of: str, watched: bool) -> None:
    """A tensor to fill: just the right shape and dtype, and nothing to differentiate."""
    if not isinstance(out, torch.Tensor):
        raise DtypeError(f"{of}: out is a {type(out).__name__}; a tensor, as the logits are, would be right.")
    if out.shape != shape:
        raise ShapeError(f"{of}: out has shape {tuple(out.shape)}; the logits' shape {tuple(shape)} would be right.")
    if out.dtype != dtype:
        raise DtypeError(f"{of}: out has dtype {name_of(out.dtype)}; {name_of(dtype)} would be right.")
    if watched:
        raise RangeError(f"{of}: out cannot be filled while a gradient is asked for; leave it out, or use no_grad().")


def seed_of(rng: Any, logits: Any, *, of: str) -> Any:
    """The seed as a tensor; of None from torch's own generator, so that torch.manual_seed repeats the draws."""
    if rng is None or isinstance(rng, torch.Generator):
        return torch.randint(2**63 - 1, (), generator=rng)
    right = "None, a whole number, a torch.Generator or a numpy.random.Generator"
    seed = check_whole(rng, of=of, name="rng", right=right)
    if seed < 0:
        raise RangeError(f"{of}: rng is {seed}; a seed of at least 0 would be right.")
    del logits
    return torch.full((), seed, dtype=torch.int64)
