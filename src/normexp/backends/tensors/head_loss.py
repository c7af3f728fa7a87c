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

from normexp.backends.tensors.probabilities import log_softmax
from normexp.backends.tensors.ready_gradients import places, summed_loss, wanted
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
    bias: Any  # (K,) or None
    target: Any  # (N,) int64
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
    return head_loss(x, weight, bias, target, scale, factor, wanted(x, weight, bias))[0]


def _on_cpu(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    x, weight, target, bias, wants = asked.x, asked.weight, asked.target, asked.bias, asked.wants
    kinds = {part.dtype for part in (x, weight, bias) if part is not None}
    if kinds != {torch.float32}:
        return head_loss.anywhere(*inputs)
    count, classes = len(x), len(weight)
    indices(target, classes, None, of=_OF)
    losses = torch.empty(count, dtype=torch.float64)
    scale = torch.full((count,), asked.factor, dtype=torch.float64) if asked.scale is None else _scaled(asked)
    found = places(asked)
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
        _row_losses(*given, classes, first, len(rows), any(wants))
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


def _losses(asked: Asked) -> Any:
    indices(asked.target, len(asked.weight), None, of=_OF)
    log_prob = log_softmax(_logits(asked.x, asked.weight, asked.bias), None, None, [1])
    return -log_prob.gather(1, asked.target[:, None]).squeeze(1)


def _gradients(asked: Asked) -> tuple[Any, Any, Any]:
    slope = _slope(asked).to(asked.x.dtype)
    return slope @ asked.weight, slope.T @ asked.x, None if asked.bias is None else slope.sum(0)


def _moved(asked: Asked, dx: Any, dweight: Any, dbias: Any) -> Any:
    slope = _slope(asked)
    moved = torch.zeros_like(slope)
    if dx is not None:
        moved = moved + dx @ asked.weight.T
    if dweight is not None:
        moved = moved + asked.x @ dweight.T
    if dbias is not None:
        moved = moved + dbias
    return (slope * moved).sum()


head_loss = summed_loss(
    "head_loss(Tensor x, Tensor weight, Tensor? bias, Tensor target, Tensor? scale, float factor, bool[] wants) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    Asked,
    on_cpu=_on_cpu,
    losses=_losses,
    gradients=_gradients,
    moved=_moved,
)
