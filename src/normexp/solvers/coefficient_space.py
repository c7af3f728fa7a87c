"""Softmax regression in the space of its coefficients: preconditioned conjugate gradients."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from normexp.solvers.function import Objective, Point
from normexp.solvers.metric import Metric
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner
from normexp.solvers.problem import LENGTHS, MAX_INNER, Inner, Problem, best_length, forcing_at

F64 = NDArray[np.float64]

# Conjugate gradients whose residual does not halve in so many iterations have lost to rounding.
_STALLED = 50


class Vector(NamedTuple):
    """A direction in the space of (coef, shift)."""

    coef: F64
    shift: F64

    def dot(self, other: "Vector") -> float:
        """Inner product."""
        return float(np.vdot(self.coef, other.coef) + np.vdot(self.shift, other.shift))

    def plus(self, other: "Vector", times: float) -> "Vector":
        """Self + times * other."""
        return Vector(self.coef + times * other.coef, self.shift + times * other.shift)


class FitsPreconditioner(Protocol):
    """Chooses and fits the preconditioner: ``Metric``, or ``StreamedMetric`` for rows that are not in memory."""

    def fit(self, last_inner: int = 0) -> Preconditioner:
        """Fit at the point evaluated last; last_inner: inner iterations of the step before."""
        ...


class CoefficientSpace(Problem[Point]):
    """The objective as it stands, its Newton systems preconditioned by ``Metric``'s choice."""

    def __init__(
        self,
        objective: Objective,
        coef: F64,
        shift: F64,
        rng: np.random.Generator,
        *,
        metric: FitsPreconditioner | None = None,
    ) -> None:
        self._objective, self._first = objective, (coef, shift)
        if metric is None:
            assert isinstance(objective, SoftmaxObjective)  # noqa: S101  (rows elsewhere bring their own metric)
            metric = Metric(objective, rng)
        self._metric = metric
        self._preconditioner: Preconditioner | None = None
        self._last_inner = 0
        self.penalised = bool(np.all(objective.ridge > 0))

    @property
    def damping(self) -> float:
        """How far the curvature is taken towards the labels."""
        return self._objective.damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._objective.damping = value

    def start(self) -> Point:
        return self._objective.at(*self._first)

    def bound(self, point: Point) -> float:
        return self._objective.dual_bound(point)

    def newton_step(self, point: Point, *, refit: bool) -> Inner:
        if refit or self._preconditioner is None:
            self._preconditioner = self._metric.fit(self._last_inner)
        inner = _conjugate_gradients(self._objective, self._preconditioner, point)
        sharp = self.sharpen(point) if inner.stalled else None
        if sharp is not None:
            self._preconditioner = self._metric.fit(inner.iterations)
            inner = _conjugate_gradients(self._objective, self._preconditioner, sharp)
        self._last_inner = inner.iterations
        return inner

    def sharpen(self, point: Point) -> Point | None:
        """A table of float32 multiplies in float32 until that is not enough."""
        if not self._objective.sharpen():
            return None
        self._last_inner = MAX_INNER  # blocks of classes are to be formed anew
        return self._objective.at(point.coef, point.shift)

    def moved(self, point: Point, inner: Inner) -> Point:
        return self._at(point, inner, 1.0)

    def cut(self, point: Point, inner: Inner) -> Point:
        values = self._objective.values_along(point, inner.step.coef, inner.step.shift, LENGTHS)
        return self._at(point, inner, best_length(values, point.value))

    def _at(self, point: Point, inner: Inner, length: float) -> Point:
        coef = point.coef + length * inner.step.coef
        if self._objective.n_scores > 1:
            # What rounding moves all classes alike is taken out: no score sees it, only the penalty does, and
            # preconditioners leave that direction out.
            coef -= coef.mean(axis=1, keepdims=True)
        return self._objective.at(coef, point.shift + length * inner.step.shift)

    def settled(self, point: Point) -> Point:
        return point

    def gradient_size(self, point: Point) -> float:
        return float(max(np.abs(point.grad_coef).max(initial=0.0), np.abs(point.grad_shift).max(initial=0.0)))

    def separates(self) -> bool:
        return self._objective.separates()

    def solution(self, point: Point) -> tuple[F64, F64]:
        return point.coef, point.shift


def _conjugate_gradients(objective: Objective, preconditioner: Preconditioner, point: Point) -> Inner:
    """Preconditioned conjugate gradients on H s = -g, from zero."""
    step = Vector(np.zeros_like(point.grad_coef), np.zeros_like(point.grad_shift))
    rest = Vector(-point.grad_coef, -point.grad_shift)
    solved = Vector(*preconditioner.solve(*rest))
    direction = solved
    rest_solved = rest.dot(solved)
    stop = forcing_at(point.value, rest_solved) ** 2 * rest_solved
    decrease = 0.0
    halved_at, half = 0, 0.25 * rest_solved
    for inner in range(MAX_INNER):
        if rest_solved <= stop or rest_solved <= 0.0:
            return Inner(step, decrease, inner)
        curved = Vector(*objective.curvature_along(*direction))
        bend = direction.dot(curved)
        if bend <= 0.0 or inner - halved_at > _STALLED:  # rounding has eaten the direction
            return Inner(step, decrease, inner + 1, stalled=True)
        length = rest_solved / bend
        step = step.plus(direction, length)
        decrease += 0.5 * length * rest_solved
        rest = rest.plus(curved, -length)
        solved = Vector(*preconditioner.solve(*rest))
        previous, rest_solved = rest_solved, rest.dot(solved)
        if rest_solved < half:
            halved_at, half = inner, 0.25 * rest_solved
        direction = solved.plus(direction, rest_solved / previous)
    return Inner(step, decrease, MAX_INNER)
