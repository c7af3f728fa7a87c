"""The k largest logits of a row and the state of all of it, in one read (Milakov and Gimelshein (2018), alg. 4).

A logit and its class are one int64: the float's bits, made to rise with the float, above the class counted backwards.
So the largest number is the largest logit and, among equal ones, the earliest class; nothing is left to chance.
"""

import triton
import triton.language as tl

from normexp.kernels.gpu.online import INF, exp_of, load_tile, log_one_plus, merge, state_of

LAST = tl.constexpr(0xFFFFFFFF)
LEAST = tl.constexpr(-0x8000000000000000)


@triton.jit
def keys_of(z, col, classes):
    """Numbers in the order of the logits (R, C); NaN stands as -inf, -0 as 0, columns beyond the row stand last."""
    z = tl.where(z == z, z, -INF)
    z = tl.where(z == 0.0, 0.0, z)
    bits = z.to(tl.int32, bitcast=True)
    rising = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    keys = (rising << 32) | (col.to(tl.int64) ^ LAST)[None, :]
    return tl.where((col < classes)[None, :], keys, LEAST)


@triton.jit
def logit_of(keys):
    """The logits again."""
    rising = (keys >> 32).to(tl.int32)
    return (rising ^ ((rising >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def offer(best, keys):
    """Let the keys of a tile (R, C) replace worse ones among the best (R, K), one of each row at a time."""
    top = tl.max(keys, axis=1)
    worst = tl.min(best, axis=1)
    while tl.max((top > worst).to(tl.int32), axis=0) > 0:
        better = top > worst
        best = tl.where((best == worst[:, None]) & better[:, None], top[:, None], best)
        keys = tl.where(keys == top[:, None], LEAST, keys)
        top = tl.max(keys, axis=1)
        worst = tl.min(best, axis=1)
    return best


@triton.jit
def top_k_rows(
    logits, prob, log_prob, index, rows, classes, row_stride, col_stride, k,
    WHOLE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Fill prob, log_prob and index (N, k), largest first; K: k rounded up to a power of 2.

    K logits are kept, of which the k largest are written; a tile without one larger than the least of them costs one
    reduction.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    best = tl.zeros((ROWS, K), tl.int64) + (tl.arange(0, K).to(tl.int64) + LEAST)[None, :]  # below all keys, distinct
    if WHOLE:
        z = load_tile(logits, row, col, row_stride, col_stride, rows, classes, -INF)
        m, rest = state_of(z, heat, False)
        best = offer(best, keys_of(z, col, classes))
    else:
        m = tl.full((ROWS,), -INF, tl.float32)
        rest = tl.full((ROWS,), -1.0, tl.float64)
        for first in range(0, classes, COLS):
            z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
            m2, rest2 = state_of(z, heat, False)
            m, rest = merge(m, rest, m2, rest2, heat, False)
            best = offer(best, keys_of(z, first + col, classes))
    best = tl.sort(best, descending=True)
    z_best = logit_of(best)
    gap = tl.where(z_best == m[:, None], 0.0, z_best.to(tl.float64) - m.to(tl.float64)[:, None])
    found = gap - log_one_plus(rest)[:, None]
    high = gap.to(tl.float32)
    low = (gap - high.to(tl.float64)).to(tl.float32)
    share = exp_of(high, tl.where(low == low, low, 0.0)) * (1.0 / (1.0 + rest)).to(tl.float32)[:, None]
    dead = (tl.abs(m) == INF) | (rest != rest)
    found = tl.where(dead[:, None], float("nan"), found)
    share = tl.where(dead[:, None], float("nan"), share)
    place = tl.arange(0, K)
    at = row[:, None] * k + place[None, :]
    inside = (row < rows)[:, None] & (place < k)[None, :]
    tl.store(index + at, (best & LAST) ^ LAST, mask=inside)
    tl.store(prob + at, share.to(prob.dtype.element_ty), mask=inside)
    tl.store(log_prob + at, found.to(tl.float32).to(log_prob.dtype.element_ty), mask=inside)
