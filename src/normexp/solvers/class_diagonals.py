"""The diagonal of the softmax regression's Hessian: for very many features, sparse rows and many classes.

    d_jk = sum_i s_i p_ik (1 - p_ik) x_ij^2 + lambda_j.

The Kronecker product with a diagonal feature factor turns the coefficients into the eigenvectors of the class factor
and back, 4 D S^2 operations for each inner iteration, where a Hessian product of sparse rows takes 4 S for each entry
that they store. A text has a dozen entries, so from some hundred classes on the turning is nearly all of the work.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from normexp.backends.pieces import in_pieces
from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class ClassDiagonals(Preconditioner):
    """The reciprocals of the diagonal, (D, S) and (S,)."""

    coef: F32 = field(repr=False)
    shift: F64 = field(repr=False)

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        turned = (shift - shift.mean()) * self.shift  # a common shift has no curvature
        solved = np.empty_like(coef)
        in_pieces(coef.shape, lambda rows: np.multiply(coef[rows], self.coef[rows], out=solved[rows]))
        return solved, turned - turned.mean()


def fit_class_diagonals(objective: SoftmaxObjective) -> ClassDiagonals:
    """Sum the diagonal at the objective's current probabilities: one pass over the rows."""

    def part(block: Block) -> tuple[NDArray[np.floating], F64]:
        first, count = block.rows.start, block.rows.stop - block.rows.start
        weights = np.empty((count, objective.n_scores), objective.prob.dtype)

        def fill(rows: slice) -> F64:
            here = slice(first + rows.start, first + rows.stop)
            bent = objective.curved_prob(here)
            bent *= 1.0 - bent
            bent *= objective.weight[here, None]
            weights[rows] = bent
            return np.asarray(bent.sum(axis=0))

        bends = in_pieces(weights.shape, fill)
        return block.column_squares(weights), np.sum(bends, axis=0)

    diagonal, shift = objective.curved_rows.sum(part)
    objective.n_passes += 1
    least = 1e-12 * max(float(diagonal.max(initial=0.0)), _TINY)
    inverse = np.empty(diagonal.shape, np.float32)

    def invert(rows: slice) -> None:
        inverse[rows] = 1.0 / np.maximum(diagonal[rows] + objective.ridge[rows, None], least)

    in_pieces(diagonal.shape, invert)
    shift = np.maximum(shift, 1e-6 * max(float(shift.max(initial=0.0)), _TINY))
    return ClassDiagonals(inverse, 1.0 / shift)
