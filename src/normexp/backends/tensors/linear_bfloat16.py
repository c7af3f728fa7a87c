"""The fused linear head in bfloat16 on the CPU: torch multiplies (in hardware, where the CPU can), losses are float32.

A block of rows meets all classes, as in ``normexp.backends.linear``; its logits stay in bfloat16, and some rows at a
time become float32, losses, and the gradient. Products of blocks are summed in float32. The sum for the projection is
kept tile by tile, so that each tile's memory is free again when it has been rounded.
"""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from normexp.backends.linear import Head, Loss, row_losses_of_block
from normexp.backends.threads import POOL
from normexp.base.types import FloatVector
from normexp.kernels.cpu import bfloat16 as _bfloat16

ROWS = 192  # of a block
WIDENED = 1 << 19  # logits in float32 at a time, 2 MiB
TILE_CLASSES = 4096  # of a product
WHOLE = 64  # classes are filled up to a multiple of this with -inf


def linear_loss(
    x: Any, projection: Any, head: Head, loss: Loss, *, wants_grad: bool
) -> tuple[FloatVector, tuple[Any, Any, Any] | None]:
    """Losses (N,), and gradients of x and projection in bfloat16, of the bias in float64; head holds the rest."""
    x, projection = x.detach(), projection.detach()
    (N, D), K = x.shape, len(projection)
    losses = np.zeros(N)
    counted = np.flatnonzero(loss.target >= 0) if loss.target.ndim == 1 else np.arange(N)
    of_x = torch.zeros_like(x) if wants_grad else None
    sums = [_zeros(min(TILE_CLASSES, K - at), D) for at in range(0, K, TILE_CLASSES)] if wants_grad else []
    of_bias = np.zeros(K)
    rows, block = x.new_zeros(ROWS, D), x.new_empty(ROWS, K)
    for first in range(0, len(counted), ROWS):
        here = counted[first : first + ROWS]
        rows[: len(here)] = x[torch.from_numpy(here)]
        rows[len(here) :] = 0
        for at in range(0, K, TILE_CLASSES):
            torch.mm(rows, projection[at : at + TILE_CLASSES].T, out=block[:, at : at + TILE_CLASSES])
        _losses_of_block(head, loss, here, block, losses, of_bias, wants_grad=wants_grad)
        if of_x is not None:
            block[len(here) :] = 0
            of_x[torch.from_numpy(here)] = _add_products(rows, block, projection, sums)[: len(here)]
    if of_x is None:
        return losses, None
    of_projection = torch.empty_like(projection)
    for at in range(0, K, TILE_CLASSES):
        of_projection[at : at + TILE_CLASSES] = torch.from_numpy(sums.pop(0))
    return losses, (of_x, of_projection, of_bias)


_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def _zeros(rows: int, depth: int) -> NDArray[np.float32]:
    """Zeros on pages of their own, which the system gets back as soon as the array is dropped."""
    pages = mmap.mmap(-1, max(1, 4 * rows * depth), **_PRIVATE)
    return np.frombuffer(pages, np.float32, rows * depth).reshape(rows, depth)


def _bits(tensor: Any) -> NDArray[np.uint16]:
    """The memory of a bfloat16 tensor."""
    found: NDArray[np.uint16] = tensor.view(torch.uint16).numpy()
    return found


def _losses_of_block(
    head: Head, loss: Loss, here: NDArray[np.int64], block: Any, losses: FloatVector, of_bias: FloatVector,
    *, wants_grad: bool,
) -> None:  # fmt: skip
    """Losses of the rows ``here``; their logits become the gradient in place when it is wanted."""
    K = block.shape[1]
    bits = _bits(block)
    height = max(1, WIDENED // max(1, K))
    width = -(-K // WHOLE) * WHOLE
    raw = np.empty((min(height, len(here)), width), np.float32)
    logits = raw if head.softcap is None else np.empty_like(raw)
    for first in range(0, len(here), height):
        rows = here[first : first + height]
        part, wide = bits[first : first + len(rows)], raw[: len(rows), :K].view(np.uint32)
        _each_row(_bfloat16.widen_rows, part, wide)
        z = logits[: len(rows)]
        row_losses_of_block(head, loss, rows, raw[: len(rows)], z, losses, wants_grad=wants_grad)
        if not wants_grad:
            continue
        found = z[:, :K]
        if loss.row_scale is not None:
            np.multiply(found, loss.row_scale[rows, None], out=found, casting="same_kind")
        if head.bias is not None:
            of_bias += found.sum(axis=0, dtype=np.float64)
        _each_row(_bfloat16.narrow_rows, found.view(np.uint32), part)


def _each_row(kernel: Callable[..., None], source: NDArray[Any], out: NDArray[Any]) -> None:
    """The kernel row by row, on all threads."""
    POOL.run(lambda i: kernel(source[i : i + 1], out[i : i + 1]), len(source))


def _add_products(rows: Any, flow: Any, projection: Any, sums: list[Any]) -> Any:
    """Add a block to the projection's gradient; the gradient of its rows."""
    of_rows = torch.zeros(rows.shape)
    for tile, total in enumerate(sums):
        at = tile * TILE_CLASSES
        here = flow[:, at : at + TILE_CLASSES]
        of_rows += torch.mm(here, projection[at : at + TILE_CLASSES])
        product, into = _bits(torch.mm(here.T, rows)), total
        step = max(1, len(into) // 8)

        def add(piece: int, product: Any = product, into: Any = into, step: int = step) -> None:
            _bfloat16.add_rows(product[piece * step : (piece + 1) * step], into[piece * step : (piece + 1) * step])

        POOL.run(add, -(-len(into) // step))
    return of_rows.to(torch.bfloat16)
