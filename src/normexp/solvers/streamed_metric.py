"""Preconditioners of streamed rows: fitted to rows that the last evaluation drew, in memory.

An evaluation draws rows on its way (``passes.Drawing``), so a preconditioner costs no pass of its own. The drawn rows
are a small problem in memory, to which the same factors are fitted as to any table there. Tables of very many features
take the diagonal feature factor from all rows, in one pass more.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.rows import row_blocks
from normexp.solvers.class_blocks import ClassBlocks
from normexp.solvers.kronecker import from_moments
from normexp.solvers.metric import Metric
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.passes import DiagonalFactors
from normexp.solvers.preconditioner import FLOOR, Preconditioner
from normexp.solvers.streamed_objective import StreamedObjective

F64 = NDArray[np.float64]


class StreamedMetric:
    """Fits the preconditioner that suits the drawn rows to their current probabilities."""

    def __init__(self, objective: StreamedObjective, rng: np.random.Generator) -> None:
        self._objective, self._rng = objective, rng
        self._kept: tuple[SoftmaxObjective, Metric] | None = None
        self._blocks: ClassBlocks | None = None

    def fit(self, last_inner: int = 0) -> Preconditioner:
        """Fit at the point evaluated last; last_inner: inner iterations of the step before."""
        objective = self._objective
        point = objective.point
        if not objective.draws:
            factors = DiagonalFactors(point.coef, point.shift, objective.damping)
            moments, covariance, curved = objective.rows.sum(factors)
            objective.n_passes += 1
            return from_moments(moments, covariance, curved, objective.ridge)
        if self._kept is not None:
            rows, metric = self._kept
        else:
            rows = self._in_memory()
            metric = Metric(rows, self._rng)
            metric.blocks = self._blocks
            metric.may_keep_rows &= objective.takes_all
        if objective.is_sharp:
            rows.sharpen()
        rows.damping = objective.damping
        rows.at(point.coef, point.shift)
        fitted = metric.fit(last_inner)
        self._blocks = metric.blocks
        if objective.takes_all:
            self._kept = rows, metric
            if rows.kept_hessian is not None:  # that of all rows: no block is read again for its products
                objective.keep_hessian(rows.kept_hessian)
        return fitted

    def _in_memory(self) -> SoftmaxObjective:
        """The rows that were drawn, as a problem of their own."""
        objective = self._objective
        stored, targets, weights = zip(*objective.drawn, strict=True)
        join: Any = sparse.vstack if objective.rows.is_sparse else np.concatenate
        X, target, weight = join(stored), np.concatenate(targets), np.concatenate(weights)
        del stored
        objective.drawn = []  # they would be held twice
        column_map = objective.column_map
        rows = row_blocks(X, objective.n_scores)
        if column_map.centre is not None and column_map.scale is not None:
            rows = rows.seen_through(column_map.centre, column_map.scale)
        ridge = objective.ridge
        if not objective.takes_all and not objective.rows.is_sparse:
            # A feature that is zero but in a few rows may be missed. Scaled, all have the mean square 1 over all rows.
            squares = rows.sum(lambda block: (block.column_moments(weight[block.rows])[1],))[0]
            found = squares / objective.total_weight
            ridge = ridge + np.maximum(FLOOR - found, 0.0) * objective.curvature / max(2, objective.n_scores)
        return SoftmaxObjective(
            rows,
            target,
            weight,
            n_classes=len(objective.class_weight),
            ridge=ridge,
            fit_intercept=objective.fit_intercept,
        )
