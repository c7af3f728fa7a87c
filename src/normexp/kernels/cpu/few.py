"""softmax of float32 rows of few classes: 64 rows at a time, turned on their side, so that SIMD runs across the rows.

A tile holds class k of 64 rows side by side. The arithmetic is that of ``single``, and so are the order of a sum and
the bits: the backend may take either.
"""

import numpy as np
from numba import config, njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import EIGHT
from normexp.kernels.cpu.single import FLOOR, REACH, exp_from_pivot, factor_of, pivot_of
from normexp.kernels.cpu.turn import turn_block

f = np.float32
TILE = 64  # rows in a tile
BLOCK = 16  # rows and classes that are turned at once
FEW = 32  # up to so many classes, turning rows on their side is quicker than taking them one by one
WORTH = 8  # from so many rows on


@njit(fastmath=EXACT, nogil=True)
def _turn_in(rows, i, n, z):
    """Rows i to i + n of an array with more behind them, class by class; past the last class z gets what follows."""
    for r in range(0, n, BLOCK):
        for k in range(0, rows.shape[1], BLOCK):
            turn_block(rows, i + r, k, z, k, r)


@njit(fastmath=EXACT, nogil=True)
def _turn_out(e, i, n, rows):
    """The way back: what a block writes past the end of a row is written over by the next row."""
    for r in range(0, n, BLOCK):
        for k in range((rows.shape[1] - 1) // BLOCK * BLOCK, -1, -BLOCK):
            turn_block(e, k, r, rows, i + r, k)


@njit(fastmath=EXACT, nogil=True)
def _fill_tile(logits, i, room, z):
    N, K = logits.shape
    if (i + TILE) * K + BLOCK <= N * K:
        _turn_in(logits, i, TILE, z)
        return
    n = min(TILE, N - i)
    here = logits[i : i + n].reshape(-1)
    for j in range(n * K):
        room[j] = here[j]
    _turn_in(room[: TILE * K].reshape(TILE, K), 0, n, z)


def _plain_fill(logits, i, room, z):  # noqa: ARG001  (stands in for _fill_tile)
    """z[k, r] = logits[i + r, k], without JIT."""
    part = logits[i : i + TILE]
    z[: part.shape[1], : part.shape[0]] = part.T


@njit(fastmath=EXACT, nogil=True)
def _empty_tile(e, i, room, out):
    N, K = out.shape
    if (i + TILE) * K + BLOCK <= N * K:
        _turn_out(e, i, TILE, out)
        return
    n = min(TILE, N - i)
    _turn_out(e, 0, n, room[: TILE * K].reshape(TILE, K))
    here = out[i : i + n].reshape(-1)
    for j in range(n * K):
        here[j] = room[j]


def _plain_empty(e, i, room, out):  # noqa: ARG001  (stands in for _empty_tile)
    """out[i + r, k] = e[k, r], without JIT."""
    part = out[i : i + TILE]
    part[:] = e[: part.shape[1], : part.shape[0]].T


fill_tile = _plain_fill if config.DISABLE_JIT else _fill_tile
empty_tile = _plain_empty if config.DISABLE_JIT else _empty_tile


@njit(fastmath=EXACT, nogil=True)
def find_tops(z, K, tops):
    """tops[r] = the largest of z[:K, r], NaN passed over."""
    tops[:] = f(-np.inf)
    for k in range(K):
        for r in range(TILE):
            v, top = z[k, r], tops[r]
            tops[r] = v if v > top else top


@njit(fastmath=EXACT, nogil=True)
def find_pivots(tops, n, pivots, lowest):
    """The pivot of each row and its lowest logit that counts; how many of the first n rows are left to ``softmax``."""
    far = 0
    for r in range(TILE):
        is_near = abs(tops[r]) < REACH
        pivots[r] = pivot_of(tops[r]) if is_near else f(0.0)
        lowest[r] = pivots[r] + FLOOR
        far += r < n and not is_near
    return far


@njit(fastmath=FUSED, nogil=True)
def exp_tile(z, K, pivots, lowest):
    """z[k, r] = 2^64 exp(z[k, r] - pivots[r])."""
    for k in range(K):
        for r in range(TILE):
            z[k, r] = exp_from_pivot(z[k, r], pivots[r], lowest[r])


@njit(fastmath=EXACT, nogil=True)
def sum_tile(e, K, lanes, sums):
    """sums[r] = the sum of e[:K, r], in the order of ``lanes``, which is scratch (FEW, TILE)."""
    rest = K % EIGHT if K > EIGHT else 0
    h = EIGHT >> 1
    while 2 * h < K:
        h *= 2
    for j in range(2 * h):
        for r in range(TILE):
            lanes[j, r] = 0.0
    for k in range(K):
        j = k if k < K - rest else k + EIGHT - rest
        for r in range(TILE):
            lanes[j, r] = np.float64(e[k, r])
    while h > 0:
        for j in range(h):
            for r in range(TILE):
                lanes[j, r] += lanes[h + j, r]
        h >>= 1
    for r in range(TILE):
        sums[r] = lanes[0, r]


@njit(fastmath=EXACT, nogil=True, error_model="numpy")
def find_factors(sums, high, low):
    """1 / sums[r] as two float32."""
    for r in range(TILE):
        high[r], low[r] = factor_of(sums[r])


@njit(fastmath=FUSED, nogil=True)
def scale_tile(e, K, high, low):
    """e[k, r] *= high[r] + low[r]."""
    for k in range(K):
        for r in range(TILE):
            e[k, r] = e[k, r] * high[r] + e[k, r] * low[r]


@kernel(EXACT)
def softmax_few(logits, out):
    """out = softmax of each row of logits, both (N, K) float32, 0 < K <= FEW, sharing no memory.

    Returns how many rows are left to ``softmax``; out holds nothing of worth there.
    """
    N, K = logits.shape
    z = np.empty(((K + BLOCK - 1) // BLOCK * BLOCK, TILE), np.float32)
    room = np.zeros((TILE + 1) * K + BLOCK, np.float32)
    tops, pivots, lowest = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    lanes, sums = np.empty((FEW, TILE)), np.empty(TILE)
    high, low = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    far = 0
    for i in range(0, N, TILE):
        n = min(TILE, N - i)
        fill_tile(logits, i, room, z)
        find_tops(z, K, tops)
        far += find_pivots(tops, n, pivots, lowest)
        exp_tile(z, K, pivots, lowest)
        sum_tile(z, K, lanes, sums)
        find_factors(sums, high, low)
        scale_tile(z, K, high, low)
        empty_tile(z, i, room, out)
        for r in range(n):
            if np.isnan(sums[r]):
                out[i + r] = np.nan
    return far
