"""Softmax regression in the space of its coefficients: preconditioned conjugate gradients."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from normexp.backends.pieces import LARGE, in_pieces
from normexp.solvers.function import Objective, Point
from normexp.solvers.metric import Metric
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner, cholesky_solve, regularised_cholesky
from normexp.solvers.problem import FAINT, MAX_INNER, Fallback, Inner, Problem, best_length, forcing_at

F64 = NDArray[np.float64]
Floats = NDArray[np.floating]

# Conjugate gradients whose residual does not halve in so many iterations have lost to rounding.
_STALLED = 50
# So near the optimum the quadratic model is trusted; the gap that it promises should be well below the one asked for.
_CLOSE, _MARGIN = 1e-4, 0.25
# A direction whose curvature is so small a share of what the preconditioner makes of it has none but its rounding: that
# share is 1e-20 where columns add up to a constant, and 1e-6 where a column is a sum of others to its last digit.
_NO_CURVATURE = 1e-12
# Who asks for less than this wants all digits of the coefficients, not only a proof of their value.
_FINE = 1e-10
# Far from it a step need not be solved for better than this: the next one starts from better curvature.
_LOOSEST = 0.3


class Vector(NamedTuple):
    """A direction in the space of (coef, shift); ``add`` and ``turn`` work in place, large ones piece by piece."""

    coef: NDArray[Any]
    shift: F64

    def dot(self, other: "Vector") -> float:
        """Inner product."""
        parts = in_pieces(self.coef.shape, lambda rows: float(np.vdot(self.coef[rows], other.coef[rows])))
        return sum(parts) + float(np.vdot(self.shift, other.shift))

    def add(self, other: "Vector", times: float) -> None:
        """Self + times * other."""

        def part(rows: slice) -> None:
            here = self.coef[rows]  # a view
            here += times * other.coef[rows]

        in_pieces(self.coef.shape, part)
        self.shift[...] += times * other.shift

    def turn(self, other: "Vector", times: float) -> None:
        """Times * self + other."""

        def part(rows: slice) -> None:
            here = self.coef[rows]
            here *= times
            here += other.coef[rows]

        in_pieces(self.coef.shape, part)
        self.shift[...] = times * self.shift + other.shift


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
        fallback: Fallback | None = None,
        earlier_inner: int = 0,
    ) -> None:
        self._objective, self._first, self._fallback = objective, (coef, shift), fallback
        self._last_inner = self.most_inner = 0
        if metric is None:
            assert isinstance(objective, SoftmaxObjective)  # noqa: S101  (rows elsewhere bring their own metric)
            metric = Metric(objective, rng)
            self._last_inner = earlier_inner if metric.blocks_are_cheap else 0
        self._metric = metric
        self._preconditioner: Preconditioner | None = None
        self.penalised = objective.penalised

    @property
    def damping(self) -> float:
        """How far the curvature is taken towards the labels."""
        return self._objective.damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._objective.damping = value

    def start(self) -> Point:
        point, other = self._objective.at(*self._first), self._fallback
        if other is None or point.value <= other.value:
            return point
        return self._objective.at(other.first, other.shift)

    def bound(self, point: Point) -> float:
        return self._objective.dual_bound(point)

    def newton_step(self, point: Point, *, refit: bool) -> Inner:
        if refit or self._preconditioner is None:
            self._preconditioner = None  # two at a time would be the largest thing in memory
            self._preconditioner = self._metric.fit(self._last_inner)
        inner = _conjugate_gradients(self._objective, self._preconditioner, point, self.tol)
        sharp = self.sharpen(point) if inner.stalled else None
        if sharp is not None:
            self._preconditioner = None
            self._preconditioner = self._metric.fit(inner.iterations)
            inner = _conjugate_gradients(self._objective, self._preconditioner, sharp, self.tol)
        self._last_inner = MAX_INNER if inner.stalled else inner.iterations
        self.most_inner = max(self.most_inner, inner.iterations)
        return inner

    def sharpen(self, point: Point) -> Point | None:
        """A table of float32 multiplies in float32 until that is not enough."""
        if not self._objective.sharpen():
            return None
        self._last_inner = MAX_INNER  # blocks of classes are to be formed anew
        return self._objective.at(point.coef, point.shift)

    def moved(self, point: Point, inner: Inner) -> Point:
        return self._at(point, inner, 1.0)

    def gain(self, point: Point, trial: Point, inner: Inner) -> float:
        if inner.decrease > FAINT * abs(point.value) or not np.isfinite(trial.value):
            return point.value - trial.value
        # The trapezoidal rule on the slopes: exact but for the third derivative, which a step so short does not meet.
        slope = Vector(point.grad_coef + trial.grad_coef, point.grad_shift + trial.grad_shift)
        return -0.5 * slope.dot(inner.step)

    def cut(self, point: Point, inner: Inner) -> Point:
        step = inner.step
        length = best_length(partial(self._objective.values_along, point, step.coef, step.shift), point.value)
        return self._at(point, inner, length)

    def _at(self, point: Point, inner: Inner, length: float) -> Point:
        coef, step = np.empty_like(point.coef), inner.step

        def part(rows: slice) -> None:
            moved = np.multiply(length, step.coef[rows], out=coef[rows], dtype=np.float64)
            moved += point.coef[rows]
            if self._objective.n_scores > 1:
                # What rounding moves all classes alike is taken out: no score sees it, only the penalty does, and
                # preconditioners leave that direction out.
                moved -= moved.mean(axis=1, keepdims=True)

        in_pieces(coef.shape, part)
        return self._objective.at(coef, point.shift + length * step.shift)

    def settled(self, point: Point) -> Point:
        return point

    def gradient_size(self, point: Point) -> float:
        return float(max(np.abs(point.grad_coef).max(initial=0.0), np.abs(point.grad_shift).max(initial=0.0)))

    def separates(self) -> bool:
        return self._objective.separates()

    def solution(self, point: Point) -> tuple[F64, F64]:
        return point.coef, point.shift


def _conjugate_gradients(objective: Objective, preconditioner: Preconditioner, point: Point, tol: float) -> Inner:
    """Preconditioned conjugate gradients on H s = -g, from zero, as exactly as the next certificate asks for.

    Where the model is exact, the dual gap at the next point is 1/2 r' L^-1 r, r the residual and L the ridge. When the
    decrease that is left is below _CLOSE of the value, the iteration goes on until that gap is _MARGIN tol f: beginning
    anew would throw away what the directions have learnt. The shifts' part of the residual, which the bound punishes
    hardest (``Objective.mixture``), is then solved for exactly.
    """
    goal = _MARGIN * tol * abs(point.value) if tol >= _FINE and objective.penalised else 0.0
    # Directions may be as narrow as the Hessian products are, where that saves memory worth the name.
    precision = objective.working if point.coef.size >= LARGE else np.dtype(np.float64)
    step = Vector(np.zeros(point.coef.shape, precision), np.zeros_like(point.shift))
    rest = Vector(np.negative(point.grad_coef, dtype=precision, casting="same_kind"), -point.grad_shift)
    solved = direction = Vector(*preconditioner.solve(*rest))
    taken_for = rest_solved = previous = rest.dot(solved)  # direction' M direction
    stop = forcing_at(point.value, rest_solved, _LOOSEST) ** 2 * rest_solved
    is_close = goal > 0.0 and objective.damping == 0.0 and 0.5 * rest_solved <= _CLOSE * abs(point.value)
    decrease, flat = 0.0, 0.0 if objective.penalised else _NO_CURVATURE
    halved_at, half = 0, 0.25 * rest_solved
    for inner in range(MAX_INNER):
        if rest_solved <= 0.0 or (not is_close and rest_solved <= stop):
            return Inner(step, decrease, inner)
        if is_close and _gap_left(rest.coef, objective.ridge) <= goal:
            settled = _settled_shifts(objective, rest.shift)
            if _stays_settled(objective, rest, settled, goal):
                decrease += 0.5 * float(settled @ rest.shift)
                return Inner(Vector(step.coef, step.shift + settled), decrease, inner)
        if inner > 0:
            turned = rest_solved / previous
            direction.turn(solved, turned)
            taken_for = rest_solved + turned**2 * taken_for
        curved = Vector(*objective.curvature_along(*direction))
        bend = direction.dot(curved)
        if bend <= flat * taken_for or inner - halved_at > _STALLED:  # rounding has eaten the direction
            return Inner(step, decrease, inner + 1, stalled=True)
        length = rest_solved / bend
        step.add(direction, length)
        decrease += 0.5 * length * rest_solved
        rest.add(curved, -length)
        solved = Vector(*preconditioner.solve(*rest))
        previous, rest_solved = rest_solved, rest.dot(solved)
        if rest_solved < half:
            halved_at, half = inner, 0.25 * rest_solved
    return Inner(step, decrease, MAX_INNER)


def _gap_left(rest: Floats, ridge: F64) -> float:
    """The dual gap that a residual of the coefficients leaves where the quadratic model is exact."""
    parts = in_pieces(rest.shape, lambda rows: float(np.vdot(rest[rows], rest[rows] / ridge[rows, None])))
    return 0.5 * sum(parts)


def _stays_settled(objective: Objective, rest: Vector, settled: F64, goal: float) -> bool:
    """Whether the move of the shifts leaves the coefficients' gap below the goal; assumed where asking costs a pass.

    Beside a ridge of 1e-19 a move of 1e-11 does not: then conjugate gradients go on, for coefficients and shifts alike.
    """
    if objective.kept_hessian is None:
        return True
    curved, _ = objective.curvature_along(np.zeros(rest.coef.shape), settled)
    return _gap_left(rest.coef - curved, objective.ridge) <= goal


def _settled_shifts(objective: Objective, rest: F64) -> F64:
    """A move of the shifts after which nothing is left of their residual."""
    if not objective.fit_intercept:
        return np.zeros_like(rest)
    covariance = objective.shift_covariance()
    if len(covariance) > 1:  # a common shift has no curvature and no residual
        covariance += np.trace(covariance) / len(covariance) ** 2
        rest = rest - rest.mean()
    return np.asarray(cholesky_solve(regularised_cholesky(covariance), rest))
