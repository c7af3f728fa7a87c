"""Softmax of runs of different lengths, one after the other in memory."""

import numpy as np

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.online import LANES, reciprocal, row_state, scale_row, total_of


@kernel(EXACT)
def softmax_runs(values, bounds, double, out):
    """Softmax of each run values[bounds[s]:bounds[s + 1]] into out; values (n,), float32 or float64."""
    longest = 1
    for s in range(bounds.shape[0] - 1):
        longest = max(longest, bounds[s + 1] - bounds[s])
    e, terms, tails, lanes = np.empty(longest), np.empty(longest), np.empty(longest), np.empty(LANES, values.dtype)
    for s in range(bounds.shape[0] - 1):
        first, last = bounds[s], bounds[s + 1]
        if first == last:
            continue
        _, rest, tail = row_state(values[first:last], 1.0, double, lanes, e, terms, tails)
        if np.isnan(rest):
            out[first:last] = np.nan
            continue
        factor, error = reciprocal(*total_of(rest, tail))
        scale_row(e, factor, error, out[first:last])
