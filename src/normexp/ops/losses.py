"""Cross-entropy with and without its gradient: check at the door, delegate, reduce."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.registry import backend_for
from normexp.base.checks import check_axis, check_logits, check_number, check_reduction, check_weight
from normexp.base.errors import AxisError, DtypeError, RangeError, ShapeError
from normexp.base.precision import float_type, loss_dtype, result_dtype
from normexp.base.types import Array, LossGrad
from normexp.ops.shapes import batch_shape


def cross_entropy(
    logits: Array,
    target: Array,
    /,
    *,
    axis: int = -1,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """Negative log-probability of the targets under ``softmax(logits)``."""
    options = (axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy", logits, target, options, wants_grad=False).loss


def cross_entropy_with_grad(
    logits: Array,
    target: Array,
    /,
    *,
    axis: int = -1,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> LossGrad:
    """The loss of ``cross_entropy`` and its gradient with respect to the logits, in one pass."""
    options = (axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy_with_grad", logits, target, options, wants_grad=True)


def _loss(of: str, logits: Any, target: Any, options: tuple[Any, ...], *, wants_grad: bool) -> LossGrad:
    """Check everything, then loss and (if wanted) gradient."""
    axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction = options
    array, shown = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    if len(axes) != 1:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {array.shape}; one axis of classes is right."
        )
    if shown is not None and not shown.all():
        array = np.where(shown, array, float_type(array.dtype)(-np.inf))
    numbers = {
        "smoothing": check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0),
        "z_loss": check_number(z_loss, of=of, name="z_loss", low=0.0),
        "gamma": check_number(focal_gamma, of=of, name="focal_gamma", low=0.0),
    }
    reduction = check_reduction(reduction, of=of)
    shape, classes = batch_shape(array.shape, axes), array.shape[axes[0]]
    class_weight = check_weight(weight, classes, of=of)
    answers = np.asarray(target)
    if answers.size == 0 and answers.dtype == np.float64 and answers.shape == shape != array.shape:
        answers = answers.astype(np.int64)  # an empty list has no dtype of its own
    grad = np.empty_like(array, dtype=result_dtype(array.dtype)) if wants_grad else None
    backend = backend_for(array)
    if answers.dtype.kind in "iu":
        index, counted = _indices(answers, shape, classes, ignore_index, of=of)
        row_weight = counted.astype(np.float64)
        if class_weight is not None:
            row_weight[counted] = class_weight[index[counted]]
        divisor = backend.total(row_weight)
        loss = backend.index_loss(
            array, axes, index, row_weight, **numbers, grad_scale=_scale(reduction, divisor), grad=grad
        )
    else:
        if ignore_index is not None:
            raise RangeError(f"{of}: ignore_index is {ignore_index!r}, but the target holds proportions, not indices.")
        _check_proportions(answers, array.shape, axes[0], of=of)
        divisor = float(prod(shape))
        given = np.empty(0) if class_weight is None else class_weight
        loss = backend.proportion_loss(
            array, axes, answers, given, **numbers, grad_scale=_scale(reduction, divisor), grad=grad
        )
    if reduction == "none":
        return LossGrad(_narrow(loss, array.dtype), grad)
    value = backend.total(loss)
    if reduction == "mean":
        value = value / divisor if divisor else value * 0.0
    return LossGrad(_narrow(np.asarray(value), array.dtype), grad)


def _narrow(loss: NDArray[np.float64], dtype: np.dtype[Any]) -> Any:
    """The loss in the dtype promised for such logits; inf where it is too large for that."""
    with np.errstate(over="ignore", under="ignore"):
        return loss.astype(loss_dtype(dtype))[()]


def _scale(reduction: str, divisor: float) -> float:
    """What each row's gradient is multiplied by."""
    return 1.0 if reduction != "mean" or divisor == 0.0 else 1.0 / divisor


def _indices(
    target: NDArray[Any], shape: tuple[int, ...], classes: int, ignore_index: int | None, *, of: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class indices (N,), -1 where the row is ignored, and which rows count."""
    if target.shape != shape:
        raise ShapeError(f"{of}: target has shape {target.shape}; class indices of shape {shape} would be right.")
    ignored = np.zeros(shape, np.bool_) if ignore_index is None else target == ignore_index
    wrong = ((target < 0) | (target >= classes)) & ~ignored
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        or_ignored = "" if ignore_index is None else f" (or ignore_index, {ignore_index})"
        raise RangeError(
            f"{of}: target of row {row} is {target.reshape(-1)[row]}; with {classes} classes, "
            f"0 to {classes - 1} would be right{or_ignored}."
        )
    index = target.astype(np.int64)
    index[ignored] = -1
    return index, ~ignored


def _check_proportions(target: NDArray[Any], shape: tuple[int, ...], axis: int, *, of: str) -> None:
    """Class proportions in the logits' shape: floats, none negative, summing to 1 along ``axis``."""
    rows = tuple(size for at, size in enumerate(shape) if at != axis)
    if target.dtype.kind in "cOSUVbMm" and target.dtype.name != "bfloat16":
        raise DtypeError(
            f"{of}: target has dtype {target.dtype}; integers (class indices) or floats (proportions) would be right."
        )
    if target.shape != shape:
        raise ShapeError(
            f"{of}: target has shape {target.shape} and the logits {shape}; proportions need the "
            f"logits' shape, class indices {rows} and an integer dtype."
        )
    negative = ~(target >= 0).all(axis=axis)
    if negative.any():
        row = int(np.flatnonzero(negative)[0])
        raise RangeError(f"{of}: target of row {row} holds a negative proportion or NaN; at least 0 would be right.")
    sums = target.sum(axis=axis, dtype=np.float64)
    off = np.abs(sums - 1.0) > 1e-3
    if off.any() and shape[axis]:
        row = int(np.flatnonzero(off)[0])
        raise RangeError(
            f"{of}: target of row {row} sums to {sums.reshape(-1)[row]:.6g}; proportions that sum to 1 would be right."
        )
