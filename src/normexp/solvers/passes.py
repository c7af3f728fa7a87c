"""What is computed in one pass over labelled rows: each pass is a record that a block, here or elsewhere, is given to.

A pass holds coefficients, which are small, and never rows. It may be pickled, sent to where a block lives, and be
repeated there after a loss: nothing is kept between passes, so probabilities are computed anew from the coefficients,
one product more for a Hessian pass. Where the rows are read by this process and N x S is small they may be ``kept``.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends import curvature
from normexp.base.magnitude import Cell, large_cell, suspects
from normexp.rows import Block
from normexp.solvers.function import summed_covariance, towards_labels, weighted_labels
from normexp.solvers.preconditioner import row_curvature

F64 = NDArray[np.float64]
Working = NDArray[np.floating]


@dataclass(frozen=True)
class ColumnMoments:
    """Weighted sums of the columns and of their squares; a row of each block that is not finite, a cell too large."""

    looks: bool = True

    def __call__(self, block: Block) -> tuple[F64, F64, list[int], list[Cell]]:
        """Return (sums (D,), squares (D,), rows, cells)."""
        with np.errstate(invalid="ignore", over="ignore"):
            sums, squares = block.column_moments(block.weight)
        bad: list[int] = []
        if not (np.isfinite(sums).all() and np.isfinite(squares).all()):
            stored = block.stored()
            if sparse.issparse(stored):
                matrix: Any = stored
                entries = np.flatnonzero(~np.isfinite(matrix.data))
                rows = np.searchsorted(matrix.indptr, entries, side="right") - 1
            else:
                rows = np.flatnonzero(~np.isfinite(stored).all(axis=1))
            bad = [block.rows.start + int(row) for row in rows[:1]]
        cell = None
        if self.looks and not bad and len(columns := suspects(squares, block.weight)):
            cell = large_cell(block.stored(), columns, first=block.rows.start)
        return sums, squares, bad, [] if cell is None else [cell]


@dataclass(frozen=True)
class Drawing:
    """How rows are drawn for a preconditioner: all of them, or each with the probability that suits its curvature.

    Row i is drawn with probability min(1, wanted (0.9 c_i / c + 0.1 w_i / w)), c its weighted curvature and c, w the
    sums over all rows; the numbers drawn follow from the seed and the block's first row alone.
    """

    wanted: int
    curvature: float
    weight: float
    damping: float
    seed: int

    def rows(self, block: Block, share: F64) -> tuple[NDArray[np.intp], F64]:
        """Numbers within the block of the rows drawn, and their weights, whose expectation is the block's."""
        tiny = np.finfo(float).tiny
        chance = 0.9 * share / max(self.curvature, tiny) + 0.1 * block.weight / max(self.weight, tiny)
        chance = np.minimum(self.wanted * chance, 1.0)
        drawn = np.flatnonzero(np.random.default_rng([self.seed, block.rows.start]).random(len(chance)) < chance)
        return drawn, block.weight[drawn] / chance[drawn]


@dataclass(frozen=True)
class Evaluate:
    """Loss, entropy, gradient; rows for the preconditioner; how many rows are on the wrong side."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    working: Any
    drawing: Drawing | None = None
    all_rows: bool = False
    counts_wrong: bool = False
    kept: Working | None = field(default=None, repr=False)

    def __call__(self, block: Block) -> tuple[Any, ...]:
        """Return (loss, entropy, pull, sum of residuals, curvature, drawn rows, number of wrong rows)."""
        scores = np.ascontiguousarray(block.affine(self.coef, self.shift), dtype=np.float64)
        prob = np.empty(scores.shape, self.working) if self.kept is None else self.kept[block.rows]
        loss, entropy = curvature.residual(scores, block.target, block.weight, prob)
        pull, pushed = block.adjoint(scores), scores.sum(axis=0)
        drawn: list[Any] = []
        bent = 0.0
        if self.all_rows:
            drawn = [(block.stored(), block.target, block.weight)]
        elif self.drawing is not None:
            share = block.weight * row_curvature(towards_labels(prob, block.target, self.drawing.damping))
            bent = float(share.sum())
            chosen, weight = self.drawing.rows(block, share)
            drawn = [(block.stored()[chosen], block.target[chosen], weight)]
        wrong = _wrong_rows(prob, block.target, block.weight) if self.counts_wrong else 0
        return loss, entropy, pull, pushed, bent, drawn, wrong


@dataclass(frozen=True)
class CurvatureAlong:
    """Product of the Hessian at (coef, shift) with a direction."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    along: Working = field(repr=False)
    turn: Working = field(repr=False)
    damping: float
    kept: Working | None = field(default=None, repr=False)

    def __call__(self, block: Block) -> tuple[F64, F64]:
        """Return its parts (D, S) and (S,), without the penalty's."""
        if self.kept is None:
            scores = np.ascontiguousarray(block.affine(self.coef, self.shift), dtype=np.float64)
            prob: Working = np.empty(scores.shape, self.along.dtype)
            curvature.residual(scores, block.target, block.weight, prob)
        else:
            prob = self.kept[block.rows]
        tangent = block.affine(self.along, self.turn)
        curvature.tangent_product(tangent, prob, block.target, block.weight, self.damping)
        return block.adjoint(tangent), tangent.sum(axis=0, dtype=np.float64)


@dataclass(frozen=True)
class ShiftCovariance:
    """Block of the Hessian at (coef, shift) that belongs to the shifts."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    working: Any
    kept: Working | None = field(default=None, repr=False)

    def __call__(self, block: Block) -> tuple[F64]:
        """Return it, (S, S)."""
        if self.kept is not None:
            return (summed_covariance(self.kept[block.rows], block.weight),)
        scores = np.ascontiguousarray(block.affine(self.coef, self.shift), dtype=np.float64)
        prob: Working = np.empty(scores.shape, self.working)
        curvature.residual(scores, block.target, block.weight, prob)
        return (summed_covariance(prob, block.weight),)


@dataclass(frozen=True)
class LossesAlong:
    """Losses at many lengths along a direction."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    along: F64 = field(repr=False)
    turn: F64 = field(repr=False)
    lengths: F64 = field(repr=False)

    def __call__(self, block: Block) -> tuple[F64]:
        """Return them, (M,)."""
        scores = np.ascontiguousarray(block.affine(self.coef, self.shift), dtype=np.float64)
        tangent = np.ascontiguousarray(block.affine(self.along, self.turn), dtype=np.float64)
        return (curvature.losses_along(scores, tangent, block.target, block.weight, self.lengths),)


@dataclass(frozen=True)
class Origin:
    """Sums of the rows, and of the rows of each class."""

    n_scores: int

    def __call__(self, block: Block) -> tuple[F64, F64]:
        """Return sum_i w_i x_i (D,) and sum_i w_i x_i y_i' (D, S)."""
        labels = weighted_labels(block.target, block.weight, self.n_scores)
        return block.adjoint(block.weight[:, None])[:, 0], block.adjoint(labels)


@dataclass(frozen=True)
class DiagonalFactors:
    """What a Kronecker product with a diagonal feature factor is fitted to, from all rows (``kronecker``)."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    damping: float

    def __call__(self, block: Block) -> tuple[F64, F64, float]:
        """Return (second moments (D,), covariance (S, S), curvature)."""
        scores = np.ascontiguousarray(block.affine(self.coef, self.shift), dtype=np.float64)
        prob = np.empty(scores.shape)
        curvature.residual(scores, block.target, block.weight, prob)
        p, weight = towards_labels(prob, block.target, self.damping), block.weight
        curved = weight * row_curvature(p)
        if p.shape[1] == 1:
            covariance = np.array([[float(weight @ (p[:, 0] * (1 - p[:, 0])))]])
        else:
            covariance = np.diag(weight @ p) - p.T @ (p * weight[:, None])
        return block.column_moments(curved)[1], covariance, float(curved.sum())


def _wrong_rows(prob: Working, target: NDArray[np.intp], weight: F64) -> int:
    """How many rows that count do not have their class strictly first."""
    if prob.shape[1] == 1:
        p = prob[:, 0]
        right = np.where(target == 1, p > 0.5, p < 0.5)
    else:
        index = np.arange(len(target)), target
        others = prob.copy()
        others[index] = -1.0
        right = prob[index] > others.max(axis=1)
    return int(np.sum(~right & (weight > 0)))
