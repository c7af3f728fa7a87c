"""The one idea behind the metrics: most of them are functions of weighted sums over groups of rows.

Accuracy and losses need one group, balanced accuracy one for each class, a calibration error one for each bin.
Written so, a metric can be computed again under other weights without touching the N x K predictions: a bootstrap
of a thousand resamples costs a thousand passes over a few columns of length N.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WEIGHT, WEIGHT_SQUARED, FIRST = 0, 1, 2  # places in the last axis of the sums


@dataclass(frozen=True)
class GroupedSums:
    """A metric as a function of grouped sums.

    Parameters
    ----------
    finish : callable
        Takes sums (B, G, 2 + M) and gives the metric (B,). Along the last axis stand the sum of the weights,
        the sum of the squared weights, and the weighted sum of each column.
    columns : ndarray, shape (M, N)
        What is summed.
    group : ndarray of intp, shape (N,), or None
        The group of each row, within 0 .. G - 1; None: all rows are one group.
    n_groups : int
        G.
    proportion : bool
        Whether the metric is a share of rows, so that the exact binomial bound applies where all rows agree.
    """

    finish: Callable[[Floats], Floats]
    columns: Floats
    group: NDArray[np.intp] | None = None
    n_groups: int = 1
    proportion: bool = False

    def sums(self, weight: Floats, rows: NDArray[np.intp] | None = None) -> Floats:
        """Sum each column under `weight`, over all rows or over the rows given: (G, 2 + M)."""
        columns = self.columns if rows is None else self.columns[:, rows]
        if self.group is None:
            return np.array([[weight.sum(), (weight * weight).sum(), *(_total(weight, column) for column in columns)]])
        group = self.group if rows is None else self.group[rows]
        terms = (weight, weight * weight, *(weight * column for column in columns))
        return np.stack([weighted_counts(group, term, self.n_groups) for term in terms], axis=-1)

    def value(self, weight: Floats) -> float:
        """Compute the metric under `weight`."""
        return float(self.finish(self.sums(weight)[None])[0])


def weighted_counts(group: NDArray[np.integer], weight: Floats, n_groups: int = 0) -> Floats:
    """Sum of the weights in each group, (G,)."""
    return np.asarray(np.bincount(group, weight, n_groups), dtype=np.float64)


def _total(weight: Floats, column: Floats) -> float:
    """Weighted sum of a column in which an infinite entry of weight 0 does not count.

    Not a BLAS dot product: that one depends on the number of threads in its last bits, and is slow where they are busy.
    """
    if np.isfinite(column).all():
        return float((weight * column).sum())
    return float((weight[weight > 0] * column[weight > 0]).sum())


def weighted_mean(sums: Floats) -> Floats:
    """Mean of the first column over all groups: the `finish` of every plain average."""
    total: Floats = sums[..., FIRST].sum(axis=1) / sums[..., WEIGHT].sum(axis=1)
    return total


def resampled(
    statements: Sequence[GroupedSums],
    weight: Floats,
    *,
    n_resamples: int,
    rng: np.random.Generator,
    rows_per_resample: int | None = None,
) -> Floats:
    """Each statement under each bootstrap resample, (len(statements), n_resamples).

    All statements see the same resamples, so that differences between them are paired. Rows are drawn with
    replacement, and a row drawn c times has weight c times its own.
    """
    eligible = np.flatnonzero(weight > 0)
    n_rows = eligible.size
    n_drawn = n_rows if rows_per_resample is None else min(rows_per_resample, n_rows)
    sums = [np.empty((n_resamples, s.n_groups, FIRST + len(s.columns))) for s in statements]
    for b in range(n_resamples):
        drawn = eligible[rng.integers(n_rows, size=n_drawn)]
        if n_drawn < n_rows:
            rows, count = np.unique(drawn, return_counts=True)
            resample_weight = weight[rows] * count
        else:
            rows, resample_weight = None, weight * np.bincount(drawn, minlength=weight.size)
        for statement, into in zip(statements, sums, strict=True):
            into[b] = statement.sums(resample_weight, rows)
    return np.stack([statement.finish(into) for statement, into in zip(statements, sums, strict=True)])
