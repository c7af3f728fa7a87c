"""softmax of float32 down columns that lie side by side: no row is gathered.

Each column goes through the same operations in the same order as a row does in ``single``, so the bits are the same:
what is a lane of vectors there is a row of running sums here. There are two ways:

- ``softmax_strips``: a strip of columns that fits the second-level cache is copied into it, and memory is read once. While
  its terms are made, the next strip and the places of the results are fetched: their pieces of memory are short.
- ``column_tops`` to ``column_prob``: columns too long for that are read three times, one long piece of memory after
  another: for the largest logits, for the sums of the terms, and for the terms once more, times 1 / sum.

Of a window of rows those that share a lane, four of them, are added at a time, since the running sums of many columns
fill the second-level cache.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.fetch import fetch
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import EIGHT, LANES, lane_of, lanes_used
from normexp.kernels.cpu.single import FLOOR, PART, REACH, ZERO, exp_from_pivot, factor_of, pivot_of

f = np.float32
WINDOW = 4 * LANES
AHEAD = 8  # rows of a strip that are fetched before they are copied or written


@njit(fastmath=EXACT, nogil=True)
def _raise(tops, piece):
    """tops = the larger of tops and piece; NaN is passed over."""
    for c in range(piece.shape[0]):
        z, top = piece[c], tops[c]
        tops[c] = z if z > top else top


@njit(fastmath=EXACT, nogil=True)
def _keep(piece, kept, tops):
    """Kept = piece; tops = the larger of tops and piece."""
    for c in range(tops.shape[0]):
        z, top = piece[c], tops[c]
        kept[c] = z
        tops[c] = z if z > top else top


@njit(fastmath=EXACT, nogil=True)
def _add_terms(piece, pivots, sums):
    """sums += 2^64 exp(piece - pivots)."""
    for c in range(sums.shape[0]):
        sums[c] += np.float64(exp_from_pivot(piece[c], pivots[c], pivots[c] + FLOOR))


@njit(fastmath=EXACT, nogil=True)
def _add_four_terms(z0, z1, z2, z3, pivots, sums):
    """The same of four pieces, one after another."""
    for c in range(sums.shape[0]):
        m = pivots[c]
        least = m + FLOOR
        two = sums[c] + np.float64(exp_from_pivot(z0[c], m, least)) + np.float64(exp_from_pivot(z1[c], m, least))
        sums[c] = two + np.float64(exp_from_pivot(z2[c], m, least)) + np.float64(exp_from_pivot(z3[c], m, least))


@njit(fastmath=EXACT, nogil=True)
def _exp_in_place(kept, pivots):
    """Kept = 2^64 exp(kept - pivots); where two arrays may be one, the compiled loop takes one entry after another."""
    for c in range(pivots.shape[0]):
        kept[c] = exp_from_pivot(kept[c], pivots[c], pivots[c] + FLOOR)


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
def _scale(e, high, low, out):
    """out = e * (high + low)."""
    for c in range(high.shape[0]):
        out[c] = e[c] * high[c] + e[c] * low[c]


@njit(fastmath=FUSED, nogil=True)
def _put(piece, pivots, high, low, out):
    """out = exp(piece - pivots) * (high + low)."""
    for c in range(out.shape[0]):
        e = exp_from_pivot(piece[c], pivots[c], pivots[c] + FLOOR)
        out[c] = e * high[c] + e * low[c]


@njit(fastmath=EXACT, nogil=True)
def _fold(lanes, used, totals):
    """totals += the sum of the lanes, as ``lane_sum`` adds them; those that are not used hold 0."""
    h = LANES >> 1
    while h > 0:
        for j in range(min(h, used - h)):
            for c in range(totals.shape[0]):
                lanes[j, c] += lanes[j + h, c]
        used = min(used, h)
        h >>= 1
    for c in range(totals.shape[0]):
        totals[c] += lanes[0, c]


@njit(fastmath=EXACT, nogil=True)
def _fill_factors(totals, high, low):
    """High + low = 1 / totals."""
    for c in range(totals.shape[0]):
        high[c], low[c] = factor_of(totals[c])


@kernel(EXACT)
def column_tops(flat, first, B, count, tops):
    """tops (w,) = the largest of each of w columns, flat[first + k * B + c] for k < count; NaN is passed over."""
    w = tops.shape[0]
    tops[:] = f(-np.inf)
    for here in range(first, first + count * B, B):
        _raise(tops, flat[here : here + w])


@kernel(EXACT)
def column_pivots(tops):
    """Turn tops (w,) into pivots; returns how many columns are left to ``softmax`` (see ``single``), their pivots 0."""
    far = 0
    for c in range(tops.shape[0]):
        if abs(tops[c]) < REACH:
            tops[c] = pivot_of(tops[c])
        else:
            tops[c] = ZERO
            far += 1
    return far


@kernel(EXACT)
def column_lanes(flat, first, B, count, pivots, lanes, lowest):
    """Lanes (n, w) = the running sums of 2^64 exp(logit - pivot) of at most PART rows, those from the lowest on."""
    n, w = lanes.shape
    lanes[:] = 0.0
    whole = (count - count % EIGHT) // WINDOW * WINDOW
    step = LANES * B
    for k in range(0, whole, WINDOW):
        for j in range(n):
            here = first + (k + lowest + j) * B
            z0, z1 = flat[here : here + w], flat[here + step : here + step + w]
            here += 2 * step
            z2, z3 = flat[here : here + w], flat[here + step : here + step + w]
            _add_four_terms(z0, z1, z2, z3, pivots, lanes[j])
    for k in range(whole, count):
        j = lane_of(k, count) - lowest
        if 0 <= j < n:
            here = first + k * B
            _add_terms(flat[here : here + w], pivots, lanes[j])


@kernel(EXACT)
def column_factors(lanes, high, low):
    """High + low (w,) = 1 / sum, from the lanes (parts, LANES, w), which are used up."""
    totals = np.zeros(lanes.shape[2])
    for p in range(lanes.shape[0]):
        _fold(lanes[p], LANES, totals)
    _fill_factors(totals, high, low)


@kernel(EXACT)
def column_prob(flat, first, B, count, pivots, high, low, out):
    """out[first + k * B + c] = exp(flat[there] - pivots[c]) * (high[c] + low[c]); out may be flat."""
    w = pivots.shape[0]
    for here in range(first, first + count * B, B):
        _put(flat[here : here + w], pivots, high, low, out[here : here + w])


@njit(fastmath=EXACT, nogil=True)
def _keep_strip(flat, start, B, kept, tops):
    """Copy a strip, and find its columns' largest logits."""
    w = tops.shape[0]
    tops[:] = f(-np.inf)
    for k in range(kept.shape[0]):
        here = start + k * B
        fetch(flat, here + AHEAD * B, w)
        _keep(flat[here : here + w], kept[k], tops)


@njit(fastmath=EXACT, nogil=True)
def _sum_strip(flat, follow, B, out, start, kept, pivots, lanes, totals):
    """Turn a copied strip into its terms, and add them up; meanwhile fetch the strip from flat[follow] on, and out's."""
    K, w = kept.shape
    totals[:] = 0.0
    for first in range(0, K, PART):
        count = min(PART, K - first)
        lanes[:] = 0.0
        for k in range(count):
            fetch(flat, follow + (first + k) * B, w)
            fetch(out, start + (first + k) * B, w)
            _exp_in_place(kept[first + k], pivots)
            if k < (count - count % EIGHT) // WINDOW * WINDOW:
                if k % WINDOW >= 3 * LANES:
                    e = kept[first + k - 3 * LANES : first + k + 1 : LANES]
                    _add_four(e[0], e[1], e[2], e[3], lanes[k % LANES])
            else:
                _add(kept[first + k], lanes[lane_of(k, count)])
        _fold(lanes, lanes.shape[0], totals)


@njit(fastmath=EXACT, nogil=True)
def _put_strip(kept, high, low, start, B, out):
    """out = terms * (high + low)."""
    w = high.shape[0]
    for k in range(kept.shape[0]):
        here = start + k * B
        fetch(out, here + AHEAD * B, w)
        _scale(kept[k], high, low, out[here : here + w])


@kernel(EXACT)
def softmax_strips(flat, K, B, w, first, kept, out, is_left):
    """out = softmax down the columns of strips, those from the first on; out may be flat.

    flat holds arrays (K, B) one after another; each is cut into strips of w columns, the last one of what is left.
    is_left (strips,) says which are left to ``softmax``; nothing is written there. kept (K * w,) is used up.
    """
    used = lanes_used(min(K, PART))
    every_lane, totals = np.empty(used * w), np.empty(w)
    pivots, high, low = np.empty(w, f), np.empty(w, f), np.empty(w, f)
    strips = -(-B // w)
    for q in range(is_left.shape[0]):
        a, s = divmod(first + q, strips)
        start = a * K * B + s * w
        follow = start + w if s + 1 < strips else start + K * B - s * w
        n = min(w, B - s * w)
        here, lanes = kept[: K * n].reshape(K, n), every_lane[: used * n].reshape(used, n)
        _keep_strip(flat, start, B, here, pivots[:n])
        is_left[q] = column_pivots(pivots[:n]) > 0
        if not is_left[q]:
            _sum_strip(flat, follow, B, out, start, here, pivots[:n], lanes, totals[:n])
            _fill_factors(totals[:n], high[:n], low[:n])
            _put_strip(here, high[:n], low[:n], start, B, out)
