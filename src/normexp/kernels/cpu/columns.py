"""softmax of float32 down columns that lie side by side: no row is gathered.

A strip of columns is read three times, one long piece of memory after another: for the columns' largest logits, for the
sums of their terms, and for the terms once more, times 1 / sum. Each column goes through the same operations in the
same order as a row does in ``single``, so the bits are the same: what is a lane of vectors there is a row of running
sums here. Rows of memory whose terms go to the same lane are taken four at a time, since the running sums of many
columns fill the second-level cache.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import EIGHT, LANES, lane_of, lanes_used
from normexp.kernels.cpu.single import FLOOR, PART, REACH, ZERO, exp_from_pivot, factor_of, pivot_of

f = np.float32
CHUNK = 512  # columns at a time: their terms stay in the first-level cache
WINDOW = 4 * LANES
STRIP = 1024  # columns whose running sums stay in the second-level cache


@njit(fastmath=EXACT, nogil=True)
def _raise(tops, piece):
    """tops = the larger of tops and piece; NaN is passed over."""
    for c in range(piece.shape[0]):
        z, top = piece[c], tops[c]
        tops[c] = z if z > top else top


@njit(fastmath=EXACT, nogil=True)
def _exp(piece, pivots, terms):
    """terms = 2^64 exp(piece - pivots)."""
    for c in range(terms.shape[0]):
        terms[c] = exp_from_pivot(piece[c], pivots[c], pivots[c] + FLOOR)


@njit(fastmath=EXACT, nogil=True)
def _add(terms, sums):
    """sums += terms."""
    for c in range(sums.shape[0]):
        sums[c] += np.float64(terms[c])


@njit(fastmath=EXACT, nogil=True)
def _add_four(e0, e1, e2, e3, sums):
    """sums += e0, then e1, e2, e3."""
    for c in range(sums.shape[0]):
        two = (sums[c] + np.float64(e0[c])) + np.float64(e1[c])
        sums[c] = (two + np.float64(e2[c])) + np.float64(e3[c])


@njit(fastmath=FUSED, nogil=True)
def _put(piece, pivots, high, low, out):
    """out = exp(piece - pivots) * (high + low)."""
    for c in range(out.shape[0]):
        e = exp_from_pivot(piece[c], pivots[c], pivots[c] + FLOOR)
        out[c] = e * high[c] + e * low[c]


@njit(fastmath=EXACT, nogil=True)
def _add_window(flat, start, B, pivots, terms, lanes):
    """Add the terms of WINDOW rows of memory to the lanes."""
    w = pivots.shape[0]
    for j in range(LANES):
        for c in range(0, w, CHUNK):
            here = start + j * B + c
            size = min(CHUNK, w - c)
            for i in range(4):
                at = here + i * LANES * B
                _exp(flat[at : at + size], pivots[c : c + size], terms[i, :size])
            _add_four(terms[0], terms[1], terms[2], terms[3], lanes[j, c : c + size])


@njit(fastmath=EXACT, nogil=True)
def _sum_part(flat, start, B, n, pivots, terms, lanes, totals):
    """totals = the sums of the terms of n rows of memory, added as ``lane_sum`` adds the terms of a row."""
    w = totals.shape[0]
    used = lanes_used(n)
    lanes[:used, :w] = 0.0
    whole = (n - n % EIGHT) // WINDOW * WINDOW
    for k in range(0, whole, WINDOW):
        _add_window(flat, start + k * B, B, pivots, terms, lanes)
    for k in range(whole, n):
        lane = lane_of(k, n)
        for c in range(0, w, CHUNK):
            here = start + k * B + c
            size = min(CHUNK, w - c)
            _exp(flat[here : here + size], pivots[c : c + size], terms[0, :size])
            _add(terms[0], lanes[lane, c : c + size])
    h = LANES >> 1
    while h > 0:
        for j in range(min(h, used - h)):
            for c in range(w):
                lanes[j, c] += lanes[j + h, c]
        used = min(used, h)
        h >>= 1
    for c in range(w):
        totals[c] = lanes[0, c]


@njit(fastmath=EXACT, nogil=True)
def _fill_tops(flat, first, B, count, tops):
    w = tops.shape[0]
    tops[:] = f(-np.inf)
    for here in range(first, first + count * B, B):
        _raise(tops, flat[here : here + w])


@njit(fastmath=EXACT, nogil=True)
def _fill_sums(flat, first, B, count, pivots, terms, lanes, totals):
    for p in range(totals.shape[0]):
        start = first + p * PART * B
        _sum_part(flat, start, B, min(PART, count - p * PART), pivots, terms, lanes, totals[p])


@njit(fastmath=EXACT, nogil=True)
def _fill_prob(flat, first, B, count, pivots, high, low, out):
    w = pivots.shape[0]
    for here in range(first, first + count * B, B):
        _put(flat[here : here + w], pivots, high, low, out[here : here + w])


@njit(fastmath=EXACT, nogil=True)
def _fill_factors(totals, high, low):
    for c in range(totals.shape[1]):
        total = 0.0
        for p in range(totals.shape[0]):
            total += totals[p, c]
        high[c], low[c] = factor_of(total)


@njit(fastmath=EXACT, nogil=True)
def _pivot_in_place(tops):
    """Turn tops into pivots; how many are 2^19 or more in magnitude, infinite or NaN (these become 0)."""
    far = 0
    for c in range(tops.shape[0]):
        if abs(tops[c]) < REACH:
            tops[c] = pivot_of(tops[c])
        else:
            tops[c] = ZERO
            far += 1
    return far


@kernel(EXACT)
def column_tops(flat, first, B, count, tops):
    """tops (w,) = the largest of each of w columns, flat[first + k * B + c] for k < count; NaN is passed over."""
    _fill_tops(flat, first, B, count, tops)


@kernel(EXACT)
def column_pivots(tops):
    """Turn tops (w,) into pivots; returns how many columns are left to ``softmax`` (see ``single``), their pivots 0."""
    return _pivot_in_place(tops)


@kernel(EXACT)
def column_sums(flat, first, B, count, pivots, totals):
    """totals (parts, w) = the sums of 2^64 exp(logit - pivot) down the columns, PART entries each."""
    terms, lanes = np.empty((4, CHUNK), f), np.empty((LANES, pivots.shape[0]))
    _fill_sums(flat, first, B, count, pivots, terms, lanes, totals)


@kernel(EXACT)
def column_factors(totals, high, low):
    """High + low (w,) = 1 / sum, from the sums (parts, w)."""
    _fill_factors(totals, high, low)


@kernel(EXACT)
def column_prob(flat, first, B, count, pivots, high, low, out):
    """out[first + k * B + c] = exp(flat[there] - pivots[c]) * (high[c] + low[c]); out may be flat."""
    _fill_prob(flat, first, B, count, pivots, high, low, out)


@kernel(EXACT)
def softmax_panels(flat, K, B, first, out, is_left):
    """out = softmax down the columns of several (K, B) one after another, from the one that begins at flat[first].

    is_left (panels, strips of STRIP columns) says what is left to ``softmax``; nothing is written there. out may be flat.
    """
    w = min(B, STRIP)
    totals, lanes = np.empty((-(-K // PART), w)), np.empty((LANES, w))
    terms, pivots, high, low = np.empty((4, CHUNK), f), np.empty(w, f), np.empty(w, f), np.empty(w, f)
    for a in range(is_left.shape[0]):
        for s in range(is_left.shape[1]):
            n = min(STRIP, B - s * STRIP)
            start = first + a * K * B + s * STRIP
            _fill_tops(flat, start, B, K, pivots[:n])
            is_left[a, s] = _pivot_in_place(pivots[:n]) > 0
            if not is_left[a, s]:
                _fill_sums(flat, start, B, K, pivots[:n], terms, lanes, totals[:, :n])
                _fill_factors(totals[:, :n], high, low)
                _fill_prob(flat, start, B, K, pivots[:n], high, low, out)
