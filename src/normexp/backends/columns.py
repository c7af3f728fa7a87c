"""softmax of float32 down columns that lie side by side, each number read where it lies.

An array seen as (A, K, B) with B > 1 has its columns in strips of memory. A small (K, B), and a wide one whose strips
fit the second-level cache, is shared strip by strip, and each goes through all steps at once. Another goes through one
step after another, and in each the threads share it in pieces that lie in one stretch of memory.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.blocks import run_blocks
from normexp.backends.layout import DIRECT_ELEMENTS, Block, Rows, Scratch
from normexp.backends.threads import POOL
from normexp.kernels.cpu import columns as _columns
from normexp.kernels.cpu.lanes import LANES
from normexp.kernels.cpu.single import LONG, PART, REACH

NARROW = 64  # fewer columns are copied to rows: pieces of memory would be too short
STRIP = 3 << 16  # logits of a strip that stays in the second-level cache beside its results: 768 KiB
LINE = 16  # float32 in a line of memory
BROAD = 1 << 10  # columns of a strip, at most: their running sums stay in that cache too
PANEL = 1 << 17  # logits of a (K, B) that stays in the second-level cache: 512 KiB
# Columns, at most, of a larger (K, B) that is read whole: what is kept for each leaves the first-level cache.
WIDE = 1 << 12
TALL = 1 << 10  # classes, at most, of a wider one: strips of more are narrow, and no faster than a copy to rows
PIECES = 8  # of the classes, at most, for the largest logits
FEW = 16  # one column in so many may be left to the kernels of float64; if more are, no step pays

Softmax = Callable[[NDArray[Any], NDArray[Any]], None]


def reads_columns(source: Rows, sink: Rows) -> bool:
    """Whether source and sink have columns side by side, in float32, and the answer is that of ``single``."""
    _, K, B = source.view.shape
    plain = all(rows.dtype == rows.view.dtype == np.float32 and rows.view.flags.carray for rows in (source, sink))
    return plain and 0 < K <= LONG and NARROW <= B and (B <= WIDE or _has_strips(K, B))


def _has_strips(K: int, B: int) -> bool:
    """Whether all steps for a strip are done at once."""
    return K * B <= PANEL or (B > WIDE and K <= TALL)


def softmax_columns(source: Rows, sink: Rows, by_rows: Callable[[Block], None], softmax: Softmax) -> None:
    """Fill sink, which may lie where source lies.

    by_rows(block) does so for a block of columns by way of rows; softmax(rows, out) is that of rows.
    """
    A, K, B = source.view.shape
    flat, out = source.view.reshape(-1), sink.view.reshape(-1)
    if _has_strips(K, B):
        _strips(flat, out, (A, K, B), by_rows)
        return
    left = [a for a in range(A) if not _large(flat, out, (K, B), a * K * B, softmax)]
    run_blocks([block for block in source.blocks() if block.a0 in left], by_rows)


def strip_width(K: int, B: int) -> int:
    """Columns of a strip: about as many in each, and whole lines of memory."""
    widest = max(NARROW, min(BROAD, STRIP // K))
    return min(B, -(-B // -(-B // widest) // LINE) * LINE)


def _strips(
    flat: NDArray[Any], out: NDArray[Any], shape: tuple[int, int, int], by_rows: Callable[[Block], None]
) -> None:
    """All steps for one strip after another."""
    A, K, B = shape
    w = strip_width(K, B)
    strips = -(-B // w)
    is_left = np.empty(A * strips, np.bool_)
    step = max(1, min(DIRECT_ELEMENTS, -(-A * K * B // 16)) // (K * w))
    scratch = Scratch()

    def fill(piece: int) -> None:
        first = piece * step
        kept = scratch.take("kept", (K * w,), flat.dtype)
        _columns.softmax_strips(flat, K, B, w, first, kept, out, is_left[first : first + step])

    POOL.run(fill, -(-len(is_left) // step))
    for q in np.flatnonzero(is_left):
        a, s = divmod(int(q), strips)
        first, last = s * w, min((s + 1) * w, B)
        by_rows(Block(a * B + first, a * B + last, a, a + 1, first, last))


def _large(flat: NDArray[Any], out: NDArray[Any], shape: tuple[int, int], start: int, softmax: Softmax) -> bool:
    """One step after another for the (K, B) that begins at flat[start]; False, with nothing written, if none pays."""
    K, B = shape
    tops = _tops(flat, start, shape)
    is_far = ~(np.abs(tops) < REACH)
    if np.count_nonzero(is_far) * FEW > B:
        return False
    _columns.column_pivots(tops)
    here = slice(start, start + K * B)
    rows = flat[here].reshape(K, B)[:, is_far].T.copy()
    filled = np.empty_like(rows)
    if len(rows):
        softmax(rows, filled)
    high, low = _factors(flat, start, shape, tops)
    tall = DIRECT_ELEMENTS // B

    def fill(piece: int) -> None:
        k = piece * tall
        _columns.column_prob(flat, start + k * B, B, min(tall, K - k), tops, high, low, out)

    POOL.run(fill, -(-K // tall))
    if len(rows):
        out[here].reshape(K, B)[:, is_far] = filled.T
    return True


def _tops(flat: NDArray[Any], start: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The largest logit of each column."""
    K, B = shape
    tall = max(DIRECT_ELEMENTS // B, -(-K // PIECES))
    found = np.empty((-(-K // tall), B), np.float32)

    def fill(piece: int) -> None:
        k = piece * tall
        _columns.column_tops(flat, start + k * B, B, min(tall, K - k), found[piece])

    POOL.run(fill, len(found))
    tops: NDArray[np.float32] = np.fmax.reduce(found)
    return tops


def _factors(
    flat: NDArray[Any], start: int, shape: tuple[int, int], pivots: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """1 / sum of each column, as the sum of two."""
    K, B = shape
    lanes = np.empty((-(-K // PART), LANES, B))
    half = LANES // 2

    def fill(piece: int) -> None:
        p, side = divmod(piece, 2)
        p = len(lanes) - 1 - p  # what was read last is near
        here, count = start + p * PART * B, min(PART, K - p * PART)
        part = lanes[p, side * half : (side + 1) * half]
        _columns.column_lanes(flat, here, B, count, pivots, part, side * half)

    POOL.run(fill, 2 * len(lanes))
    high, low = np.empty(B, np.float32), np.empty(B, np.float32)
    _columns.column_factors(lanes, high, low)
    return high, low
