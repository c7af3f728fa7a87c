"""softmax of float32 rows in float32 arithmetic: twice the SIMD width of float64, and still within 2.2 ULP.

exp(z - m) in float32 is wrong by the rounding error of z - m, up to 64 ULP. That error is carried along. The pivot m
is not the largest logit but the next multiple of 1/16, or more coarsely spaced numbers still: then two further
operations find the error exactly for every z between m - 105 and m (``gap_from_pivot``), where Knuth's two-sum needs five.
With d = z - m, n = round(d / ln 2) and r = (d - n ln 2) + error:

    exp(z - m) = 2^n (1 + s),    s = r + r^2 q(r),    |r| <= 0.3466

q has degree 4, minimax in the error relative to exp (0.06 units of 2^-24; the coefficients by reweighted least squares with
60 digits; a test computes the error again). s is rounded once more in 1 + s, and the product with 1 / sum once:
together within 2.2 ULP (2.0 was the worst seen). Terms are kept 2^64 times as large, so that none of them is subnormal.

Rows whose largest logit is 2^19 or more in magnitude, infinite or NaN are left to ``softmax``.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import lane_max, lane_sum

f = np.float32
LOG2E = f(1.4426950408889634)
ROUND = f(
    12582912.0 + 64.0 + 127.0
)  # 1.5 * 2**23: rounds to an integer, which then stands in the lowest bits; 2**64; bias
LN2_HIGH = f(0.693145751953125)  # 16 bits, so that n * LN2_HIGH is exact
LN2_LOW = f(1.428606820309417e-06)
REACH = f(524288.0)  # 2**19
STEPS = f(16.0)  # of the pivot, in 1
FLOOR = f(-105.0)  # exp(-105) times 1 / sum rounds to 0
C0, C1, C2, C3, C4 = (
    f(0.5),
    f(0.16666533801833464),
    f(0.04166723877283269),
    f(0.00836750933737886),
    f(0.0013863757198666622),
)
ZERO, ONE = f(0.0), f(1.0)
SHIFT = np.int32(23)
PART = 2048  # terms that are made and added up at once: 8 KiB, in the first-level cache
TOGETHER = 1024  # logits of the short rows that go through a step together
LONG = 1 << 18  # longer rows leave the second-level cache between two readings; ``long`` reads them twice only


@njit(fastmath=EXACT, forceinline=True)
def pivot_of(top):
    """The multiple of 1/16 above the largest logit; |top| below REACH."""
    return f(np.ceil(top * STEPS)) / STEPS


@njit(fastmath=EXACT, forceinline=True)
def gap_from_pivot(z, pivot):
    """Z - pivot and its rounding error, exact for pivot - 105 <= z <= pivot (Dekker (1971), with a coarse subtrahend)."""
    d = z - pivot
    return d, z - (d + pivot)


@njit(fastmath=FUSED, forceinline=True)
def parts_from_pivot(z, pivot, lowest, shift):
    """s in two parts, and 2^(64 + n), of exp(z - pivot + shift); z below lowest counts as lowest; NaN stays in s."""
    z = lowest if z < lowest else z
    d, error = gap_from_pivot(z, pivot)
    t = (d + shift) * LOG2E + ROUND
    n = t - ROUND
    high = d - n * LN2_HIGH
    low = (error + shift) - n * LN2_LOW
    r = high + low
    q = C0 + r * (C1 + r * (C2 + r * (C3 + r * C4)))
    return high, (r * r) * q + low, np.int32(f(t).view(np.int32) << SHIFT).view(np.float32)


@njit(fastmath=FUSED, forceinline=True)
def exp_from_pivot(z, pivot, lowest):
    """2^64 exp(z - pivot)."""
    high, rest, power = parts_from_pivot(z, pivot, lowest, ZERO)
    return (ONE + (high + rest)) * power


@njit(fastmath=EXACT, nogil=True)
def exp_row(row, pivot, e):
    """e = 2^64 exp(row - pivot); row and e (K,) may not overlap."""
    lowest = f(pivot + FLOOR)
    for k in range(row.shape[0]):
        e[k] = exp_from_pivot(row[k], pivot, lowest)


@njit(fastmath=EXACT, nogil=True)
def exp_and_sum(row, pivot, e):
    """As exp_row, PART terms at a time, and their sum."""
    total = 0.0
    for first in range(0, row.shape[0], PART):
        part = e[first : first + PART]
        exp_row(row[first : first + PART], pivot, part)
        total += lane_sum(part)
    return total


@njit(fastmath=EXACT, forceinline=True, error_model="numpy")
def factor_of(total):
    """1 / total as two float32."""
    factor = 1.0 / total
    high = f(factor)
    return high, f(factor - np.float64(high))


@njit(fastmath=FUSED, nogil=True)
def scale_in_place(e, high, low):
    """e *= high + low."""
    for k in range(e.shape[0]):
        e[k] = e[k] * high + e[k] * low


@kernel(EXACT)
def softmax_single(logits, out):
    """out = softmax of each row of logits, both (N, K) float32, K > 0, sharing no memory.

    Returns how many rows are left to ``softmax``; out holds nothing of worth there. Short rows go through each step
    together: one row's steps wait for each other, those of several rows do not.
    """
    N, K = logits.shape
    G = max(1, TOGETHER // K)
    tops, totals = np.empty(G, np.float32), np.empty(G)
    far = 0
    for start in range(0, N, G):
        n = min(G, N - start)
        for i in range(n):
            tops[i] = lane_max(logits[start + i])
        for i in range(n):
            if not abs(tops[i]) < REACH:
                far += 1
                totals[i] = np.nan
            elif K > PART:
                totals[i] = exp_and_sum(logits[start + i], pivot_of(tops[i]), out[start + i])
            else:
                exp_row(logits[start + i], pivot_of(tops[i]), out[start + i])
        for i in range(n):
            if K <= PART:
                totals[i] = lane_sum(out[start + i])
        for i in range(n):
            if np.isnan(totals[i]):
                out[start + i] = np.nan
            else:
                high, low = factor_of(totals[i])
                scale_in_place(out[start + i], high, low)
    return far
