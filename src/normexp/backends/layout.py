"""From an array and its class axes to rows, block by block, without a copy of the whole.

Any array is seen as (A, K, B): the batch axes that stride further than the classes, the classes, the batch
axes that stride less. Rows are numbered a * B + b, in the order of memory. A block is a range of rows that
fits a second-level cache; its size depends on the shape alone. Where the classes lie side by side (B = 1) and
the dtype is one the kernels read, a block is a view; else it is gathered into scratch memory and the result
scattered back. Axes that cannot be merged without a copy of the whole are merged block by block (`folded`).
"""

import threading
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from normexp.backends.folded import Folded, merges
from normexp.backends.pages import SHELF
from normexp.base.precision import compute_dtype, is_bfloat16
from normexp.kernels.cpu.transpose import BROAD, TILE, gather_columns, scatter_columns

BLOCK_ELEMENTS = 1 << 16  # 256 KiB of float32: within a second-level cache, some 50 microseconds of work
DIRECT_ELEMENTS = 1 << 19  # of rows that are read and written where they lie
BROAD_ELEMENTS = 1 << 19  # 2 MiB of float32: what a block of columns may take beyond that, to be read in broad strips


class Scratch(threading.local):
    """Memory that a thread takes for one block after another of a call: fresh pages cost more than the work on them."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Memory under this name, with whatever it held before."""
        size = prod(shape) * dtype.itemsize
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows [first, last) of an array seen as (A, K, B): its part [a0:a1, :, b0:b1]."""

    first: int
    last: int
    a0: int
    a1: int
    b0: int
    b1: int


@dataclass(frozen=True, slots=True)
class Rows:
    """An array seen as (A, K, B), and the way back to its batch axes."""

    view: Any  # an array (A, K, B), or a Folded that stands for one
    batch_shape: tuple[int, ...]
    batch_order: tuple[int, ...]  # of memory, as positions in batch_shape
    split: int  # how many of these make up A
    dtype: np.dtype[Any]  # that the kernels read

    @classmethod
    def of(cls, array: NDArray[Any], axes: tuple[int, ...], like: Self | None = None, dtype: Any = None) -> Self:
        """See ``array`` as rows along ``axes``, in the row order of ``like`` and to be read as ``dtype`` when given."""
        batch = [axis for axis in range(array.ndim) if axis not in axes]
        steps = [abs(step) for step in array.strides]
        reach = min((steps[axis] for axis in axes if array.shape[axis] > 1), default=0)
        if like is None:
            outer = sorted((axis for axis in batch if steps[axis] >= reach), key=lambda axis: -steps[axis])
            inner = sorted((axis for axis in batch if steps[axis] < reach), key=lambda axis: -steps[axis])
            order = tuple(batch.index(axis) for axis in (*outer, *inner))
            split = len(outer)
        else:
            order = like.batch_order
            split = like.split
        sorted_axes = [batch[position] for position in order]
        whole = array.transpose([*sorted_axes[:split], *axes, *sorted_axes[split:]])
        after = split + len(axes)
        groups = whole.shape[:split], whole.shape[split:after], whole.shape[after:]
        read_as = np.dtype(dtype) if dtype is not None else compute_dtype(array.dtype)
        assert read_as is not None, array.dtype  # noqa: S101  (the door has refused it)
        view: Any = whole.reshape(*map(prod, groups)) if merges(whole, groups) else Folded.of(whole, groups)
        return cls(view, tuple(array.shape[axis] for axis in batch), order, split, read_as)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.view.shape[0] * self.view.shape[2])

    @property
    def width(self) -> int:
        """How many classes there are."""
        return int(self.view.shape[1])

    def flatten(self, one_each: NDArray[Any]) -> NDArray[Any]:
        """One value for each row, from the batch's shape to the order of the rows."""
        return one_each.transpose(self.batch_order).reshape(-1)

    def unflatten(self, one_each: NDArray[Any]) -> NDArray[Any]:
        """One value for each row, from the order of the rows to the batch's shape."""
        shape = [self.batch_shape[position] for position in self.batch_order]
        return one_each.reshape(shape).transpose(np.argsort(self.batch_order))

    def blocks(self, *, direct: bool = False) -> list[Block]:
        """All blocks; none when there is nothing to compute.

        Where nothing is copied (``direct``), blocks need not fit a cache, and larger ones are handed out more cheaply.
        """
        A, K, B = self.view.shape
        if A * K * B == 0:
            return []
        if B == 1 or K * B <= BLOCK_ELEMENTS:
            size = min(DIRECT_ELEMENTS, max(BLOCK_ELEMENTS, A * K * B // 16)) if direct else BLOCK_ELEMENTS
            step = max(1, size // (K * B))
            return [Block(a * B, min(a + step, A) * B, a, min(a + step, A), 0, B) for a in range(0, A, step)]
        step = max(TILE, min(BROAD, BROAD_ELEMENTS // K // TILE * TILE), BLOCK_ELEMENTS // K // TILE * TILE)
        return [
            Block(a * B + b, a * B + min(b + step, B), a, a + 1, b, min(b + step, B))
            for a in range(A)
            for b in range(0, B, step)
        ]

    def classes(self, first: int, last: int) -> Self:
        """The same rows, of the classes [first, last) alone."""
        folded = isinstance(self.view, Folded)
        return replace(self, view=self.view.classes(first, last) if folded else self.view[:, first:last])

    def may_share_memory(self, other: Self) -> bool:
        """Whether writing here may change what is read there."""
        mine, others = (rows.view.whole if isinstance(rows.view, Folded) else rows.view for rows in (self, other))
        return np.may_share_memory(mine, others)

    def is_direct(self) -> bool:
        """Whether a block can be read or written where it lies."""
        plain = self.view.shape[2] == 1 and self.view.dtype == self.dtype
        return bool(plain and self.view.flags.carray)  # also aligned, writable

    def part(self, block: Block) -> NDArray[Any]:
        """The rows of a block where they lie; only where ``is_direct``."""
        part: NDArray[Any] = self.view[block.a0 : block.a1, :, 0]
        return part

    def gather(self, block: Block, scratch: Scratch | None = None) -> NDArray[Any]:
        """A copy of the rows of a block, of a dtype that the kernels read; in ``scratch`` when given."""
        shape = (block.last - block.first, self.width)
        rows = np.empty(shape, self.dtype) if scratch is None else scratch.take("rows", shape, self.dtype)
        here = self._here(block)
        if here.shape[2] > 1 and is_bfloat16(here.dtype):  # bfloat16: first as it lies, then turned, which is quicker
            wide = np.empty(here.shape, self.dtype) if scratch is None else scratch.take("wide", here.shape, self.dtype)
            np.copyto(wide, here, casting="unsafe")
            here = wide
        if here.dtype == self.dtype and here.shape[2] > 1 and here.dtype.kind == "f" and here.flags.aligned:
            gather_columns(here, rows)
        else:
            np.copyto(rows.reshape(here.shape[0], here.shape[2], -1), here.transpose(0, 2, 1), casting="unsafe")
        return rows

    def gather_shifted(
        self, block: Block, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Rows of 64-bit integers minus their largest, exactly, and that largest: float64 alone would round both.

        The largest of those that are allowed (rows, classes); what the others become means nothing.
        """
        here = self._here(block).transpose(0, 2, 1)
        counts = np.True_ if allowed is None else allowed.reshape(here.shape)
        top = np.max(here, axis=2, keepdims=True, where=counts, initial=np.iinfo(here.dtype).min)
        below = top.astype(np.uint64) - here.astype(np.uint64)  # modulo 2**64, which is exact
        rows = -below.astype(np.float64)
        return rows.reshape(-1, self.width), top.reshape(-1).astype(np.float64)

    def scatter(self, rows: NDArray[Any], block: Block) -> None:
        """Write the rows of a block where they belong."""
        if isinstance(self.view, Folded):
            part = np.empty((block.a1 - block.a0, self.width, block.b1 - block.b0), self.view.dtype)
            _turn(rows, part)
            self.view.fill(part, block.a0, block.b0)
        else:
            _turn(rows, self._here(block))

    def _here(self, block: Block) -> NDArray[Any]:
        """The part of a block (a, K, b): where it lies, or a copy of it."""
        if isinstance(self.view, Folded):
            return self.view.copy(block.a0, block.a1, block.b0, block.b1)
        part: NDArray[Any] = self.view[block.a0 : block.a1, :, block.b0 : block.b1]
        return part

    def empty_like(self, array: NDArray[Any], axes: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of the same shape, laid out so that rows lie as they do here."""
        batch = [axis for axis in range(array.ndim) if axis not in axes]
        sorted_axes = [batch[position] for position in self.batch_order]
        order = [*sorted_axes[: self.split], *axes, *sorted_axes[self.split :]]
        empty = SHELF.empty(tuple(array.shape[axis] for axis in order), dtype)
        return empty.transpose(np.argsort(order))


def _turn(rows: NDArray[Any], here: NDArray[Any]) -> None:
    """Write rows (a * b, K) to here (a, K, b)."""
    if here.shape[2] > 1 and here.dtype == rows.dtype and here.flags.aligned:
        scatter_columns(rows, here)
        return
    turned: NDArray[Any] = rows.reshape(here.shape[0], here.shape[2], -1).transpose(0, 2, 1)
    if here.shape[2] > 1 and is_bfloat16(here.dtype):
        turned = np.empty(here.shape, rows.dtype)
        scatter_columns(rows, turned)
    with np.errstate(over="ignore", under="ignore"):  # float16 has fewer exponents
        np.copyto(here, turned, casting="unsafe")
