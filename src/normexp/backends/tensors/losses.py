"""Cross-entropy as a registered op: the forward pass keeps the logits alone, the backward pass writes the gradient."""

import math
from typing import Any

import numpy as np
import torch

from normexp.backends import cpu
from normexp.backends.tensors import on_gpu
from normexp.backends.tensors.operation import Derivatives, Operation, keep
from normexp.backends.tensors.probabilities import is_dead, log_product, log_softmax, logsumexp
from normexp.backends.tensors.targets import (
    Options,
    check_proportions,
    check_weights,
    indices,
    row_weights,
)
from normexp.backends.tensors.views import (
    INTEGERS,
    array_of,
    batch_shape,
    compute_dtype,
    result_dtype,
    tensor_of,
)

_OF = "cross_entropy"
_OPTIONS = (
    "Tensor logits, Tensor target, Tensor? weight, int axis, float label_smoothing, int? ignore_index, float z_loss, "
    "float focal_gamma, str reduction"
)

# ---------------------------------------------------------------- the loss in differentiable words


def row_losses(logits: Any, target: Any, weight: Any, axis: int, options: Options) -> Any:
    """The loss of each row, float64, by differentiable ops."""
    log_prob = log_softmax(logits.to(torch.float64), None, None, [axis])
    found, _ = _losses_and_slopes(log_prob, target, weight, axis, options)
    if options.z_loss:
        lse = logsumexp(logits.to(torch.float64), None, [axis])
        extra = options.z_loss * lse * lse
        found = found + (torch.where(_counts(target, options), extra, 0.0) if target.dtype in INTEGERS else extra)
    return found


def loss_gradient(logits: Any, target: Any, weight: Any, axis: int, options: Options, upstream: Any) -> Any:
    """The gradient of the logits, given that of each row's loss; differentiable in the logits and in ``upstream``."""
    z = logits.to(torch.float64)
    pull = upstream.to(torch.float64).unsqueeze(axis)
    log_prob = log_softmax(z, None, None, [axis])
    _, slope = _losses_and_slopes(log_prob, target, weight, axis, options)
    found = log_product(log_prob, slope * pull, [axis])
    if options.z_loss:
        lse = logsumexp(z, None, [axis]).unsqueeze(axis)
        found = found + 2.0 * options.z_loss * lse * pull * torch.exp(log_prob)
    found = torch.where(is_dead(z, [axis]) | torch.isneginf(z), 0.0, found)
    if target.dtype in INTEGERS:
        found = torch.where(_counts(target, options).unsqueeze(axis), found, 0.0)
    return found.to(result_dtype(logits.dtype))


def _counts(target: Any, options: Options) -> Any:
    if options.ignore_index is None:
        return torch.ones_like(target, dtype=torch.bool)
    return target.to(torch.int64) != options.ignore_index


def _losses_and_slopes(log_prob: Any, target: Any, weight: Any, axis: int, options: Options) -> tuple[Any, Any]:
    """Losses without z_loss, and their derivative by each log-probability."""
    shown = ~torch.isneginf(log_prob)
    allowed = shown.sum(axis, keepdim=True)
    share = torch.where(shown, options.smoothing / allowed.to(torch.float64), 0.0) if options.smoothing else None
    if target.dtype in INTEGERS:
        counted = _counts(target, options)
        index = torch.where(counted, target.to(torch.int64), 0).unsqueeze(axis)
        asked = torch.zeros_like(log_prob).scatter(axis, index, 1.0)
        given = asked if share is None else (1.0 - options.smoothing) * asked + share
        scale = row_weights(target, weight, options.ignore_index).unsqueeze(axis)
        losses = torch.where(given > 0.0, -given * log_prob, 0.0).sum(axis, keepdim=True)
        slope = torch.where(given > 0.0, -given, 0.0)
        if options.gamma:
            true = log_prob.gather(axis, index)
            power, change = _focal(true, options.gamma)
            slope = slope * power + torch.where(asked > 0.0, change, 0.0) * losses
            losses = losses * power
        counted = counted.unsqueeze(axis)
        losses = torch.where(counted, losses * scale, 0.0)
        return losses.squeeze(axis), torch.where(counted, slope * scale, 0.0)
    given = target.to(torch.float64)
    if share is not None:
        given = (1.0 - options.smoothing) * given + share
    if weight is not None:
        given = given * weight.to(torch.float64).reshape([-1 if at == axis else 1 for at in range(log_prob.ndim)])
    terms = torch.where(given > 0.0, -given * log_prob, 0.0)
    slope = torch.where(given > 0.0, -given, 0.0)
    if options.gamma:
        power, change = _focal(log_prob, options.gamma)
        slope = slope * power + torch.where(given > 0.0, change, 0.0) * torch.where(shown, terms, 0.0)
        terms = torch.where(given > 0.0, terms * power, 0.0)
    return terms.sum(axis), slope


def _focal(log_prob: Any, gamma: float) -> tuple[Any, Any]:
    """(1 - p)^gamma, and its derivative by log p; Lin et al. (2017), eq. 4."""
    possible = torch.isfinite(log_prob)
    log_p = torch.where(possible, log_prob, -1.0)
    others = -torch.expm1(log_p)
    certain = others == 0.0
    safe = torch.where(certain, 1.0, others)
    power = torch.where(certain, 0.0, safe.pow(gamma))
    change = torch.where(certain | ~possible, 0.0, -gamma * safe.pow(gamma - 1.0) * torch.exp(log_p))
    nothing = torch.where(torch.isneginf(log_prob), 1.0, log_prob)  # NaN stays
    return torch.where(possible, power, nothing), change


# ---------------------------------------------------------------- by the CPU kernels


def _on_cpu(logits: Any, target: Any, weight: Any, axis: int, options: Options, *, upstream: Any) -> tuple[Any, Any]:
    """The loss, or with ``upstream`` the gradient; either may be None."""
    array, axes = array_of(logits), (axis,)
    check_weights(weight, of=_OF)
    rows, classes = batch_shape(logits.shape, axes), logits.shape[axis]
    grad, scale, late = None, 1.0, None
    if upstream is not None:
        grad = torch.empty(logits.shape, dtype=compute_dtype(logits.dtype))
        pulls = upstream.detach().to(torch.float64)
        if pulls.numel() and bool((pulls == pulls.reshape(-1)[0]).all()):
            scale = float(pulls.reshape(-1)[0])
        elif pulls.numel():
            late = pulls
    filled = None if grad is None else grad.numpy()
    if target.dtype in INTEGERS:
        index, _ = indices(target, classes, options.ignore_index, of=_OF)
        weights = row_weights(target, weight, options.ignore_index)
        divisor = cpu.total(array_of(weights))
        given: Any = (index.contiguous().numpy(), weights.contiguous().numpy())
        scale = _scaled(options, scale, divisor)
        losses = cpu.index_loss(array, axes, *given, grad_scale=scale, grad=filled, **options.plain_numbers)
    else:
        check_proportions(target, axis, of=_OF)
        divisor = float(math.prod(rows))
        class_weight = None if weight is None else array_of(weight.to(torch.float64))
        scale = _scaled(options, scale, divisor)
        losses = cpu.proportion_loss(
            array, axes, array_of(target), _NOTHING if class_weight is None else class_weight,
            **options.plain_numbers, grad_scale=scale, grad=filled,
        )  # fmt: skip
    if grad is not None:
        if late is not None:
            grad.mul_(late.unsqueeze(axis))
        grad = grad.to(result_dtype(logits.dtype))
    return _reduced_on_cpu(losses, divisor, rows, logits.dtype, options), grad


_NOTHING: Any = np.empty(0)  # no tensor: this file may be loaded within an export, where tensors hold no numbers


def _scaled(options: Options, scale: float, divisor: float) -> float:
    return scale / divisor if options.reduction == "mean" and divisor else scale


def _reduced_on_cpu(losses: Any, divisor: float, rows: Any, dtype: Any, options: Options) -> Any:
    """The losses, their sum or mean in the dtype that such logits have losses in."""
    kind = compute_dtype(dtype)
    if options.reduction == "none":
        return tensor_of(losses.reshape(rows), torch.float64).to(kind)
    total = cpu.total(losses)
    if options.reduction == "mean":
        total = total / divisor if divisor else total * 0.0
    return torch.tensor(total, dtype=torch.float64).to(kind)


# ---------------------------------------------------------------- anywhere


def reduced(losses: Any, target: Any, weight: Any, options: Options, dims: Any = None) -> Any:
    """Row losses to the number that was asked for; float64, differentiable. dims: which axes are rows, None all."""
    if options.reduction == "none":
        return losses
    along = tuple(range(losses.ndim)) if dims is None else tuple(dims)
    total = losses.sum(along) if along else losses
    if options.reduction == "sum":
        return total
    return total / divisor(losses, target, weight, options, along)


def divisor(losses: Any, target: Any, weight: Any, options: Options, along: Any) -> Any:
    """What a mean divides by, 1 in place of 0."""
    if target.dtype in INTEGERS:
        weights = row_weights(target, weight, options.ignore_index)
        found = weights.sum(along) if along else weights
        return torch.where(found == 0.0, 1.0, found)
    return float(max(1, math.prod(losses.shape[at] for at in along)))


def _checked(logits: Any, target: Any, weight: Any, axis: int, options: Options) -> None:
    check_weights(weight, of=_OF)
    if target.dtype in INTEGERS:
        indices(target, logits.shape[axis], options.ignore_index, of=_OF)
    else:
        check_proportions(target, axis, of=_OF)


def _loss_anywhere(logits: Any, target: Any, weight: Any, axis: int, *given: Any) -> Any:
    options = Options(*given)
    _checked(logits, target, weight, axis, options)
    losses = row_losses(logits, target, weight, axis, options)
    return reduced(losses, target, weight, options).to(compute_dtype(logits.dtype)).contiguous()


def each_pull(upstream: Any, losses_shape: Any, target: Any, weight: Any, options: Options) -> Any:
    """From the gradient of the answer to that of each row's loss, float64."""
    pull = upstream.to(torch.float64)
    if options.reduction == "none":
        return pull
    if options.reduction == "mean":
        along = tuple(range(len(losses_shape)))
        pull = pull / divisor(torch.empty(losses_shape, device="meta"), target, weight, options, along)
    return pull.expand(losses_shape)


def _gradient(logits: Any, target: Any, weight: Any, axis: int, options: Options, upstream: Any) -> Any:
    pulls = each_pull(upstream, batch_shape(logits.shape, [axis]), target, weight, options)
    return loss_gradient(logits, target, weight, axis, options, pulls)


def _grad_anywhere(logits: Any, target: Any, weight: Any, axis: int, *given: Any) -> Any:
    *options, upstream = given
    return _gradient(logits, target, weight, axis, Options(*options), upstream).contiguous()


def _loss_fake(logits: Any, target: Any, weight: Any, axis: int, *given: Any) -> Any:
    del target, weight
    shape = batch_shape(logits.shape, [axis]) if given[-1] == "none" else ()
    return logits.new_empty(shape, dtype=compute_dtype(logits.dtype))


def _grad_fake(logits: Any, *_: Any) -> Any:
    return torch.empty_like(logits, dtype=result_dtype(logits.dtype), memory_format=torch.contiguous_format)


# ---------------------------------------------------------------- derivatives and vmap


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    logits, target, weight, ctx.axis, *ctx.given = inputs
    keep(ctx, logits, target, weight)


def _backward(ctx: Any, upstream: Any) -> Any:
    logits, target, weight = ctx.saved_tensors
    if torch.is_grad_enabled():  # somebody will differentiate the gradient
        found = _gradient(logits, target, weight, ctx.axis, Options(*ctx.given), upstream)
    else:
        found = cross_entropy_grad(logits, target, weight, ctx.axis, *ctx.given, upstream)
    return (found, *(None,) * 8)


def _jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
    logits, target, weight = ctx.saved_tensors
    options = Options(*ctx.given)
    rows = batch_shape(logits.shape, [ctx.axis])
    ones = torch.ones((), dtype=torch.float64, device=logits.device).expand(rows)
    slope = loss_gradient(logits, target, weight, ctx.axis, options, ones)
    moved = torch.where(slope == 0.0, 0.0, slope.to(torch.float64) * dlogits.to(torch.float64)).sum(ctx.axis)
    return reduced(moved, target, weight, options).to(compute_dtype(logits.dtype))


def _batched(operation: Operation, info: Any, dims: Any, *inputs: Any) -> Any:
    """Samples become rows; each is reduced on its own. With upstream as last input: the gradient."""
    logits, target, weight, axis, *rest = inputs
    if dims[2] is not None:
        return _looped(operation, info, dims, inputs)
    size, given = info.batch_size, rest[:5]
    options = Options(*given)

    def front(x: Any, dim: int | None) -> Any:
        return x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)

    logits, target = front(logits, dims[0]), front(target, dims[1])
    rows = (*given[:-1], "none")
    along = tuple(range(1, logits.ndim - 1))
    if len(rest) == 5:
        losses = operation.op(logits, target, weight, axis + 1, *rows)
        if options.reduction == "none":
            return losses, 0
        return reduced(losses.double(), target, weight, options, along).to(losses.dtype), 0
    upstream = front(rest[5], dims[9])
    if options.reduction != "none":
        shape = batch_shape(logits.shape, [axis + 1])
        if options.reduction == "mean":
            share = divisor(torch.empty(shape, device="meta"), target, weight, options, along)
            upstream = upstream.double() / share
        upstream = upstream.reshape(size, *(1 for _ in along)).expand(shape)
    return operation.op(logits, target, weight, axis + 1, *rows, upstream), 0


def _looped(operation: Operation, info: Any, dims: Any, inputs: Any) -> Any:
    """Sample by sample, where class weights differ as well."""
    found = [
        operation.op(*(x if dim is None else x.select(dim, i) for x, dim in zip(inputs, dims, strict=True)))
        for i in range(info.batch_size)
    ]
    return torch.stack(found), 0


cross_entropy_grad = Operation(
    f"cross_entropy_grad({_OPTIONS}, Tensor upstream) -> Tensor",
    on_cpu=lambda z, t, w, axis, *given: _on_cpu(z, t, w, axis, Options(*given[:-1]), upstream=given[-1])[1],
    anywhere=on_gpu.cross_entropy_grad(_grad_anywhere),
    fake=_grad_fake,
    batched=_batched,
)

cross_entropy = Operation(
    f"cross_entropy({_OPTIONS}) -> Tensor",
    on_cpu=lambda z, t, w, axis, *given: _on_cpu(z, t, w, axis, Options(*given), upstream=None)[0],
    anywhere=on_gpu.cross_entropy(_loss_anywhere),
    fake=_loss_fake,
    batched=_batched,
    derivatives=Derivatives(_keep, _backward, _jvp),
)


def with_gradient(logits: Any, target: Any, weight: Any, axis: int, options: Options) -> tuple[Any, Any]:
    """Loss and gradient in one pass, neither of which can be differentiated."""
    one = torch.ones((), dtype=torch.float64, device=logits.device)
    if options.reduction == "none":
        one = one.expand(batch_shape(logits.shape, [axis]))
    if logits.device.type == "cpu":
        return _on_cpu(logits, target, weight, axis, options, upstream=one)
    found = on_gpu.cross_entropy_with_grad(logits, target, weight, axis, options, one)
    if found is not None:
        return found
    given = (options.smoothing, options.ignore_index, options.z_loss, options.gamma, options.reduction)
    rest = (logits, target, weight, axis, *given)
    return _loss_anywhere(*rest), _grad_anywhere(*rest, one)
