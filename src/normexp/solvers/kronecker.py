"""A Kronecker product that approximates the softmax regression's Hessian, fitted to the probabilities.

Böhning (1992) bounds the Hessian by 1/2 (I - 11'/K) (x) X'SX, whose one factorisation serves all classes.
The bound is loose where the model is sure. Both factors are therefore fitted to the current probabilities:
with h_i = 1 - sum_k p_ik^2, the trace of row i's covariance diag(p_i) - p_i p_i',

    T = sum_i s_i (diag(p_i) - p_i p_i') / sum_i s_i h_i        (K, K)
    G = sum_i s_i h_i x_i x_i'                                  (D, D)
    M = T (x) G + I (x) diag(lambda).

With T = Q diag(t) Q' the classes decouple: M^-1 r = (Q (x) I) [(t_k G + diag(lambda))^-1]_k (Q' (x) I) r, one
Cholesky factor for each eigenvalue; eigenvalues that differ by less than a quarter share one, and where many do not,
G and the ridge are made diagonal together (``JointFactor``).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import (
    FLOOR,
    Preconditioner,
    cholesky_solve,
    regularised_cholesky,
    row_curvature,
    sample_rows,
)

F64 = NDArray[np.float64]

# Rows a feature that the sampled second moments need: with 8 D rows their spectrum is within about
# (1 +- sqrt(1/8))^2 of the whole table's (Marchenko & Pastur 1967), enough for a preconditioner.
_ROWS_PER_FEATURE = 8
_EIGENVALUE_RATIO = 1.25
_NEGLIGIBLE = 1e-12
# An eigendecomposition costs about as much time as so many Cholesky factors, and the memory of two.
_MANY_GROUPS = 16
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class KroneckerFactor(Preconditioner):
    """The factors of M; ``groups`` holds columns of the rotated coefficients with their factor or diagonal."""

    vectors: F64 = field(repr=False)  # Q, (S, S)
    groups: tuple[tuple[NDArray[np.intp], F64], ...] = field(repr=False)
    shift_scale: F64 = field(repr=False)  # curvature of each rotated shift; 0 where it has none

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        rotated = coef @ self.vectors
        out = np.empty_like(rotated)
        for columns, factor in self.groups:
            if factor.ndim == 2:
                out[:, columns] = cholesky_solve(factor, rotated[:, columns])
            else:
                out[:, columns] = rotated[:, columns] / factor[:, None]
        return out @ self.vectors.T, _turned(self.vectors, self.shift_scale, shift)


@dataclass(frozen=True)
class JointFactor(Preconditioner):
    """The same without groups: G and the ridge L made diagonal together, one (D, D) array for all eigenvalues of T.

    With L^-1/2 G L^-1/2 = U diag(g) U' and B = L^-1/2 U,

        (t G + L)^-1 = B diag(1 / (t g + 1)) B'    for every t.
    """

    vectors: F64 = field(repr=False)  # Q, (S, S)
    values: F64 = field(repr=False)  # t, (S,)
    basis: F64 = field(repr=False)  # B, (D, D)
    moments: F64 = field(repr=False)  # g, (D,)
    shift_scale: F64 = field(repr=False)  # curvature of each rotated shift; 0 where it has none

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        rotated = self.basis.T @ (coef @ self.vectors)
        for first in range(0, len(rotated), 64):  # without an array of all denominators
            rows = slice(first, first + 64)
            rotated[rows] /= np.outer(self.moments[rows], self.values) + 1.0
        return (self.basis @ rotated) @ self.vectors.T, _turned(self.vectors, self.shift_scale, shift)


def _turned(vectors: F64, shift_scale: F64, shift: F64) -> F64:
    """Shifts divided by their curvature, in the directions that have one."""
    curved = shift_scale > 0
    return np.asarray(vectors @ np.where(curved, (shift @ vectors) / np.where(curved, shift_scale, 1.0), 0.0))


def plain_moments(objective: SoftmaxObjective) -> F64:
    """Second moments of all rows, sum_i s_i x_i x_i', (D, D): one pass, once for a fit."""
    (moments,) = objective.rows.sum(lambda block: (block.gram(objective.weight[block.rows]),))
    return np.asarray(moments)


def rows_for_moments(n_features: int) -> int:
    """Rows from which G is estimated."""
    return max(4096, _ROWS_PER_FEATURE * n_features)


def fit_kronecker(
    objective: SoftmaxObjective, rng: np.random.Generator, *, dense: bool, floor: F64 | None = None
) -> Preconditioner:
    """Fit both factors to the probabilities that the objective holds now."""
    rows = objective.curved_rows
    wanted = rows_for_moments(rows.n_features) if dense else rows.n_rows
    sample = sample_rows(objective, wanted, rng)

    def part(block: Block) -> tuple[F64, F64, float]:
        here = block.rows
        s = sample.weight[here]
        chosen = np.flatnonzero(s)
        p = objective.curved_prob(here)[chosen]
        s_chosen = s[chosen]
        curved = s_chosen * row_curvature(p)
        if p.shape[1] == 1:
            covariance = np.array([[float(s_chosen @ (p[:, 0] * (1 - p[:, 0])))]])
        else:
            covariance = np.diag(s_chosen @ p) - p.T @ (p * s_chosen[:, None])
        row_weight = np.zeros_like(s)
        row_weight[chosen] = curved
        moments = block.gram(row_weight) if dense else block.column_moments(row_weight)[1]
        return moments, covariance, float(curved.sum())

    moments, covariance, curved = rows.sum(part)
    if floor is not None and not sample.is_whole:
        moments = (1 - FLOOR) * moments + FLOOR * (curved / objective.total_weight) * floor
    return from_moments(moments, covariance, curved, objective.ridge)


def from_moments(moments: F64, covariance: F64, curved: float, ridge: F64) -> Preconditioner:
    """Factorise sum_i s_i h_i x_i x_i' (D, D), or its diagonal (D,), and sum_i s_i cov(p_i) (S, S); curved: sum s h."""
    values, vectors = np.linalg.eigh(covariance / max(curved, _TINY))
    values = np.maximum(values, 0.0)
    shift_scale = values * curved
    shift_scale[values <= _NEGLIGIBLE * values.max(initial=0.0)] = 0.0
    bounds = _group_bounds(values)
    if moments.ndim == 2 and len(bounds) > _MANY_GROUPS and np.all(ridge > 0):
        root = 1.0 / np.sqrt(ridge)
        spectrum, basis = linalg.eigh(moments * np.outer(root, root), overwrite_a=True, check_finite=False)
        basis *= root[:, None]
        return JointFactor(vectors, values, basis, np.maximum(spectrum, 0.0), shift_scale)
    return KroneckerFactor(vectors, tuple(_groups(values, bounds, moments, ridge)), shift_scale)


def _group_bounds(values: F64) -> list[tuple[int, int]]:
    """Where groups of nearly equal eigenvalues begin and end among the ascending ones."""
    bounded = _kept_apart(np.sort(values))
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < len(bounded):
        stop = int(np.searchsorted(bounded, bounded[start] * _EIGENVALUE_RATIO, side="right"))
        bounds.append((start, stop))
        start = stop
    return bounds


def _kept_apart(values: F64) -> F64:
    """Eigenvalues at least so large that a factor can be formed."""
    return np.asarray(np.maximum(values, max(_NEGLIGIBLE * float(values.max(initial=0.0)), _TINY)))


def _groups(values: F64, bounds: list[tuple[int, int]], moments: F64, ridge: F64) -> list[tuple[NDArray[np.intp], F64]]:
    """Columns of nearly equal eigenvalue, each with one factor of t G + diag(lambda)."""
    order = np.argsort(values)
    bounded = _kept_apart(values[order])
    return [
        (order[start:stop], _factor(float(np.exp(np.mean(np.log(bounded[start:stop])))), moments, ridge))
        for start, stop in bounds
    ]


def _factor(value: float, moments: F64, ridge: F64) -> F64:
    """Cholesky factor of value G + diag(ridge), or that diagonal when only the diagonal of G is known."""
    if moments.ndim == 1:
        diagonal = value * moments + ridge
        return np.where(diagonal > 0, diagonal, 1.0)
    matrix = value * moments
    np.einsum("jj->j", matrix)[...] += ridge
    return regularised_cholesky(matrix)
