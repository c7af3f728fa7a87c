"""Shortest steps into a half-space or a polyhedron, in the norms 1, 2 and infinity, within a box: all of them exact.

A step is a vector (D,) from the row where one stands. ``low`` and ``high`` bound it in each coordinate and enclose 0.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog, nnls

F64 = NDArray[np.float64]
NORMS: Final = (1, 2, np.inf)
_FEASIBLE: Final = 1e-9  # what is left over of a unit when constraints contradict one another is rounding alone
_sparse: Any = sparse


def dual_lengths(slopes: F64, norm: float, /) -> F64:
    """Length of each slope (..., D) in the dual norm: what a step of length 1 gains at most."""
    if norm == 1:
        return np.asarray(np.abs(slopes).max(axis=-1, initial=0.0))
    if norm == 2:
        return np.asarray(np.linalg.norm(slopes, axis=-1))
    return np.asarray(np.abs(slopes).sum(axis=-1))


def length_of(step: F64, norm: float, /) -> float:
    """Length of a step (D,), also where the squares of its parts overflow or vanish."""
    largest = float(np.abs(step).max(initial=0.0))
    if norm != 2 or 1e-140 < largest < 1e140 or largest == 0.0:
        return float(np.linalg.norm(step, ord=norm))
    return largest * float(np.linalg.norm(step / largest))


def into_half_space(slope: F64, gain: float, norm: float, low: F64, high: F64, /) -> F64 | None:
    """Shortest step with slope . step >= gain (> 0) within the box; None when there is none.

    Norm 2: each coordinate moves in proportion to its slope until it meets the box; infinity: all by the same; 1: the
    steepest first. Each is the solution of the conditions of Karush, Kuhn and Tucker, found by one sort.
    """
    size = np.abs(slope)
    room = np.where(slope > 0, high, -low)
    moves = (size > 0) & (room > 0)
    if float(np.sum(size[moves] * room[moves])) < gain:
        return None
    step = np.zeros_like(slope)
    at = np.flatnonzero(moves)
    size, room = size[at], room[at]
    if norm == 1:
        order = np.argsort(-size, kind="stable")
        before = np.r_[0.0, np.cumsum(size[order] * room[order])[:-1]]
        length = np.clip((gain - before) / size[order], 0.0, room[order])
        length = length[np.argsort(order)]
    else:
        pace = size if norm == 2 else np.ones_like(size)
        full = room / pace  # the multiplier at which a coordinate meets the box
        order = np.argsort(full, kind="stable")
        with np.errstate(invalid="ignore"):
            done = np.r_[0.0, np.cumsum((size * room)[order])[:-1]]
        left = np.cumsum((size * pace)[order][::-1])[::-1]
        multiplier = (gain - done) / left
        first = int(np.argmax(multiplier <= full[order]))
        length = np.minimum(multiplier[first] * pace, room)
    step[at] = np.sign(slope[at]) * length
    return step


def into_polyhedron(slopes: F64, gains: F64, norm: float, low: F64, high: F64, /) -> F64 | None:
    """Shortest step with slopes (M, D) . step >= gains (M,) within the box; None when there is none.

    Norm 2: least-distance programming by non-negative least squares (Lawson and Hanson, 1974, chapter 23); norms 1 and
    infinity: linear programs (HiGHS).
    """
    size = np.linalg.norm(slopes, axis=1)
    if np.any((size == 0) & (gains > 0)):
        return None
    slopes, gains = slopes[size > 0] / size[size > 0, None], gains[size > 0] / size[size > 0]
    reach = float(gains.max(initial=0.0))
    if reach <= 0.0:
        return np.zeros(slopes.shape[1])
    unit, low, high = gains / reach, low / reach, high / reach
    step = _least_distance(slopes, unit, low, high) if norm == 2 else _program(slopes, unit, norm, low, high)
    return None if step is None else reach * step


def _least_distance(slopes: F64, gains: F64, low: F64, high: F64) -> F64 | None:
    """Least Euclidean step; constraints of the box are rows like all others."""
    eye = np.eye(slopes.shape[1])
    above, below = np.isfinite(low), np.isfinite(high)
    rows = np.vstack([slopes, eye[above], -eye[below]])
    wanted = np.r_[gains, low[above], -high[below]]
    basis: F64 | None = None
    if len(rows) < rows.shape[1]:  # the step is a combination of the rows: work among these
        basis, upper = np.linalg.qr(rows.T)
        rows = upper.T
    system = np.vstack([rows.T, wanted])
    target = np.zeros(len(system))
    target[-1] = 1.0
    weight, _ = nnls(system, target, maxiter=30 * system.shape[1])
    residual = system @ weight - target
    if -residual[-1] < _FEASIBLE:
        return None
    step = residual[:-1] / -residual[-1]
    return np.asarray(step if basis is None else basis @ step)


def _program(slopes: F64, gains: F64, norm: float, low: F64, high: F64) -> F64 | None:
    """Least step in the norms 1 (positive and negative parts) or infinity (an upper bound of all sizes)."""
    n_columns = slopes.shape[1]
    bounds: Any
    if norm == 1:
        cost = np.ones(2 * n_columns)
        rows: Any = -np.hstack([slopes, -slopes])
        right = -gains
        bounds = [(0.0, None if np.isinf(h) else h) for h in np.r_[high, -low]]
    else:
        cost = np.r_[np.zeros(n_columns), 1.0]
        eye, ones = _sparse.eye_array(n_columns), np.ones((n_columns, 1))
        rows = _sparse.block_array([[-slopes, np.zeros((len(slopes), 1))], [eye, -ones], [-eye, -ones]], format="csr")
        right = np.r_[-gains, np.zeros(2 * n_columns)]
        bounds = [(a, b) for a, b in zip(low, high, strict=True)] + [(0.0, None)]
    found = linprog(cost, A_ub=rows, b_ub=right, bounds=bounds, method="highs")
    if found.status != 0:
        return None
    point: Any = found.x
    return np.asarray(point[:n_columns] - point[n_columns:] if norm == 1 else point[:n_columns])
