"""The fused linear head for tensors: the door of ``linear_cross_entropy`` and of the same with gradients."""

import math
from typing import Any

import torch

from normexp.backends.tensors import linear as _linear
from normexp.backends.tensors.door import (
    check_tensor,
    numbers,
    target_of,
    temperature_of,
    tensor_like,
    weight_of,
)
from normexp.backends.tensors.targets import check_target_shape
from normexp.backends.tensors.views import INTEGERS
from normexp.base.checks import check_number
from normexp.base.errors import RangeError, ShapeError
from normexp.base.types import LinearLossGrad


def linear_cross_entropy(
    x: Any,
    projection: Any,
    target: Any,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: Any = None,
    weight: Any = None,
    label_smoothing: Any = 0.0,
    ignore_index: Any = None,
    z_loss: Any = 0.0,
    focal_gamma: Any = 0.0,
    reduction: Any = "mean",
) -> Any:
    """Cross-entropy of ``x @ projection.T + bias``."""
    of = "linear_cross_entropy"
    options = numbers(label_smoothing, ignore_index, z_loss, focal_gamma, reduction, of=of)
    asked, batch = _asked(of, x, projection, target, bias, temperature, softcap, weight, options)
    wants = [torch.is_grad_enabled() and part is not None and part.requires_grad for part in (*asked[:2], asked[3])]
    if options[-1] == "none":  # each row's gradient comes in later
        wants = [False] * 3
    found = _linear.linear_cross_entropy(*asked, *options, None, wants)[0]
    return found.reshape(batch) if options[-1] == "none" else found


def linear_cross_entropy_with_grad(
    x: Any,
    projection: Any,
    target: Any,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: Any = None,
    weight: Any = None,
    label_smoothing: Any = 0.0,
    ignore_index: Any = None,
    z_loss: Any = 0.0,
    focal_gamma: Any = 0.0,
    reduction: Any = "mean",
) -> LinearLossGrad:
    """The same loss and its gradients in one pass; none can be differentiated further."""
    of = "linear_cross_entropy_with_grad"
    options = numbers(label_smoothing, ignore_index, z_loss, focal_gamma, reduction, of=of)
    asked, batch = _asked(of, x, projection, target, bias, temperature, softcap, weight, options)
    with torch.no_grad():
        found = _linear.linear_cross_entropy(*asked, *options, None, [True, True, bias is not None])
    loss = found[0].reshape(batch) if options[-1] == "none" else found[0]
    return LinearLossGrad(loss, found[1].reshape(x.shape), found[2], None if bias is None else found[3])


def _asked(
    of: str,
    x: Any,
    projection: Any,
    target: Any,
    bias: Any,
    temperature: Any,
    softcap: Any,
    weight: Any,
    options: tuple[Any, ...],
) -> tuple[tuple[Any, ...], Any]:
    """The tensors of the op, checked and as rows; and the batch's shape."""
    check_tensor(x, of=of, name="x")
    if x.ndim == 0:
        raise ShapeError(f"{of}: x is a single number; features of shape (..., D) would be right.")
    weights = check_tensor(tensor_like(projection, x, of=of, name="projection"), of=of, name="projection")
    depth = x.shape[-1]
    if weights.ndim != 2 or weights.shape[1] != depth:
        raise ShapeError(
            f"{of}: projection has shape {tuple(weights.shape)} and x {tuple(x.shape)}; (K, {depth}), a row for each "
            f"class, would be right."
        )
    batch, classes = x.shape[:-1], weights.shape[0]
    offsets = None
    if bias is not None:
        offsets = check_tensor(tensor_like(bias, x, of=of, name="bias"), of=of, name="bias")
        if tuple(offsets.shape) != (classes,):
            raise ShapeError(f"{of}: bias has shape {tuple(offsets.shape)}; ({classes},), one a class, would be right.")
    cap = None
    if softcap is not None:
        cap = check_number(softcap, of=of, name="softcap", low=0.0)
        if cap == 0.0:
            raise RangeError(f"{of}: softcap is 0; a number above 0, or None for no cap, would be right.")
    count = math.prod(batch)
    logits = torch.empty((*batch, classes), device="meta")
    class_weight = weight_of(weight, x, classes, of=of)
    answers = target_of(target, x[..., :1] if depth else x, x.ndim - 1, of=of)
    check_target_shape(answers, logits.shape, len(batch), options[1], of=of)
    answers = answers.reshape(count) if answers.dtype in INTEGERS else answers.reshape(count, classes)
    heat = _heat(of, temperature, x, (*batch, classes), count)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weights = (part.to(kind) if part.dtype == torch.float32 else part for part in (x, weights))
    return (x.reshape(count, depth), weights, answers, offsets, class_weight, heat, cap), batch


def _heat(of: str, temperature: Any, x: Any, shape: tuple[int, ...], count: int) -> Any:
    """None for 1; else temperatures of shape (1, 1), (N, 1), (1, K) or (N, K)."""
    heat = temperature_of(temperature, x, shape, of=of)
    if heat is None:
        return None
    if heat.requires_grad:
        raise RangeError(
            f"{of}: temperature asks for a gradient, which the fused head does not give; divide x by it instead."
        )
    own = any(size > 1 for size in heat.shape[:-1])
    last = heat.shape[-1] if heat.ndim else 1
    if not own:
        return heat.reshape(1, last)
    return heat.expand(*shape[:-1], last).reshape(count, last)
