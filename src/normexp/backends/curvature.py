"""The row functions that a softmax regression sees, computed by the CPU kernels.

``residual`` and ``tangent_product`` choose between the two-class and the many-class kernel by the
number of score columns: one column is the score of class 1 against class 0.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends.pieces import in_pieces
from normexp.kernels.cpu import curvature as _curvature
from normexp.kernels.cpu import sparse as _sparse

Floats = NDArray[np.floating]

_GRAM_PARTS = 4
# Rows that are spread at a time fill 2 MB, so that they are multiplied from the cache; but are no fewer than so many.
_SPREAD_NUMBERS, _SPREAD_ROWS = 1 << 18, 512


def residual(
    scores: NDArray[np.float64], target: NDArray[np.intp], weight: NDArray[np.float64], prob: Floats
) -> tuple[float, float]:
    """Turn scores into weighted residuals in place, store probabilities, return the sums of loss and entropy."""
    kernel = _curvature.residual_binary if scores.shape[1] == 1 else _curvature.residual_rows
    sums = in_pieces(scores.shape, lambda rows: kernel(scores[rows], target[rows], weight[rows], prob[rows]))
    loss, entropy = np.sum(sums, axis=0)
    return float(loss), float(entropy)


def tangent_product(
    tangent: Floats, prob: Floats, target: NDArray[np.intp], weight: NDArray[np.float64], damping: float
) -> None:
    """Multiply each row of tangent, in place, by that row's softmax covariance diag(q) - q q'.

    q is p, moved towards the label by ``damping`` in [0, 1].
    """
    kernel = _curvature.curvature_binary if tangent.shape[1] == 1 else _curvature.curvature_rows
    in_pieces(tangent.shape, lambda rows: kernel(tangent[rows], prob[rows], target[rows], weight[rows], damping))


def losses_along(
    scores: NDArray[np.float64],
    tangent: NDArray[np.float64],
    target: NDArray[np.intp],
    weight: NDArray[np.float64],
    lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted sums of the loss at scores + length * tangent, one for each length."""
    kernel = _curvature.losses_along_binary if scores.shape[1] == 1 else _curvature.losses_along

    def part(rows: slice) -> NDArray[np.float64]:
        out = np.zeros(len(lengths))
        kernel(scores[rows], tangent[rows], target[rows], weight[rows], lengths, out)
        return out

    return np.asarray(np.sum(in_pieces(scores.shape, part), axis=0))


def class_moments(
    table: Floats, weight: NDArray[np.float64], prob: NDArray[np.float64], *, fit_intercept: bool
) -> NDArray[np.float64]:
    """Return sum_i weight_i x_i x_i' (x) (diag(p_i) - p_i p_i'), the Hessian of the weighted losses.

    table (n, D) with a constant appended, 0 without an intercept; prob (n, S). ((D + 1) S, (D + 1) S), feature by
    feature, intercepts last. For one score p (1 - p) stands for the covariance.

    The blocks between two classes are one product of spread rows, -p_k p_l each. Those of one class, p_k (1 - p_k),
    are minus the sum of the class's others: no digits are lost where p_k is near 1.
    """
    rows, scores = prob.shape
    size = table.shape[1] + 1
    constant = 1.0 if fit_intercept else 0.0
    width = max(_SPREAD_ROWS, _SPREAD_NUMBERS // (size * scores))
    moments: NDArray[np.float64] | None = None
    for first in range(0, max(rows, 1), width):
        here = slice(first, min(first + width, rows))
        spread = np.empty((here.stop - first, size * scores))
        _curvature.spread_rows(np.ascontiguousarray(table[here]), prob[here], weight[here], constant, spread)
        product = spread.T @ spread
        moments = product if moments is None else np.add(moments, product, out=moments)
    assert moments is not None  # noqa: S101  (there is a first part, if one without rows)
    if scores == 1:
        return moments
    np.negative(moments, out=moments)
    own = np.einsum("ikjk->ikj", moments.reshape(size, scores, size, scores))
    own[...] = 0.0
    own[...] = -(moments.reshape(-1, scores) @ np.ones(scores)).reshape(size, scores, size)
    return moments


def csr_dot(matrix: "sparse.csr_matrix", dense: Floats, pool: ThreadPoolExecutor | None, parts: int) -> Floats:
    """Product of a CSR matrix with a C-contiguous dense block, its rows split over the threads of pool."""
    out = np.empty((matrix.shape[0], dense.shape[1]), dtype=np.result_type(matrix.dtype, dense.dtype))
    indptr = matrix.indptr
    # Equal numbers of stored entries, not of rows: text has long and short rows.
    goals = np.linspace(0, int(indptr[-1]), parts + 1)[1:-1]
    bounds = [0, *(int(b) for b in np.searchsorted(indptr, goals)), matrix.shape[0]]
    if pool is None or parts == 1:
        _sparse.csr_dot_rows(matrix.data, matrix.indices, indptr, dense, 0, matrix.shape[0], out)
        return out
    jobs = [
        pool.submit(_sparse.csr_dot_rows, matrix.data, matrix.indices, indptr, dense, first, last, out)
        for first, last in pairwise(bounds)
    ]
    for job in jobs:
        job.result()
    return out


def csr_gram(
    transposed: "sparse.csr_matrix",
    inverse_ridge: NDArray[np.float64],
    dense: NDArray[np.float64],
    pool: ThreadPoolExecutor | None,
) -> NDArray[np.float64]:
    """Return X diag(inverse_ridge) X' dense, (N, S), from X' in CSR form, without an array of features.

    The features are cut into a fixed number of parts, whose sums are added in order: no bit depends on the threads.
    """
    indptr = transposed.indptr
    goals = np.linspace(0, int(indptr[-1]), _GRAM_PARTS + 1)[1:-1]
    bounds = [0, *(int(b) for b in np.searchsorted(indptr, goals)), transposed.shape[0]]
    given = transposed.data, transposed.indices, indptr, inverse_ridge, np.ascontiguousarray(dense)

    def part(first: int, last: int) -> NDArray[np.float64]:
        out = np.zeros(dense.shape)
        _sparse.csr_gram_rows(*given, first, last, out)
        return out

    results = map(part, bounds[:-1], bounds[1:]) if pool is None else pool.map(part, bounds[:-1], bounds[1:])
    total = next(results)
    for addend in results:
        total += addend
    return total
