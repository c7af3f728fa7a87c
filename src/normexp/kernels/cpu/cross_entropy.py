"""Cross-entropy of rows of logits, and its gradient, from the state of each row (see ``online``).

With d_k = z_k - m, L = log1p(rest) and p_k = exp(d_k) / (1 + rest):

    nll_k = L - d_k,        lse = m + L,        1 - p_k = rest / (1 + rest) at the largest logit.

A loss sum_k a_k (1 - p_k)^gamma nll_k + z lse^2 has the gradient p_j G - b_j + 2 z lse p_j, with
b_k = a_k g_k, G = sum b_k, g_k = (1 - p_k)^gamma + gamma (1 - p_k)^(gamma - 1) p_k nll_k (Lin et al. (2017),
appendix). It is computed as p_j (G - b_j) - b_j (1 - p_j): both brackets are sums of what the others
have, so the entry of a confident true class keeps its digits instead of cancelling to 0.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import (
    LANES,
    fold,
    gap,
    is_empty,
    product_error,
    reciprocal,
    row_state,
    scale_row,
    total_of,
)


@njit(fastmath=EXACT, nogil=True)
def focal_terms(others, prob, nll, gamma):
    """(1 - p)^gamma, and the factor g of the gradient; others = 1 - p."""
    if gamma == 0.0:
        return 1.0, 1.0
    if others == 0.0:
        return 0.0, 0.0
    power = math.pow(others, gamma)
    if np.isinf(nll):
        return power, power
    return power, power + gamma * (power / others) * prob * nll


@njit(fastmath=EXACT, nogil=True)
def spread_terms(row, m, log_sum, terms):
    """terms[k] = -log p_k where the row allows the class (logit above -inf), else 0; how many it allows."""
    allowed = 0
    for k in range(row.shape[0]):
        z = np.float64(row[k])
        if z == -np.inf:
            terms[k] = 0.0
        else:
            terms[k] = log_sum - (z - m)
            allowed += 1
    return allowed


@kernel(EXACT)
def index_rows(logits, target, row_weight, smoothing, z_loss, gamma, double, grad_scale, loss, grad):
    """loss[i] of class index target[i] (negative: ignored); grad (N, K), or (0, 0) when not wanted.

    logits (N, K), K > 0; row_weight (N,) float64; grad gets each row's gradient times grad_scale.
    """
    N, K = logits.shape
    e, terms, tails, lanes = np.empty(K), np.empty(K), np.empty(K), np.empty(LANES, logits.dtype)
    wants_grad = grad.shape[0] > 0
    for i in range(N):
        t = target[i]
        if t < 0:
            loss[i] = 0.0
            if wants_grad:
                grad[i] = 0.0
            continue
        m, rest, tail = row_state(logits[i], 1.0, double, lanes, e, terms, tails)
        if np.isnan(rest):
            loss[i] = np.nan
            if wants_grad:
                grad[i] = 0.0 if is_empty(logits[i], m) else np.nan
            continue
        total, correction = total_of(rest, tail)
        log_sum = log_one_plus(rest)
        z_true = np.float64(logits[i, t])
        d, d_tail = gap(z_true, m)
        nll = (log_sum - d_tail) - d
        factor_all, error_all = reciprocal(total, correction)
        miss = rest if d == 0.0 else total - e[t]
        others = miss * factor_all + miss * error_all
        prob = e[t] * factor_all
        power, factor = focal_terms(others, prob, nll, gamma)
        smooth, share, allowed = nll, 0.0, 1
        if smoothing > 0.0:
            allowed = spread_terms(logits[i], m, log_sum, terms)
            share = smoothing / allowed
            smooth = share * fold(terms, K)
            if smoothing < 1.0:
                smooth += (1.0 - smoothing) * nll
            factor = gamma * (power / others) * prob if gamma > 0.0 and others > 0.0 and nll < np.inf else 0.0
        w = row_weight[i]
        lse = m + log_sum
        loss[i] = w * (power * smooth) + (z_loss * lse * lse if z_loss != 0.0 else 0.0)
        if not wants_grad:
            continue
        c = grad_scale * w
        from_lse = 2.0 * z_loss * lse if z_loss != 0.0 else 0.0
        if smoothing > 0.0:
            pull = factor * smooth if factor > 0.0 else 0.0
            for k in range(K):
                p = e[k] * factor_all
                if k == t:
                    mine = 1.0 - smoothing + share
                    g = power * (p * (share * (allowed - 1)) - mine * others) - pull * others
                else:
                    g = power * (p - share) + pull * p
                grad[i, k] = c * g + grad_scale * (from_lse * p) if np.float64(logits[i, k]) > -np.inf else 0.0
            continue
        pull = c * factor + grad_scale * from_lse
        p = factor_all * pull
        scale_row(e, p, product_error(factor_all, pull, p) + error_all * pull, grad[i])
        own = grad_scale * (from_lse * prob) - c * (factor * others)
        grad[i, t] = own if z_true > -np.inf else 0.0


@kernel(EXACT)
def proportion_rows(logits, target, weight, smoothing, z_loss, gamma, double, grad_scale, loss, grad):
    """loss[i] for proportions target[i]; weight (K,) float64, or (0,) for ones; grad (N, K), or (0, 0) when not wanted."""
    N, K = logits.shape
    e, terms, tails, lanes = np.empty(K), np.empty(K), np.empty(K), np.empty(LANES, logits.dtype)
    b = np.empty(K)
    wants_grad = grad.shape[0] > 0
    for i in range(N):
        m, rest, tail = row_state(logits[i], 1.0, double, lanes, e, terms, tails)
        if np.isnan(rest):
            loss[i] = np.nan
            if wants_grad:
                grad[i] = 0.0 if is_empty(logits[i], m) else np.nan
            continue
        total, correction = total_of(rest, tail)
        factor_all, error_all = reciprocal(total, correction)
        log_sum = log_one_plus(rest)
        share = 0.0
        if smoothing > 0.0:
            allowed = 0
            for k in range(K):
                allowed += np.float64(logits[i, k]) != -np.inf
            share = smoothing / allowed
        largest = 0
        for k in range(K):
            z = np.float64(logits[i, k])
            d, d_tail = gap(z, m)
            a = (1.0 - smoothing) * np.float64(target[i, k]) + (share if z != -np.inf else 0.0)
            a = a * weight[k] if weight.shape[0] > 0 else a
            nll = (log_sum - d_tail) - d
            others = (rest if d == 0.0 else total - e[k]) * factor_all
            power, factor = focal_terms(others, e[k] * factor_all, nll, gamma)
            terms[k] = a * power * nll if a > 0.0 else 0.0
            b[k] = a * factor
            largest = k if b[k] > b[largest] else largest
        lse = m + log_sum
        loss[i] = fold(terms, K) + (z_loss * lse * lse if z_loss != 0.0 else 0.0)
        if not wants_grad:
            continue
        from_lse = 2.0 * z_loss * lse if z_loss != 0.0 else 0.0
        terms[:K] = b[:K]
        terms[largest] = 0.0
        small = fold(terms, K)  # what all but the largest b add up to
        pull = small + b[largest]
        for k in range(K):
            p = e[k] * factor_all
            others = (rest if np.float64(logits[i, k]) == m else total - e[k]) * factor_all
            g = p * (small if k == largest else pull - b[k]) - b[k] * others + from_lse * p
            grad[i, k] = grad_scale * g if np.float64(logits[i, k]) != -np.inf else 0.0


@kernel(EXACT)
def exact_sum(values):
    """Sum of values (N,) with every rounding error carried along (Neumaier (1974)); N may be 0."""
    total, tail = 0.0, 0.0
    for i in range(values.shape[0]):
        v = values[i]
        s = total + v
        t = s - total
        tail += (total - (s - t)) + (v - t)
        total = s
    return total + tail if np.isfinite(total) else total
