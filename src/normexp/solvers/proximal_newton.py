"""Proximal Newton for penalties with corners: coordinate descent inside, a line search outside, a dual bound to stop.

Each step minimises a quadratic model of the smooth part plus the corners themselves (Lee, Sun & Saunders 2014;
newGLMNET: Yuan, Ho & Lin 2012). The inner minimisation is as exact as the certified gap is small, which makes the
convergence superlinear. Rows predicted wrongly and with confidence are damped as in ``truncated_newton``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.solvers.dual_point import DualPoint, dual_point
from normexp.solvers.function import Point
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.penalty import Penalty
from normexp.solvers.problem import best_length
from normexp.solvers.quadratic_model import ModelStep, QuadraticModel
from normexp.solvers.truncated_newton import POOR, Step, damped, relative_gap

F64 = NDArray[np.float64]

# How exactly the model is minimised: a sweep may bring this share of all sweeps, from rough to exact.
_ROUGH, _EXACT = 0.1, 1e-5
# Steps in which neither the value nor the bound moves before rounding is blamed.
_MAX_POLISH = 8
# Rounding is blamed only for gaps up to this one.
_CLOSE = 1e-4
# A gradient is rounding alone below this share of the weight of all rows, and of the value.
_LEVEL = 1e-11
# Steps without any bound after which features without a penalty are suspected of separating the classes.
_PATIENCE = 12


class Place(NamedTuple):
    """A point with the whole objective there: losses, ridge and corners."""

    point: Point
    value: float


@dataclass(frozen=True)
class Reached:
    """Where the iteration stopped, and what is proven there."""

    place: Place = field(repr=False)
    dual: DualPoint = field(repr=False)
    outcome: Outcome
    suboptimality: float
    n_iter: int


def placed(objective: SoftmaxObjective, penalty: Penalty, coef: F64, shift: F64) -> Place:
    """Evaluate a point, with the part that all classes have in common where it costs least."""
    point = objective.at(penalty.recentred(coef), shift)
    return Place(point, point.value + penalty.corner_value(point.coef))


def descend(
    model: QuadraticModel,
    place: Place,
    *,
    tol: float,
    max_iter: int,
    callback: Callable[[Step], None] | None = None,
    n_before: int = 0,
) -> Reached:
    """Minimise from a place that was evaluated last, over all features of the model's objective.

    Parameters
    ----------
    model : QuadraticModel
    place : Place
    tol : float
        Stop when the dual bound proves (f - f*) / f* <= tol.
    max_iter : int
        Steps at most.
    callback : callable, optional
        Called with a ``Step`` after each step.
    n_before : int
        Steps made before, for the callback.

    Returns
    -------
    Reached
    """
    objective, penalty = model.objective, model.penalty
    best, polishing = DualPoint(-np.inf, place.point.pull), 0
    for iteration in range(max_iter + 1):
        found = dual_point(objective, place.point, penalty)
        best = found if found.bound > best.bound else best
        gap = relative_gap(place.value, best.bound)
        if gap <= tol:
            return Reached(place, best, Outcome.CERTIFIED, gap, iteration)
        if iteration == max_iter:
            return Reached(place, best, Outcome.MAX_ITER if max_iter else Outcome.NOT_STARTED, gap, iteration)
        if not np.isfinite(gap) and iteration >= _PATIENCE and free_features_separate(objective, penalty, place):
            return Reached(place, best, Outcome.SEPARABLE, gap, iteration)
        step = model.step(place.point, float(np.clip(0.1 * gap, _EXACT, _ROUGH)))
        trial = placed(objective, penalty, place.point.coef + step.coef, place.point.shift + step.shift)
        rounding = 16 * np.finfo(float).eps * abs(place.value)
        if step.decrease <= rounding and abs(place.value - trial.value) <= 4 * rounding:
            polishing, place = polishing + 1, trial
            if polishing > _MAX_POLISH:
                break
            continue
        ratio = (place.value - trial.value) / step.decrease if step.decrease > 0 else -np.inf
        if not ratio >= POOR:
            trial = _cut(objective, penalty, place, step)
            polishing += trial.value >= place.value and objective.damping >= 1.0
        objective.damping = damped(objective.damping, ratio)
        place = trial
        if callback is not None:
            callback(Step(n_before + iteration + 1, place.value, best.bound, gap, step.sweeps))
        if polishing > _MAX_POLISH:
            break
    is_flat = gap <= _CLOSE or _is_level(objective, penalty, place)
    return Reached(place, best, Outcome.FLAT if is_flat else Outcome.STUCK, gap, iteration)


def _is_level(objective: SoftmaxObjective, penalty: Penalty, place: Place) -> bool:
    """Whether the gradient has vanished but for rounding, where corners of 1e-15 and less leave no bound to tell it.

    Columns have variance 1, so a gradient begins at about the weight of all rows; it must be small beside the value,
    too, which is itself all but zero where the classes lie apart.
    """
    point = place.point
    worst = max(
        float(penalty.violation(point.coef, point.grad_coef).max(initial=0.0)),
        float(np.abs(point.grad_shift).max(initial=0.0)),
    )
    return worst <= _LEVEL * min(objective.total_weight, place.value)


def free_features_separate(objective: SoftmaxObjective, penalty: Penalty, place: Place) -> bool:
    """Whether features that bear no penalty put every row's class first by themselves: then no optimum exists."""
    if not np.any(penalty.free):
        return False
    objective.at(np.where(penalty.free[:, None], place.point.coef, 0.0), place.point.shift)
    separate = objective.separates()
    objective.at(place.point.coef, place.point.shift)  # the probabilities of the place again
    return separate


def _cut(objective: SoftmaxObjective, penalty: Penalty, place: Place, step: ModelStep) -> Place:
    """Evaluate the best of many lengths along the step."""
    point = place.point

    def values_at(lengths: F64) -> F64:
        corners = [penalty.corner_value(point.coef + length * step.coef) for length in lengths]
        return objective.values_along(point, step.coef, step.shift, lengths) + corners

    length = best_length(values_at, place.value)
    return placed(objective, penalty, point.coef + length * step.coef, point.shift + length * step.shift)
