"""Softmax regression in the space of its rows: one number for each row and class, whatever the number of features.

With a penalty and a start at zero every coefficient vector that the iteration meets is a combination of the rows
(the representer theorem: Kimeldorf & Wahba 1970),

    V = L^-1 X' A,      A (N, S),      L = diag(lambda) / l,      G = X L^-1 X',

so scores are G A + 1 c', and the gradient is X' (R + l A) with the residuals R = P - Y. The unit l is 1, but for
penalties so faint (columns of 1e20 and more) that G would overflow the least of them. Conjugate gradients on the
Newton system, preconditioned by L, then run on arrays of N x S: a covector X' r is kept as r, its preconditioned
vector L^-1 X' r has the same coordinates, and their inner product is r' G r. A step costs one product with G for
each inner iteration and one for the dual bound; trial points and line searches cost none, for the scores along the
step are known. Text has a hundred times more features than rows: there it is arrays of N x S that fit the caches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from normexp.backends import curvature
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.problem import FAINT, MAX_INNER, Fallback, Inner, Problem, best_length, forcing_at

F64 = NDArray[np.float64]

# Up to so many rows G itself is formed, when there are fewer rows than features.
_GRAM_ROWS = 2048
# Below this penalty, on columns of variance 1, it is the unit of G.
_FAINT_RIDGE = 1e-30


@dataclass(frozen=True)
class _Move:
    """A direction: coordinates, their scores, and the move of the shifts."""

    rows: F64 = field(repr=False)
    scores: F64 = field(repr=False)
    shift: F64 = field(repr=False)


@dataclass(frozen=True)
class RowPoint:
    """A point: coordinates A, scores G A, shifts; residuals, value and entropy there."""

    rows: F64 = field(repr=False)
    scores: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    residual: F64 = field(repr=False)
    value: float
    entropy: float
    gram: Callable[[F64], F64] = field(repr=False)

    @cached_property
    def residual_scores(self) -> F64:
        """G R, for the dual bound and the next step: one product."""
        return self.gram(self.residual)


class RowSpace(Problem[RowPoint]):
    """A penalised objective in the space of its rows, started at zero or at coordinates (N, S) and shifts (S,)."""

    penalised = True
    reached: tuple[F64, F64]  # coordinates and shifts of the solution that was asked for last

    def __init__(
        self, objective: SoftmaxObjective, first: tuple[F64, F64] | None = None, fallback: Fallback | None = None
    ) -> None:
        self._objective = objective
        self._share = objective.weight / max(objective.total_weight, np.finfo(float).tiny)
        self._kernel: F64 | None = None
        least = float(objective.ridge.min()) if objective.ridge.size else 1.0
        self._unit = least if least < _FAINT_RIDGE else 1.0
        # Coordinates of another penalty are a start in the unit 1 alone.
        self._first, self._fallback = (first, fallback) if self._unit == 1.0 else (None, None)
        rows = objective.rows
        if rows.n_rows <= min(_GRAM_ROWS, rows.n_features):
            self._kernel = self._product(np.eye(rows.n_rows))
            self._kernel = 0.5 * (self._kernel + self._kernel.T)
        self._origin: tuple[F64, F64] | None = None

    @property
    def damping(self) -> float:
        """How far the curvature is taken towards the labels."""
        return self._objective.damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._objective.damping = value

    def start(self) -> RowPoint:
        if self._first is not None:
            rows, shift = self._first
            point = self._evaluate(rows, self.gram(rows), shift)
            other = self._fallback
            if other is None or point.value <= other.value:
                return point
            return self._evaluate(other.first, self.gram(other.first), other.shift)
        shape = self._objective.rows.n_rows, self._objective.n_scores
        return self._evaluate(np.zeros(shape), np.zeros(shape), np.zeros(shape[1]))

    def bound(self, point: RowPoint) -> float:
        share, mixed, entropy = self._objective.mixture(point.residual.sum(axis=0), point.entropy)
        if share == 0.0:
            return entropy - 0.5 * float(np.vdot(point.residual, point.residual_scores)) / self._unit
        members, member_scores = self._origins()
        weight = self._objective.weight
        constant = np.outer(weight, mixed) - members
        # X' w is the sum of X' (w Y) over the classes; for two classes only class 1 has a column.
        whole = self._whole_scores if members.shape[1] == 1 else member_scores.sum(axis=1)
        constant_scores = np.outer(whole, mixed) - member_scores
        square = (
            (1 - share) ** 2 * np.vdot(point.residual, point.residual_scores)
            + 2 * share * (1 - share) * np.vdot(constant, point.residual_scores)
            + share**2 * np.vdot(constant, constant_scores)
        )
        return entropy - 0.5 * float(square) / self._unit

    def newton_step(self, point: RowPoint, *, refit: bool) -> Inner:  # noqa: ARG002  (the preconditioner is fixed)
        objective = self._objective
        free = objective.fit_intercept
        bend_shift = self._shift_curvature()
        rest = -(point.residual + self._unit * point.rows)
        rest_shift = -point.residual.sum(axis=0) * free
        rest_scores = -(point.residual_scores + self._unit * point.scores)
        square = float(np.vdot(rest, rest_scores)) + float(np.sum(rest_shift**2 / bend_shift))
        stop = forcing_at(point.value, square) ** 2 * square
        along = _Move(rest, rest_scores, rest_shift / bend_shift)
        step = _Move(np.zeros_like(rest), np.zeros_like(rest), np.zeros_like(rest_shift))
        decrease = 0.0
        for inner in range(MAX_INNER):
            if square <= stop or square <= 0.0:
                return Inner(step, decrease, inner)
            curved = along.scores + along.shift
            curvature.tangent_product(curved, objective.prob, objective.target, objective.weight, objective.damping)
            curved_shift = curved.sum(axis=0) * free
            curved += self._unit * along.rows
            bend = float(np.vdot(along.scores, curved)) + float(along.shift @ curved_shift)
            if bend <= 0.0:  # rounding has eaten the direction
                return Inner(step, decrease, inner + 1)
            length = square / bend
            step = _added(step, along, length)
            decrease += 0.5 * length * square
            rest = rest - length * curved
            rest_shift = rest_shift - length * curved_shift
            rest_scores = self.gram(rest)
            previous = square
            square = float(np.vdot(rest, rest_scores)) + float(np.sum(rest_shift**2 / bend_shift))
            along = _added(_Move(rest, rest_scores, rest_shift / bend_shift), along, square / previous)
        return Inner(step, decrease, MAX_INNER)

    def moved(self, point: RowPoint, inner: Inner) -> RowPoint:
        return self._at(point, inner, 1.0)

    def gain(self, point: RowPoint, trial: RowPoint, inner: Inner) -> float:
        if inner.decrease > FAINT * abs(point.value) or not np.isfinite(trial.value):
            return point.value - trial.value
        step: _Move = inner.step
        residual = point.residual + trial.residual
        slope = np.vdot(residual + self._unit * (point.rows + trial.rows), step.scores)
        return -0.5 * float(slope + step.shift @ residual.sum(axis=0))

    def cut(self, point: RowPoint, inner: Inner) -> RowPoint:
        step: _Move = inner.step
        objective = self._objective
        flat, cross = np.vdot(point.rows, point.scores), np.vdot(point.rows, step.scores)
        bend = np.vdot(step.rows, step.scores)
        scores, tangent = point.scores + point.shift, step.scores + step.shift

        def values_at(lengths: F64) -> F64:
            losses = curvature.losses_along(scores, tangent, objective.target, objective.weight, lengths)
            return np.asarray(losses + 0.5 * self._unit * (flat + 2 * lengths * cross + lengths**2 * bend))

        return self._at(point, inner, best_length(values_at, point.value))

    def settled(self, point: RowPoint) -> RowPoint:
        return self._evaluate(point.rows, self.gram(point.rows), point.shift)

    def gradient_size(self, point: RowPoint) -> float:
        return float(np.abs(point.residual + self._unit * point.rows).max(initial=0.0))

    def separates(self) -> bool:
        return self._objective.separates()

    def solution(self, point: RowPoint) -> tuple[F64, F64]:
        objective = self._objective
        self.reached = point.rows, point.shift
        coef = self._pulled(point.rows) / (objective.ridge / self._unit)[:, None]
        if not objective.fit_intercept:
            return coef, point.shift
        share, none = self._share, np.zeros(coef.shape[1])
        (mean,) = objective.rows.sum(lambda block: (share[block.rows] @ block.affine(coef, none),))
        return coef, point.shift - np.asarray(mean)

    def gram(self, coordinates: F64) -> F64:
        """Product with G, (N, S): one pass over the rows."""
        self._objective.n_passes += 1
        return self._product(coordinates) if self._kernel is None else self._kernel @ coordinates

    def _product(self, coordinates: F64) -> F64:
        """Product with (I - 1 w') X L^-1 X' (I - w 1'): centring the columns costs next to nothing here."""
        rows, ridge = self._objective.rows, self._objective.ridge / self._unit
        scores = rows.gram_product(self._centred(coordinates), ridge)
        return scores - self._share @ scores if self._objective.fit_intercept else scores

    def _centred(self, coordinates: F64) -> F64:
        if not self._objective.fit_intercept:
            return coordinates
        return np.asarray(coordinates - self._share[:, None] * coordinates.sum(axis=0))

    def _pulled(self, coordinates: F64) -> F64:
        """X' A, (D, S)."""
        centred = self._centred(coordinates)
        (pulled,) = self._objective.rows.sum(lambda block: (block.adjoint(centred[block.rows]),))
        return np.asarray(pulled)

    def _at(self, point: RowPoint, inner: Inner, length: float) -> RowPoint:
        step: _Move = inner.step
        return self._evaluate(
            point.rows + length * step.rows, point.scores + length * step.scores, point.shift + length * step.shift
        )

    def _evaluate(self, rows: F64, scores: F64, shift: F64) -> RowPoint:
        objective = self._objective
        residual = scores + shift
        loss, entropy = curvature.residual(residual, objective.target, objective.weight, objective.prob)
        value = loss + 0.5 * self._unit * float(np.vdot(rows, scores))
        return RowPoint(rows, scores, shift, residual, value, entropy, self.gram)

    def _shift_curvature(self) -> F64:
        """Diagonal of the Hessian's block of shifts, kept away from 0."""
        objective = self._objective
        p = objective.prob
        diagonal = objective.weight @ (p * (1 - p))
        return np.asarray(np.maximum(diagonal, 1e-3 * max(float(diagonal.max(initial=0.0)), 1e-3)))

    def _origins(self) -> tuple[F64, F64]:
        """The labels as coordinates, w Y (N, S), and their scores."""
        if self._origin is None:
            members = self._objective.members(slice(None))
            if members.shape[1] == 1:
                both = self.gram(np.hstack([members, self._objective.weight[:, None]]))
                self._origin, self._whole_scores = (members, both[:, :1]), both[:, 1]
            else:
                self._origin = members, self.gram(members)
        return self._origin


def _added(first: _Move, second: _Move, times: float) -> _Move:
    """Return first + times * second."""
    return _Move(
        first.rows + times * second.rows, first.scores + times * second.scores, first.shift + times * second.shift
    )
