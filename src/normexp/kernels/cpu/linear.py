"""What the linear head does to its raw logits between the products: a soft cap, its slope, sums over rows."""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double
from normexp.kernels.cpu.flags import EXACT

SMALL = 1e-4  # up to here the next term of the series, 2/15 x^4, is below 2e-17


@njit(fastmath=EXACT, forceinline=True)
def tanh_single(x):
    """Tanh x in float64, good to 1e-12: for results in float32. NaN stays NaN."""
    a = abs(x)
    q = exp_double(-2.0 * a, 0.0)
    t = (1.0 - q) / (1.0 + q)
    t = a - a * a * a / 3.0 if a < SMALL else t
    return math.copysign(t, x)


@kernel(EXACT)
def cap_rows(raw, cap, double, out):
    """out[i, k] = cap tanh(raw[i, k] / cap); raw and out (N, K)."""
    for i in range(raw.shape[0]):
        row, filled = raw[i], out[i]
        if double:
            for k in range(row.shape[0]):
                filled[k] = cap * math.tanh(np.float64(row[k]) / cap)
        else:
            for k in range(row.shape[0]):
                filled[k] = cap * tanh_single(np.float64(row[k]) / cap)


@kernel(EXACT)
def slope_rows(raw, cap, grad):
    """grad[i, k] *= 1 - tanh(raw[i, k] / cap)^2, as 4 q / (1 + q)^2 with q = exp(-2 |x|), which does not cancel."""
    for i in range(raw.shape[0]):
        row, filled = raw[i], grad[i]
        for k in range(row.shape[0]):
            q = exp_double(-2.0 * abs(np.float64(row[k]) / cap), 0.0)
            slope = 4.0 * q / ((1.0 + q) * (1.0 + q))
            filled[k] = filled[k] * slope if filled[k] != 0.0 else 0.0


@kernel(EXACT)
def add_columns(grad, first, last, sums):
    """sums[first:last] += the sum over the rows of grad[:, first:last], in their order; sums float64."""
    for i in range(grad.shape[0]):
        row, into = grad[i, first:last], sums[first:last]
        for k in range(row.shape[0]):
            into[k] += row[k]
