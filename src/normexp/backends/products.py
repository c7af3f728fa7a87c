"""Products of matrices whose rows have the same bits wherever they stand, on any number of threads.

BLAS promises neither. Which terms of a product it adds first depends on the place of a row within the registers of its
kernels (OpenBLAS's sgemm of Haswell and Zen sums six of twelve rows the other way round) and, at the edges of what a
thread computes, on how many threads there are. A trial tells, once for each dtype. Where threads show, a product is
cut into pieces by its shape alone, each computed by one thread of BLAS; where places show, 16 rows are multiplied at a
time, which stand in one register, or as few as it takes.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.backends.threads import POOL
from normexp.base.blas_threads import BLAS, one_blas_thread

SMALL = 1 << 18  # multiplications; OpenBLAS computes products of no more on one thread (its interface/gemm.c)
PIECE = 1 << 22  # multiplications that are worth a piece of their own
SIDE = 64  # columns of a piece, or its rows, or a multiple
GROUPS = (16, 8, 4)  # rows that may be alike where those of a taller matrix are not
WIDTH, DEPTH = 256, 512  # of the part of the other matrix that groups meet at a time, which fits into a cache
# Rows, depth and columns of the trials of threads: threads have little to do, or much, or as much as comes out even
TRIALS = ((256, 48, 64), (256, 16, 192), (256, 64, 320), (256, 320, 48), (64, 256, 448))


class Habit(NamedTuple):
    """What BLAS does with rows of one dtype."""

    group: int  # how many rows it must be given at a time for them to be alike; 0 where any multiple of 16 will do
    has_steady_threads: bool  # whether its threads change no bit; never looked for where there is a group


def multiply(a: NDArray[Any], b: NDArray[Any], *, out: NDArray[Any], alike: bool = True) -> None:
    """Write a @ b into out; where rows shall be alike, each has the bits that it has anywhere in such a matrix.

    For a (M, D), b (D, N) and out (M, N) of one floating dtype, where M is what `filled_up` gave, and D and N are
    filled up as `linear` does it. To be called within `bounded`.
    """
    habit = habit_of(out.dtype)
    if habit.has_steady_threads:
        np.matmul(a, b, out=out)
        return
    group = habit.group if alike else 0
    (m, n), depth = out.shape, a.shape[1]
    across = n >= 4 * WIDTH if group else n > 2 * m
    side = WIDTH if group and across else SIDE
    step = max(1, PIECE // (side * max(1, (m if across else n) * depth))) * side

    def work(piece: int) -> None:
        part = slice(piece * step, (piece + 1) * step)
        rows, columns, into = (a, b[:, part], out[:, part]) if across else (a[part], b, out[part])
        if group:
            _by_groups(rows, columns, into, group)
        else:
            np.matmul(rows, columns, out=into)

    POOL.run(work, -(-(n if across else m) // step))


def filled_up(rows: int, height: int, dtype: np.dtype[Any]) -> int:
    """To how many rows the last block is filled up, so that its rows are like those of a block of ``height``."""
    return min(height, -(-rows // GROUPS[0]) * GROUPS[0]) if habit_of(dtype).group else height


def bounded(multiplications: int, dtype: np.dtype[Any]) -> AbstractContextManager[None]:
    """A context for products of so many multiplications: BLAS takes one thread, or, if steady, as many as normexp may.

    Nothing is set for small products, nor where nobody has set fewer threads than there are CPUs.
    """
    if multiplications <= SMALL:
        return nullcontext()
    if not habit_of(dtype).has_steady_threads:
        return one_blas_thread()
    return nullcontext() if POOL.limit >= POOL.most else BLAS.at_most(POOL.limit)


@cache
def habit_of(dtype: np.dtype[Any]) -> Habit:
    """Try it."""
    with BLAS.exactly(1):
        if not (_are_alike(48, dtype) and _are_alike(256, dtype)):
            return Habit(next((group for group in GROUPS if _are_alike(group, dtype, turned=True)), 1), False)
        alone = _trials(dtype)
    most = max(POOL.most, BLAS.threads())  # more, on fewer CPUs, wait for one another, and BLAS is never given them
    for threads in sorted({2, 4, 7, most}):
        if threads > most:
            break
        with BLAS.exactly(threads):
            if _trials(dtype) != alone:
                return Habit(0, False)
    return Habit(0, True)


def _are_alike(height: int, dtype: np.dtype[Any], *, turned: bool = False) -> bool:
    """Whether the same row has the same bits in each line of a product; by columns where they are turned."""
    rng = np.random.default_rng(0)
    depth, width = 72, 128
    rows = np.repeat(rng.standard_normal((1, depth)), height, axis=0).astype(dtype)
    other = rng.standard_normal((width, depth)).astype(dtype)
    product = np.matmul(other, rows.T).T if turned else np.matmul(rows, other.T)
    return bool((product == product[:1]).all())


def _trials(dtype: np.dtype[Any]) -> list[bytes]:
    """Products of several shapes, with the second matrix as it lies and turned."""
    rng, found = np.random.default_rng(1), []
    for height, depth, width in TRIALS:
        rows = rng.standard_normal((height, depth)).astype(dtype)
        other = rng.standard_normal((depth, width)).astype(dtype)
        found += [np.matmul(rows, other).tobytes(), np.matmul(rows, np.ascontiguousarray(other.T).T).tobytes()]
        found.append(np.matmul(other.T, np.ascontiguousarray(rows.T)).tobytes())
    return found


def _by_groups(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], group: int) -> None:
    """Multiply a few rows at a time: they are the columns of (b^T a^T), which stand in one register."""
    (m, depth), n = a.shape, b.shape[1]
    room = np.empty((m // group, min(WIDTH, n), group), out.dtype)
    grouped = a.reshape(m // group, group, depth)
    for left in range(0, n, WIDTH):
        columns = slice(left, min(left + WIDTH, n))
        into = out[:, columns].reshape(m // group, group, -1)
        product = room[:, : columns.stop - left]
        for first in range(0, max(1, depth), DEPTH):
            terms = slice(first, first + DEPTH)
            np.matmul(b[terms, columns].T, grouped[:, :, terms].transpose(0, 2, 1), out=product)
            if first:
                into += product.transpose(0, 2, 1)
            else:
                into[...] = product.transpose(0, 2, 1)
