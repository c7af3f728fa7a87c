"""The fused linear head on CUDA tensors: launches of ``kernels.gpu.linear``, and the memory that it takes.

Beside the gradients themselves: 28 bytes for each row and span of classes, one workspace of BLOCK_ROWS x BLOCK_CLASSES
numbers in the dtype of x, and float32 sums for the gradient of x and for BLOCK_CLASSES rows of that of the projection.
"""

from typing import Any, NamedTuple

import torch
import triton

from normexp.backends.gpu import launch, numbers
from normexp.kernels.gpu import linear as _linear

SPAN = 4096  # classes of one program of the forward pass
BLOCK_ROWS = 8192  # of the workspace
BLOCK_CLASSES = 4096
MOST_SPANS = 65535  # CUDA's limit for the second axis of a grid
_ROOM = 2.0**12  # the largest entry of the workspace: float16 ends at 65504 and keeps 1e-11 of this


class HeadRows(NamedTuple):
    """The inputs, none of whose rows is ignored."""

    x: Any  # (N, D)
    projection: Any  # (K, D), of the dtype of x
    bias: Any  # None or (K,)
    target: Any  # (N,) int64
    weight: Any  # (N,) float64, of the row
    heat: Any  # None or (N,) float64, positive and finite
    softcap: float | None
    smoothing: float
    z_loss: float


def tiles(dtype: Any) -> dict[str, Any]:
    """Tiles of rows, classes and depth; float32 is multiplied as float32, not as TensorFloat-32."""
    depth = 32 if dtype == torch.float32 else 64
    widen = dtype == torch.bfloat16 and triton.knobs.runtime.interpret
    return {"ROWS": 64, "COLS": 128, "DEPTH": depth, "PRECISION": "ieee", "WIDEN": widen, "num_warps": 8}


def linear_cross_entropy(head: HeadRows, pulls: Any = None) -> tuple[Any, tuple[Any, Any, Any] | None]:
    """Losses (N,) float64, and with pulls (N,) float64 the float32 gradient of x, those of projection and bias.

    The gradient of the projection has its dtype, that of the bias is float32 (None without a bias).
    """
    x, device = head.x, head.x.device
    (count, depth), classes = x.shape, len(head.projection)
    spans = triton.cdiv(classes, span_of(classes))
    shape = (spans, count)
    tops = torch.empty(shape, dtype=torch.float32, device=device)
    rests, totals, counts = (torch.empty(shape, dtype=torch.float64, device=device) for _ in range(3))
    trues, losses, factors, takens, slopes = torch.zeros((5, count), dtype=torch.float64, device=device)
    given = numbers(x, head.smoothing, head.z_loss, head.softcap or 1.0)
    cut = tiles(x.dtype)
    smooth = head.smoothing != 0.0
    options = {"BIAS": head.bias is not None, "HEAT": head.heat is not None, "CAP": head.softcap is not None}
    bias = x if head.bias is None else head.bias.contiguous()
    heat, heat_stride = (x, 0) if head.heat is None else (head.heat, head.heat.stride(0))
    sizes = (count, classes, depth, *x.stride(), *head.projection.stride(), heat_stride)
    first = (x, head.projection, bias, heat, head.target, given)
    states = (tops, rests, totals, counts, trues)
    grid = (triton.cdiv(count, cut["ROWS"]), spans)
    launch(_linear.linear_states, grid, *first, *states, *sizes, span_of(classes), **options, SMOOTH=smooth, **cut)
    asked = (head.weight, head.weight if pulls is None else pulls, given, losses, factors, takens, slopes)
    last = (count, spans, 0 if pulls is None else pulls.stride(0))
    wants = {"GRAD": pulls is not None, "SMOOTH": smooth, "ROWS": 128}
    launch(_linear.linear_losses, (triton.cdiv(count, 128),), *states, *asked, *last, **wants)
    if pulls is None:
        return losses, None
    per_row = (tops, factors, takens, slopes)
    return losses, _gradients(head, first, per_row, sizes, {**options, **cut})


def span_of(classes: int) -> int:
    """SPAN, or more where so many spans would not fit the grid."""
    return SPAN * max(1, -(-classes // (SPAN * MOST_SPANS)))


def _gradients(head: HeadRows, first: Any, per_row: Any, sizes: Any, constants: Any) -> tuple[Any, Any, Any]:
    """Block after block of classes, and within it of rows: the logits' gradient, then its two products."""
    x, projection = head.x, head.projection
    (count, depth), classes = x.shape, len(projection)
    scale = _scale(head, per_row)
    of_x = torch.zeros((count, depth), dtype=torch.float32, device=x.device)
    of_projection = torch.empty((classes, depth), dtype=projection.dtype, device=x.device)
    of_bias = None if head.bias is None else torch.zeros(classes, dtype=torch.float32, device=x.device)
    shape = (min(count, BLOCK_ROWS), min(classes, BLOCK_CLASSES))
    workspace = torch.empty(shape, dtype=x.dtype, device=x.device)
    for low in range(0, classes, BLOCK_CLASSES):
        high = min(low + BLOCK_CLASSES, classes)
        part = torch.zeros((high - low, depth), dtype=torch.float32, device=x.device)
        for top in range(0, count, BLOCK_ROWS):
            end = min(top + BLOCK_ROWS, count)
            block = workspace[: end - top, : high - low]
            grid = (triton.cdiv(end - top, constants["ROWS"]), triton.cdiv(high - low, constants["COLS"]))
            edges = (top, low, end, high, workspace.stride(0))
            launch(_linear.linear_gradient, grid, *first, *per_row, scale, block, *sizes, *edges, **constants)
            _add_product(block, projection[low:high], of_x[top:end])
            _add_product(block.T, x[top:end], part)
            if of_bias is not None:
                of_bias[low:high] += block.sum(0, dtype=torch.float32)
        of_projection[low:high] = part / scale
        if of_bias is not None:
            of_bias[low:high] /= scale
    return of_x.div_(scale), of_projection, of_bias


def _scale(head: HeadRows, per_row: Any) -> Any:
    """A power of 2, float32 (1,), that brings the largest gradient of a logit near _ROOM; no wait for the device."""
    _, factors, takens, slopes = per_row
    largest = factors.abs() + takens.abs() + slopes.abs()
    if head.heat is not None:
        largest = largest / head.heat
    most = torch.where(torch.isfinite(largest), largest, 0.0).amax().clamp(min=1e-30)
    return torch.exp2(torch.floor(torch.log2(_ROOM / most))).to(torch.float32).reshape(1)


def _add_product(a: Any, b: Any, out: Any) -> None:
    """Out (M, N) float32 += a (M, D) @ b (D, N)."""
    cut = tiles(a.dtype)
    (rows, depth), cols = a.shape, b.shape[1]
    grid = (triton.cdiv(rows, cut["ROWS"]), triton.cdiv(cols, cut["COLS"]))
    strides = (*a.stride(), *b.stride(), out.stride(0))
    launch(_linear.add_product, grid, a, b, out, rows, cols, depth, *strides, **cut)
