"""Softmax regression on a stream of batches: recent rows exactly, older ones by a running quadratic.

After each batch the coefficients minimise

    sum of losses of the rows in a window + 1/2 V' A V - b' V + penalty(V),

where the quadratic stands for the rows that have left the window: each batch leaves as the second-order expansion of
its loss at the optimum of that moment, A += H, b += H V - g. That is Newton's method spread over time, also known as
the online Laplace approximation (Opper 1998). For squared losses it would be exact; here the error of an expansion
grows with what V moves later, and while all rows are in the window there is none. A class that a batch lacks is held by
the quadratic and by what the rows of the batch say against it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends.coordinates import Corners, Effort, descend_matrix
from normexp.base.blas_threads import one_blas_thread
from normexp.rows import row_blocks
from normexp.solvers.fit import column_map
from normexp.solvers.function import Point
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.penalty import Penalty
from normexp.solvers.preconditioner import cholesky_solve, regularised_cholesky
from normexp.solvers.problem import best_length

F64 = NDArray[np.float64]

# A full matrix A takes 72 MB for so many unknowns; beyond, its diagonal stands for it.
MAX_UNKNOWNS = 3000
# The window: so many rows, or some for each unknown, in 32 MB at most.
_ROWS, _ROWS_PER_UNKNOWN, _NUMBERS = 2048, 4, 1 << 22
# Intercepts, on centred columns, are drawn to 0 as by a few hundredths of a row: a class not seen yet has a finite one.
_SHIFT_RIDGE = 1e-2
_MAX_STEPS, _MAX_INNER = 50, 200


@dataclass(frozen=True)
class Running:
    """What is known after some batches.

    coef (D, S) and shift (S,) on columns seen through centre and scale; information (U, U), or (U,) for its diagonal,
    and linear (U,) with U = (D + 1) S, feature by feature, intercepts last; the rows of the window, batch by batch.
    """

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    centre: F64 = field(repr=False)
    scale: F64 = field(repr=False)
    information: F64 = field(repr=False)
    linear: F64 = field(repr=False)
    batches: tuple[tuple[Any, NDArray[np.intp], F64], ...] = field(repr=False)
    n_classes: int
    fit_intercept: bool
    n_rows: int = 0
    n_steps: int = 0
    value: float = 0.0

    def on_the_table(self) -> tuple[F64, F64]:
        """Return coef (D, S) and intercept (S,) for columns as they come."""
        coef = self.coef / self.scale[:, None]
        intercept = self.shift - self.centre @ coef
        if self.coef.shape[1] > 1 and self.fit_intercept:
            intercept = intercept - intercept.mean()
        return coef, intercept if self.fit_intercept else np.zeros_like(intercept)


def first_of_a_stream(X: Any, weight: F64, *, n_classes: int, fit_intercept: bool) -> Running:
    """Return what is known before the first batch: nothing but the columns' centre and scale, which stay."""
    n_scores = 1 if n_classes == 2 else n_classes
    centre, scale = column_map(row_blocks(X, n_scores), weight, centred=fit_intercept)
    n_features = X.shape[1]
    unknowns = (n_features + 1) * n_scores
    shape = (unknowns, unknowns) if unknowns <= MAX_UNKNOWNS else (unknowns,)
    return Running(
        np.zeros((n_features, n_scores)), np.zeros(n_scores), centre, scale, np.zeros(shape), np.zeros(unknowns), (),
        n_classes, fit_intercept,
    )  # fmt: skip


def absorb(running: Running, X: Any, target: NDArray[np.intp], weight: F64, penalty: Penalty, *, tol: float) -> Running:
    """Take a batch in: X (n, D), target (n,), weight (n,); a copy of its rows stays for a while."""
    batches = (*running.batches, (X.copy(), target.copy(), weight.copy()))
    with one_blas_thread():
        running = _solved(
            replace(running, batches=batches, n_rows=running.n_rows + len(target)),
            penalty.seen_through(running.scale),
            tol,
        )
        unknowns, width = len(running.linear), X.shape[1]
        room = min(max(_ROWS, _ROWS_PER_UNKNOWN * unknowns), max(1, _NUMBERS // width))
        while len(running.batches) > 1 and sum(len(part[1]) for part in running.batches) > room:
            running = _leave(running, 1)
    return running


def summed_up(running: Running) -> Running:
    """Return the same without any row: all of the window as one expansion. For model files."""
    with one_blas_thread():
        return _leave(running, len(running.batches)) if running.batches else running


def _objective(
    running: Running, batches: tuple[tuple[Any, NDArray[np.intp], F64], ...], ridge: F64
) -> SoftmaxObjective:
    tables = [part[0] for part in batches]
    thin = sparse.issparse(tables[0])
    rows: Any = tables[0] if len(tables) == 1 else sparse.vstack(tables, format="csr") if thin else np.vstack(tables)
    return SoftmaxObjective(
        row_blocks(rows, running.coef.shape[1]).seen_through(running.centre, running.scale),
        np.concatenate([part[1] for part in batches]),
        np.concatenate([part[2] for part in batches]),
        n_classes=running.n_classes,
        ridge=ridge,
        fit_intercept=running.fit_intercept,
    )


def _leave(running: Running, count: int) -> Running:
    """Replace the oldest batches of the window by their expansion at the present coefficients."""
    objective = _objective(running, running.batches[:count], np.zeros(len(running.scale)))
    point = objective.at(running.coef, running.shift)
    here, slope = _flat(running.coef, running.shift), _flat(point.grad_coef, point.grad_shift)
    information = running.information.copy()
    if information.ndim == 2:
        hessian = objective.hessian()
        information += hessian
        pushed = hessian @ here
    else:
        diagonal = _diagonal(objective)
        information += diagonal
        pushed = diagonal * here
    return replace(
        running, information=information, linear=running.linear + pushed - slope, batches=running.batches[count:]
    )


def _solved(running: Running, penalty: Penalty, tol: float) -> Running:
    """Minimise by proximal Newton steps until one promises less than tol of the objective."""
    objective = _objective(running, running.batches, penalty.ridge)
    old, scores = running.information, objective.n_scores
    pull = np.zeros((len(penalty.ridge) + 1, scores))
    pull[-1] = _SHIFT_RIDGE if running.fit_intercept else 1.0
    shift_ridge = pull.ravel()
    corners = Corners(np.append(penalty.corner, 0.0), penalty.grouped)
    point = objective.at(running.coef, running.shift)

    def quadratic(at: F64) -> F64:
        return (old @ at if old.ndim == 2 else old * at) + shift_ridge * at

    def rest(of: Point) -> float:
        at = _flat(of.coef, of.shift)
        return float(at @ (0.5 * quadratic(at) - running.linear)) + penalty.corner_value(of.coef)

    steps = 0
    while steps < _MAX_STEPS:
        steps += 1
        at, value = _flat(point.coef, point.shift), point.value + rest(point)
        slope = _flat(point.grad_coef, point.grad_shift) + quadratic(at) - running.linear
        if old.ndim == 2:
            hessian = objective.hessian() + old
            np.einsum("ii->i", hessian)[:] += shift_ridge + _flat(
                np.repeat(penalty.ridge[:, None], scores, axis=1), np.zeros(scores)
            )
            move = _newton(hessian, slope, at, corners)
        else:
            move = _conjugate_gradients(objective, old + shift_ridge, slope)
        step = move.reshape(-1, scores)
        promise = 0.5 * abs(float(slope @ move))
        if penalty.has_corners:
            after = penalty.corner_value(point.coef + step[:-1])
            promise = abs(float(slope @ move) + after - penalty.corner_value(point.coef))
        if promise <= tol * max(abs(value), float(objective.total_weight) * 1e-3):
            break
        length = best_length(_values_along(objective, penalty, point, move, quadratic, running.linear), value)
        if length == 0.0:  # rounding
            break
        point = objective.at(point.coef + length * step[:-1], point.shift + length * step[-1])
    return replace(running, coef=point.coef, shift=point.shift, n_steps=steps, value=point.value + rest(point))


def _values_along(
    objective: SoftmaxObjective, penalty: Penalty, point: Point, move: F64, quadratic: Callable[[F64], F64], linear: F64
) -> Callable[[F64], F64]:
    """Return the values of all that is minimised at some lengths of a step from a point."""
    at, step = _flat(point.coef, point.shift), move.reshape(-1, objective.n_scores)
    held, bend = quadratic(at), quadratic(move)

    def values_at(lengths: F64) -> F64:
        losses = objective.values_along(point, np.ascontiguousarray(step[:-1]), step[-1].copy(), lengths)
        return losses + [
            float((at + t * move) @ (0.5 * (held + t * bend) - linear))
            + penalty.corner_value(point.coef + t * step[:-1])
            for t in lengths
        ]

    return values_at


def _newton(hessian: F64, slope: F64, at: F64, corners: Corners) -> F64:
    """Minimise the quadratic model with its corners."""
    scores = len(at) // len(corners.corner)
    if not np.any(corners.corner > 0):
        return np.asarray(-cholesky_solve(regularised_cholesky(hessian), slope))
    size = len(corners.corner)
    own = np.einsum("jkjl->jkl", hessian.reshape(size, scores, size, scores))
    bound = np.ascontiguousarray(np.linalg.eigvalsh(own)[:, -1]) * (1 + 1e-12)
    coef = at.reshape(-1, scores).copy()
    descend_matrix(hessian, slope.copy(), bound, coef, corners, Effort(2000, 1e-8))
    return coef.ravel() - at


def _conjugate_gradients(objective: SoftmaxObjective, old: F64, slope: F64) -> F64:
    """Solve (H + diag(old)) s = -slope, preconditioned by the diagonal."""
    scores = objective.n_scores
    diagonal = old + _diagonal(objective) + np.append(np.repeat(objective.ridge, scores), np.zeros(scores))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    step, left = np.zeros_like(slope), -slope
    solved = left / diagonal
    along, square = solved, float(left @ solved)
    stop = 1e-6 * square
    for _ in range(_MAX_INNER):
        if square <= stop:
            break
        table = along.reshape(-1, scores)
        curved = _flat(*objective.curvature_along(np.ascontiguousarray(table[:-1]), table[-1].copy())) + old * along
        bend = float(along @ curved)
        if bend <= 0.0:  # rounding has eaten the direction
            break
        step, left = step + square / bend * along, left - square / bend * curved
        solved = left / diagonal
        previous, square = square, float(left @ solved)
        along = solved + square / previous * along
    return step


def _diagonal(objective: SoftmaxObjective) -> F64:
    """Return the diagonal of the Hessian of the losses at the point evaluated last, (U,)."""
    p = objective.prob.astype(np.float64)
    curvature = objective.weight[:, None] * p * (1 - p)
    columns = np.empty((objective.rows.n_features, objective.n_scores))
    for k in range(objective.n_scores):
        columns[:, k] = _squares(objective, curvature[:, k])
    shift = curvature.sum(axis=0) if objective.fit_intercept else np.zeros(objective.n_scores)
    return _flat(np.maximum(columns, 0.0), shift)


def _squares(objective: SoftmaxObjective, weight: F64) -> F64:
    """Weighted sums of squares of the columns, (D,)."""
    (squares,) = objective.rows.sum(lambda block: (block.column_moments(weight[block.rows])[1],))
    return np.asarray(squares)


def _flat(coef: F64, shift: F64) -> F64:
    """Feature by feature, intercepts last: (U,)."""
    return np.vstack([coef, shift]).ravel()
