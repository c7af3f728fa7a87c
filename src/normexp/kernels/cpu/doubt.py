"""What a row of logits says about doubt: entropy, the two largest logits. Rows are read as ``chunks`` says."""

import numpy as np
from numba import njit

from normexp.kernels.cpu.chunks import CHUNK, GROUP, TINY, far_sum, holds_nan, merged_rest
from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double, exp_single
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import LANES, fold, gap, is_empty, rest_double, row_max, total_of

DEEP = -760.0  # exp(d) is 0 as a float64


@njit(fastmath=FUSED, nogil=True)
def rest_and_gaps(chunk, m, sums, gaps, terms):
    """The sum of exp(z - m) without one of the terms that are 1, and that of (m - z) exp(z - m), for float32.

    sums and gaps: (GROUP,), terms: (CHUNK,), float64. A gap beyond 760 adds less than 1e-301, whatever it is.
    """
    n = chunk.shape[0]
    whole = n - n % GROUP
    ones = 0
    sums[:] = 0.0
    gaps[:] = 0.0
    for start in range(0, whole, GROUP):
        part = chunk[start : start + GROUP]
        for j in range(GROUP):
            d = np.float64(part[j]) - m
            v = exp_single(d)
            terms[start + j] = v
            ones += v == 1.0
            sums[j] += 0.0 if v == 1.0 else v
        for j in range(GROUP):
            d = np.float64(part[j]) - m
            gaps[j] -= terms[start + j] * (d if d > DEEP else DEEP)
    part = chunk[whole:]
    for j in range(n - whole):
        d = np.float64(part[j]) - m
        v = exp_single(d)
        ones += v == 1.0
        sums[j] += 0.0 if v == 1.0 else v
        gaps[j] -= v * (d if d > DEEP else DEEP)
    h = GROUP >> 1
    while h > 0:
        for j in range(h):
            sums[j] += sums[h + j]
            gaps[j] += gaps[h + j]
        h >>= 1
    return sums[0] + (ones - 1), gaps[0]


@njit(fastmath=EXACT, nogil=True)
def weighted_gaps(chunk, m, e, terms):
    """The sum of (m - z) exp(z - m) for float64, where e holds the exponentials; no term is negative."""
    for k in range(chunk.shape[0]):
        d = np.float64(chunk[k]) - m
        terms[k] = -d * e[k] if d > DEEP else 0.0
    return fold(terms, chunk.shape[0])


@kernel(EXACT)
def entropy_rows(logits, double, out):
    """out[i] = log1p(rest) + sum_k p_k (m - z_k): two sums without a negative term; logits (N, K), K > 0."""
    N, K = logits.shape
    chunks = (K + CHUNK - 1) // CHUNK
    room = max(CHUNK, chunks)
    lanes, sums, gaps = np.empty(LANES, logits.dtype), np.empty(GROUP), np.empty(GROUP)
    tops, rests, tails, within = np.empty(chunks), np.empty(chunks), np.empty(chunks), np.empty(chunks)
    e, terms, lost = np.empty(CHUNK), np.empty(room), np.empty(room)
    for i in range(N):
        m = -np.inf
        for c in range(chunks):
            chunk = logits[i, c * CHUNK : min((c + 1) * CHUNK, K)]
            top = row_max(chunk, lanes)
            tops[c], tails[c] = top, 0.0
            if is_empty(chunk, top):
                rests[c], within[c] = 0.0, 0.0
            elif double:
                rests[c], tails[c] = rest_double(chunk, top, 1.0, e, terms, lost)
                within[c] = weighted_gaps(chunk, top, e, terms)
            else:
                rests[c], within[c] = rest_and_gaps(chunk, top, sums, gaps, terms)
            m = top if top > m else m
        if np.isinf(m):
            out[i] = np.nan
            continue
        rest, tail = merged_rest(tops, rests, tails, m, 1.0, terms, lost)
        if rest < TINY:
            out[i] = far_sum(logits[i], m, True)
            continue
        for c in range(chunks):
            d, below = gap(tops[c], m)
            if d == -np.inf:
                terms[c] = 0.0
                continue
            terms[c] = exp_double(d, below) * (within[c] - d * (1.0 + rests[c]))
        total, _ = total_of(rest, tail)
        out[i] = log_one_plus(rest) + fold(terms, chunks) / total


@kernel(EXACT)
def margin_rows(logits, out):
    """out[i] = the largest logit of row i minus the second largest, which is -inf when there is none."""
    N, K = logits.shape
    first, second = np.empty(LANES, logits.dtype), np.empty(LANES, logits.dtype)
    whole = K - K % LANES
    for i in range(N):
        row = logits[i]
        first[:] = -np.inf
        second[:] = -np.inf
        for start in range(0, whole, LANES):
            part = row[start : start + LANES]
            for j in range(LANES):
                below = first[j] if part[j] > first[j] else part[j]
                first[j] = part[j] if part[j] > first[j] else first[j]
                second[j] = below if below > second[j] else second[j]
        for j in range(K - whole):
            z = row[whole + j]
            below = first[j] if z > first[j] else z
            first[j] = z if z > first[j] else first[j]
            second[j] = below if below > second[j] else second[j]
        h = min(LANES, K)
        a, b = first[0], second[0]
        for j in range(1, h):
            below = a if first[j] > a else first[j]
            a = first[j] if first[j] > a else a
            below = second[j] if second[j] > below else below
            b = below if below > b else b
        out[i] = np.nan if holds_nan(row) else a - b


@kernel(EXACT)
def max_rows(logits, out):
    """out[i] = the largest logit of row i; NaN when there is one."""
    lanes = np.empty(LANES, logits.dtype)
    for i in range(logits.shape[0]):
        out[i] = np.nan if holds_nan(logits[i]) else row_max(logits[i], lanes)
