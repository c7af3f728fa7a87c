"""The quadratic model of a softmax regression plus its penalty's corners, minimised by coordinate descent.

Two ways to hold the same model. Where the Hessian of all unknowns is cheap it is formed, and a move of one coefficient
costs one row of it. Else the features themselves are held column by column, and a move costs the rows that the
feature touches; for sparse features those are few.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends.coordinates import Corners, Effort, descend_features, descend_matrix
from normexp.solvers.function import Point
from normexp.solvers.manifold import Face, along_face
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.penalty import Penalty

F64 = NDArray[np.float64]

# The Hessian of so many unknowns takes 32 MB; beyond, sweeps over the features cost less than forming it.
MAX_UNKNOWNS = 2000
# Sweeps at most: over a matrix in memory, and over the features.
_SWEEPS_MATRIX, _SWEEPS_FEATURES = 2000, 12
# Curvature that no coefficient is below, in weights of all rows (columns of a table have variance 1): one whose rows
# are all predicted with certainty has none, and could never come back from where it went.
_LEAST = 1e-9
# Sweeps over a matrix are cheap beside forming it.
_FINER = 1e-3


class ModelStep(NamedTuple):
    """A step, what the model promises of it, and the sweeps it took."""

    coef: F64
    shift: F64
    decrease: float
    sweeps: int


class QuadraticModel(ABC):
    """The model at the point evaluated last."""

    def __init__(self, objective: SoftmaxObjective, penalty: Penalty) -> None:
        self.objective, self.penalty = objective, penalty
        intercept = np.zeros(1)
        self.corners = Corners(np.append(penalty.corner, intercept), penalty.grouped)
        self.ridge = np.append(penalty.ridge, intercept)

    def step(self, point: Point, share: float) -> ModelStep:
        """Minimise the model until a sweep brings no more than this share of the whole decrease."""
        start = np.vstack([point.coef, point.shift])
        slope = np.vstack([point.grad_coef, point.grad_shift])
        coef = start.copy()
        bend, sweeps = self._descend(slope.copy(), coef, share)
        move = coef - start
        before, after = self.penalty.corner_value(start[:-1]), self.penalty.corner_value(coef[:-1])
        decrease = before - after - float(np.vdot(slope, move)) - 0.5 * bend
        return ModelStep(np.ascontiguousarray(move[:-1]), move[-1].copy(), decrease, sweeps)

    @abstractmethod
    def _descend(self, slope: F64, coef: F64, share: float) -> tuple[float, int]:
        """Move coef (D + 1, S) in place; return the curvature along the move, move' H move, and the sweeps."""


class MatrixModel(QuadraticModel):
    """The Hessian itself, feature by feature."""

    def _descend(self, slope: F64, coef: F64, share: float) -> tuple[float, int]:
        objective = self.objective
        scores, size = objective.n_scores, len(coef)

        hessian = objective.hessian()
        blocks = hessian.reshape(size, scores, size, scores)
        diagonal = np.einsum("jj->j", hessian)
        diagonal += np.repeat(self.ridge, scores) + _LEAST * objective.total_weight
        own = np.einsum("jkjl->jkl", blocks)
        bound = np.linalg.eigvalsh(own)[:, -1] * (1 + 1e-12) if self.corners.grouped else np.zeros(size)
        before, flat = coef.copy(), slope.ravel()
        first = flat.copy()
        sweeps, _ = descend_matrix(
            hessian, flat, np.ascontiguousarray(bound), coef, self.corners, Effort(_SWEEPS_MATRIX, _FINER * share)
        )
        return float(np.vdot((coef - before).ravel(), flat - first)), sweeps


class FeatureModel(QuadraticModel):
    """The features themselves."""

    def __init__(self, objective: SoftmaxObjective, penalty: Penalty, features: Any) -> None:
        super().__init__(objective, penalty)
        last = np.full((1, objective.rows.n_rows), 1.0 if objective.fit_intercept else 0.0, features.dtype)
        if sparse.issparse(features):
            stacked: list[Any] = [features, sparse.csr_matrix(last)]
            joined: Any = sparse.vstack(stacked, format="csr")
            self._features = joined
        else:
            self._features = np.ascontiguousarray(np.vstack([features, last]))

    def _descend(self, slope: F64, coef: F64, share: float) -> tuple[float, int]:
        objective, start = self.objective, coef.copy()
        prob = objective.curved_prob(slice(None)) if objective.damping > 0 else objective.prob
        found = descend_features(
            self._features, prob, objective.weight, slope, coef, self.ridge, self.corners,
            Effort(_SWEEPS_FEATURES, share),
        )  # fmt: skip
        objective.n_passes += found.sweeps
        if found.settled:
            return found.bend, found.sweeps
        curved = np.vstack(objective.curvature_along(coef[:-1] - start[:-1], coef[-1] - start[-1]))
        better = along_face(objective, self.penalty, Face(coef.copy(), slope + curved, found.curve), 0.1 * share)
        if better is None:
            return found.bend, found.sweeps
        goal, more = better
        coef[:] = goal
        return float(np.vdot(coef - start, curved + more)), found.sweeps
