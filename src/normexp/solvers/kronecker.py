"""A Kronecker product that approximates the softmax regression's Hessian, fitted to the probabilities.

Böhning (1992) bounds the Hessian by 1/2 (I - 11'/K) (x) X'SX, whose one factorisation serves all classes.
The bound is loose where the model is sure. Both factors are therefore fitted to the current probabilities:
with h_i = 1 - sum_k p_ik^2, the trace of row i's covariance diag(p_i) - p_i p_i',

    T = sum_i s_i (diag(p_i) - p_i p_i') / sum_i s_i h_i        (K, K)
    G = sum_i s_i h_i x_i x_i'                                  (D, D)
    M = T (x) G + I (x) diag(lambda).

With T = Q diag(t) Q' the classes decouple: M^-1 r = (Q (x) I) [(t_k G + diag(lambda))^-1]_k (Q' (x) I) r, one
Cholesky factor for each eigenvalue; eigenvalues that differ by less than a quarter share one.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import FLOOR, Preconditioner, regularised_cholesky, row_curvature, sample_rows

F64 = NDArray[np.float64]

# Rows a feature that the sampled second moments need: with 8 D rows their spectrum is within about
# (1 +- sqrt(1/8))^2 of the whole table's (Marchenko & Pastur 1967), enough for a preconditioner.
_ROWS_PER_FEATURE = 8
_EIGENVALUE_RATIO = 1.25
_NEGLIGIBLE = 1e-12
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
                out[:, columns] = linalg.cho_solve((factor, True), rotated[:, columns], check_finite=False)
            else:
                out[:, columns] = rotated[:, columns] / factor[:, None]
        curved = self.shift_scale > 0
        turned = np.where(curved, (shift @ self.vectors) / np.where(curved, self.shift_scale, 1.0), 0.0)
        return out @ self.vectors.T, self.vectors @ turned


def plain_moments(objective: SoftmaxObjective) -> F64:
    """Second moments of all rows, sum_i s_i x_i x_i', (D, D): one pass, once for a fit."""
    (moments,) = objective.rows.sum(lambda block: (block.gram(objective.weight[block.rows]),))
    return np.asarray(moments)


def rows_for_moments(n_features: int) -> int:
    """Rows from which G is estimated."""
    return max(4096, _ROWS_PER_FEATURE * n_features)


def fit_kronecker(
    objective: SoftmaxObjective, rng: np.random.Generator, *, dense: bool, floor: F64 | None = None
) -> KroneckerFactor:
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


def from_moments(moments: F64, covariance: F64, curved: float, ridge: F64) -> KroneckerFactor:
    """Factorise sum_i s_i h_i x_i x_i' (D, D), or its diagonal (D,), and sum_i s_i cov(p_i) (S, S); curved: sum s h."""
    values, vectors = np.linalg.eigh(covariance / max(curved, _TINY))
    values = np.maximum(values, 0.0)
    shift_scale = values * curved
    shift_scale[values <= _NEGLIGIBLE * values.max(initial=0.0)] = 0.0
    return KroneckerFactor(vectors, tuple(_groups(values, moments, ridge)), shift_scale)


def _groups(values: F64, moments: F64, ridge: F64) -> list[tuple[NDArray[np.intp], F64]]:
    """Columns of nearly equal eigenvalue, each with one factor of t G + diag(lambda)."""
    order = np.argsort(values)
    smallest = max(_NEGLIGIBLE * float(values.max(initial=0.0)), _TINY)
    bounded = np.maximum(values[order], smallest)
    groups: list[tuple[NDArray[np.intp], F64]] = []
    start = 0
    while start < len(order):
        stop = int(np.searchsorted(bounded, bounded[start] * _EIGENVALUE_RATIO, side="right"))
        typical = float(np.exp(np.mean(np.log(bounded[start:stop]))))
        groups.append((order[start:stop], _factor(typical, moments, ridge)))
        start = stop
    return groups


def _factor(value: float, moments: F64, ridge: F64) -> F64:
    """Cholesky factor of value G + diag(ridge), or that diagonal when only the diagonal of G is known."""
    if moments.ndim == 1:
        diagonal = value * moments + ridge
        return np.where(diagonal > 0, diagonal, 1.0)
    matrix = value * moments
    np.einsum("jj->j", matrix)[...] += ridge
    return regularised_cholesky(matrix)
