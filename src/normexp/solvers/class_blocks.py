"""The diagonal blocks of the softmax regression's Hessian, one for each class.

Class k has the block sum_i s_i p_ik (1 - p_ik) x_i x_i' + diag(lambda). A Kronecker product gives all classes one
feature factor; where the classes differ in which rows they are unsure of, and columns are strongly correlated (the
pixels of images), it needs hundreds of conjugate-gradient iterations where the blocks need a dozen
(docs/decisions/0004-class-blocks.md). Each block is formed from rows drawn for its own class.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner, cholesky_solve, draw, regularised_cholesky

F64 = NDArray[np.float64]

# Rows a feature for each class; see kronecker.
ROWS_PER_FEATURE = 8
# Draws beyond 2 x wanted rows are a sample; below, all rows count, but for those that add nothing.
_NEGLIGIBLE = 1e-5


@dataclass(frozen=True)
class ClassBlocks(Preconditioner):
    """Cholesky factors of the classes' blocks, (D + 1, D + 1) each: features, then the shift."""

    factors: tuple[F64, ...] = field(repr=False)

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        stacked = np.vstack([coef, shift])
        if len(self.factors) > 1:  # on both sides: M^-1 stays symmetric, also where rounding has moved all classes
            stacked -= stacked.mean(axis=1, keepdims=True)
        solved = np.column_stack([cholesky_solve(factor, stacked[:, k]) for k, factor in enumerate(self.factors)])
        if len(self.factors) > 1:
            solved -= solved.mean(axis=1, keepdims=True)  # a common direction of all classes changes no score
        return np.ascontiguousarray(solved[:-1]), solved[-1].copy()


def fit_class_blocks(objective: SoftmaxObjective, rng: np.random.Generator) -> ClassBlocks:
    """Form and factorise the blocks at the objective's current probabilities."""
    n_scores, n_features = objective.n_scores, objective.rows.n_features
    p = objective.curved_prob(slice(None))
    weight = np.empty_like(p)
    for k in range(n_scores):
        weight[:, k] = _row_weights(objective.weight, p[:, k] * (1 - p[:, k]), ROWS_PER_FEATURE * n_features, rng)

    def part(block: Block) -> tuple[F64]:
        here = weight[block.rows]
        table = block.table()
        moments = np.zeros((n_scores, n_features + 1, n_features + 1))
        for k in range(n_scores):
            chosen = np.flatnonzero(here[:, k])
            design = np.empty((len(chosen), n_features + 1), table.dtype)
            root = np.sqrt(here[chosen, k]).astype(table.dtype)
            np.multiply(table[chosen], root[:, None], out=design[:, :-1])
            design[:, -1] = root if objective.fit_intercept else 0.0
            moments[k] = design.T @ design
        return (moments,)

    (moments,) = objective.curved_rows.sum(part)
    factors = []
    for k in range(n_scores):
        diagonal = np.einsum("jj->j", moments[k])
        diagonal[:-1] += objective.ridge
        diagonal[-1] = diagonal[-1] or 1.0
        factors.append(regularised_cholesky(moments[k]))
    return ClassBlocks(tuple(factors))


def _row_weights(weight: F64, curvature: F64, wanted: int, rng: np.random.Generator) -> F64:
    """Weight of each row in a class's block: its share of the curvature, from a sample where there are many rows."""
    share = weight * curvature
    if len(weight) <= 2 * wanted:
        return np.where(share > _NEGLIGIBLE * share.max(initial=0.0), share, 0.0)
    return draw(share, weight, wanted, rng) * curvature
