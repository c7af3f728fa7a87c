"""Products with the Jacobian of softmax, diag(p) - p p', and that matrix itself.

The Jacobian maps a constant vector to 0, so the vector's entry c at the likeliest class may be taken off it first:
p_k ((v_k - c) - s) with s = sum_j p_j (v_j - c). At the likeliest class that leaves -p_k s, where v_k - sum_j p_j v_j would
cancel. An entry whose probability is exactly 0 gives 0 and adds nothing, whatever the vector holds there.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.online import fold


@njit(fastmath=EXACT, nogil=True)
def likeliest(prob):
    """The class of the largest probability, the first of equals; 0 when all are NaN."""
    best = 0
    for k in range(1, prob.shape[0]):
        best = k if prob[k] > prob[best] else best
    return best


@kernel(EXACT)
def product_rows(prob, vector, out):
    """out[i] = (diag(p) - p p') v for p = prob[i], v = vector[i]; all (N, K), K > 0, float32 or float64."""
    N, K = prob.shape
    terms = np.empty(K)
    for i in range(N):
        p, v = prob[i], vector[i]
        c = np.float64(v[likeliest(p)])
        for k in range(K):
            terms[k] = np.float64(p[k]) * (np.float64(v[k]) - c) if p[k] != 0.0 else 0.0
        s = fold(terms, K)
        for k in range(K):
            out[i, k] = np.float64(p[k]) * ((np.float64(v[k]) - c) - s) if p[k] != 0.0 else 0.0


@kernel(EXACT)
def jacobian_rows(prob, out):
    """out[i, j, k] = p_j ([j = k] - p_k); prob (N, K), out (N, K, K). 1 - p of the likeliest is the sum of the others."""
    N, K = prob.shape
    terms = np.empty(K)
    for i in range(N):
        best = likeliest(prob[i])
        for k in range(K):
            terms[k] = np.float64(prob[i, k]) if k != best else 0.0
        others = fold(terms, K)
        for j in range(K):
            p = np.float64(prob[i, j])
            for k in range(K):
                out[i, j, k] = -p * np.float64(prob[i, k])
            out[i, j, j] = p * (others if j == best else 1.0 - p)
