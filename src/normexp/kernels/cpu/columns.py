"""softmax of float32 down columns that lie side by side: no row is gathered.

A strip of columns is read three times, one long piece of memory after another: for the columns' largest logits, for the
sums of their terms, and for the terms once more, times 1 / sum. Each column goes through the same operations in the
same order as a row does in ``single``, so the bits are the same: what is a lane of vectors there is a row of running
sums here. The terms of a window of rows are made in the order of memory, and then added four at a time to the lane that
they share, since the running sums of many columns fill the second-level cache.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import EIGHT, LANES, lane_of, lanes_used
from normexp.kernels.cpu.single import FLOOR, PART, REACH, ZERO, exp_from_pivot, factor_of, pivot_of

f = np.float32
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
def _add_window(flat, start, B, pivots, terms, lanes, lowest):
    """Add the terms of WINDOW rows of memory to the lanes from the lowest on; terms holds four rows for each lane."""
    n, w = lanes.shape
    for i in range(4):
        for j in range(n):
            here = start + (i * LANES + lowest + j) * B
            _exp(flat[here : here + w], pivots, terms[i * n + j])
    for j in range(n):
        _add_four(terms[j], terms[n + j], terms[2 * n + j], terms[3 * n + j], lanes[j])


@njit(fastmath=EXACT, nogil=True)
def _fill_lanes(flat, start, B, n, pivots, terms, lanes, lowest):
    """Lanes = the running sums of the terms of n rows of memory, those of ``lane_sum`` from the lowest on."""
    w = pivots.shape[0]
    lanes[:] = 0.0
    whole = (n - n % EIGHT) // WINDOW * WINDOW
    for k in range(0, whole, WINDOW):
        _add_window(flat, start + k * B, B, pivots, terms, lanes, lowest)
    for k in range(whole, n):
        j = lane_of(k, n) - lowest
        if 0 <= j < lanes.shape[0]:
            here = start + k * B
            _exp(flat[here : here + w], pivots, terms[0])
            _add(terms[0], lanes[j])


@njit(fastmath=EXACT, nogil=True)
def _fold(lanes, used, totals):
    """totals = the sum of the lanes, as ``lane_sum`` adds them; those that are not used hold 0."""
    h = LANES >> 1
    while h > 0:
        for j in range(min(h, used - h)):
            for c in range(totals.shape[0]):
                lanes[j, c] += lanes[j + h, c]
        used = min(used, h)
        h >>= 1
    totals[:] = lanes[0]


@njit(fastmath=EXACT, nogil=True)
def _fill_tops(flat, first, B, count, tops):
    w = tops.shape[0]
    tops[:] = f(-np.inf)
    for here in range(first, first + count * B, B):
        _raise(tops, flat[here : here + w])


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
def column_lanes(flat, first, B, count, pivots, lanes, lowest):
    """Lanes (n, w) = the running sums of 2^64 exp(logit - pivot) down the columns, of at most PART entries."""
    _fill_lanes(flat, first, B, count, pivots, np.empty((4 * lanes.shape[0], lanes.shape[1]), f), lanes, lowest)


@kernel(EXACT)
def column_factors(lanes, high, low):
    """High + low (w,) = 1 / sum, from the lanes (parts, LANES, w), which are used up."""
    totals = np.empty((lanes.shape[0], lanes.shape[2]))
    for p in range(lanes.shape[0]):
        _fold(lanes[p], LANES, totals[p])
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
    parts = (K + PART - 1) // PART
    used = lanes_used(min(K, PART))
    totals, every_lane, every_term = np.empty((parts, w)), np.empty(used * w), np.empty(4 * used * w, f)
    pivots, high, low = np.empty(w, f), np.empty(w, f), np.empty(w, f)
    for a in range(is_left.shape[0]):
        for s in range(is_left.shape[1]):
            n = min(STRIP, B - s * STRIP)
            start = first + a * K * B + s * STRIP
            _fill_tops(flat, start, B, K, pivots[:n])
            is_left[a, s] = _pivot_in_place(pivots[:n]) > 0
            if not is_left[a, s]:
                lanes, terms = every_lane[: used * n].reshape(used, n), every_term[: 4 * used * n].reshape(4 * used, n)
                for p in range(parts):
                    size = min(PART, K - p * PART)
                    _fill_lanes(flat, start + p * PART * B, B, size, pivots[:n], terms, lanes, 0)
                    _fold(lanes, used, totals[p, :n])
                _fill_factors(totals[:, :n], high, low)
                _fill_prob(flat, start, B, K, pivots[:n], high, low, out)
