"""Approximate inverses of the softmax regression's Hessian that cost no pass over the rows to apply.

Six, by the size of the problem and by how it goes (``metric.Metric``):

- the Hessian itself, from all rows or from a sample, when D S is small (``HessianFactor``);
- a Kronecker product of a class factor and a feature factor (``kronecker.KroneckerFactor``);
- one block for each class, when the Kronecker product needs many iterations (``class_blocks.ClassBlocks``);
- a shared background, a mean and the unsure rows of each of many classes (``class_rows.ClassRows``);
- the diagonal itself, for sparse rows of many classes (``class_diagonals.ClassDiagonals``);
- a Kronecker product with the diagonal of the feature factor, for very many features.

A preconditioner steers the conjugate gradients and decides nothing: a sample may be as rough as it likes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from normexp.backends.curvature import class_moments
from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective

F64 = NDArray[np.float64]

_TINY = float(np.finfo(float).tiny)
# Share of the plain second moments of all rows in a sampled factor: a rare feature may be missed by the sample.
FLOOR = 0.05
# Share of each diagonal entry that is added to it before it is factorised.
_PIVOT = 1e-10


class Preconditioner(ABC):
    """M^-1 for directions (coef (D, S), shift (S,))."""

    @abstractmethod
    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        """Apply M^-1."""


@dataclass(frozen=True)
class Sample:
    """Rows that stand for the whole table: weight (N,), 0 for rows left out."""

    weight: F64 = field(repr=False)
    is_whole: bool


def row_curvature(prob: NDArray[np.floating]) -> F64:
    """Trace of each row's covariance diag(p) - p p'; prob (n, S) -> (n,)."""
    p: F64 = prob.astype(np.float64, copy=False)
    if p.shape[1] == 1:
        return np.asarray(2 * p[:, 0] * (1 - p[:, 0]))
    return np.asarray(np.maximum(1 - np.einsum("ik,ik->i", p, p), 0.0))


def is_sampled(objective: SoftmaxObjective, wanted: int) -> bool:
    """Whether a factor that wants so many rows draws a sample, or takes all rows."""
    return objective.rows.n_rows > 2 * wanted


def sample_rows(objective: SoftmaxObjective, wanted: int, rng: np.random.Generator) -> Sample:
    """Draw rows with probability proportional to their share of the curvature.

    Most rows of a good fit are predicted with confidence and have hardly any curvature; a uniform sample
    would spend itself on those. A tenth of the draws is uniform all the same, so that every row may come.
    """
    weight = objective.weight
    if not is_sampled(objective, wanted):
        return Sample(weight, is_whole=True)
    share: F64 = np.concatenate(
        [
            weight[rows] * row_curvature(objective.curved_prob(rows))
            for rows in (block.rows for block in objective.rows.blocks())
        ]
    )
    return Sample(draw(share, weight, wanted, rng), is_whole=False)


def draw(share: F64, weight: F64, wanted: int, rng: np.random.Generator) -> F64:
    """Row weights of a sample drawn by share, a tenth of it by weight: their expectation is ``weight``."""
    chance = 0.9 * share / max(share.sum(), _TINY) + 0.1 * weight / max(weight.sum(), _TINY)
    drawn = np.bincount(rng.choice(len(weight), size=wanted, p=chance / chance.sum()), minlength=len(weight))
    kept = drawn > 0
    sampled = np.zeros_like(weight)
    sampled[kept] = weight[kept] * drawn[kept] / (wanted * chance[kept])
    return sampled


def regularised_cholesky(matrix: F64) -> F64:
    """Lower Cholesky factor of a positive semi-definite matrix, whose diagonal is raised where no pivot is left.

    It is raised by a tiny share in any case: along a direction without curvature (columns that add up to a constant)
    a pivot may be the rounding of zero, and what rounding leaves of the gradient there would become a huge step.
    """
    diagonal = np.einsum("jj->j", matrix)
    diagonal *= 1.0 + _PIVOT
    bump = 0.0
    for _ in range(20):
        factor, missing = lapack.dpotrf(matrix.T, lower=True)  # which is symmetric: so LAPACK need not turn it
        if missing == 0:
            return np.asarray(factor)
        bump = 10.0 * bump or 1e-14 * float(diagonal.max()) or 1.0
        diagonal += bump
    raise AssertionError("a positive semi-definite matrix has a factor once its diagonal is raised")


def cholesky_solve(factor: F64, right: F64) -> F64:
    """Solve with what ``regularised_cholesky`` returns, as scipy.linalg.cho_solve does without its checks."""
    solved, _ = lapack.dpotrs(factor, right, lower=True)
    return np.asarray(solved)


@dataclass(frozen=True)
class HessianFactor(Preconditioner):
    """Cholesky factor of the Hessian on all rows or on a sample: then the step is Newton's own."""

    factor: F64 = field(repr=False)
    n_scores: int

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        both = np.empty((len(coef) + 1, self.n_scores))  # feature by feature, then the shift
        both[:-1], both[-1] = coef, shift
        # On both sides: M^-1 stays symmetric, also where rounding has moved all classes.
        solved = _apart(cholesky_solve(self.factor, _apart(both).ravel()).reshape(both.shape))
        return solved[:-1], solved[-1]


def _apart(table: F64) -> F64:
    """Take out of each row, in place, what all classes have in common: it changes no score."""
    if table.shape[1] > 1:
        table -= table.sum(axis=1, keepdims=True) / table.shape[1]
    return table


def fit_hessian(
    objective: SoftmaxObjective, rng: np.random.Generator, rows_wanted: int, floor: F64 | None
) -> HessianFactor:
    """Form and factorise the Hessian at the objective's current probabilities."""
    n_scores = objective.n_scores
    if is_sampled(objective, rows_wanted):
        matrix = _sampled_hessian(objective, rng, rows_wanted, floor)
    else:
        hessian = objective.hessian()
        objective.keep_hessian(hessian)
        matrix = hessian.copy()
    diagonal = np.einsum("jj->j", matrix)
    diagonal[:-n_scores] += np.repeat(objective.ridge, n_scores)
    if n_scores > 1:
        # All classes moved alike leave every score difference as it is: give that direction a pivot.
        matrix[-n_scores:, -n_scores:] += (float(diagonal[-n_scores:].mean()) or 1.0) / n_scores
    if not objective.fit_intercept:
        diagonal[-n_scores:] += 1.0
    return HessianFactor(regularised_cholesky(matrix), n_scores)


def _sampled_hessian(objective: SoftmaxObjective, rng: np.random.Generator, rows_wanted: int, floor: F64 | None) -> F64:
    """Hessian of the losses of a sample of the rows, ((D + 1) S, (D + 1) S), feature by feature."""
    sample = sample_rows(objective, rows_wanted, rng)
    n_scores, size = objective.n_scores, objective.rows.n_features + 1

    def part(block: Block) -> tuple[F64]:
        weight = sample.weight[block.rows]
        chosen = np.flatnonzero(weight)
        prob = objective.curved_prob(block.rows)[chosen]
        return (class_moments(block.table()[chosen], weight[chosen], prob, fit_intercept=objective.fit_intercept),)

    (matrix,) = objective.curved_rows.sum(part)
    if floor is not None:
        # A rare feature may be missed by the sample: a share of the plain moments of all rows is the floor.
        curved = float(sample.weight @ row_curvature(objective.curved_prob(slice(None))))
        share = FLOOR * curved / n_scores / objective.total_weight
        blocks = matrix.reshape(size, n_scores, size, n_scores)
        for k in range(n_scores):
            blocks[:-1, k, :-1, k] += share * floor
    return np.asarray(matrix)
