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

from normexp.solvers.outcome import Outcome
from normexp.solvers.problem import P, Problem

F64 = NDArray[np.float64]

# A step that brings less than a quarter of its promise is cut; from three quarters on the model is trusted more
# (the ratios of Conn, Gould & Toint 2000, section 17.1).
POOR, _GOOD = 0.25, 0.75
_DAMP_FIRST, _DAMP_FACTOR = 1 / 16, 4.0
_MAX_POLISH = 8
# Where no step lowers the value any more, an optimum is believed if the step promised no larger share of it.
_FAINT_PROMISE = 1e-9
# Newton's method without a penalty takes ten or twenty steps, unless the optimum is at infinity.
_MANY_STEPS = 100

_T = TypeVar("_T")


class Step(NamedTuple):
    """One outer step, for callbacks and ``verbose``."""

    iteration: int
    value: float
    bound: float
    suboptimality: float
    inner: int


@dataclass(frozen=True)
class Ending:
    """Where the iteration stopped, and why."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    value: float
    outcome: Outcome
    suboptimality: float
    n_iter: int
    seconds: dict[str, float]


class Resumed(NamedTuple):
    """How far a run has come, beside its point."""

    n_iter: int
    start_gradient: float
    best_bound: float
    damping: float


def minimise(
    problem: Problem[P],
    *,
    tol: float,
    max_iter: int,
    callback: Callable[[Step], None] | None = None,
    resumed: Resumed | None = None,
    keep: Callable[[P, Resumed], None] | None = None,
) -> Ending:
    """Minimise a softmax regression from the problem's starting point.

    Parameters
    ----------
    problem : Problem
    tol : float
        Stop when the dual bound proves (f - f*) / f* <= tol; without a penalty, when the largest
        entry of the gradient is at most tol times its value at the start.
    max_iter : int
        Newton steps at most.
    callback : callable, optional
        Called with a ``Step`` after each step.
    resumed : Resumed, optional
        How far an earlier run came, whose last point the problem starts at.
    keep : callable, optional
        Called after each step with the point and a ``Resumed``, from which the run can go on.

    Returns
    -------
    Ending

    Notes
    -----
    The inner iterations stop at |r| <= min(0.1, sqrt(g' M^-1 g / f)) |g| in the norm of M^-1, so the convergence is
    superlinear at the end (Dembo, Eisenstat & Steihaug 1982, theorem 3.3).
    """
    clock = {"steps": 0.0, "points": 0.0}
    problem.tol = tol
    point = _timed(clock, "points", problem.start)
    start_gradient, best_bound, polishing, first = problem.gradient_size(point), -np.inf, 0, 0
    if resumed is not None:
        first, start_gradient, best_bound, problem.damping = resumed

    def ended(at: P, outcome: Outcome, gap: float, n_iter: int) -> Ending:
        return Ending(*problem.solution(at), at.value, outcome, gap, n_iter, clock)

    for iteration in range(first, max(first, max_iter) + 1):
        best_bound = max(best_bound, problem.bound(point))
        gap = relative_gap(point.value, best_bound)
        if problem.penalised and gap <= tol:
            point = problem.settled(point)
            gap = relative_gap(point.value, best_bound)
            if gap <= tol:
                return ended(point, Outcome.CERTIFIED, gap, iteration)
        if not problem.penalised and (outcome := _unpenalised_ending(problem, point, start_gradient, tol)):
            return ended(point, outcome, np.inf, iteration)
        if iteration >= max_iter:
            return ended(point, _unfinished(max_iter, penalised=problem.penalised), gap, iteration)
        inner = _timed(clock, "steps", partial(problem.newton_step, point, refit=not polishing))
        trial = _timed(clock, "points", partial(problem.moved, point, inner))
        rounding = 16 * np.finfo(float).eps * abs(point.value)
        decrease = problem.gain(point, trial, inner)
        if inner.decrease <= rounding and abs(decrease) <= 4 * rounding:
            sharper = problem.sharpen(point)
            if sharper is not None:
                point = sharper
                continue
            # The value has no digits left to tell better from worse; the gradient, which the bound needs, has.
            better = problem.bound(trial) > best_bound
            polishing += 1
            if not better or polishing > _MAX_POLISH:
                best_bound = max(best_bound, problem.bound(trial))
                gap = relative_gap(trial.value, best_bound)
                certified = problem.penalised and gap <= tol
                return ended(trial, Outcome.CERTIFIED if certified else Outcome.FLAT, gap, iteration + 1)
            point = trial
            continue
        ratio = decrease / inner.decrease
        if not ratio >= POOR:  # also when the value overflowed
            trial = _timed(clock, "points", partial(problem.cut, point, inner))
            if problem.damping >= 1.0 and trial.value >= point.value:
                # No length of the most cautious step lowers the value: the next one would be the same again.
                faint = inner.decrease <= _FAINT_PROMISE * abs(point.value)
                return ended(point, Outcome.FLAT if faint else Outcome.STUCK, gap, iteration + 1)
        problem.damping = damped(problem.damping, ratio)
        point = trial
        if keep is not None:
            keep(point, Resumed(iteration + 1, start_gradient, best_bound, problem.damping))
        if callback is not None:
            callback(Step(iteration + 1, point.value, best_bound, gap, inner.iterations))
    raise AssertionError("the loop returns")


def damped(damping: float, ratio: float) -> float:
    """Return the damping after a step that brought this ratio of its promise (NaN: the value overflowed)."""
    if not ratio >= POOR:
        return min(1.0, max(_DAMP_FIRST, _DAMP_FACTOR * damping))
    if ratio > _GOOD:
        return damping / _DAMP_FACTOR if damping > _DAMP_FIRST else 0.0
    return damping


def relative_gap(value: float, bound: float) -> float:
    """(f - bound) / bound, an upper bound on (f - f*) / f*; infinite while the bound says nothing."""
    return max(0.0, (value - bound) / bound) if bound > 0 else np.inf


def _unfinished(max_iter: int, *, penalised: bool) -> Outcome:
    """Why max_iter steps were not enough: without a penalty, many of them mean that the coefficients still grow."""
    if max_iter == 0:
        return Outcome.NOT_STARTED
    return Outcome.MAX_ITER if penalised or max_iter < _MANY_STEPS else Outcome.GROWING


def _unpenalised_ending(problem: Problem[P], point: P, start: float, tol: float) -> Outcome | None:
    """Without a penalty: a vanishing gradient is an optimum, unless every row is on its right side."""
    if problem.separates():
        return Outcome.SEPARABLE
    return Outcome.GRADIENT if problem.gradient_size(point) <= tol * start else None


def _timed(clock: dict[str, float], part: str, work: Callable[[], _T]) -> _T:
    start = time.perf_counter()
    try:
        return work()
    finally:
        clock[part] += time.perf_counter() - start
