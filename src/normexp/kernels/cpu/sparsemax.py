"""Entmax and its special case sparsemax: probabilities that are exactly 0 for classes far behind.

With d = z - max(z), the answer is p_k = [1 + (a - 1) (d_k - s)]_+ ^ (1 / (a - 1)), where s >= 0 makes the sum 1. (In the
notation of Peters, Niculae and Martins (2019), eq. 6, the threshold is (a - 1) s - 1, shifted by the maximum.) Only classes
with d > -1 / (a - 1) can have p > 0. As a goes to 1, p goes to exp(d - s) and s to the log-sum, without loss of digits.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.chunks import holds_nan
from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.online import LANES, row_max


@njit(fastmath=EXACT, nogil=True)
def candidates(row, reach, lanes, found):
    """How many classes are less than ``reach`` behind the best, and found[:n] = z - max of these; 0 for rows of no answer."""
    m = row_max(row, lanes)
    if np.isinf(m) or holds_nan(row):
        return 0, m
    n = 0
    for k in range(row.shape[0]):
        d = np.float64(row[k]) - m
        if d > -reach:
            found[n] = d
            n += 1
    return n, m


@njit(fastmath=EXACT, nogil=True)
def sparsemax_shift(found, n):
    """s for a = 2: the support is a run of the sorted logits (Martins and Astudillo (2016), alg. 1)."""
    ordered = np.sort(found[:n])
    total, s = 0.0, 0.0
    for k in range(n):
        d = ordered[n - 1 - k]
        if 1.0 + (k + 1) * d <= total + d:
            break
        total += d
        s = total / (k + 1) + (1.0 - 1.0 / (k + 1))
    return s


@njit(fastmath=EXACT, nogil=True)
def entmax15_shift(found, n):
    """s for a = 1.5 (Peters, Niculae and Martins (2019), alg. 2), and one Newton step, which undoes the cancellation."""
    ordered = np.sort(found[:n])
    total, squares, t = 0.0, 0.0, -1.0
    for k in range(n):
        d = 0.5 * ordered[n - 1 - k]
        total += d
        squares += d * d
        mean = total / (k + 1)
        room = (1.0 - (squares - total * mean)) / (k + 1)
        bound = mean - math.sqrt(room) if room > 0.0 else mean
        if bound > d:
            break
        t = bound
    s = 2.0 * (1.0 + t)
    return s if s > 0.0 else 0.0


@njit(fastmath=EXACT, nogil=True)
def excess(found, n, a, s):
    """The sum of p minus 1 at s, and the slope of that in s, which is not positive."""
    total, slope = 0.0, 0.0
    for k in range(n):
        base = (a - 1.0) * (found[k] - s)
        if base > -1.0:
            p = power(base, a)
            total += p
            slope -= p / (1.0 + base)
    return total - 1.0, slope


@njit(fastmath=EXACT, nogil=True)
def power(base, a):
    """(1 + base) ** (1 / (a - 1)) for base > -1."""
    if a == 2.0:
        return 1.0 + base
    if a == 1.5:
        return (1.0 + base) * (1.0 + base)
    return math.exp(math.log1p(base) / (a - 1.0))


@njit(fastmath=EXACT, nogil=True)
def solved_shift(found, n, a, s):
    """Newton's method from s, kept between bounds that close in; halving where it leaves them."""
    low, high = 0.0, -math.expm1((1.0 - a) * math.log(n)) / (a - 1.0)
    for _ in range(200):
        over, slope = excess(found, n, a, s)
        if over == 0.0:
            break
        if over > 0.0:
            low = s
        else:
            high = s
        following = s - over / slope if slope < 0.0 else 0.5 * (low + high)
        if not low <= following <= high:
            following = 0.5 * (low + high)
        if abs(following - s) <= 1e-16 * abs(s) or following == s:
            s = following
            break
        s = following
    return s


@kernel(EXACT)
def entmax_rows(logits, a, out):
    """out[i] = entmax of row i for a > 1; logits and out (N, K), K > 0. NaN where a row has no largest finite logit."""
    N, K = logits.shape
    found, lanes = np.empty(K), np.empty(LANES, logits.dtype)
    reach = 1.0 / (a - 1.0)
    for i in range(N):
        n, m = candidates(logits[i], reach, lanes, found)
        if n == 0:
            out[i] = np.nan
            continue
        if a == 2.0:
            s = sparsemax_shift(found, n)
        elif a == 1.5:
            s = solved_shift(found, n, a, entmax15_shift(found, n))
        else:
            s = solved_shift(found, n, a, 0.0)
        over = 0.0 if a == 2.0 else excess(found, n, a, s)[0]  # what rounding left: ties then share exactly
        for k in range(K):
            base = (a - 1.0) * ((np.float64(logits[i, k]) - m) - s)
            out[i, k] = power(base, a) / (1.0 + over) if base > -1.0 else 0.0
