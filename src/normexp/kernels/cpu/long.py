"""softmax of float32 rows so long that they leave the cache between two readings: two readings, nothing stored between.

A row is cut into spans that stay in the second-level cache. Each leaves its pivot and the sum of its terms (see
``single``); these states are merged (Milakov and Gimelshein (2018), eq. 4), and then the terms are computed again, from the
row's pivot. Where the spans begin depends on nothing but the row, so several threads may share it.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import lane_max, lane_sum
from normexp.kernels.cpu.single import FLOOR, ONE, PART, REACH, STEPS, exp_row, parts_from_pivot, pivot_of

f = np.float32
SPAN = 1 << 15  # logits of a span: 128 KiB
LIFT = 44.3614195558364998  # 64 ln 2: sums are 2^64 times as large
DOWN = f(2.0**-64)


@njit(fastmath=EXACT, nogil=True)
def span_state(span, terms):
    """Pivot and sum of a span; the pivot is -inf where all logits are, and NaN where the row is left to ``softmax``."""
    top = lane_max(span)
    if not abs(top) < REACH:
        for k in range(span.shape[0]):
            if span[k] != f(-np.inf):
                return np.nan, 0.0
        return -np.inf, 0.0
    total = 0.0
    pivot = pivot_of(top)
    for first in range(0, span.shape[0], PART):
        part = span[first : first + PART]
        exp_row(part, pivot, terms[: part.shape[0]])
        total += lane_sum(terms[: part.shape[0]])
    return np.float64(pivot), total


@njit(fastmath=EXACT, nogil=True)
def fill_states(row, pivots, totals, terms):
    """The states of the spans of a row, or of a piece of it that begins with a span."""
    for c in range(pivots.shape[0]):
        pivots[c], totals[c] = span_state(row[c * SPAN : (c + 1) * SPAN], terms)


@njit(fastmath=EXACT, nogil=True)
def merge(pivots, totals):
    """Pivot and sum of a row, from those of its spans; the sum is NaN where the row holds NaN."""
    pivot, total = -np.inf, 0.0
    for c in range(pivots.shape[0]):
        if np.isnan(pivots[c]):
            return np.nan, 0.0
        pivot = max(pivot, pivots[c])
    if pivot == -np.inf:
        return np.nan, 0.0
    for c in range(pivots.shape[0]):
        if totals[c] != 0.0:  # also NaN
            total += totals[c] * exp_double(pivots[c] - pivot, 0.0)
    return pivot, total


@njit(fastmath=FUSED, nogil=True)
def prob_row(row, pivot, shift, out):
    """out = exp(row - pivot + shift): the one rounding of 1 + s is that of the answer."""
    lowest = f(pivot + FLOOR)
    for k in range(row.shape[0]):
        high, rest, power = parts_from_pivot(row[k], pivot, lowest, shift)
        near = ONE + high
        out[k] = (near + (rest + (high - (near - ONE)))) * power * DOWN


@njit(fastmath=EXACT, nogil=True)
def fill_prob(row, pivot, total, out):
    """out = the probabilities of a row, or of a piece of it: the log of the sum moves the pivot, to within 1 ULP."""
    if np.isnan(total):
        out[:] = np.nan
        return
    log_sum = pivot + (math.log(total) - LIFT)
    here = np.rint(log_sum * STEPS) / STEPS
    prob_row(row, f(here), f(here - log_sum), out)


@kernel(EXACT)
def softmax_long(logits, out):
    """out = softmax of each row of logits, both (N, K) float32, K > 0; they may be the same.

    Returns how many rows are left to ``softmax``; nothing is written there.
    """
    N, K = logits.shape
    spans = (K + SPAN - 1) // SPAN
    pivots, totals, terms = np.empty(spans), np.empty(spans), np.empty(PART, np.float32)
    far = 0
    for i in range(N):
        fill_states(logits[i], pivots, totals, terms)
        pivot, total = merge(pivots, totals)
        if np.isnan(pivot):
            far += 1
        else:
            fill_prob(logits[i], pivot, total, out[i])
    return far


@kernel(EXACT)
def states_of_piece(piece, states):
    """The states of the spans of a piece (n,) of a row: states (spans, 2)."""
    fill_states(piece, states[:, 0], states[:, 1], np.empty(PART, np.float32))


@kernel(EXACT)
def merge_states(states):
    """Pivot and sum of the row whose spans have these states (spans, 2); the pivot is NaN where ``softmax`` is needed."""
    return merge(states[:, 0], states[:, 1])


@kernel(EXACT)
def softmax_of_piece(piece, pivot, total, out):
    """out (n,) = the probabilities of a piece (n,) of the row with this pivot and sum."""
    fill_prob(piece, pivot, total, out)
