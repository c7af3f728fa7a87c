"""Truncated Newton: conjugate gradients inside, a line search outside, a dual bound to stop.

The step solves H s = -g by preconditioned conjugate gradients until |r| is small (Dembo, Eisenstat & Steihaug
1982). A full step that falls short of its promise is cut by a line search, whose one pass tries many lengths
at once. Why no trust region: docs/decisions/0002-line-search.md.

Damping. Newton's model is blind for rows that are predicted wrongly and with confidence: their gradient is
large and their curvature p (1 - p) is nearly zero, so the model promises what the function does not keep. The
curvature is therefore taken at q = (1 - a) p + a y, a = damping (1 - p_y) / 2, between prediction and label.
Rows predicted rightly are hardly touched. The damping rises when a step had to be cut and falls to exactly zero
when steps keep their promise, so the end of the iteration is Newton's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from normexp.solvers.metric import Metric
from normexp.solvers.objective import Point, SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.preconditioner import Preconditioner

F64 = NDArray[np.float64]

# A step that brings less than a quarter of its promise is cut; from three quarters on the model is trusted more
# (the ratios of Conn, Gould & Toint 2000, section 17.1).
_POOR, _GOOD = 0.25, 0.75
_DAMP_FIRST, _DAMP_FACTOR = 1 / 16, 4.0
_LENGTHS = 2.0 ** -np.arange(0.0, 14.0, 0.5)
_MAX_INNER = 250
_MAX_POLISH = 8
_FORCING, _EXACT = 0.1, 1e-5

_T = TypeVar("_T")


class Step(NamedTuple):
    """One outer step, for callbacks and ``verbose``."""

    iteration: int
    value: float
    bound: float
    suboptimality: float
    inner: int


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


@dataclass(frozen=True)
class Ending:
    """Where the iteration stopped, and why."""

    point: Point = field(repr=False)
    outcome: Outcome
    suboptimality: float
    n_iter: int
    seconds: dict[str, float]


def minimise(
    objective: SoftmaxObjective,
    coef: F64,
    shift: F64,
    *,
    tol: float,
    max_iter: int,
    rng: np.random.Generator,
    callback: Callable[[Step], None] | None = None,
) -> Ending:
    """Minimise a softmax objective from (coef, shift).

    Parameters
    ----------
    objective : SoftmaxObjective
    coef : ndarray (D, S)
    shift : ndarray (S,)
        The starting point.
    tol : float
        Stop when the dual bound proves (f - f*) / f* <= tol; without a penalty, when the largest
        entry of the gradient is at most tol times its value at zero.
    max_iter : int
        Newton steps at most.
    rng : Generator
        Draws the rows from which the preconditioner's second moments are estimated.
    callback : callable, optional
        Called with a ``Step`` after each step.

    Returns
    -------
    Ending

    Notes
    -----
    A step costs one pass for the trial point and one for each conjugate-gradient iteration, and two more if cut.
    The inner iterations stop at |r| <= min(0.1, sqrt(g' M^-1 g / f)) |g| in the norm of M^-1, so the convergence is
    superlinear at the end (Dembo, Eisenstat & Steihaug 1982, theorem 3.3).
    """
    clock = {"passes": 0.0, "preconditioner": 0.0}
    penalised = bool(np.all(objective.ridge > 0))
    metric = Metric(objective, rng)
    point = _timed(clock, "passes", lambda: objective.at(coef, shift))
    start_gradient = _largest(point)
    preconditioner: Preconditioner | None = None
    best_bound, polishing = -np.inf, 0
    for iteration in range(max_iter + 1):
        best_bound = max(best_bound, objective.dual_bound(point))
        gap = _relative_gap(point.value, best_bound)
        if penalised and gap <= tol:
            return Ending(point, Outcome.CERTIFIED, gap, iteration, clock)
        if not penalised and (outcome := _unpenalised_ending(point, objective, start_gradient, tol)):
            return Ending(point, outcome, np.inf, iteration, clock)
        if iteration == max_iter:
            outcome = Outcome.NOT_STARTED if max_iter == 0 else Outcome.MAX_ITER
            return Ending(point, outcome, gap, iteration, clock)
        if preconditioner is None or not polishing:
            preconditioner = _timed(clock, "preconditioner", metric.fit)
        inner = _timed(clock, "passes", partial(_newton_step, objective, preconditioner, point))
        candidate = point.coef + inner.step.coef, point.shift + inner.step.shift
        trial = _timed(clock, "passes", partial(objective.at, *candidate))
        rounding = 16 * np.finfo(float).eps * abs(point.value)
        decrease = point.value - trial.value
        if inner.decrease <= rounding and abs(decrease) <= 4 * rounding:
            # The value has no digits left to tell better from worse; the gradient, which the bound needs, has.
            better = objective.dual_bound(trial) > best_bound
            polishing += 1
            if not better or polishing > _MAX_POLISH:
                best_bound = max(best_bound, objective.dual_bound(trial))
                gap = _relative_gap(trial.value, best_bound)
                outcome = Outcome.CERTIFIED if penalised and gap <= tol else Outcome.FLAT
                return Ending(trial, outcome, gap, iteration + 1, clock)
            point = trial
            continue
        ratio = decrease / inner.decrease
        if not ratio >= _POOR:  # also when the value overflowed
            trial = _timed(clock, "passes", partial(_cut, objective, point, inner.step))
            objective.damping = min(1.0, max(_DAMP_FIRST, _DAMP_FACTOR * objective.damping))
        elif ratio > _GOOD:
            objective.damping = objective.damping / _DAMP_FACTOR if objective.damping > _DAMP_FIRST else 0.0
        point = trial
        if callback is not None:
            callback(Step(iteration + 1, point.value, best_bound, gap, inner.iterations))
    raise AssertionError("the loop returns")


def _relative_gap(value: float, bound: float) -> float:
    """(f - bound) / bound, an upper bound on (f - f*) / f*; infinite while the bound says nothing."""
    return max(0.0, (value - bound) / bound) if bound > 0 else np.inf


class _Inner(NamedTuple):
    step: Vector
    decrease: float  # that the quadratic model promises
    iterations: int


def _newton_step(objective: SoftmaxObjective, preconditioner: Preconditioner, point: Point) -> _Inner:
    """Preconditioned conjugate gradients on H s = -g, from zero."""
    step = Vector(np.zeros_like(point.grad_coef), np.zeros_like(point.grad_shift))
    rest = Vector(-point.grad_coef, -point.grad_shift)
    solved = Vector(*preconditioner.solve(*rest))
    direction = solved
    rest_solved = rest.dot(solved)
    # With M near H, half of g' M^-1 g is near f - f*: the closer the optimum, the more exact the step.
    forcing = np.clip(np.sqrt(rest_solved / max(abs(point.value), np.finfo(float).tiny)), _EXACT, _FORCING)
    stop = forcing**2 * rest_solved
    decrease = 0.0
    for inner in range(_MAX_INNER):
        if rest_solved <= stop or rest_solved <= 0.0:
            return _Inner(step, decrease, inner)
        curved = Vector(*objective.curvature_along(*direction))
        bend = direction.dot(curved)
        if bend <= 0.0:  # rounding has eaten the direction
            return _Inner(step, decrease, inner + 1)
        length = rest_solved / bend
        step = step.plus(direction, length)
        decrease += 0.5 * length * rest_solved
        rest = rest.plus(curved, -length)
        solved = Vector(*preconditioner.solve(*rest))
        previous, rest_solved = rest_solved, rest.dot(solved)
        direction = solved.plus(direction, rest_solved / previous)
    return _Inner(step, decrease, _MAX_INNER)


def _cut(objective: SoftmaxObjective, point: Point, step: Vector) -> Point:
    """The best point among many lengths along the step."""
    values = objective.values_along(point, step.coef, step.shift, _LENGTHS)
    best = int(np.nanargmin(np.where(np.isfinite(values), values, np.inf)))
    length = _LENGTHS[best] if values[best] < point.value else 0.0
    return objective.at(point.coef + length * step.coef, point.shift + length * step.shift)


def _unpenalised_ending(point: Point, objective: SoftmaxObjective, start: float, tol: float) -> Outcome | None:
    """Without a penalty: a vanishing gradient is an optimum, unless every row is on its right side."""
    if _all_rows_right(objective):
        return Outcome.SEPARABLE
    return Outcome.GRADIENT if _largest(point) <= tol * start else None


def _all_rows_right(objective: SoftmaxObjective) -> bool:
    """Whether the current scores put every row's class strictly first: then they separate the classes."""
    prob, target = objective.prob, objective.target
    counted = objective.weight > 0
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


def _largest(point: Point) -> float:
    return float(max(np.abs(point.grad_coef).max(initial=0.0), np.abs(point.grad_shift).max(initial=0.0)))


def _timed(clock: dict[str, float], part: str, work: Callable[[], _T]) -> _T:
    start = time.perf_counter()
    try:
        return work()
    finally:
        clock[part] += time.perf_counter() - start
