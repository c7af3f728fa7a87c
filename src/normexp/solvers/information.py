"""The covariance of a softmax regression's coefficients: the inverse of the observed information."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from normexp.base.blas_threads import one_blas_thread
from normexp.rows import row_blocks
from normexp.solvers.fit import column_map
from normexp.solvers.objective import SoftmaxObjective

F64 = NDArray[np.float64]

# Beyond, the dense information takes more than 3 GB, and its eigenvalues hours.
MAX_UNKNOWNS = 20_000
# An eigenvalue below this share of the largest, on columns of variance 1, is rounding.
_NOTHING = 1e-11


def covariance(
    X: Any, target: NDArray[np.intp], weight: F64, coef: F64, intercept: F64, *, ridge: F64, fit_intercept: bool
) -> F64 | NDArray[np.intp]:
    """Covariance of the coefficients, (D + 1, S, D + 1, S), intercepts last; or the features without information.

    Parameters
    ----------
    X : ndarray (N, D) or CSR matrix
    target : ndarray (N,) intp
    weight : ndarray (N,) float64
    coef : ndarray (D, S)
    intercept : ndarray (S,)
        At the optimum, on the table's own scale.
    ridge : ndarray (D,)
        Penalty on the squared coefficients; its curvature counts as information.
    fit_intercept : bool

    Returns
    -------
    ndarray
        Float: the covariance. Integer: features (D for the intercept) that a direction without information mixes.

    Notes
    -----
    For more than two classes the coefficients of each feature sum to zero: the covariance is that of the projection on
    such coefficients. Cost: N (D S)^2 / 2 for the information and (D S)^3 for its inverse.
    """
    n_features, scores = coef.shape
    with one_blas_thread():
        raw = row_blocks(X, scores)
        centre, scale = column_map(raw, weight, centred=fit_intercept)
        objective = SoftmaxObjective(
            raw.seen_through(centre, scale),
            target,
            weight,
            n_classes=max(2, scores),
            ridge=ridge / np.square(scale),
            fit_intercept=fit_intercept,
        )
        objective.sharpen()
        objective.at(coef * scale[:, None], intercept + centre @ coef)
        information = objective.hessian()
        np.einsum("ii->i", information)[: n_features * scores] += np.repeat(objective.ridge, scores)
        basis = _contrasts(scores)
        size, free = n_features + fit_intercept, basis.shape[1]
        blocks = information.reshape(n_features + 1, scores, n_features + 1, scores)[:size, :, :size]
        reduced = np.einsum("ka,ikjl,lb->iajb", basis, blocks, basis, optimize=True).reshape(size * free, size * free)
        values, vectors = linalg.eigh(reduced)
        if values[0] <= _NOTHING * values[-1]:
            mixed = np.abs(vectors[:, 0].reshape(size, free)).max(axis=1)
            return np.flatnonzero(mixed > 0.1 * mixed.max())
        inverse = ((vectors / values) @ vectors.T).reshape(size, free, size, free)
        found = np.zeros((n_features + 1, scores, n_features + 1, scores))
        found[:size, :, :size] = np.einsum("ka,iajb,lb->ikjl", basis, inverse, basis, optimize=True)
    back = np.diag(np.append(1.0 / scale, 1.0))
    back[-1, :-1] = -centre / scale
    return np.asarray(np.einsum("pi,ikjl,qj->pkql", back, found, back, optimize=True))


def _contrasts(scores: int) -> F64:
    """Orthonormal columns that span what sums to zero, (S, S - 1); the number 1 for one score."""
    if scores == 1:
        return np.ones((1, 1))
    return np.asarray(linalg.null_space(np.ones((1, scores))))
