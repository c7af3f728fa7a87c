"""Softmax regression as a function of its coefficients: value, gradient, curvature and a dual bound.

With rows x_i (centred and scaled), classes y_i, weights s_i and a ridge lambda_j >= 0 for each feature,

    f(V, c) = sum_i s_i loss(V' x_i + c, y_i) + 1/2 sum_jk lambda_j V_jk^2 .

Shapes: V is (D, S), c is (S,). For two classes S = 1 and the one score is that of class 1 against
class 0; for K > 2 classes S = K. P, the probabilities, is the only array of N x S numbers held.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import curvature
from normexp.backends.pieces import in_pieces
from normexp.rows import Block, RowBlocks
from normexp.solvers.function import Objective, Point, summed_covariance, towards_labels, weighted_labels

F64 = NDArray[np.float64]


class SoftmaxObjective(Objective):
    """The function that a solver minimises; counts its passes over the rows.

    Parameters
    ----------
    rows : RowBlocks
        The table, centred and scaled.
    target : ndarray (N,) intp
        Class indices.
    weight : ndarray (N,) float64
        Weight of each row, not negative.
    n_classes : int
    ridge : ndarray (D,) float64
        Penalty on each feature's squared coefficients, on the scale of ``rows``.
    fit_intercept : bool
    """

    def __init__(
        self, rows: RowBlocks, target: NDArray[np.intp], weight: F64, *, n_classes: int, ridge: F64, fit_intercept: bool
    ) -> None:
        self.rows, self.target, self.weight, self.ridge = rows, target, weight, ridge
        self.curved_rows = rows.for_curvature()
        self.n_scores = 1 if n_classes == 2 else n_classes
        self.fit_intercept = fit_intercept
        self.n_passes = 0
        self.damping = 0.0
        self.total_weight = float(weight.sum())
        self.class_weight = np.bincount(target, weights=weight, minlength=n_classes).astype(np.float64, copy=False)
        self._prob = np.empty((rows.n_rows, self.n_scores), dtype=self.curved_rows.dtype)
        self._origin_pull: tuple[F64, F64] | None = None

    @property
    def prob(self) -> NDArray[np.floating]:
        """Probabilities at the point evaluated last, (N, S)."""
        return self._prob

    @property
    def working(self) -> np.dtype[Any]:
        return np.dtype(self._prob.dtype)

    def sharpen(self) -> bool:
        """Take Hessian products in float64 from the next evaluation on; whether they were not before."""
        if self.curved_rows is self.rows and self._prob.dtype == np.float64:
            return False
        self.curved_rows = self.rows
        self._prob = np.empty(self._prob.shape)
        return True

    def curved_prob(self, rows: slice) -> F64:
        """Probabilities whose covariance is the model's curvature: p, moved towards the label by the damping."""
        return towards_labels(self._prob[rows], self.target[rows], self.damping)

    def at(self, coef: F64, shift: F64) -> Point:
        """Evaluate value, gradient and entropy; keeps the probabilities for Hessian products."""

        def part(block: Block) -> tuple[float, float, F64, F64]:
            scores = np.ascontiguousarray(block.affine(coef, shift), dtype=np.float64)
            rows = block.rows
            loss, entropy = curvature.residual(scores, self.target[rows], self.weight[rows], self._prob[rows])
            return loss, entropy, block.adjoint(scores), scores.sum(axis=0)

        self._hessian = None
        sums = self.rows.sum(part)
        self.n_passes += 1
        return self._point(coef, shift, sums)

    def curvature_along(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        """Product of the Hessian at the last point with a direction (coef, shift)."""
        if self._hessian is not None:
            return self._product(self._hessian, coef, shift)
        working = self._prob.dtype
        narrow_coef, narrow_shift = coef.astype(working, copy=False), shift.astype(working, copy=False)

        def part(block: Block) -> tuple[F64, F64]:
            tangent = block.affine(narrow_coef, narrow_shift)
            rows = block.rows
            curvature.tangent_product(tangent, self._prob[rows], self.target[rows], self.weight[rows], self.damping)
            return block.adjoint(tangent, working), tangent.sum(axis=0, dtype=np.float64)

        along_coef, along_shift = self.curved_rows.sum(part)
        self.n_passes += 1
        if not self.fit_intercept:
            along_shift = np.zeros_like(along_shift)

        def penalised(rows: slice) -> None:
            along_coef[rows] += self.ridge[rows, None] * coef[rows]

        in_pieces(coef.shape, penalised)
        return along_coef, along_shift

    def hessian(self) -> F64:
        """Form the Hessian of the losses at the last point, ((D + 1) S, (D + 1) S), feature by feature, shifts last."""

        def part(block: Block) -> tuple[F64]:
            rows = block.rows
            return (
                curvature.class_moments(
                    block.table(), self.weight[rows], self.curved_prob(rows), fit_intercept=self.fit_intercept
                ),
            )

        (hessian,) = self.curved_rows.sum(part)
        self.n_passes += 1
        return np.asarray(hessian)

    def shift_covariance(self) -> F64:
        """Block of the Hessian at the last point that belongs to the shifts, (S, S): no row is read for it."""
        (covariance,) = self.curved_rows.sum(
            lambda block: (summed_covariance(self._prob[block.rows], self.weight[block.rows]),)
        )
        return np.asarray(covariance)

    def values_along(self, point: Point, coef: F64, shift: F64, lengths: F64) -> F64:
        """Values of f at point + length * (coef, shift) for many lengths, in one pass."""

        def part(block: Block) -> tuple[F64]:
            scores = np.ascontiguousarray(block.affine(point.coef, point.shift), dtype=np.float64)
            tangent = np.ascontiguousarray(block.affine(coef, shift), dtype=np.float64)
            rows = block.rows
            return (curvature.losses_along(scores, tangent, self.target[rows], self.weight[rows], lengths),)

        (losses,) = self.rows.sum(part)
        self.n_passes += 1
        return self._values(losses, point, coef, lengths)

    def members(self, rows: slice) -> F64:
        """Return the weighted labels w Y of some rows, (n, S)."""
        return weighted_labels(self.target[rows], self.weight[rows], self.n_scores)

    def separates(self) -> bool:
        """Whether the scores at the last point put every row's class strictly first: then they separate the classes."""
        prob, target, counted = self._prob, self.target, self.weight > 0
        if prob.shape[1] == 1:
            p, y = prob[counted, 0], target[counted]
            return bool(np.all(np.where(y == 1, p > 0.5, p < 0.5)))
        own = prob[np.arange(len(target)), target]
        for first in range(0, len(target), 8192):
            rows = slice(first, first + 8192)
            others = prob[rows].copy()
            others[np.arange(len(others)), target[rows]] = -1.0
            if np.any((own[rows] <= others.max(axis=1)) & counted[rows]):
                return False
        return True

    def origin(self) -> tuple[F64, F64]:
        """Return sum_i s_i x_i and sum_i s_i x_i y_i', which one pass gives."""
        if self._origin_pull is None:

            def part(block: Block) -> tuple[F64, F64]:
                weight = self.weight[block.rows]
                return block.adjoint(weight[:, None])[:, 0], block.adjoint(self.members(block.rows))

            self._origin_pull = self.rows.sum(part)
            self.n_passes += 1
        return self._origin_pull
