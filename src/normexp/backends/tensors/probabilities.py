"""softmax, log_softmax and logsumexp as registered ops, with the products of their Jacobians."""

from typing import Any

import torch

from normexp.backends import cpu
from normexp.backends import derivatives as _derivatives
from normexp.backends.masks import Mask
from normexp.backends.tensors import on_gpu, plain
from normexp.backends.tensors.operation import Derivatives, Operation, along_rows, keep
from normexp.backends.tensors.views import (
    array_of,
    batch_shape,
    compute_dtype,
    from_rows,
    maybe_array_of,
    numpy_dtype,
    result_dtype,
    spread,
    tensor_of,
    to_rows,
)
from normexp.base.checks import check_temperature
from normexp.base.errors import RangeError

# ---------------------------------------------------------------- probabilities and their logarithms


def fill_on_cpu(of: str, logits: Any, temperature: Any, where: Any, axes: Any, out: Any = None) -> Any:
    """Softmax or log_softmax by the CPU kernels, in ``out`` or in a fresh contiguous tensor."""
    array, heat = array_of(logits), None
    if temperature is not None:
        heat = check_temperature(array_of(temperature), array.shape, of=of)
    dtype, axes = result_dtype(logits.dtype), tuple(axes)
    last = axes == (array.ndim - 1,) and array.ndim > 0
    if heat is None and where is None and last and out is None:
        small = cpu.normalise_small(of, array) if array.dtype.char in "fd" else None
        if small is not None:
            return tensor_of(small, dtype)
    computed = compute_dtype(logits.dtype)
    found = torch.empty(logits.shape, dtype=computed) if out is None or computed != dtype else out
    mask = Mask.of(maybe_array_of(where), None)
    cpu.normalise(of, array, axes, heat, mask, found.numpy(), numpy_dtype(computed))
    if out is not None:
        return out if found is out else out.copy_(found)
    return found.to(dtype)


def _anywhere(of: str, logits: Any, temperature: Any, where: Any, axes: Any) -> Any:
    if temperature is not None and not bool((temperature >= 0).all()):
        raise RangeError(f"{of}: temperature holds a number below 0 or NaN; numbers of at least 0 would be right.")
    shape = logits.shape
    heat = None if temperature is None else to_rows(temperature.expand(shape), axes)
    shown = None if where is None else to_rows(where.expand(shape), axes)
    state = plain.state(to_rows(logits, axes), temperature=heat, where=shown)
    found = state.prob if of == "softmax" else state.log_prob
    if shown is not None:
        found = torch.where(shown, found, 0.0 if of == "softmax" else -plain.INF)
    return from_rows(found.to(result_dtype(logits.dtype)), shape, axes)


def _fake_map(logits: Any, *_: Any) -> Any:
    return torch.empty_like(logits, dtype=result_dtype(logits.dtype), memory_format=torch.contiguous_format)


def _keep_map(ctx: Any, inputs: Any, output: Any) -> None:
    logits, temperature, where, ctx.axes = inputs
    ctx.masked = where is not None
    keep(ctx, logits, temperature, output)


def is_dead(logits: Any, axes: Any) -> Any:
    """Whether a row is all -inf, with 1 in place of the axes of classes: its gradient is 0, not NaN."""
    if logits.numel() == 0 or not len(axes):
        return torch.isneginf(logits)
    return torch.isneginf(logits.amax(tuple(axes), keepdim=True))


def to_logits(ctx: Any, logits: Any, temperature: Any, scaled: Any) -> tuple[Any, Any]:
    """From the gradient with respect to z / t to those with respect to z and t."""
    if logits.dtype.is_floating_point:
        scaled = torch.where(is_dead(logits, ctx.axes), 0.0, scaled)
    if temperature is None:
        return scaled.to(logits.dtype), None
    heat = temperature.to(torch.float64)
    cold = heat == 0.0
    safe = torch.where(cold, 1.0, heat)
    own = torch.where(cold, 0.0, scaled.to(torch.float64) / safe)
    of_heat = None
    if ctx.needs_input_grad[1]:
        pulled = torch.where(own == 0.0, 0.0, -own * logits.to(torch.float64) / safe)
        of_heat = pulled.sum_to_size(temperature.shape).to(temperature.dtype)
    return own.to(logits.dtype), of_heat


def _from_logits(logits: Any, temperature: Any, dlogits: Any, dheat: Any) -> Any:
    """The tangent of z / t."""
    if temperature is None:
        return dlogits
    heat = temperature.to(torch.float64)
    safe = torch.where(heat == 0.0, 1.0, heat)
    moved = 0.0 if dlogits is None else dlogits.to(torch.float64)
    if dheat is not None:
        z = torch.where(torch.isneginf(logits), 0.0, logits).to(torch.float64)
        moved = moved - z / safe * dheat
    return torch.where(heat == 0.0, 0.0, moved / safe).to(result_dtype(logits.dtype))


def _backward_softmax(ctx: Any, upstream: Any) -> Any:
    logits, temperature, prob = ctx.saved_tensors
    return (*to_logits(ctx, logits, temperature, product(prob, upstream.to(prob.dtype), ctx.axes)), None, None)


def _jvp_softmax(ctx: Any, dlogits: Any, dheat: Any, *_: Any) -> Any:
    logits, temperature, prob = ctx.saved_tensors
    return product(prob, _from_logits(logits, temperature, dlogits, dheat), ctx.axes)


def log_product(log_prob: Any, upstream: Any, axes: Any) -> Any:
    """The gradient of the logits from that of their log-softmax: v_k (1 - p_k) - p_k (what the others hold of v).

    1 - p_k is expm1 of the log-probability, so a confident class keeps the digits that ``v_k - p_k sum(v)`` loses.
    """
    dims = tuple(axes)
    shown = ~torch.isneginf(log_prob)
    v = torch.where(shown, upstream, 0.0).to(torch.float64)
    log_p = torch.where(shown, log_prob, 0.0).to(torch.float64)
    total = v.sum(dims, keepdim=True) if dims else v
    found = -v * torch.expm1(log_p) - torch.exp(log_p) * (total - v)
    return torch.where(shown, found, 0.0).to(log_prob.dtype)


def _backward_log(ctx: Any, upstream: Any) -> Any:
    logits, temperature, log_prob = ctx.saved_tensors
    return (*to_logits(ctx, logits, temperature, log_product(log_prob, upstream, ctx.axes)), None, None)


def _jvp_log(ctx: Any, dlogits: Any, dheat: Any, *_: Any) -> Any:
    logits, temperature, log_prob = ctx.saved_tensors
    moved = _from_logits(logits, temperature, dlogits, dheat)
    shown = ~torch.isneginf(log_prob)
    mean = torch.where(shown, torch.exp(log_prob) * moved, 0.0)
    return torch.where(shown, moved - (mean.sum(tuple(ctx.axes), keepdim=True) if len(ctx.axes) else mean), 0.0)


def _map(of: str, backward: Any, jvp: Any) -> Operation:
    return Operation(
        f"{of}(Tensor logits, Tensor? temperature, Tensor? where, int[] axes) -> Tensor",
        on_cpu=lambda *given: fill_on_cpu(of, *given),
        anywhere=on_gpu.probabilities(of, _anywhere),
        fake=_fake_map,
        batched=along_rows(axes_at=3),
        derivatives=Derivatives(_keep_map, backward, jvp),
    )


softmax = _map("softmax", _backward_softmax, _jvp_softmax)
log_softmax = _map("log_softmax", _backward_log, _jvp_log)

# ---------------------------------------------------------------- log-sum-exp


def _lse_on_cpu(logits: Any, where: Any, axes: Any) -> Any:
    dtype = compute_dtype(logits.dtype)
    mask = Mask.of(maybe_array_of(where), None)
    found = cpu.logsumexp(array_of(logits), tuple(axes), mask, numpy_dtype(dtype))
    return tensor_of(found.reshape(batch_shape(logits.shape, axes)), dtype)


def _lse_anywhere(logits: Any, where: Any, axes: Any) -> Any:
    shown = None if where is None else to_rows(where.expand(logits.shape), axes)
    rows = to_rows(logits, axes)
    found = plain.state(rows, where=shown).lse
    if rows.dtype == torch.int64 and shown is None and rows.shape[-1]:
        found = found + rows.amax(-1).double()  # the rows came as what they lack of it
    return found.to(compute_dtype(logits.dtype)).contiguous()


def _lse_fake(logits: Any, where: Any, axes: Any) -> Any:
    del where
    return logits.new_empty(batch_shape(logits.shape, axes), dtype=compute_dtype(logits.dtype))


def _lse_keep(ctx: Any, inputs: Any, output: Any) -> None:
    logits, where, ctx.axes = inputs
    keep(ctx, logits, where, output)


def _lse_prob(ctx: Any) -> Any:
    logits, where, lse = ctx.saved_tensors
    prob = softmax(logits, None, where, list(ctx.axes))
    return torch.where(torch.isneginf(spread(lse, ctx.axes)), 0.0, prob)


def _lse_backward(ctx: Any, upstream: Any) -> Any:
    prob = _lse_prob(ctx)
    return (spread(upstream, ctx.axes) * prob).to(prob.dtype), None, None


def _lse_jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
    prob = _lse_prob(ctx)
    moved = torch.where(prob == 0.0, 0.0, prob * dlogits)
    return (moved.sum(tuple(ctx.axes)) if len(ctx.axes) else moved).to(compute_dtype(dlogits.dtype))


logsumexp = Operation(
    "logsumexp(Tensor logits, Tensor? where, int[] axes) -> Tensor",
    on_cpu=_lse_on_cpu,
    anywhere=on_gpu.logsumexp(_lse_anywhere),
    fake=_lse_fake,
    batched=along_rows(axes_at=2),
    derivatives=Derivatives(_lse_keep, _lse_backward, _lse_jvp),
)

# ---------------------------------------------------------------- products with the Jacobian


def _product_on_cpu(prob: Any, vector: Any, axes: Any) -> Any:
    p, v = array_of(prob), array_of(vector)
    computed = compute_dtype(prob.dtype)
    found = _derivatives.jacobian_product(p, v, tuple(axes), numpy_dtype(computed))
    return tensor_of(found, result_dtype(prob.dtype))


def _product_anywhere(prob: Any, vector: Any, axes: Any) -> Any:
    p, v = plain.floats(to_rows(prob, axes)), plain.floats(to_rows(vector, axes))
    if p.shape[-1]:
        v = v - v.gather(-1, p.argmax(-1, keepdim=True))
    v = torch.where(p == 0.0, 0.0, v)
    found = p * (v - (p * v).sum(-1, keepdim=True))
    return from_rows(found.to(result_dtype(prob.dtype)), prob.shape, axes)


def _product_keep(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    prob, vector, ctx.axes = inputs
    keep(ctx, prob, vector)


def _product_of_change(ctx: Any, prob: Any, vector: Any, change: Any) -> Any:
    """The derivative of p (v - p'v) along a change of p."""
    dims = tuple(ctx.axes)
    v = torch.where(prob == 0.0, 0.0, vector)
    if not dims:
        return (change * (v - prob * v)) - prob * change * v
    return change * (v - (prob * v).sum(dims, keepdim=True)) - prob * (change * v).sum(dims, keepdim=True)


def _product_backward(ctx: Any, upstream: Any) -> Any:
    prob, vector = ctx.saved_tensors
    dims = tuple(ctx.axes)
    of_vector = product(prob, upstream, list(ctx.axes)) if ctx.needs_input_grad[1] else None
    of_prob = None
    if ctx.needs_input_grad[0]:
        v = torch.where(prob == 0.0, 0.0, vector)
        mean, pulled = prob * v, prob * upstream
        if dims:
            mean, pulled = mean.sum(dims, keepdim=True), pulled.sum(dims, keepdim=True)
        of_prob = upstream * (v - mean) - v * pulled
    return of_prob, of_vector, None


def _product_jvp(ctx: Any, dprob: Any, dvector: Any, *_: Any) -> Any:
    prob, vector = ctx.saved_tensors
    found = torch.zeros_like(prob) if dvector is None else product(prob, dvector, list(ctx.axes))
    return found if dprob is None else found + _product_of_change(ctx, prob, vector, dprob)


product = Operation(
    "softmax_vjp(Tensor prob, Tensor vector, int[] axes) -> Tensor",
    on_cpu=_product_on_cpu,
    anywhere=_product_anywhere,
    fake=_fake_map,
    batched=along_rows(axes_at=2),
    derivatives=Derivatives(_product_keep, _product_backward, _product_jvp),
)
