"""softmax and log_softmax, one row at a time, its exponentials kept beside it. The state of a row is explained in ``online``."""

import numpy as np

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.logarithm import log_one_plus
from normexp.kernels.cpu.online import LANES, log_row, reciprocal, row_state, scale_row, total_of


@kernel(EXACT)
def softmax_rows(logits, temperature, double, out):
    """out[i, k] = exp((logits[i, k] - max) / t) / sum; logits and out (N, K), K > 0; t = temperature[i], or [0]."""
    N, K = logits.shape
    e, terms, tails, lanes = np.empty(K), np.empty(K), np.empty(K), np.empty(LANES, logits.dtype)
    step = 1 if temperature.shape[0] == N else 0
    for i in range(N):
        _, rest, tail = row_state(logits[i], temperature[i * step], double, lanes, e, terms, tails)
        if np.isnan(rest):
            out[i] = np.nan
            continue
        factor, error = reciprocal(*total_of(rest, tail))
        scale_row(e, factor, error, out[i])


@kernel(EXACT)
def log_softmax_rows(logits, temperature, double, out):
    """out[i, k] = (logits[i, k] - max) / t - log(sum); logits and out (N, K), K > 0; t = temperature[i], or [0]."""
    N, K = logits.shape
    e, terms, tails, lanes = np.empty(K), np.empty(K), np.empty(K), np.empty(LANES, logits.dtype)
    step = 1 if temperature.shape[0] == N else 0
    for i in range(N):
        t = temperature[i * step]
        m, rest, _ = row_state(logits[i], t, double, lanes, e, terms, tails)
        if np.isnan(rest):
            out[i] = np.nan
            continue
        log_row(logits[i], m, t, log_one_plus(rest), out[i])
