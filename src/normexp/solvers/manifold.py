"""Newton's step on the coefficients that are at work, where coordinate descent tires of correlated columns.

Where no coefficient (or, for lengths, no row of them) meets zero, the penalty is smooth: the model restricted to the
coefficients at work has a linear system for its minimiser, solved by conjugate gradients with its diagonal. A
coefficient that would change its sign stops at zero, and a step that does not lower the model is halved.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.penalty import Penalty

F64 = NDArray[np.float64]

_MAX_PRODUCTS = 100
_ROUNDS, _HALVINGS = 4, 6


class Face(NamedTuple):
    """The model at coef (D + 1, S), intercept last: its smooth slope there, and each number's own curvature."""

    coef: F64
    slope: F64
    curve: F64


def along_face(objective: SoftmaxObjective, penalty: Penalty, face: Face, exactness: float) -> tuple[F64, F64] | None:
    """Return a better coef (D + 1, S) of the model and its Hessian's product with the move; None if none is found.

    The residual of the linear system falls to ``exactness`` times its first norm, or 100 products are spent.
    """
    coef, corner = face.coef, np.append(penalty.corner, 0.0)[:, None]
    if penalty.grouped:
        length = np.append(penalty.size(coef[:-1]), 1.0)[:, None]
        working = np.broadcast_to((length > 0) | (corner == 0), coef.shape)
        length = np.where(length > 0, length, 1.0)
        slope = face.slope + corner * coef / length
        unit, tension = coef / length, corner / length
    else:
        working = (coef != 0) | (corner == 0)
        slope = face.slope + corner * np.sign(coef)
        unit, tension = np.zeros_like(coef), np.zeros_like(corner)

    def product(direction: F64) -> F64:
        curved = _hessian(objective, direction)
        if penalty.grouped:
            curved += tension * (direction - unit * np.sum(unit * direction, axis=1, keepdims=True))
        return curved

    diagonal = face.curve + tension
    before = _corners(penalty, coef)
    fixed, base, at_base = np.zeros_like(working), np.zeros_like(coef), slope
    for _ in range(_ROUNDS):
        moving = working & ~fixed & (diagonal > 0)
        step = _conjugate_gradients(
            product, np.where(moving, -at_base, 0.0), np.where(moving, diagonal, np.inf), exactness
        )
        step += base
        goal = coef + step
        crossing = (goal * coef < 0) & (corner > 0) & ~fixed
        if penalty.grouped or not np.any(crossing):
            break
        fixed |= crossing
        base = np.where(fixed, -coef, 0.0)
        at_base = slope + product(base)
    step = np.where(fixed, -coef, step)
    for halving in range(_HALVINGS):
        goal = coef + 0.5**halving * step
        if not penalty.grouped:
            goal = np.where((goal * coef < 0) & (corner > 0) | (fixed & (halving == 0)), 0.0, goal)
        move = goal - coef
        curved = _hessian(objective, move)
        change = float(np.vdot(face.slope, move)) + 0.5 * float(np.vdot(move, curved))
        if change + _corners(penalty, goal) - before < 0:
            return goal, curved
    return None


def _hessian(objective: SoftmaxObjective, direction: F64) -> F64:
    return np.vstack(objective.curvature_along(np.ascontiguousarray(direction[:-1]), direction[-1].copy()))


def _corners(penalty: Penalty, coef: F64) -> float:
    return penalty.corner_value(coef[:-1])


def _conjugate_gradients(product: Callable[[F64], F64], rest: F64, diagonal: F64, exactness: float) -> F64:
    step = np.zeros_like(rest)
    solved = rest / diagonal
    direction = solved
    square = float(np.vdot(rest, solved))
    stop = exactness**2 * square
    for _ in range(_MAX_PRODUCTS):
        if square <= stop or square <= 0.0:
            break
        curved = np.where(np.isfinite(diagonal), product(direction), 0.0)
        bend = float(np.vdot(direction, curved))
        if bend <= 0.0:  # rounding has eaten the direction
            break
        length = square / bend
        step = step + length * direction
        rest = rest - length * curved
        solved = rest / diagonal
        previous, square = square, float(np.vdot(rest, solved))
        direction = solved + square / previous * direction
    return step
