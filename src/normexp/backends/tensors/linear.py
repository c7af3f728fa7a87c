"""The fused linear head as a registered op: loss and gradients in one pass, the logits of all rows never in memory.

The forward pass computes the gradients while a block's logits are at hand, for a loss of 1; the backward pass
multiplies them. Only where each row has its own gradient coming in (``reduction="none"``) does the backward pass go
through the blocks again.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from normexp.backends import cpu
from normexp.backends.linear import Head, Loss, linear_loss
from normexp.backends.tensors import linear_bfloat16 as _bfloat16
from normexp.backends.tensors import plain
from normexp.backends.tensors.head_on_gpu import linear_cross_entropy as linear_on_gpu
from normexp.backends.tensors.losses import each_pull, loss_gradient, reduced, row_losses
from normexp.backends.tensors.operation import Derivatives, Operation, keep, one_by_one
from normexp.backends.tensors.targets import Options, check_proportions, check_weights, indices, row_weights
from normexp.backends.tensors.views import INTEGERS, array_of, compute_dtype, numpy_dtype, result_dtype, tensor_of
from normexp.base.errors import RangeError

_OF = "linear_cross_entropy"
_BLOCK_BYTES = 1 << 28  # of float64 logits at a time, where no kernels of ours compute


class Asked(NamedTuple):
    """The inputs of the op, in its order; temperature (1, 1), (N, 1), (1, K) or (N, K)."""

    x: Any  # (N, D)
    projection: Any  # (K, D)
    target: Any  # (N,) or (N, K)
    bias: Any  # (K,)
    weight: Any  # (K,)
    temperature: Any
    softcap: float | None
    smoothing: float
    ignore_index: int | None
    z_loss: float
    gamma: float
    reduction: str
    upstream: Any  # the gradient of the answer, taken as 1 when None
    wants: Any  # whether x, projection and bias get gradients

    @property
    def options(self) -> Options:
        """The options of the loss."""
        return Options(self.smoothing, self.ignore_index, self.z_loss, self.gamma, self.reduction)

    @property
    def loss_dtype(self) -> Any:
        """At least float32."""
        kinds = {compute_dtype(self.x.dtype), compute_dtype(self.projection.dtype)}
        return torch.float64 if torch.float64 in kinds else torch.float32


# ---------------------------------------------------------------- on the CPU


def _on_cpu(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    check_weights(asked.weight, of=_OF)
    _check_heat(asked)
    count, classes = len(asked.x), len(asked.projection)
    row_weight = np.empty(0)
    if asked.target.dtype in INTEGERS:
        index, _ = indices(asked.target, classes, asked.ignore_index, of=_OF)
        row_weight = array_of(row_weights(asked.target, asked.weight, asked.ignore_index).contiguous())
        answers, divisor = index.contiguous().numpy(), cpu.total(row_weight)
    else:
        check_proportions(asked.target, 1, of=_OF)
        answers, divisor = array_of(asked.target), float(count)
    scale, row_scale = 1.0, None
    if asked.upstream is not None:
        pulls = array_of(asked.upstream.to(torch.float64))
        if asked.reduction == "none":
            row_scale = np.ascontiguousarray(pulls)
        else:
            scale = float(pulls)
    if asked.reduction == "mean" and divisor:
        scale /= divisor
    class_weight = np.empty(0) if asked.weight is None else array_of(asked.weight.to(torch.float64))
    loss = Loss(answers, row_weight, class_weight, asked.smoothing, asked.z_loss, asked.gamma, scale, row_scale)
    heat = np.ones(()) if asked.temperature is None else array_of(asked.temperature.to(torch.float64))
    bias = None if asked.bias is None else array_of(asked.bias)
    wants_grad = any(asked.wants)
    if asked.x.dtype == asked.projection.dtype == torch.bfloat16:
        head = Head(np.empty((count, 0)), np.empty((classes, 0)), bias, heat, (count,), asked.softcap, _FLOAT32)
        losses, found = _bfloat16.linear_loss(asked.x, asked.projection, head, loss, wants_grad=wants_grad)
    else:
        x, projection = _view(asked.x), _view(asked.projection)
        head = Head(x, projection, bias, heat, (count,), asked.softcap, numpy_dtype(asked.loss_dtype))
        losses, arrays = linear_loss(head, loss, wants_grad=wants_grad, multiply=_multiply)
        found = None if arrays is None else (arrays.x, arrays.projection, arrays.bias)
    return (_reduced(losses, divisor, asked), *_given_back(asked, found))


_FLOAT32 = np.dtype(np.float32)


def _multiply(a: Any, b: Any, *, out: Any, alike: bool = True) -> None:  # noqa: ARG001  (MKL's rows are alike)
    """The product by torch: NumPy's would bring threads of its own, waiting for cores on which torch's still spin."""
    torch.mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))


def _view(tensor: Any) -> Any:
    """The memory; float16 as it is, tiles of it are widened when they are used."""
    return tensor.detach().numpy() if tensor.dtype == torch.float16 else array_of(tensor)


def _reduced(losses: Any, divisor: float, asked: Asked) -> Any:
    if asked.reduction == "none":
        return tensor_of(losses, torch.float64).to(asked.loss_dtype)
    total = cpu.total(losses)
    if asked.reduction == "mean":
        total = total / divisor if divisor else total * 0.0
    return torch.tensor(total, dtype=torch.float64).to(asked.loss_dtype)


def _given_back(asked: Asked, found: Any) -> list[Any]:
    """The gradients that are wanted, in the dtypes of what came; nothing in place of the others."""
    given, back = (asked.x, asked.projection, asked.bias), []
    for i, tensor in enumerate(given):
        if found is None or tensor is None or not asked.wants[i]:
            back.append(asked.x.new_empty(0))
            continue
        part = found[i] if isinstance(found[i], torch.Tensor) else torch.from_numpy(found[i])
        back.append(part.to(result_dtype(tensor.dtype)))
    return back


def _check_heat(asked: Asked) -> None:
    if asked.temperature is not None and not bool((asked.temperature >= 0).all()):
        raise RangeError(f"{_OF}: temperature holds a number below 0 or NaN; numbers of at least 0 would be right.")


# ---------------------------------------------------------------- other devices, derivatives of derivatives


def _raw_logits(x: Any, projection: Any, bias: Any, dtype: Any) -> Any:
    raw = x.to(dtype) @ projection.to(dtype).T
    return raw if bias is None else raw + bias.to(dtype)


def _finished(raw: Any, softcap: float | None, temperature: Any) -> Any:
    """Softcap, then temperature, with its limit at 0; float64."""
    z = raw.to(torch.float64)
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    return z if temperature is None else plain.cooled(z, temperature)


def _to_raw(found: Any, raw: Any, softcap: float | None, temperature: Any) -> Any:
    """From the gradient of the finished logits to that of the raw ones."""
    if temperature is not None:
        heat = temperature.to(torch.float64)
        found = torch.where(heat == 0.0, 0.0, found / torch.where(heat == 0.0, 1.0, heat))
    if softcap is not None:
        found = found * (1.0 - torch.tanh(raw.to(torch.float64) / softcap) ** 2)
    return found.to(raw.dtype)


def _gradients(asked: Asked, pulls: Any) -> tuple[Any, Any, Any]:
    """Gradients of all three, differentiable; the logits of the given rows are in memory. pulls (N,)."""
    dtype = asked.loss_dtype
    raw = _raw_logits(asked.x, asked.projection, asked.bias, dtype)
    z = _finished(raw, asked.softcap, asked.temperature)
    found = loss_gradient(z, asked.target, asked.weight, 1, asked.options, pulls)
    found = _to_raw(found, raw, asked.softcap, asked.temperature)
    of_bias = None if asked.bias is None else found.sum(0)
    return found @ asked.projection.to(dtype), found.T @ asked.x.to(dtype), of_bias


def _anywhere(*inputs: Any) -> Any:
    """Blocks of rows; rows that are ignored are left out before the product."""
    asked = Asked(*inputs)
    check_weights(asked.weight, of=_OF)
    _check_heat(asked)
    dtype, options = asked.loss_dtype, asked.options
    count, classes = len(asked.x), len(asked.projection)
    kept = torch.arange(count, device=asked.x.device)
    if asked.target.dtype in INTEGERS:
        index, _ = indices(asked.target, classes, asked.ignore_index, of=_OF)
        kept = (index >= 0).nonzero().reshape(-1)
    else:
        check_proportions(asked.target, 1, of=_OF)
    losses = torch.zeros(count, dtype=torch.float64, device=asked.x.device)
    one = torch.ones((), dtype=torch.float64, device=asked.x.device)
    upstream = (
        asked.upstream if asked.upstream is not None else one.expand(count if options.reduction == "none" else ())
    )
    pulls = each_pull(upstream, (count,), asked.target, asked.weight, options)
    found: Any = None
    if any(asked.wants):
        found = [torch.zeros_like(part, dtype=dtype) for part in (asked.x, asked.projection)]
        found.append(None if asked.bias is None else torch.zeros_like(asked.bias, dtype=dtype))
    height = max(1, _BLOCK_BYTES // (8 * max(1, classes)))
    for first in range(0, len(kept), height):
        here = kept[first : first + height]
        part = _rows_of(asked, here)
        z = _finished(_raw_logits(part.x, part.projection, part.bias, dtype), part.softcap, part.temperature)
        losses[here] = row_losses(z, part.target, part.weight, 1, options)
        if found is not None:
            of_x, of_projection, of_bias = _gradients(part, pulls[here])
            found[0][here] = of_x
            found[1] += of_projection
            if of_bias is not None:
                found[2] += of_bias
    answer = reduced(losses, asked.target, asked.weight, options).to(dtype)
    return (answer, *_given_back(asked, found))


def _rows_of(asked: Asked, here: Any) -> Asked:
    """The same head for some rows."""
    heat = asked.temperature
    if heat is not None and heat.shape[0] > 1:
        heat = heat[here]
    return asked._replace(x=asked.x[here], target=asked.target[here], temperature=heat)


def _fake(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    shape = (asked.x.shape[0],) if asked.reduction == "none" else ()
    back = [asked.x.new_empty(shape, dtype=asked.loss_dtype)]
    for tensor, wanted in zip((asked.x, asked.projection, asked.bias), asked.wants, strict=True):
        if tensor is None or not wanted:
            back.append(asked.x.new_empty(0))
        else:
            back.append(tensor.new_empty(tensor.shape, dtype=result_dtype(tensor.dtype)))
    return tuple(back)


# ---------------------------------------------------------------- derivatives


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    asked = Asked(*inputs)
    ctx.given, ctx.wants = inputs[6:12], list(asked.wants)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    keep(ctx, *inputs[:6], *output[1:])


def _asked_again(ctx: Any, upstream: Any, wants: Any) -> tuple[Asked, tuple[Any, ...]]:
    *tensors, of_x, of_projection, of_bias = ctx.saved_tensors
    given: Any = (*tensors, *ctx.given, upstream, wants)
    return Asked(*given), (of_x, of_projection, of_bias)


def _backward(ctx: Any, upstream: Any, *_: Any) -> Any:
    nothing = (None,) * 14
    if upstream is None:
        return nothing
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    asked, found = _asked_again(ctx, upstream, needs)
    given = (asked.x, asked.projection, asked.bias)
    if torch.is_grad_enabled():  # somebody will differentiate the gradient
        pulls = each_pull(upstream, (asked.x.shape[0],), asked.target, asked.weight, asked.options)
        found = _gradients(asked, pulls)
    elif asked.reduction == "none" or any(need and not had for need, had in zip(needs, ctx.wants, strict=True)):
        found = linear_cross_entropy(*asked)[1:]
    elif not is_one(upstream):
        found = tuple(part * upstream.to(part.dtype) for part in found)
    back = [
        part.to(tensor.dtype) if need and tensor is not None else None
        for part, tensor, need in zip(found, given, needs, strict=True)
    ]
    return (back[0], back[1], None, back[2], *nothing[4:])


def is_one(upstream: Any) -> bool:
    """Whether the gradients can be handed on as they are; not asked where it would need a look at a traced value."""
    if type(upstream) is not torch.Tensor or upstream.device.type != "cpu":
        return False
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # noqa: SLF001  (see operation.py)
        return False
    try:
        return bool(upstream == 1.0)
    except RuntimeError:  # a batch of gradients, under the vmap of autograd.grad
        return False


def _jvp(ctx: Any, dx: Any, dprojection: Any, _: Any, dbias: Any, *__: Any) -> Any:
    asked, _ = _asked_again(ctx, None, [False] * 3)
    dtype = asked.loss_dtype
    raw = _raw_logits(asked.x, asked.projection, asked.bias, dtype)
    moved = torch.zeros_like(raw)
    if dx is not None:
        moved = moved + dx.to(dtype) @ asked.projection.to(dtype).T
    if dprojection is not None:
        moved = moved + asked.x.to(dtype) @ dprojection.to(dtype).T
    if dbias is not None:
        moved = moved + dbias.to(dtype)
    z = _finished(raw, asked.softcap, asked.temperature)
    ones = torch.ones((), dtype=torch.float64, device=z.device).expand(z.shape[0])
    slope = loss_gradient(z, asked.target, asked.weight, 1, asked.options, ones)
    slope = _to_raw(slope, raw, asked.softcap, asked.temperature)
    change = torch.where(slope == 0.0, 0.0, slope * moved).to(torch.float64).sum(1)
    return reduced(change, asked.target, asked.weight, asked.options).to(dtype), None, None, None


linear_cross_entropy = Operation(
    "linear_cross_entropy(Tensor x, Tensor projection, Tensor target, Tensor? bias, Tensor? weight, "
    "Tensor? temperature, float? softcap, float label_smoothing, int? ignore_index, float z_loss, float focal_gamma, "
    "str reduction, Tensor? upstream, bool[] wants) -> (Tensor, Tensor, Tensor, Tensor)",
    on_cpu=_on_cpu,
    anywhere=linear_on_gpu(Asked, _anywhere),
    fake=_fake,
    batched=one_by_one(outputs=4),
    derivatives=Derivatives(_keep, _backward, _jvp),
)
