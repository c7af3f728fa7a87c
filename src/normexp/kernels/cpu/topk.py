"""The k largest logits of a row and the state of all of it, in one read (Milakov and Gimelshein (2018), alg. 4).

A row is read in chunks (see ``chunks``). The k largest so far stand in a heap, worst on top; a chunk whose
largest is no larger than that worst one is not looked at again.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.chunks import CHUNK, GROUP, TINY, far_sum, merged_rest, pushed
from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import LANES, gap, is_empty, reciprocal, rest_double, row_max, total_of


@njit(fastmath=EXACT, forceinline=True)
def is_worse(a, i, b, j):
    """Whether logit a of class i stands behind logit b of class j; of equal ones the later does."""
    return a < b or (a == b and i > j)


@njit(fastmath=EXACT, nogil=True)
def sink(value, index, at, n):
    """Move the entry at ``at`` down the heap value[:n] until no worse one stands below it."""
    v, c = value[at], index[at]
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and is_worse(value[child + 1], index[child + 1], value[child], index[child]):
            child += 1
        if not is_worse(value[child], index[child], v, c):
            break
        value[at], index[at] = value[child], index[child]
        at = child
    value[at], index[at] = v, c


@njit(fastmath=EXACT, nogil=True)
def start_heap(row, value, index):
    """A heap of the first classes of the row; NaN stands as -inf."""
    k = value.shape[0]
    for j in range(k):
        value[j] = row[j] if row[j] == row[j] else -np.inf
        index[j] = j
    for j in range((k >> 1) - 1, -1, -1):
        sink(value, index, j, k)


@njit(fastmath=EXACT, nogil=True)
def offer(chunk, first, value, index):
    """Let the logits of the chunk, of classes first and up, replace worse ones in the heap."""
    n, k = chunk.shape[0], value.shape[0]
    for start in range(0, n, GROUP):
        part = chunk[start : min(start + GROUP, n)]
        worst = value[0]
        better = 0
        for j in range(part.shape[0]):
            better += part[j] > worst
        if better == 0:
            continue
        for j in range(part.shape[0]):
            if part[j] > value[0]:
                value[0], index[0] = part[j], first + start + j
                sink(value, index, 0, k)


@njit(fastmath=EXACT, nogil=True)
def sort_heap(value, index):
    """Turn the heap into a list, best first."""
    for n in range(value.shape[0] - 1, 0, -1):
        value[0], value[n] = value[n], value[0]
        index[0], index[n] = index[n], index[0]
        sink(value, index, 0, n)


@njit(fastmath=EXACT, nogil=True)
def row_state_and_largest(row, double, value, index, lanes, sums, tops, rests, tails, e, terms, lost):
    """m, rest and its tail of a row, read once; value and index (k,) hold the k largest, best first.

    tops, rests, tails, terms and lost have one entry for each chunk at least, and CHUNK at least; sums (GROUP,), e (CHUNK,).
    """
    K, k = row.shape[0], value.shape[0]
    start_heap(row, value, index)
    chunks = (K + CHUNK - 1) // CHUNK
    m, rest = -np.inf, 0.0
    for c in range(chunks):
        first = c * CHUNK
        chunk = row[first : min(first + CHUNK, K)]
        top = row_max(chunk, lanes)
        if top > value[0]:
            skip = min(max(k - first, 0), chunk.shape[0])  # these stand in the heap since it was made
            offer(chunk[skip:], first + skip, value, index)
        if not double:
            if not is_empty(chunk, top):
                m, rest = pushed(m, rest, chunk, top, 1.0, sums)
            continue
        tops[c], rests[c], tails[c] = top, 0.0, 0.0
        if not is_empty(chunk, top):
            rests[c], tails[c] = rest_double(chunk, top, 1.0, e, terms, lost)
        m = top if top > m else m
    sort_heap(value, index)
    if np.isinf(m):
        return m, np.nan, 0.0
    if not double:
        return m, rest, 0.0
    rest, tail = merged_rest(tops[:chunks], rests, tails, m, 1.0, terms, lost)
    if rest < TINY:
        return m, far_sum(row, m, False), 0.0
    return m, rest, tail


@kernel(EXACT)
def top_k_rows(logits, double, prob, log_prob, index):
    """The k likeliest classes of each row, best first, with their probabilities and logs of these; all (N, k).

    logits (N, K), K >= k > 0; of equal logits the earlier class comes first.
    """
    N, K = logits.shape
    k = prob.shape[1]
    room = max(CHUNK, (K + CHUNK - 1) // CHUNK)
    value, lanes, sums = np.empty(k, logits.dtype), np.empty(LANES, logits.dtype), np.empty(GROUP)
    tops, rests, tails, e = np.empty(room), np.empty(room), np.empty(room), np.empty(CHUNK)
    terms, lost = np.empty(room), np.empty(room)
    for i in range(N):
        m, rest, tail = row_state_and_largest(
            logits[i], double, value, index[i], lanes, sums, tops, rests, tails, e, terms, lost
        )
        if np.isnan(rest):
            prob[i] = np.nan
            log_prob[i] = np.nan
            continue
        factor, error = reciprocal(*total_of(rest, tail))
        log_sum = log_one_plus(rest)
        for j in range(k):
            d, below = gap(np.float64(value[j]), m)
            p = exp_double(d, below)
            prob[i, j] = p * factor + p * error
            log_prob[i, j] = d + (below - log_sum)


@kernel(EXACT)
def generalised_entropy_rows(logits, double, count, gamma, out):
    """out[i] = the sum of (p (1 - p))^gamma over the ``count`` largest p of row i; logits (N, K), K > 0."""
    N, K = logits.shape
    k = min(count, K)
    room = max(CHUNK, (K + CHUNK - 1) // CHUNK)
    value, lanes, sums = np.empty(k, logits.dtype), np.empty(LANES, logits.dtype), np.empty(GROUP)
    tops, rests, tails, e = np.empty(room), np.empty(room), np.empty(room), np.empty(CHUNK)
    terms, lost, index = np.empty(room), np.empty(room), np.empty(k, np.int64)
    for i in range(N):
        m, rest, tail = row_state_and_largest(
            logits[i], double, value, index, lanes, sums, tops, rests, tails, e, terms, lost
        )
        if np.isnan(rest):
            out[i] = np.nan
            continue
        total, log_sum = 1.0 + rest, log_one_plus(rest)
        added = 0.0
        for j in range(k):
            d = np.float64(value[j]) - m
            log_p = gamma * (d - log_sum)
            if d < 0.0:
                added += math.exp(log_p) * math.pow((total - math.exp(d)) / total, gamma)
            elif rest > 1e-280:
                added += math.exp(log_p) * math.pow(rest / total, gamma)
            elif k > 1:  # rest has nearly vanished, its root has not
                added += math.exp(gamma * log_of_others(logits[i], index[0], np.float64(value[1]), m))
        out[i] = added


@njit(fastmath=EXACT, nogil=True)
def log_of_others(row, best, second, m):
    """The log of the sum of exp(row - m) without the class ``best``; second is the largest of these logits."""
    if second == -np.inf:
        return -np.inf
    s = 0.0
    for j in range(row.shape[0]):
        if j != best:
            s += math.exp(np.float64(row[j]) - second)
    return (second - m) + math.log(s)
