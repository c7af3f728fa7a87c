"""log1p, written so that LLVM turns a loop of it into SIMD code.

1 + x = 2^n f with f in [sqrt 1/2, sqrt 2]; with s = (f - 1) / (f + 1), log f = 2 atanh s, whose odd series
in s is fitted by degree 7 in s^2 (Tang (1990), sec. 2; the shape f - (f^2/2 - s (f^2/2 + R)) is fdlibm's).
What 1 + x loses by rounding is added back, divided by 1 + x. Below one unit in the last place of float64.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.exponential import LN2_HIGH, LN2_LOW
from normexp.kernels.cpu.flags import EXACT

SQRT_HALF_BITS = 0x3FE6A09E667F3BCD  # the float64 nearest to sqrt(1/2)
L0, L1, L2, L3, L4, L5, L6, L7 = (
    0.6666666666666666,
    0.40000000000000885,
    0.28571428570799784,
    0.22222222392581045,
    0.18181795547521137,
    0.15386244737621665,
    0.13268638369266825,
    0.13088034850927555,
)


@njit(fastmath=EXACT, forceinline=True)
def log_one_plus(x):
    """log(1 + x) for 0 <= x < 2^1000; NaN stays NaN."""
    u = 1.0 + x
    bits = np.float64(u).view(np.int64)
    n = (bits - np.int64(SQRT_HALF_BITS)) >> np.int64(52)
    f = np.int64(bits - (n << np.int64(52))).view(np.float64) - 1.0
    lost = (x - (u - 1.0)) if u < 2.0 else 1.0 - (u - x)
    small = n == 0
    f = x if small else f
    lost = 0.0 if small else lost / u
    half = 0.5 * f * f
    s = f / (2.0 + f)
    w = s * s
    r = w * (L0 + w * (L1 + w * (L2 + w * (L3 + w * (L4 + w * (L5 + w * (L6 + w * L7)))))))
    k = np.float64(n)
    value = k * LN2_HIGH - ((half - (s * (half + r) + (k * LN2_LOW + lost))) - f)
    return value + (x - x)  # NaN comes back
