"""The state of a row, read once, chunk by chunk.

A chunk stays in the first-level cache. It leaves its largest logit and what its other terms add to that one
(the state of ``online``, with nothing stored for each class). For float32 it is folded into a running state; for
float64, chunks are merged at the end, each rescaled once only, whatever the order of the logits.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.exponential import exp_double, exp_single
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.online import fold_exactly, gap, product_error, quotient, total_of

CHUNK = 2048  # 8 or 16 KiB of logits
GROUP = 64  # running sums side by side
TINY = 1e-280  # a smaller rest may be made of subnormal numbers, which have lost digits


@njit(fastmath=EXACT, nogil=True)
def holds_nan(row):
    """Whether there is a NaN."""
    found = 0
    for k in range(row.shape[0]):
        found += row[k] != row[k]
    return found > 0


@njit(fastmath=FUSED, nogil=True)
def chunk_rest(chunk, m, scale, sums):
    """The sum of exp((chunk - m) scale) without one of the terms that are 1, for float32; sums: (GROUP,) float64."""
    n = chunk.shape[0]
    whole = n - n % GROUP
    ones = 0
    sums[:] = 0.0
    for start in range(0, whole, GROUP):
        part = chunk[start : start + GROUP]
        for j in range(GROUP):
            v = exp_single((np.float64(part[j]) - m) * scale)
            ones += v == 1.0
            sums[j] += 0.0 if v == 1.0 else v
    part = chunk[whole:]
    for j in range(n - whole):
        v = exp_single((np.float64(part[j]) - m) * scale)
        ones += v == 1.0
        sums[j] += 0.0 if v == 1.0 else v
    h = GROUP >> 1
    while h > 0:
        for j in range(h):
            sums[j] += sums[h + j]
        h >>= 1
    return sums[0] + (ones - 1)


@njit(fastmath=FUSED, nogil=True)
def chunk_sum(chunk, m, scale, sums):
    """The sum of exp((chunk - m) scale) for a float32 chunk that holds nothing above m; sums: (GROUP,) float64."""
    n = chunk.shape[0]
    whole = n - n % GROUP
    sums[:] = 0.0
    for start in range(0, whole, GROUP):
        part = chunk[start : start + GROUP]
        for j in range(GROUP):
            sums[j] += exp_single((np.float64(part[j]) - m) * scale)
    part = chunk[whole:]
    for j in range(n - whole):
        sums[j] += exp_single((np.float64(part[j]) - m) * scale)
    h = GROUP >> 1
    while h > 0:
        for j in range(h):
            sums[j] += sums[h + j]
        h >>= 1
    return sums[0]


@njit(fastmath=EXACT, nogil=True)
def pushed(m, rest, chunk, top, scale, sums):
    """The state (m, rest) of a float32 row after one more chunk, whose largest is top.

    Only a chunk with a new maximum rescales; float64 has the digits to bear one rounding for each. A float64 row has not,
    which is what ``merged_rest`` is for.
    """
    if top <= m:
        return m, rest + chunk_sum(chunk, m, scale, sums)
    before = (1.0 + rest) * exp_double((m - top) * scale, 0.0) if m > -np.inf else rest
    return top, before + chunk_rest(chunk, top, scale, sums)


@njit(fastmath=EXACT, nogil=True)
def merged_rest(tops, rests, tails, m, temperature, terms, lost):
    """What all chunks add to one largest term: rest and its rounding error."""
    own = -1
    for c in range(tops.shape[0]):
        if tops[c] == m and own < 0:
            own = c
            terms[c], lost[c] = rests[c], tails[c]
            continue
        if tops[c] == -np.inf and rests[c] == 0.0:  # a chunk of -inf
            terms[c], lost[c] = 0.0, 0.0
            continue
        d, tail = gap(tops[c], m)
        if temperature != 1.0:
            d, tail = quotient(d, tail, temperature)
        factor = exp_double(d, tail)
        total, error = total_of(rests[c], tails[c])
        terms[c] = total * factor
        lost[c] = error * factor + product_error(total, factor, terms[c])
    return fold_exactly(terms, lost, tops.shape[0])


@njit(fastmath=EXACT, nogil=True)
def far_sum(row, m, weighted):
    """The sum of exp(z - m) over all z but the leader m, or of (1 + m - z) exp(z - m), when all others are far behind.

    The terms are added relative to the second largest logit, whose exponential comes in at the end, in two halves: it may
    be subnormal, or 0, where the sum is not.
    """
    second = -np.inf
    for k in range(row.shape[0]):
        z = np.float64(row[k])
        second = z if second < z < m else second
    if second - m < -800.0:  # also -inf
        return 0.0
    total, excess = 0.0, 0.0  # what rounding has added too much so far (Kahan (1965))
    for k in range(row.shape[0]):
        z = np.float64(row[k])
        if second - 760.0 < z < m:
            term = (1.0 + (m - z) if weighted else 1.0) * math.exp(z - second) - excess
            s = total + term
            excess = (s - total) - term
            total = s
    d, tail = gap(second, m)
    half = math.exp(0.5 * d)
    return ((total + total * tail) * half) * half
