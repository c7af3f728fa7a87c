"""The fused linear head in bfloat16 on the CPU: torch multiplies (in hardware, where the CPU can), losses are float32.

A block of rows meets all classes, as in ``normexp.backends.linear``; its logits stay in bfloat16, and some rows at a
time become float32, losses, and the gradient. Products of blocks are summed in float32. The sum for the projection is
kept tile by tile, so that each tile's memory is free again when it has been rounded. It is the traffic that the unfused
loss does not have: the first block fills it, the last one reads it only, and where one block is all there is no sum.
"""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from normexp.backends.layout import BLOCK_ELEMENTS
from normexp.backends.linear import Head, Loss, row_losses_of_block
from normexp.backends.threads import POOL
from normexp.base.types import FloatVector
from normexp.kernels.cpu import bfloat16 as _bfloat16

ROWS = 256  # of a block: 2 048 of them fill eight, and the sum for the projection passes through memory eight times
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
    of_projection = _Sum(projection, -(-len(counted) // ROWS)) if wants_grad else None
    of_bias = np.zeros(K)
    rows, block = x.new_zeros(ROWS, D), x.new_empty(ROWS, K)
    for first in range(0, len(counted), ROWS):
        here = counted[first : first + ROWS]
        rows[: len(here)] = x[torch.from_numpy(here)]
        rows[len(here) :] = 0
        for at in range(0, K, TILE_CLASSES):
            torch.mm(rows, projection[at : at + TILE_CLASSES].T, out=block[:, at : at + TILE_CLASSES])
        _losses_of_block(head, loss, here, block, losses, of_bias, wants_grad=wants_grad)
        if of_x is not None and of_projection is not None:
            block[len(here) :] = 0
            of_x[torch.from_numpy(here)] = _product(block, projection)[: len(here)]
            of_projection.add(block, rows)
    if of_x is None or of_projection is None:
        return losses, None
    return losses, (of_x, of_projection.rounded, of_bias)


_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def _room(rows: int, depth: int) -> NDArray[np.float32]:
    """Memory on pages of its own, which the system gets back as soon as the array is dropped."""
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
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    raw = np.empty((min(height, len(here)), width), np.float32)
    logits = raw if head.softcap is None else np.empty_like(raw)
    for first in range(0, len(here), height):
        rows = here[first : first + height]

        def work(piece: int, first: int = first, rows: NDArray[np.int64] = rows) -> None:
            mine = slice(piece * step, min((piece + 1) * step, len(rows)))
            part, z = bits[first + mine.start : first + mine.stop], logits[mine]
            _bfloat16.widen_rows(part, raw[mine, :K].view(np.uint32))
            row_losses_of_block(head, loss, rows[mine], raw[mine], z, losses, wants_grad=wants_grad)
            if not wants_grad:
                return
            if loss.row_scale is not None:
                np.multiply(z[:, :K], loss.row_scale[rows[mine], None], out=z[:, :K], casting="same_kind")
            _bfloat16.narrow_rows(z[:, :K].view(np.uint32), part)

        POOL.run(work, -(-len(rows) // step))
        if wants_grad and head.bias is not None:
            of_bias += logits[: len(rows), :K].sum(axis=0, dtype=np.float64)


def _product(flow: Any, projection: Any) -> Any:
    """The gradient of the rows of a block."""
    found = torch.zeros(len(flow), projection.shape[1])
    for at in range(0, len(projection), TILE_CLASSES):
        found += torch.mm(flow[:, at : at + TILE_CLASSES], projection[at : at + TILE_CLASSES])
    return found.to(torch.bfloat16)


class _Sum:
    """The projection's gradient: float32 while blocks come, rounded with the last of them."""

    def __init__(self, projection: Any, blocks: int) -> None:
        self.rounded = torch.empty_like(projection) if blocks else torch.zeros_like(projection)
        self._tiles: list[NDArray[np.float32]] = []
        self._blocks, self._met = blocks, 0

    def add(self, flow: Any, rows: Any) -> None:
        """Add a block's product, flow.T @ rows."""
        self._met += 1
        is_last = self._met == self._blocks
        for at in range(0, len(self.rounded), TILE_CLASSES):
            here, rounded = flow[:, at : at + TILE_CLASSES], self.rounded[at : at + TILE_CLASSES]
            if self._blocks == 1:
                torch.mm(here.T, rows, out=rounded)
                continue
            product = _bits(torch.mm(here.T, rows))
            if self._met == 1:
                self._tiles.append(_room(*product.shape))
                _in_pieces(_bfloat16.widen_rows, product, self._tiles[-1].view(np.uint32))
            elif is_last:
                _in_pieces(_bfloat16.sum_rows, product, self._tiles.pop(0), _bits(rounded))
            else:
                _in_pieces(_bfloat16.add_rows, product, self._tiles[at // TILE_CLASSES])


def _in_pieces(kernel: Callable[..., None], *arrays: NDArray[Any]) -> None:
    """The kernel on an eighth of the rows at a time, on all threads."""
    step = max(1, len(arrays[0]) // 8)
    POOL.run(
        lambda piece: kernel(*(array[piece * step : (piece + 1) * step] for array in arrays)),
        -(-len(arrays[0]) // step),
    )
