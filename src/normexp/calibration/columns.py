"""Passes over rows that lie class by class, (K, N): maxima, exponentials and sums run along the rows, side by side.

The row functions of `normexp.ops` keep every digit of each row; here thousands of rows are summed up tens of times, and
what is left of a rounding, 1e-16 of a logit's size, is a millionth of what such a sum is told to.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.rows import Floats

MANY: Final = 1 << 17  # numbers from which on they are read in float32, where the way to an optimum allows it
PIECE: Final = 1 << 18  # numbers of a piece: 2 MB of float64, some hundred microseconds of work for each function


def pieces(n_classes: int, rows: slice, /) -> Iterator[slice]:
    """Parts of some rows, each of so many that the next function still finds them near.

    Examples
    --------
    >>> list(pieces(1 << 14, slice(2, 20)))
    [slice(2, 18, None), slice(18, 20, None)]
    """
    step = max(1, PIECE // n_classes)
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def turned(logits: NDArray[Any], /) -> Floats:
    """Rows (N, K) as float64 columns, (K, N)."""
    return np.ascontiguousarray(logits.T, dtype=np.float64)


def normalise(logits: NDArray[Any], /) -> NDArray[Any]:
    """Turn logits (K, N) into log-probabilities, in place; -inf stays, a column of -inf alone is not expected.

    Examples
    --------
    >>> normalise(np.zeros((2, 1))).round(4).ravel()
    array([-0.6931, -0.6931])
    """
    for at in pieces(len(logits), slice(0, logits.shape[1])):
        part = logits[:, at]
        part -= part.max(axis=0)
        part -= np.log(np.exp(part).sum(axis=0))
    return logits


def true_log_prob(logits: NDArray[Any], target: NDArray[np.intp], /) -> NDArray[Any]:
    """Log-probability of the true class of each row, (N,), from logits (K, N), which are used up."""
    logits -= logits.max(axis=0)
    own = logits[target, np.arange(target.size)]
    return np.asarray(own - np.log(np.exp(logits, out=logits).sum(axis=0)))


def residuals(logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, /) -> float:
    """Turn logits (K, N) into weight * (p - y), in place, and return the weighted sum of the losses."""
    place = target, np.arange(target.size)
    logits -= logits.max(axis=0)
    own = logits[place]
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    logits *= (weight / total).astype(logits.dtype, copy=False)
    logits[place] -= weight
    return float(weight @ (np.log(total) - own))
