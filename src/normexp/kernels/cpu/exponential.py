"""The exponential function, written so that LLVM turns a loop of it into SIMD code.

Two versions, both for arguments d <= 0:

- ``exp_single(d)``: relative error below 2^-28, for logits that came as float32. 2^(d log2 e) is
  split into an integer and a remainder in [-1/2, 1/2]; degree 6 is enough.
- ``exp_double(d, tail)``: exp(d + tail) within 0.8 units in the last place of float64. Cody and Waite's
  two-part ln 2 (fdlibm's split: 33 bits, so that n * LN2_HIGH is exact), degree 11.

The coefficients are interpolations at Chebyshev nodes, computed with 60 digits; a test computes
them again. Adding 1.5 * 2^52 rounds to an integer, which then stands in the lowest bits.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.flags import EXACT, FUSED

LOG2E = 1.4426950408889634
ROUND = 6755399441055744.0  # 1.5 * 2**52
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
SINGLE_FLOOR = -700.0  # exp(-700) = 1e-304 is 0 as a float32, and its exponent still fits a float64
DOUBLE_FLOOR = -760.0  # exp(-760) = 0 as a float64

P1, P2, P3, P4, P5, P6 = (
    0.6931472067185375,
    0.24022650922424724,
    0.05550327193163993,
    0.00961805664951722,
    0.0013400441580195398,
    0.00015461456301343578,
)
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, Q9 = (
    0.5000000000000001,
    0.16666666666666669,
    0.041666666666623824,
    0.008333333333330039,
    0.0013888888917367081,
    0.00019841269863171557,
    2.4801521057868204e-05,
    2.7557268276905696e-06,
    2.7620201591031547e-07,
    2.5100472505694996e-08,
)


@njit(fastmath=FUSED, forceinline=True)
def exp_single(d):
    """exp(d) for d <= 0 with a relative error below 2^-28; NaN stays NaN, below -700 it stays at 1e-304."""
    d = SINGLE_FLOOR if d < SINGLE_FLOOR else d
    t = d * LOG2E + ROUND
    r = d * LOG2E - (t - ROUND)
    p = 1.0 + r * (P1 + r * (P2 + r * (P3 + r * (P4 + r * (P5 + r * P6)))))
    shift = np.float64(t).view(np.int64) << np.int64(52)
    return np.int64(np.float64(p).view(np.int64) + shift).view(np.float64)


@njit(fastmath=EXACT, forceinline=True)
def exp_double(d, tail):
    """exp(d + tail) for d <= 0 and a tail below half a unit in the last place of d; exact 0 and subnormals."""
    tail = 0.0 if d < DOUBLE_FLOOR else tail  # the tail of 1e300 is no longer small
    d = DOUBLE_FLOOR if d < DOUBLE_FLOOR else d
    t = d * LOG2E + ROUND
    n = t - ROUND
    high = d - n * LN2_HIGH
    low = n * LN2_LOW
    r = high - low
    rest = ((high - r) - low) + tail
    q = Q4 + r * (Q5 + r * (Q6 + r * (Q7 + r * (Q8 + r * Q9))))
    q = Q0 + r * (Q1 + r * (Q2 + r * (Q3 + r * q)))
    s = r * r * q
    p = 1.0 + (r + (s + (rest + rest * (r + s))))
    whole = np.float64(t).view(np.int64) << np.int64(12) >> np.int64(12)
    half = whole >> np.int64(1)
    first = np.int64((np.int64(1023) + half) << np.int64(52)).view(np.float64)
    second = np.int64((np.int64(1023) + whole - half) << np.int64(52)).view(np.float64)
    return p * first * second
