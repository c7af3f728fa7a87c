"""The loss of a part of a head as a registered op: float32, as quick as its three products are.

``linear_cross_entropy`` gives a row the same bits in any batch, holds few logits, and has every option; for that it
fills blocks up and adds tiles. A head in training has parts with few classes or few rows, where this costs more than it
gives. Here a block of rows meets all classes in one product, whose rows begin at multiples of 64 bytes (MKL takes a
third longer where they do not); the kernel makes losses of it and, in place, the gradient; two more products end it.
The forward pass does all that, and the backward pass hands the gradients on.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from normexp.backends.tensors.linear import is_one
from normexp.backends.tensors.operation import Derivatives, Operation, keep, one_by_one
from normexp.backends.tensors.probabilities import log_softmax
from normexp.backends.tensors.targets import indices
from normexp.backends.threads import POOL
from normexp.kernels.cpu.cross_entropy import exact_sum, index_rows
from normexp.kernels.cpu.single_loss import LEFT, index_loss_single

_OF = "head_loss"
BLOCK = 1 << 21  # logits, 8 MiB, of a block: beside the gradients they make, within a third-level cache
PIECE = 1 << 16  # logits that a thread takes at a time
ALIGNED = 16  # float32 in 64 bytes
CROWDED = 1024  # float32: rows that begin a multiple of this apart fall on the same lines of a first-level cache


class Asked(NamedTuple):
    """The inputs of the op, in its order."""

    x: Any  # (N, D)
    weight: Any  # (K, D)
    target: Any  # (N,) int64
    bias: Any  # (K,) or None
    scale: Any  # (N,) float64 or None: what each row's loss is multiplied by
    factor: float  # and the sum of all
    wants: Any  # whether x, weight and bias get gradients


def suits(x: Any, weight: Any) -> bool:
    """Whether this op is the right one: float32 in the memory of the CPU, and no autocast."""
    same = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    return same and not torch.is_autocast_enabled("cpu")


def loss_of_part(x: Any, weight: Any, target: Any, bias: Any, scale: Any, factor: float) -> Any:
    """``factor`` times the sum of each row's ``scale`` times its cross-entropy of ``x @ weight.T + bias``.

    x (N, D), weight (K, D), target (N,) int64 within [0, K), bias (K,) or None, scale (N,) or None for ones.
    """
    wants = [torch.is_grad_enabled() and part is not None and part.requires_grad for part in (x, weight, bias)]
    return head_loss(x, weight, target, bias, scale, factor, wants)[0]


def _on_cpu(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    x, weight, target, bias, wants = asked.x, asked.weight, asked.target, asked.bias, asked.wants
    kinds = {part.dtype for part in (x, weight, bias) if part is not None}
    if kinds != {torch.float32}:
        return _anywhere(*inputs)
    count, classes = len(x), len(weight)
    indices(target, classes, None, of=_OF)
    losses = torch.empty(count, dtype=torch.float64)
    scale = torch.full((count,), asked.factor, dtype=torch.float64) if asked.scale is None else _scaled(asked)
    wanted = any(wants)
    found = [
        torch.empty_like(part, memory_format=torch.contiguous_format) if want and part is not None else x.new_empty(0)
        for part, want in zip((x, weight, bias), wants, strict=True)
    ]
    wide = -(-classes // ALIGNED) * ALIGNED
    wide += ALIGNED if wide % CROWDED == 0 else 0
    block = torch.empty(min(count, max(1, BLOCK // wide)), wide, dtype=torch.float32)
    given = (block.numpy(), target.contiguous().numpy(), scale.numpy(), losses.numpy())
    for first in range(0, count, max(1, len(block))):
        rows = x[first : first + len(block)]
        z = block[: len(rows), :classes]
        if bias is None:
            torch.mm(rows, weight.T, out=z)
        else:
            torch.addmm(bias, rows, weight.T, out=z)
        _row_losses(*given, classes, first, len(rows), wanted)
        if wants[0]:
            torch.mm(z, weight, out=found[0][first : first + len(rows)])
        if wants[1]:
            torch.addmm(found[1], z.T, rows, beta=float(first > 0), out=found[1])
        if bias is not None and wants[2]:
            found[2] = z.sum(0) if first == 0 else found[2] + z.sum(0)
    if not count:
        found = [part.zero_() for part in found]
    weighted = losses if asked.scale is None else losses * asked.scale
    total = asked.factor * exact_sum(weighted.numpy()) if count else 0.0
    return (torch.tensor(total, dtype=torch.float32), *found)


def _scaled(asked: Asked) -> Any:
    return (asked.scale * asked.factor).contiguous()


def _row_losses(
    block: Any, target: Any, scale: Any, losses: Any, classes: int, first: int, count: int, wanted: bool
) -> None:
    """Losses of rows [first, first + count), the logits of which are in the block and become the gradient."""
    step = max(1, PIECE // block.shape[1])

    def work(piece: int) -> None:
        low, high = piece * step, min((piece + 1) * step, count)
        part, mine = block[low:high], slice(first + low, first + high)
        if not index_loss_single(part, classes, target[mine], scale[mine], losses[mine], wanted):
            return
        for i in (losses[mine] == LEFT).nonzero()[0]:
            row, at = part[i : i + 1, :classes], slice(first + low + i, first + low + i + 1)
            filled = row if wanted else row[:0, :0]
            index_rows(row, target[at], np.ones(1), 0.0, 0.0, 0.0, False, scale[at][0], losses[at], filled)

    POOL.run(work, -(-count // step))


# ---------------------------------------------------------------- other dtypes and devices, derivatives of derivatives


def _logits(x: Any, weight: Any, bias: Any) -> Any:
    z = x @ weight.T if bias is None else x @ weight.T + bias
    return z.to(torch.promote_types(z.dtype, torch.float32))


def _slope(asked: Asked) -> Any:
    """The gradient of the logits (N, K), differentiable."""
    log_prob = log_softmax(_logits(asked.x, asked.weight, asked.bias), None, None, [1])
    prob = log_prob.exp()
    others = -torch.expm1(log_prob.gather(1, asked.target[:, None]))
    slope = prob.scatter(1, asked.target[:, None], -others)
    scale = asked.factor if asked.scale is None else (asked.scale * asked.factor).to(slope.dtype)[:, None]
    return slope * scale


def _gradients(asked: Asked) -> tuple[Any, Any, Any]:
    slope = _slope(asked).to(asked.x.dtype)
    return slope @ asked.weight, slope.T @ asked.x, None if asked.bias is None else slope.sum(0)


def _anywhere(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    indices(asked.target, len(asked.weight), None, of=_OF)
    log_prob = log_softmax(_logits(asked.x, asked.weight, asked.bias), None, None, [1])
    losses = -log_prob.gather(1, asked.target[:, None]).squeeze(1)
    if asked.scale is not None:
        losses = losses * asked.scale.to(losses.dtype)
    found = _gradients(asked) if any(asked.wants) else (None,) * 3
    back = [
        part.contiguous() if want and part is not None else asked.x.new_empty(0)
        for part, want in zip(found, asked.wants, strict=True)
    ]
    return (losses.sum() * asked.factor, *back)


def _fake(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    back = [
        torch.empty_like(part, memory_format=torch.contiguous_format)
        if want and part is not None
        else asked.x.new_empty(0)
        for part, want in zip((asked.x, asked.weight, asked.bias), asked.wants, strict=True)
    ]
    return (asked.x.new_empty((), dtype=torch.promote_types(asked.x.dtype, torch.float32)), *back)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    asked = Asked(*inputs)
    ctx.factor, ctx.wants = asked.factor, list(asked.wants)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    keep(ctx, *asked[:5], *output[1:])


def _backward(ctx: Any, upstream: Any, *_: Any) -> Any:
    if upstream is None:
        return (None,) * 7
    x, weight, target, bias, scale, *found = ctx.saved_tensors
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    asked = Asked(x, weight, target, bias, scale, ctx.factor, needs)
    if torch.is_grad_enabled():  # somebody will differentiate the gradient
        found = list(_gradients(asked))
    elif any(need and not had for need, had in zip(needs, ctx.wants, strict=True)):
        found = list(head_loss(*asked)[1:])
    if not is_one(upstream):
        found = [None if part is None else part * upstream.to(part.dtype) for part in found]
    back = [part if need else None for part, need in zip(found, needs, strict=True)]
    return (back[0], back[1], None, back[2], None, None, None)


def _jvp(ctx: Any, dx: Any, dweight: Any, _: Any, dbias: Any, *__: Any) -> Any:
    x, weight, target, bias, scale, *_found = ctx.saved_tensors
    asked = Asked(x, weight, target, bias, scale, ctx.factor, [False] * 3)
    slope = _slope(asked)
    moved = torch.zeros_like(slope)
    if dx is not None:
        moved = moved + dx @ weight.T
    if dweight is not None:
        moved = moved + x @ dweight.T
    if dbias is not None:
        moved = moved + dbias
    return (slope * moved).sum(), None, None, None


head_loss = Operation(
    "head_loss(Tensor x, Tensor weight, Tensor target, Tensor? bias, Tensor? scale, float factor, bool[] wants) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    on_cpu=_on_cpu,
    anywhere=_anywhere,
    fake=_fake,
    batched=one_by_one(outputs=4),
    derivatives=Derivatives(_keep, _backward, _jvp),
)
