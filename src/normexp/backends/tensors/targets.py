"""What is asked of each row: class indices or proportions, checked where their values are at hand."""

from dataclasses import dataclass
from typing import Any

import torch

from normexp.backends.tensors.views import INTEGERS
from normexp.base.errors import DtypeError, RangeError, ShapeError


@dataclass(frozen=True)
class Options:
    """The options of a loss that are numbers."""

    smoothing: float
    ignore_index: int | None
    z_loss: float
    gamma: float
    reduction: str

    @property
    def plain_numbers(self) -> dict[str, Any]:
        """As the CPU backend calls them."""
        return {"smoothing": self.smoothing, "z_loss": self.z_loss, "gamma": self.gamma}


def check_target_shape(target: Any, shape: Any, axis: int, ignore_index: int | None, *, of: str) -> None:
    """Everything about the target that its shape and dtype tell."""
    rows = tuple(size for at, size in enumerate(shape) if at != axis)
    if target.dtype in INTEGERS:
        if tuple(target.shape) != rows:
            raise ShapeError(
                f"{of}: target has shape {tuple(target.shape)}; class indices of shape {rows} would be right."
            )
        return
    if not target.dtype.is_floating_point:
        raise DtypeError(
            f"{of}: target has dtype {str(target.dtype).removeprefix('torch.')}; integers (class indices) or floats "
            f"(proportions) would be right."
        )
    if ignore_index is not None:
        raise RangeError(f"{of}: ignore_index is {ignore_index!r}, but the target holds proportions, not indices.")
    if tuple(target.shape) != tuple(shape):
        raise ShapeError(
            f"{of}: target has shape {tuple(target.shape)} and the logits {tuple(shape)}; proportions need the logits' "
            f"shape, class indices {rows} and an integer dtype."
        )
    if target.requires_grad:
        raise RangeError(f"{of}: the target asks for a gradient, which proportions do not get; target.detach() does.")


def indices(target: Any, classes: int, ignore_index: int | None, *, of: str) -> tuple[Any, Any]:
    """Class indices as int64, -1 where the row is ignored, and which rows count; out of range is an error."""
    index = target.to(torch.int64)
    ignored = torch.zeros_like(index, dtype=torch.bool) if ignore_index is None else index == ignore_index
    wrong = ((index < 0) | (index >= classes)) & ~ignored
    if bool(wrong.any()):
        row = int(wrong.reshape(-1).nonzero()[0])
        or_ignored = "" if ignore_index is None else f" (or ignore_index, {ignore_index})"
        raise RangeError(
            f"{of}: target of row {row} is {target.reshape(-1)[row].item()}; with {classes} classes, "
            f"0 to {classes - 1} would be right{or_ignored}."
        )
    return index.masked_fill(ignored, -1), ~ignored


def check_proportions(target: Any, axis: int, *, of: str) -> None:
    """None negative, summing to 1 along ``axis``."""
    negative = ~(target >= 0).all(axis)
    if bool(negative.any()):
        row = int(negative.reshape(-1).nonzero()[0])
        raise RangeError(f"{of}: target of row {row} holds a negative proportion or NaN; at least 0 would be right.")
    sums = target.sum(axis, dtype=torch.float64)
    off = (sums - 1.0).abs() > 1e-3
    if target.shape[axis] and bool(off.any()):
        row = int(off.reshape(-1).nonzero()[0])
        raise RangeError(
            f"{of}: target of row {row} sums to {float(sums.reshape(-1)[row]):.6g}; proportions that sum to 1 would be "
            f"right."
        )


def check_weights(weight: Any, *, of: str) -> None:
    """Finite class weights of at least 0."""
    if weight is None:
        return
    wrong = ~(torch.isfinite(weight) & (weight >= 0))
    if bool(wrong.any()):
        raise RangeError(f"{of}: weight holds {weight[wrong][0].item()}; finite numbers of at least 0 would be right.")


def row_weights(target: Any, weight: Any, ignore_index: int | None) -> Any:
    """The weight of each row that counts, 0 for the others, float64; class indices as they came."""
    index = target.to(torch.int64)
    counted = torch.ones_like(index, dtype=torch.bool) if ignore_index is None else index != ignore_index
    if weight is None:
        return counted.to(torch.float64)
    return torch.where(counted, weight.to(torch.float64)[torch.where(counted, index, 0)], 0.0)
