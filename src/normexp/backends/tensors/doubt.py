"""Entropy, margin, largest logit, generalised entropy and the k likeliest classes as registered ops."""

from collections.abc import Callable
from typing import Any

import torch

from normexp.backends import doubt as _doubt
from normexp.backends.tensors import on_gpu, plain
from normexp.backends.tensors.operation import Derivatives, Operation, along_rows, keep
from normexp.backends.tensors.probabilities import is_dead, log_product, log_softmax
from normexp.backends.tensors.views import (
    array_of,
    batch_shape,
    compute_dtype,
    numpy_dtype,
    result_dtype,
    spread,
    tensor_of,
    to_rows,
)

# ---------------------------------------------------------------- one number for each row


def _reduction(of: str, on_cpu: Callable[..., Any], anywhere: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    """An op that makes one number of each row; slope(logits, value, axes) is its gradient, differentiable."""

    def cpu_rows(logits: Any, axes: Any, count: int, gamma: float) -> Any:
        dtype = compute_dtype(logits.dtype)
        given = {"count": count, "gamma": gamma} if of == "generalised_entropy" else {}
        found = on_cpu(array_of(logits), tuple(axes), None, numpy_dtype(dtype), **given)
        return tensor_of(found.reshape(batch_shape(logits.shape, axes)), dtype)

    def plain_rows(logits: Any, axes: Any, count: int, gamma: float) -> Any:
        given = (count, gamma) if of == "generalised_entropy" else ()
        return anywhere(to_rows(logits, axes), *given).to(compute_dtype(logits.dtype)).contiguous()

    def fake(logits: Any, axes: Any, count: int, gamma: float) -> Any:
        del count, gamma
        return logits.new_empty(batch_shape(logits.shape, axes), dtype=compute_dtype(logits.dtype))

    def kept(ctx: Any, inputs: Any, output: Any) -> None:
        logits, ctx.axes, ctx.count, ctx.gamma = inputs
        keep(ctx, logits, output)

    def gradient(ctx: Any) -> Any:
        logits, value = ctx.saved_tensors
        if not logits.numel():
            return torch.zeros_like(logits)
        found = slope(ctx, logits, spread(value, ctx.axes))
        return torch.where(is_dead(logits, ctx.axes), 0.0, found)

    def backward(ctx: Any, upstream: Any) -> Any:
        found = gradient(ctx)
        return (spread(upstream, ctx.axes) * found).to(found.dtype), None, None, None

    def jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
        found = gradient(ctx)
        moved = torch.where(found == 0.0, 0.0, found * dlogits)
        return (moved.sum(tuple(ctx.axes)) if len(ctx.axes) else moved).to(compute_dtype(dlogits.dtype))

    return Operation(
        f"{of}(Tensor logits, int[] axes, int count, float gamma) -> Tensor",
        on_cpu=cpu_rows,
        anywhere=plain_rows,
        fake=fake,
        batched=along_rows(axes_at=1),
        derivatives=Derivatives(kept, backward, jvp),
    )


def _log_prob(ctx: Any, logits: Any) -> Any:
    return log_softmax(logits, None, None, list(ctx.axes))


def _entropy_slope(ctx: Any, logits: Any, value: Any) -> Any:
    log_prob = _log_prob(ctx, logits)
    shown = ~torch.isneginf(log_prob)
    log_p = torch.where(shown, log_prob, 0.0)
    return torch.where(shown, -torch.exp(log_p) * (log_p + value), 0.0).to(logits.dtype)


def _margin_slope(ctx: Any, logits: Any, value: Any) -> Any:
    rows = to_rows(logits.detach(), ctx.axes)
    if rows.shape[-1] < 2:
        return torch.zeros_like(logits)
    best = torch.topk(rows, 2, -1).indices
    signs = torch.zeros_like(rows).scatter(-1, best, rows.new_tensor([1.0, -1.0]).expand(best.shape))
    shape = (*batch_shape(logits.shape, ctx.axes), *(logits.shape[axis] for axis in ctx.axes))
    order = [*(axis for axis in range(logits.ndim) if axis not in ctx.axes), *ctx.axes]
    back = [order.index(axis) for axis in range(logits.ndim)]
    signs = signs.reshape(shape).permute(*back)
    return torch.where(torch.isposinf(value), 0.0, torch.where(torch.isnan(value), torch.nan, signs)).to(logits.dtype)


def _largest_slope(ctx: Any, logits: Any, value: Any) -> Any:
    del ctx
    same = (logits == value.to(logits.dtype)).to(logits.dtype)
    return same / same.sum(tuple(_all_but(same, value)), keepdim=True)


def _all_but(wide: Any, narrow: Any) -> list[int]:
    """The axes along which the second is 1 long, or all alike."""
    return [axis for axis in range(wide.ndim) if narrow.shape[axis] == 1]


def _generalised_slope(ctx: Any, logits: Any, value: Any) -> Any:
    del value
    log_prob = _log_prob(ctx, logits)
    rows = to_rows(log_prob, ctx.axes)
    count = min(ctx.count, rows.shape[-1])
    last = torch.topk(rows.detach(), count, -1).values[..., -1:]
    last = spread(last.squeeze(-1), ctx.axes)
    taken = (log_prob >= last) & ~torch.isneginf(log_prob)
    log_p = torch.where(taken, log_prob, -1.0).double()
    others = -torch.expm1(log_p)
    alone = others == 0.0
    safe = torch.where(alone, 0.5, others)
    powers = torch.exp(ctx.gamma * (log_p + torch.log(safe)))
    of_log = ctx.gamma * powers * (1.0 - torch.exp(log_p) / safe)  # (1 - 2p) / (1 - p)
    return log_product(log_prob, torch.where(taken & ~alone, of_log, 0.0), ctx.axes)


entropy = _reduction("entropy", _doubt.entropy, plain.entropy, _entropy_slope)
margin = _reduction("margin", _doubt.margin, plain.margin, _margin_slope)
max_logit = _reduction("max_logit", _doubt.max_logit, plain.max_logit, _largest_slope)
generalised_entropy = _reduction(
    "generalised_entropy", _doubt.generalised_entropy, plain.generalised_entropy, _generalised_slope
)

# ---------------------------------------------------------------- the k likeliest classes


def _top_on_cpu(logits: Any, k: int, axis: int) -> Any:
    computed, dtype = compute_dtype(logits.dtype), result_dtype(logits.dtype)
    prob, log_prob, index = _doubt.top_k(array_of(logits), k, axis, None, numpy_dtype(computed))
    return tensor_of(prob, dtype), tensor_of(log_prob, dtype), tensor_of(index, torch.int64)


def _top_anywhere(logits: Any, k: int, axis: int) -> Any:
    rows = to_rows(logits, [axis])
    s, dtype = plain.state(rows), result_dtype(logits.dtype)
    index = torch.argsort(rows, dim=-1, descending=True, stable=True)[..., :k]
    found = (s.prob.gather(-1, index).to(dtype), s.log_prob.gather(-1, index).to(dtype), index)
    return tuple(part.movedim(-1, axis).contiguous() for part in found)


def _top_fake(logits: Any, k: int, axis: int) -> Any:
    shape = [k if at == axis else size for at, size in enumerate(logits.shape)]
    dtype = result_dtype(logits.dtype)
    empty = logits.new_empty
    return empty(shape, dtype=dtype), empty(shape, dtype=dtype), empty(shape, dtype=torch.int64)


def _top_keep(ctx: Any, inputs: Any, output: Any) -> None:
    logits, _, ctx.axis = inputs
    prob, _, index = output
    ctx.mark_non_differentiable(index)
    keep(ctx, logits, prob, index)


def _top_backward(ctx: Any, of_prob: Any, of_log: Any, _: Any) -> Any:
    logits, prob, index = ctx.saved_tensors
    log_prob = log_softmax(logits, None, None, [ctx.axis])
    pulled = of_log + torch.where(prob == 0.0, 0.0, of_prob * prob)
    whole = torch.zeros_like(log_prob).scatter(ctx.axis, index, pulled.to(log_prob.dtype))
    found = log_product(log_prob, whole, [ctx.axis])
    return torch.where(is_dead(logits, [ctx.axis]), 0.0, found).to(logits.dtype), None, None


def _top_jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
    logits, prob, index = ctx.saved_tensors
    every = torch.exp(log_softmax(logits, None, None, [ctx.axis]))
    mean = torch.where(every == 0.0, 0.0, every * dlogits).sum(ctx.axis, keepdim=True)
    of_log = dlogits.gather(ctx.axis, index) - mean
    return prob * of_log, of_log, None


top_k = Operation(
    "top_k(Tensor logits, int k, int axis) -> (Tensor, Tensor, Tensor)",
    on_cpu=_top_on_cpu,
    anywhere=on_gpu.top_k(_top_anywhere),
    fake=_top_fake,
    batched=along_rows(axes_at=2, outputs=3),
    derivatives=Derivatives(_top_keep, _top_backward, _top_jvp),
)
