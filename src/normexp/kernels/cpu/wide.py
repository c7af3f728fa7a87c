"""softmax, log_softmax and logsumexp of rows of many classes, with nothing stored for each class.

A row is cut into chunks that stay in the first-level cache (see ``chunks``). The states of all chunks come
first and are merged in their order (Milakov and Gimelshein (2018), eq. 4, with rounding errors carried along);
then each chunk is computed again, with what the whole row adds up to. Exponentials are computed twice, which
costs less than memory of twice the row's size. Where the chunks begin depends on nothing but the row, so
several threads may share a row, and its bits stay the same.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.chunks import CHUNK, GROUP, TINY, far_sum, merged_rest, pushed
from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_single
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import (
    LANES,
    exp_row_double,
    is_empty,
    log_row,
    reciprocal,
    rest_double,
    row_max,
    scale_row,
    total_of,
)

SPAN = 16  # chunks of float32 that are folded into one state: 128 KiB
WIDE = 1 << 15  # more classes than this make a wide row: the scratch of ``softmax`` would leave the second-level cache


@njit(fastmath=EXACT, nogil=True)
def fill_states(row, temperature, double, tops, rests, tails, lanes, sums, e, terms, lost):
    """The states of the chunks of the row, in order; e, terms and lost: (CHUNK,) at least.

    float32 chunks are folded into the first of their span, and leave the state of no logits behind.
    """
    K = row.shape[0]
    for c in range((K + CHUNK - 1) // CHUNK):
        chunk = row[c * CHUNK : min((c + 1) * CHUNK, K)]
        top = row_max(chunk, lanes)
        tops[c], rests[c], tails[c] = -np.inf, 0.0, 0.0
        if is_empty(chunk, top):
            continue
        if double:
            tops[c] = top
            rests[c], tails[c] = rest_double(chunk, top, temperature, e, terms, lost)
        else:
            first = c - c % SPAN
            tops[first], rests[first] = pushed(tops[first], rests[first], chunk, top, 1.0 / temperature, sums)


@njit(fastmath=EXACT, nogil=True)
def merged(tops, rests, tails, temperature, terms, lost):
    """m, rest and its tail of a row, from the states of its chunks; rest is NaN where the row has no finite answer."""
    m = -np.inf
    for c in range(tops.shape[0]):
        m = tops[c] if tops[c] > m else m
    if np.isinf(m):
        return m, np.nan, 0.0
    rest, tail = merged_rest(tops, rests, tails, m, temperature, terms, lost)
    return m, rest, tail


@njit(fastmath=FUSED, nogil=True)
def scaled_exp_single(row, m, scale, factor, out):
    """out[k] = exp((row[k] - m) scale) factor, for float32 rows."""
    for k in range(row.shape[0]):
        out[k] = exp_single((np.float64(row[k]) - m) * scale) * factor


@njit(fastmath=EXACT, nogil=True)
def fill_prob(row, m, rest, tail, temperature, double, e, out):
    """out[k] = the probability of row[k], where m, rest and tail are the state of the whole row; e: (CHUNK,)."""
    if np.isnan(rest):
        out[:] = np.nan
        return
    factor, error = reciprocal(*total_of(rest, tail))
    if not double:
        scaled_exp_single(row, m, 1.0 / temperature, factor, out)
        return
    for start in range(0, row.shape[0], CHUNK):
        chunk = row[start : start + CHUNK]
        exp_row_double(chunk, m, temperature, e)
        scale_row(e, factor, error, out[start : start + CHUNK])


@njit(fastmath=EXACT, nogil=True)
def fill_log_prob(row, m, rest, temperature, out):
    """out[k] = the log-probability of row[k], as above."""
    if np.isnan(rest):
        out[:] = np.nan
    else:
        log_row(row, m, temperature, log_one_plus(rest), out)


@njit(fastmath=EXACT, nogil=True)
def log_total(row, m, rest):
    """Log sum exp of the row, from its state."""
    if not np.isnan(rest):
        return m + log_one_plus(rest)
    if is_empty(row, m):
        return -np.inf
    return np.nan if np.isnan(row).any() else np.inf


@kernel(EXACT)
def softmax_wide(logits, temperature, double, takes_log, out):
    """softmax, or log_softmax, of each row of logits; (N, K), K > 0; temperature (N,) or (1,)."""
    N, K = logits.shape
    chunks = (K + CHUNK - 1) // CHUNK
    room = max(CHUNK, chunks)
    lanes, sums, e = np.empty(LANES, logits.dtype), np.empty(GROUP), np.empty(CHUNK)
    tops, rests, tails = np.empty(chunks), np.empty(chunks), np.empty(chunks)
    terms, lost = np.empty(room), np.empty(room)
    step = 1 if temperature.shape[0] == N else 0
    for i in range(N):
        t = temperature[i * step]
        fill_states(logits[i], t, double, tops, rests, tails, lanes, sums, e, terms, lost)
        m, rest, tail = merged(tops, rests, tails, t, terms, lost)
        if double and t == 1.0 and rest < TINY:
            rest, tail = far_sum(logits[i], m, False), 0.0
        if takes_log:
            fill_log_prob(logits[i], m, rest, t, out[i])
        else:
            fill_prob(logits[i], m, rest, tail, t, double, e, out[i])


@kernel(EXACT)
def logsumexp_wide(logits, double, out):
    """out[i] = log sum_k exp(logits[i, k]); logits (N, K), K > 0; out (N,)."""
    N, K = logits.shape
    chunks = (K + CHUNK - 1) // CHUNK
    room = max(CHUNK, chunks)
    lanes, sums, e = np.empty(LANES, logits.dtype), np.empty(GROUP), np.empty(CHUNK)
    tops, rests, tails = np.empty(chunks), np.empty(chunks), np.empty(chunks)
    terms, lost = np.empty(room), np.empty(room)
    for i in range(N):
        fill_states(logits[i], 1.0, double, tops, rests, tails, lanes, sums, e, terms, lost)
        m, rest, _ = merged(tops, rests, tails, 1.0, terms, lost)
        out[i] = log_total(logits[i], m, rest)


@kernel(EXACT)
def states_of_piece(piece, double, states):
    """The states of the chunks of a piece (n,) of a row: states (chunks, 3)."""
    lanes, sums = np.empty(LANES, piece.dtype), np.empty(GROUP)
    e, terms, lost = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    fill_states(piece, 1.0, double, states[:, 0], states[:, 1], states[:, 2], lanes, sums, e, terms, lost)


@kernel(EXACT)
def merge_states(states, state):
    """state (4,) = m, rest, its tail and the log-sum of the row whose chunks have these states (chunks, 3)."""
    chunks = states.shape[0]
    terms, lost = np.empty(chunks), np.empty(chunks)
    m, rest, tail = merged(states[:, 0], states[:, 1], states[:, 2], 1.0, terms, lost)
    state[0], state[1], state[2], state[3] = m, rest, tail, m + log_one_plus(rest)


@kernel(EXACT)
def mend_state(row, state):
    """The rest of a float64 row (K,) whose largest logit leads so far that the rest is made of subnormal numbers."""
    state[1], state[2] = far_sum(row, state[0], False), 0.0


@kernel(EXACT)
def softmax_of_piece(piece, state, double, takes_log, out):
    """out (n,) = probability, or its log, of the logits of a piece (n,) of the row with this state."""
    if takes_log:
        fill_log_prob(piece, state[0], state[1], 1.0, out)
    else:
        fill_prob(piece, state[0], state[1], state[2], 1.0, double, np.empty(CHUNK), out)
