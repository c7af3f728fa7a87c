"""Rows of few classes: 64 rows at a time, turned on their side, so that SIMD runs across the rows.

A tile holds class k of 64 rows side by side. All loops over a tile are elementwise; sums run over the
classes in their order, so a row's bits do not depend on its neighbours. The state (m, rest, tail) is that of
``online``. Rows that fill up the last group of eight are zeros, and are not written back.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double, exp_single
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import gap, is_empty, product_error

SIDE = 64  # rows in a tile
NARROW = 128  # up to so many classes, 64 rows fit the caches, and this way is the faster one (bench/ops.py)


@njit(fastmath=EXACT, nogil=True)
def load_tile(logits, i, n, lanes, z):
    """z[k, r] = logits[i + r, k] for r < n, and 0 up to lanes."""
    for r in range(n):
        row = logits[i + r]
        for k in range(row.shape[0]):
            z[k, r] = row[k]
    for k in range(z.shape[0]):
        z[k, n:lanes] = 0.0


@njit(fastmath=EXACT, nogil=True)
def store_tile(z, i, n, out):
    """out[i + r, k] = z[k, r] for r < n."""
    for r in range(n):
        row = out[i + r]
        for k in range(row.shape[0]):
            row[k] = z[k, r]


@njit(fastmath=EXACT, nogil=True)
def tile_max(z, m):
    """m[r] = the largest of z[:, r], NaN passed over behind the first class."""
    m[:] = z[0]
    for k in range(1, z.shape[0]):
        zk = z[k]
        for r in range(m.shape[0]):
            m[r] = zk[r] if zk[r] > m[r] else m[r]


@njit(fastmath=FUSED, nogil=True)
def tile_rest_single(z, m, e, rest, ones):
    """e = exp(z - m); rest[r] = the sum of all but one of the terms that are 1."""
    rest[:] = 0.0
    ones[:] = -1.0
    for k in range(z.shape[0]):
        zk, ek = z[k], e[k]
        for r in range(m.shape[0]):
            v = exp_single(np.float64(zk[r]) - np.float64(m[r]))
            ek[r] = v
            rest[r] += 0.0 if v == 1.0 else v
            ones[r] += 1.0 if v == 1.0 else 0.0
    for r in range(m.shape[0]):
        rest[r] += ones[r]


@njit(fastmath=EXACT, nogil=True)
def tile_rest_double(z, m, e, rest, ones, tails):
    """As tile_rest_single, with the rounding errors of every difference and sum."""
    rest[:] = 0.0
    tails[:] = 0.0
    ones[:] = -1.0
    for k in range(z.shape[0]):
        zk, ek = z[k], e[k]
        for r in range(m.shape[0]):
            d, tail = gap(np.float64(zk[r]), np.float64(m[r]))
            ek[r] = exp_double(d, tail)
        for r in range(m.shape[0]):
            v = 0.0 if ek[r] == 1.0 else ek[r]
            ones[r] += 1.0 if ek[r] == 1.0 else 0.0
            s = rest[r] + v
            t = s - rest[r]
            tails[r] += (rest[r] - (s - t)) + (v - t)
            rest[r] = s
    for r in range(m.shape[0]):
        s = rest[r] + tails[r]
        low = (rest[r] - s) + tails[r]
        total = s + ones[r]
        t = total - s
        tails[r] = ((s - (total - t)) + (ones[r] - t)) + low
        rest[r] = total


@njit(fastmath=EXACT, nogil=True)
def tile_state(z, double, m, e, rest, ones, tails):
    """Fill m, e, rest and tails from the logits z."""
    tile_max(z, m)
    if double:
        tile_rest_double(z, m, e, rest, ones, tails)
    else:
        tile_rest_single(z, m, e, rest, ones)
        tails[:] = 0.0


@njit(fastmath=EXACT, nogil=True)
def tile_reciprocal(rest, tails, factor, error):
    """factor + error = 1 / (1 + rest + tails), with the rounding error of the factor."""
    for r in range(rest.shape[0]):
        total = 1.0 + rest[r]
        t = total - rest[r]
        low = ((rest[r] - (total - t)) + (1.0 - t)) + tails[r]
        f = 1.0 / total
        p = f * total
        factor[r] = f
        error[r] = (((1.0 - p) - product_error(f, total, p)) - low * f) * f


@njit(fastmath=FUSED, nogil=True)
def tile_scale(e, factor, error, z):
    """z = e * (factor + error), rounded to the dtype of z."""
    for k in range(e.shape[0]):
        zk, ek = z[k], e[k]
        for r in range(factor.shape[0]):
            zk[r] = ek[r] * factor[r] + ek[r] * error[r]


@njit(fastmath=EXACT, nogil=True)
def void_rows(rest, i, n, out):
    """NaN, always the same one, throughout the rows whose rest is NaN."""
    for r in range(n):
        if np.isnan(rest[r]):
            out[i + r] = np.nan


@kernel(EXACT)
def softmax_narrow(logits, double, out):
    """out = softmax of each row of logits; both (N, K), K > 0."""
    N, K = logits.shape
    lanes = min(SIDE, (N + 7) & ~7)
    z, e, m = np.empty((K, lanes), logits.dtype), np.empty((K, lanes)), np.empty(lanes, logits.dtype)
    rest, ones, tails = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    factor, error = np.empty(lanes), np.empty(lanes)
    for i in range(0, N, SIDE):
        n = min(SIDE, N - i)
        load_tile(logits, i, n, lanes, z)
        tile_state(z, double, m, e, rest, ones, tails)
        tile_reciprocal(rest, tails, factor, error)
        tile_scale(e, factor, error, z)
        store_tile(z, i, n, out)
        void_rows(rest, i, n, out)


@njit(fastmath=EXACT, nogil=True)
def tile_log(rest, log_sum):
    """log_sum = log(1 + rest)."""
    for r in range(rest.shape[0]):
        log_sum[r] = log_one_plus(rest[r])


@kernel(EXACT)
def log_softmax_narrow(logits, double, out):
    """out = log_softmax of each row of logits; both (N, K), K > 0."""
    N, K = logits.shape
    lanes = min(SIDE, (N + 7) & ~7)
    z, e, m = np.empty((K, lanes), logits.dtype), np.empty((K, lanes)), np.empty(lanes, logits.dtype)
    rest, ones, tails, log_sum = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.empty(lanes)
    for i in range(0, N, SIDE):
        n = min(SIDE, N - i)
        load_tile(logits, i, n, lanes, z)
        tile_state(z, double, m, e, rest, ones, tails)
        tile_log(rest, log_sum)
        for k in range(K):
            zk = z[k]
            for r in range(lanes):
                d, tail = gap(np.float64(zk[r]), np.float64(m[r]))
                zk[r] = d + (tail - log_sum[r])
        store_tile(z, i, n, out)
        void_rows(rest, i, n, out)


@kernel(EXACT)
def logsumexp_narrow(logits, double, out):
    """out[i] = log sum_k exp(logits[i, k]); logits (N, K), K > 0; out (N,)."""
    N, K = logits.shape
    lanes = min(SIDE, (N + 7) & ~7)
    z, e, m = np.empty((K, lanes), logits.dtype), np.empty((K, lanes)), np.empty(lanes, logits.dtype)
    rest, ones, tails, log_sum = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.empty(lanes)
    for i in range(0, N, SIDE):
        n = min(SIDE, N - i)
        load_tile(logits, i, n, lanes, z)
        tile_state(z, double, m, e, rest, ones, tails)
        tile_log(rest, log_sum)
        for r in range(n):
            if not np.isnan(rest[r]):
                out[i + r] = np.float64(m[r]) + log_sum[r]
            elif is_empty(logits[i + r], m[r]):
                out[i + r] = -np.inf
            else:
                out[i + r] = np.nan if np.isnan(logits[i + r]).any() else np.inf


@kernel(EXACT)
def index_narrow(logits, target, row_weight, z_loss, double, grad_scale, loss, grad):
    """index_rows of ``cross_entropy`` without smoothing and focal factor; the same arguments otherwise."""
    N, K = logits.shape
    lanes = min(SIDE, (N + 7) & ~7)
    z, e, m = np.empty((K, lanes), logits.dtype), np.empty((K, lanes)), np.empty(lanes, logits.dtype)
    rest, ones, tails, log_sum = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.empty(lanes)
    factor, error, hit = np.zeros(lanes), np.zeros(lanes), np.zeros(lanes)
    wants_grad = grad.shape[0] > 0
    for i in range(0, N, SIDE):
        n = min(SIDE, N - i)
        load_tile(logits, i, n, lanes, z)
        tile_state(z, double, m, e, rest, ones, tails)
        tile_log(rest, log_sum)
        if wants_grad:
            tile_reciprocal(rest, tails, factor, error)
        for r in range(n):
            t = target[i + r]
            if t < 0:
                loss[i + r], hit[r], factor[r], error[r], rest[r] = 0.0, 0.0, 0.0, 0.0, 0.0
                e[:, r] = 0.0
                continue
            if np.isnan(rest[r]):
                loss[i + r] = np.nan
                continue
            w = row_weight[i + r]
            d, tail = gap(np.float64(logits[i + r, t]), np.float64(m[r]))
            lse = m[r] + log_sum[r]
            extra = z_loss * lse * lse if z_loss != 0.0 else 0.0
            loss[i + r] = w * ((log_sum[r] - tail) - d) + extra
            pull = 2.0 * z_loss * lse if z_loss != 0.0 else 0.0
            others = rest[r] if d == 0.0 else (1.0 + rest[r]) - e[t, r]
            own = pull * (e[t, r] * factor[r]) - w * (others * factor[r] + others * error[r])
            hit[r] = 0.0 if np.float64(logits[i + r, t]) == -np.inf else grad_scale * own
            c = grad_scale * (w + pull)
            p = factor[r] * c
            error[r] = product_error(factor[r], c, p) + error[r] * c
            factor[r] = p
        if not wants_grad:
            continue
        tile_scale(e, factor, error, z)
        for r in range(n):
            if target[i + r] >= 0:
                z[target[i + r], r] = hit[r]
        store_tile(z, i, n, grad)
        for r in range(n):
            if np.isnan(rest[r]):
                grad[i + r] = 0.0 if is_empty(logits[i + r], m[r]) else np.nan
