"""Rows of so many classes that several threads share one: in pieces of a fixed length.

A piece's state (m, rest, tail) is that of ``online``; states merge as in Milakov and Gimelshein (2018), eq. 4,
in the order of the pieces, so the bits depend on the row alone. Exponentials are computed twice, once for the
sum and once for the answer: memory of the size of the row would cost more.
"""

import numpy as np

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.online import (
    LANES,
    exp_row_double,
    exp_row_single,
    gap,
    log_row,
    reciprocal,
    row_state,
    scale_row,
    total_of,
)

LONG = 1 << 17  # more classes than this make a long row: 1 MiB of float64 scratch, a second-level cache
PIECE = 1 << 15  # classes in a piece: it and its exponentials fit the second-level cache beside others


@kernel(EXACT)
def piece_state(part, double, state):
    """state[:] = m, rest and its tail, of the logits part (n,), n > 0."""
    K = part.shape[0]
    e, terms, tails, lanes = np.empty(K), np.empty(K), np.empty(K), np.empty(LANES, part.dtype)
    state[0], state[1], state[2] = row_state(part, 1.0, double, lanes, e, terms, tails)
    if np.isnan(state[1]) and state[0] == -np.inf:
        for k in range(K):
            if np.isnan(part[k]):
                return
        state[1] = 0.0  # only -inf: nothing to add


@kernel(EXACT)
def merge_states(states, merged):
    """merged[:] = the state of the row whose pieces have these states; states (P, 3), merged (3,)."""
    P = states.shape[0]
    top = 0
    for p in range(P):
        if states[p, 0] > states[top, 0] or np.isnan(states[top, 0]):
            top = p
    m = states[top, 0]
    rest, tail = states[top, 1], states[top, 2]
    for p in range(P):
        if p == top or states[p, 0] == -np.inf:
            tail += 0.0 if p == top or not np.isnan(states[p, 1]) else np.nan
            continue
        d, low = gap(states[p, 0], m)
        share = exp_double(d, low)
        total, correction = total_of(states[p, 1], states[p, 2])
        a = total * share
        s = rest + a
        t = s - rest
        tail += ((rest - (s - t)) + (a - t)) + correction * share
        rest = s
    merged[0] = m
    merged[1] = rest + tail if np.isfinite(m) else np.nan
    merged[2] = (rest - merged[1]) + tail


@kernel(EXACT)
def softmax_piece(part, state, factor, double, out):
    """out[k] = factor * probability of part[k]; state that of the whole row."""
    e = np.empty(part.shape[0])
    if np.isnan(state[1]):
        out[:] = np.nan
        return
    if double:
        exp_row_double(part, state[0], 1.0, e)
    else:
        exp_row_single(part, state[0], 1.0, e)
    total, tail = total_of(state[1], state[2])
    scale, error = reciprocal(total, tail)
    scale_row(e, scale * factor, error * factor, out)


@kernel(EXACT)
def log_softmax_piece(part, state, log_sum, out):
    """out[k] = log-probability of part[k]; state and log_sum those of the whole row."""
    if np.isnan(state[1]):
        out[:] = np.nan
    else:
        log_row(part, state[0], 1.0, log_sum, out)
