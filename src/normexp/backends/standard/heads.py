"""The linear head: cross-entropy of ``x @ projection.T + bias``, a block of rows at a time."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

from normexp.backends.standard.door import check_array, temperature_of
from normexp.backends.standard.losses import Asked, asked_of, row_losses
from normexp.backends.standard.probabilities import quiet
from normexp.backends.standard.spaces import Space
from normexp.backends.standard.state import cooled
from normexp.base.checks import check_number
from normexp.base.errors import RangeError, ShapeError
from normexp.base.types import LinearLossGrad

MOST_ROWS = 256
BLOCK_BYTES = 1 << 26  # of a block's logits, 64 MiB, unless 16 rows need more


class Head(NamedTuple):
    """The arguments, checked; x as rows (N, D)."""

    sp: Space
    x: Any
    projection: Any
    bias: Any
    heat: Any  # None, or wide and as deep as the logits
    cap: float | None
    batch: tuple[int, ...]
    dtype: Any  # that the products are computed in


@quiet
def linear_cross_entropy(
    x: Any,
    projection: Any,
    target: Any,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: float | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of a linear head."""
    options = (weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    head = _head("linear_cross_entropy", x, projection, bias, temperature, softcap)
    return _loss("linear_cross_entropy", head, x, target, options, wants_grad=False).loss


@quiet
def linear_cross_entropy_with_grad(
    x: Any,
    projection: Any,
    target: Any,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: float | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> LinearLossGrad:
    """The same with the gradients of x, projection and bias."""
    options = (weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    head = _head("linear_cross_entropy_with_grad", x, projection, bias, temperature, softcap)
    return _loss("linear_cross_entropy_with_grad", head, x, target, options, wants_grad=True)


def _head(of: str, x: Any, projection: Any, bias: Any, temperature: Any, softcap: Any) -> Head:
    """The head, checked."""
    sp = check_array(x, of=of, name="x")
    if x.ndim == 0:
        raise ShapeError(f"{of}: x is a single number; features of shape (..., D) would be right.")
    weights = sp.array(projection, of=of, name="projection", beside=x)
    check_array(weights, of=of, name="projection")
    depth = x.shape[-1]
    if weights.ndim != 2 or weights.shape[1] != depth:
        raise ShapeError(
            f"{of}: projection has shape {tuple(weights.shape)} and x {tuple(x.shape)}; (K, {depth}), a row for each "
            f"class, would be right."
        )
    classes, batch = weights.shape[0], tuple(x.shape[:-1])
    offsets = None
    if bias is not None:
        offsets = sp.array(bias, of=of, name="bias", beside=x)
        check_array(offsets, of=of, name="bias")
        if tuple(offsets.shape) != (classes,):
            raise ShapeError(f"{of}: bias has shape {tuple(offsets.shape)}; ({classes},), one a class, would be right.")
    cap = None
    if softcap is not None:
        cap = check_number(softcap, of=of, name="softcap", low=0.0)
        if cap == 0.0:
            raise RangeError(f"{of}: softcap is 0; a number above 0, or None for no cap, would be right.")
    heat = temperature_of(sp, temperature, x, (*batch, classes), of=of)
    dtypes = [sp.loss_dtype(one.dtype) for one in (x, weights)]
    return Head(
        sp, sp.xp.reshape(x, (math.prod(batch), depth)), weights, offsets, heat, cap, batch,
        sp.xp.result_type(*dtypes),
    )  # fmt: skip


def _loss(of: str, head: Head, x: Any, target: Any, options: tuple[Any, ...], *, wants_grad: bool) -> LinearLossGrad:
    """Block after block: logits, losses, the gradient of the logits, and what that adds to the others."""
    sp, xp, classes = head.sp, head.sp.xp, head.projection.shape[0]
    asked = asked_of(sp, target, x, (*head.batch, classes), len(head.batch), options, of=of)
    count = math.prod(head.batch)
    flat = replace(
        asked,
        target=xp.reshape(asked.target, (count, classes) if asked.counted is None else (count,)),
        counted=None if asked.counted is None else xp.reshape(asked.counted, (count,)),
        weight=asked.weight if asked.counted is None else xp.reshape(asked.weight, (count,)),
    )
    heat = None
    if head.heat is not None:
        whole = (*head.batch, head.heat.shape[-1])
        heat = xp.reshape(xp.broadcast_to(head.heat, whole), (count, head.heat.shape[-1]))
    weights = sp.cast(head.projection, head.dtype)
    step = max(16, min(MOST_ROWS, BLOCK_BYTES // (8 * max(1, classes))))
    losses, grad_x = [], []
    grad_projection = xp.zeros(weights.shape, dtype=head.dtype, device=sp.device)
    grad_bias = sp.full((classes,), 0.0)
    for first in range(0, max(1, count), step):
        part = slice(first, min(first + step, count))
        rows = sp.cast(head.x[part, :], head.dtype)
        if flat.counted is not None:  # what an ignored row holds never matters, NaN included
            rows = xp.where(sp.column(flat.counted[part]), rows, xp.zeros_like(rows))
        given = None if heat is None else heat[part, :]
        loss, flow = _block(head, _part_of(flat, part), rows, weights, given, wants_grad=wants_grad)
        losses.append(loss)
        if wants_grad:
            grad_bias = grad_bias + xp.sum(flow, axis=0)
            flow = sp.cast(flow, head.dtype)
            grad_x.append(xp.matmul(flow, weights))
            grad_projection = grad_projection + xp.matmul(xp.matrix_transpose(flow), rows)
    value = sp.cast(asked.reduced(xp.reshape(xp.concat(losses), head.batch)), head.dtype)
    if not wants_grad:
        return LinearLossGrad(value, None, None, None)
    return LinearLossGrad(
        value,
        sp.cast(xp.reshape(xp.concat(grad_x, axis=0), tuple(x.shape)), sp.result_dtype(x.dtype)),
        sp.cast(grad_projection, sp.result_dtype(head.projection.dtype)),
        None if head.bias is None else sp.cast(grad_bias, sp.result_dtype(head.bias.dtype)),
    )


def _part_of(asked: Asked, part: slice) -> Asked:
    """What is asked of some rows."""
    if asked.counted is None:
        return replace(asked, target=asked.target[part, :])
    return replace(asked, target=asked.target[part], counted=asked.counted[part], weight=asked.weight[part])


def _block(head: Head, asked: Asked, rows: Any, weights: Any, heat: Any, *, wants_grad: bool) -> tuple[Any, Any]:
    """Losses of some rows, and the gradient of their raw logits, wide."""
    sp, xp = head.sp, head.sp.xp
    raw = xp.matmul(rows, xp.matrix_transpose(weights))
    if head.bias is not None:
        raw = raw + sp.cast(head.bias, head.dtype)
    raw = sp.cast(raw, sp.wide)
    z = raw if head.cap is None else head.cap * xp.tanh(raw / head.cap)
    if heat is not None:
        z = cooled(sp, z, heat)
    losses, flow = row_losses(asked, z, wants_grad=wants_grad)
    if not wants_grad:
        return losses, None
    if heat is not None:  # in the limit the loss is constant wherever it is smooth
        flow = sp.choose(heat > 0.0, flow / sp.choose(heat > 0.0, heat, 1.0), 0.0)
    if head.cap is not None:
        e = xp.exp(-2.0 * xp.abs(raw / head.cap))
        flow = flow * (4.0 * e / ((1.0 + e) * (1.0 + e)))  # 1 - tanh^2, without the difference
    return losses, flow
