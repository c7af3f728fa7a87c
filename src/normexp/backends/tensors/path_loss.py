"""The loss of a tree's classes as a registered op: only what lies on the paths of a batch is touched.

Rows are independent, so threads share them; the gradient of the weights is added up by threads that have some columns
each, every one in the order of the rows: the bits depend on the batch alone. The forward pass makes the gradients.
"""

from typing import Any, NamedTuple

import torch

from normexp.backends.tensors.probabilities import log_softmax
from normexp.backends.tensors.ready_gradients import places, summed_loss, wanted
from normexp.backends.tensors.targets import indices
from normexp.backends.threads import POOL
from normexp.kernels.cpu.cross_entropy import exact_sum
from normexp.kernels.cpu.paths import add_path_slopes, add_paths, path_losses

_OF = "path_loss"
ROWS = 64  # that a thread takes at a time
COLUMNS = 64  # of the weights' gradient that a thread adds to, at least


class Paths(NamedTuple):
    """A tree as the op reads it, int64 each: siblings lie side by side, each node but the root in a slot."""

    begins: Any  # (K + 1,): where each class's path begins
    path: Any  # the slots of all paths
    first: Any  # (S,): the first of the siblings of a slot
    size: Any  # (S,): how many they are
    cost: Any  # (K,): how many siblings there are on a class's path, only children left out


class Asked(NamedTuple):
    """The inputs of the op, in its order."""

    x: Any  # (N, D)
    weight: Any  # (S, D)
    bias: Any  # (S,) or None
    target: Any  # (N,) int64
    begins: Any
    path: Any
    first: Any
    size: Any
    cost: Any
    scale: Any  # (N,) float64 or None
    factor: float
    wants: Any  # whether x, weight and bias get gradients


def loss_of_paths(x: Any, weight: Any, bias: Any, target: Any, paths: Paths, scale: Any, factor: float) -> Any:
    """``factor`` times the sum of each row's ``scale`` times the loss of its class's path."""
    return path_loss(x, weight, bias, target, *paths, scale, factor, wanted(x, weight, bias))[0]


def steps(target: Any, begins: Any, path: Any) -> tuple[Any, Any]:
    """All steps of the paths of the targets: the row and the slot of each."""
    first = begins[target]
    lengths = begins[target + 1] - first
    row = torch.repeat_interleave(torch.arange(len(target), device=target.device), lengths)
    offset = torch.arange(len(row), device=row.device) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return row, path[first[row] + offset]


def _on_cpu(*inputs: Any) -> Any:
    asked = Asked(*inputs)
    x, weight, bias, wants = asked.x, asked.weight, asked.bias, asked.wants
    if {part.dtype for part in (x, weight, bias) if part is not None} != {torch.float32}:
        return path_loss.anywhere(*inputs)
    indices(asked.target, len(asked.cost), None, of=_OF)
    count, depth = x.shape
    costs = asked.cost[asked.target]
    pairs = (costs.cumsum(0) - costs).numpy()
    losses = torch.empty(count, dtype=torch.float64)
    scale = torch.full((count,), 1.0, dtype=torch.float64) if asked.scale is None else asked.scale.contiguous()
    found = places(asked, torch.zeros_like)
    slopes = torch.empty(int(costs.sum()) if any(wants) else 0, dtype=torch.float32).numpy()
    x_rows = x.contiguous().numpy()
    given = (weight.contiguous().numpy(), (x.new_empty(0) if bias is None else bias.contiguous()).numpy())
    target = asked.target.contiguous().numpy()
    tree = [part.contiguous().numpy() for part in (asked.begins, asked.path, asked.first, asked.size)]
    scales, out, grad_x = (scale * asked.factor).numpy(), losses.numpy(), found[0].reshape(-1, depth).numpy()

    def along(piece: int) -> None:
        part = slice(piece * ROWS, min((piece + 1) * ROWS, count))
        mine = grad_x[part] if len(grad_x) else grad_x
        path_losses(x_rows[part], *given, target[part], *tree, pairs[part], scales[part], out[part], slopes, mine)

    POOL.run(along, -(-count // ROWS))
    if wants[1]:
        grad_weight = found[1].numpy()
        step = max(COLUMNS, -(-depth // POOL.limit))

        def across(piece: int) -> None:
            low, high = piece * step, min((piece + 1) * step, depth)
            add_paths(x_rows, target, *tree, pairs, slopes, low, high, grad_weight)

        POOL.run(across, -(-depth // step))
    if bias is not None and wants[2]:
        add_path_slopes(target, *tree, pairs, slopes, found[2].numpy())
    total = asked.factor * exact_sum((losses * scale).numpy()) if count else 0.0
    return (torch.tensor(total, dtype=torch.float32), *found)


# ---------------------------------------------------------------- other dtypes and devices, derivatives of derivatives


def _steps(asked: Asked) -> tuple[Any, Any, Any]:
    """Of all steps of all rows: the row, the slot, and the slots of its siblings, filled up with the slot itself."""
    row, slot = steps(asked.target, asked.begins, asked.path)
    most = int(asked.size[slot].max()) if len(slot) else 1
    place = torch.arange(most, device=row.device)
    siblings = torch.where(place < asked.size[slot][:, None], asked.first[slot][:, None] + place, -1)
    return row, slot, siblings


def _log_prob(asked: Asked, row: Any, siblings: Any) -> Any:
    """Log-probabilities of the siblings of all steps, -inf where there are fewer."""
    z = (asked.weight[siblings.clamp(min=0)] * asked.x[row][:, None]).sum(-1)
    if asked.bias is not None:
        z = z + asked.bias[siblings.clamp(min=0)]
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return log_softmax(z, None, siblings >= 0, [1])


def _slopes(asked: Asked, row: Any, slot: Any, siblings: Any) -> Any:
    """The gradient of the siblings' logits, differentiable."""
    log_prob = _log_prob(asked, row, siblings)
    at = (slot - asked.first[slot])[:, None]
    slope = log_prob.exp().scatter(1, at, torch.expm1(log_prob.gather(1, at)))
    scale = asked.factor if asked.scale is None else (asked.scale * asked.factor).to(slope.dtype)[row][:, None]
    return torch.where(siblings >= 0, slope * scale, 0.0)


def _gradients(asked: Asked) -> list[Any]:
    row, slot, siblings = _steps(asked)
    slope, at = _slopes(asked, row, slot, siblings).to(asked.x.dtype), siblings.clamp(min=0)
    of_x = torch.zeros_like(asked.x).index_add(0, row, (slope[..., None] * asked.weight[at]).sum(1))
    each = (slope[..., None] * asked.x[row][:, None]).flatten(0, 1)
    of_weight = torch.zeros_like(asked.weight).index_add(0, at.flatten(), each)
    if asked.bias is None:
        return [of_x, of_weight, None]
    return [of_x, of_weight, torch.zeros_like(asked.bias).index_add(0, at.flatten(), slope.flatten())]


def _losses(asked: Asked) -> Any:
    indices(asked.target, len(asked.cost), None, of=_OF)
    row, slot, siblings = _steps(asked)
    each = -_log_prob(asked, row, siblings).gather(1, (slot - asked.first[slot])[:, None]).squeeze(1)
    return each.new_zeros(len(asked.x)).index_add(0, row, each)


def _moved(asked: Asked, dx: Any, dweight: Any, dbias: Any) -> Any:
    row, slot, siblings = _steps(asked)
    slope, at = _slopes(asked, row, slot, siblings), siblings.clamp(min=0)
    moved = torch.zeros_like(slope)
    if dx is not None:
        moved = moved + (asked.weight[at] * dx[row][:, None]).sum(-1)
    if dweight is not None:
        moved = moved + (dweight[at] * asked.x[row][:, None]).sum(-1)
    if dbias is not None:
        moved = moved + dbias[at]
    return (slope * moved).sum()


path_loss = summed_loss(
    "path_loss(Tensor x, Tensor weight, Tensor? bias, Tensor target, Tensor begins, Tensor path, Tensor first, "
    "Tensor size, Tensor cost, Tensor? scale, float factor, bool[] wants) -> (Tensor, Tensor, Tensor, Tensor)",
    Asked,
    on_cpu=_on_cpu,
    losses=_losses,
    gradients=_gradients,
    moved=_moved,
)
