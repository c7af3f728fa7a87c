"""The loss of a tree's classes along their paths: each step a softmax among a few siblings, float32 rows.

A step at sibling group g, child c, has the logits z_k = w_k . x + b_k. With e_k = exp(z_k - max z) and ``others`` the
sum of all e_k but the child's, its loss is log1p(others / e_c) where the child has at least half, and
(max z - z_c) + log(others + e_c) elsewhere; the gradient of z is e_k / total, and -others / total at the child, which
never cancels to 0. Products are rounded to float32 and added in float64, in the order of ``lanes``.
"""

import math

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT, FUSED
from normexp.kernels.cpu.lanes import lane_sum
from normexp.kernels.cpu.logarithm import log_one_plus


@njit(fastmath=EXACT, nogil=True)
def inner_product(a, b, products):
    """Sum of a * b, all (D,) float32."""
    for j in range(products.shape[0]):
        products[j] = a[j] * b[j]
    return lane_sum(products)


@njit(fastmath=FUSED, nogil=True)
def add_multiple(factor, row, into):
    """Into += factor * row."""
    for j in range(into.shape[0]):
        into[j] += factor * row[j]


@kernel(EXACT)
def path_losses(x, weight, bias, target, begins, path, first, size, pairs, scale, loss, slopes, grad_x):
    """loss[i] of class target[i]; slopes: of the logits of all steps' siblings times scale[i], row i's from pairs[i] on.

    x (N, D), weight (S, D), bias (S,) or (0,) float32; begins (K + 1,) and path: the slots of each class's path; first,
    size (S,): the siblings of a slot. slopes float32 and grad_x (N, D), or both (0,) and (0, 0) when not wanted.
    """
    N, D = x.shape
    products = np.empty(D, np.float32)
    z = np.empty(16)
    wants = slopes.shape[0] > 0
    for i in range(N):
        total_loss, pair = 0.0, pairs[i]
        if grad_x.shape[0]:
            grad_x[i] = 0.0
        for step in range(begins[target[i]], begins[target[i] + 1]):
            slot = path[step]
            a, n = first[slot], size[slot]
            if n == 1:
                continue
            if n > z.shape[0]:
                z = np.empty(n)
            top = -np.inf
            for k in range(n):
                z[k] = inner_product(x[i], weight[a + k], products) + (bias[a + k] if bias.shape[0] else 0.0)
                top = z[k] if not z[k] <= top else top
            own_z = z[slot - a]
            others = 0.0
            for k in range(n):
                z[k] = math.exp(z[k] - top)
                if k != slot - a:
                    others += z[k]
            own = z[slot - a]
            total = others + own
            total_loss += log_one_plus(others / own) if own >= others else (top - own_z) + math.log(total)
            if not wants:
                continue
            for k in range(n):
                slope = z[k]
                if k == slot - a:
                    slope = -others if own_z > -np.inf else 0.0
                slopes[pair + k] = scale[i] * (slope / total)
                if grad_x.shape[0]:
                    add_multiple(slopes[pair + k], weight[a + k], grad_x[i])
            pair += n
        loss[i] = total_loss


@kernel(EXACT)
def add_paths(x, target, begins, path, first, size, pairs, slopes, low, high, grad_weight):
    """grad_weight[slot, low:high] += slope * x[i, low:high] for all steps of all rows, in their order."""
    for i in range(x.shape[0]):
        pair, row = pairs[i], x[i, low:high]
        for step in range(begins[target[i]], begins[target[i] + 1]):
            slot = path[step]
            a, n = first[slot], size[slot]
            if n == 1:
                continue
            for k in range(n):
                add_multiple(slopes[pair + k], row, grad_weight[a + k, low:high])
            pair += n


@kernel(EXACT)
def add_path_slopes(target, begins, path, first, size, pairs, slopes, grad_bias):
    """grad_bias[slot] += slope for all steps of all rows, in their order."""
    for i in range(target.shape[0]):
        pair = pairs[i]
        for step in range(begins[target[i]], begins[target[i] + 1]):
            a, n = first[path[step]], size[path[step]]
            if n == 1:
                continue
            for k in range(n):
                grad_bias[a + k] += slopes[pair + k]
            pair += n
