"""Cross-entropy of float32 rows in float32 arithmetic, the gradient in place of the logits: for heads in training.

The terms are those of ``single``: 2^64 exp(z - pivot), each good to 1.1 units of 2^-24. With e the term of the true
class and ``others`` the sum of all terms but it, which is never had by subtraction:

    nll = log1p(others / e)                 where the true class has at least half,
    nll = (pivot - z) + log(others + e)     elsewhere, where it is above log 2,

so that the loss keeps its digits in both tails, and the true class's gradient is ``-others / (others + e)``, which
never cancels to 0. Logits further than 105 below the largest count as if they were 105 below: their terms add no
more than 3e-46 each. Rows whose largest logit is 2^19 or more in magnitude, infinite or NaN, and rows whose true class
is impossible, are left to ``cross_entropy``.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.lanes import lane_max, lane_sum
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.single import FLOOR, PART, REACH, exp_from_pivot, factor_of, pivot_of, scale_in_place

f = np.float32
LOG_UNIT = 64.0 * 0.6931471805599453  # of the unit 2^64 in which terms are kept
LEFT = -1.0  # in place of a loss: no row has it


@njit(fastmath=EXACT, nogil=True)
def exp_in_place(row, pivot):
    """Row becomes 2^64 exp(row - pivot)."""
    lowest = f(pivot + FLOOR)
    for k in range(row.shape[0]):
        row[k] = exp_from_pivot(row[k], pivot, lowest)


@kernel(EXACT)
def index_loss_single(block, K, target, scale, loss, wants_grad):
    """loss[i] of class target[i] of the logits block[i, :K], which become the gradient times scale[i] when wanted.

    block (N, at least K) float32, overwritten; target (N,) int64 within [0, K); scale and loss (N,) float64. Returns how
    many rows are left to ``cross_entropy``: they stay as they are, with the loss LEFT.
    """
    left = 0
    for i in range(block.shape[0]):
        row = block[i, :K]
        t = target[i]
        top, z = lane_max(row), row[t]
        if not abs(top) < REACH or z == -np.inf:
            loss[i] = LEFT
            left += 1
            continue
        pivot = pivot_of(top)
        others, own = 0.0, 0.0
        for first in range(0, K, PART):
            part = row[first : first + PART]
            exp_in_place(part, pivot)
            if first <= t < first + part.shape[0]:
                own = np.float64(part[t - first])
                part[t - first] = f(0.0)
            others += lane_sum(part)
        total = others + own
        if own >= others:
            loss[i] = log_one_plus(others / own)
        else:
            loss[i] = (np.float64(pivot) - np.float64(z)) + (math.log(total) - LOG_UNIT)
        if wants_grad:
            high, low = factor_of(total / scale[i] if scale[i] != 0.0 else np.inf)
            scale_in_place(row, high, low)
            row[t] = f(-scale[i] * (others / total))
    return left
