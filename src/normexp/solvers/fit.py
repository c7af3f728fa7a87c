"""From a table and class indices to the coefficients of a softmax regression on the table's own scale."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.blas_threads import one_blas_thread
from normexp.base.errors import InputError
from normexp.base.magnitude import LargeCellError, large_cell, suspects
from normexp.rows import Block, RowBlocks, row_blocks
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Fitted, Outcome, Solution
from normexp.solvers.problem import Fallback, Problem
from normexp.solvers.row_space import RowSpace
from normexp.solvers.separation import decided, leads, looks_separated, separation_of
from normexp.solvers.truncated_newton import Ending, Step, minimise

F64 = NDArray[np.float64]

# With so many features for each row, arrays of rows are the smaller ones, and their vectors cost less than they save.
_FEATURES_PER_ROW = 2
# Endings without a penalty that a separation of classes may have brought about.
_DOUBTFUL = (Outcome.GRADIENT, Outcome.FLAT, Outcome.STUCK, Outcome.GROWING)
# A Newton step that moves no score by more leads to an optimum nearby; where there is none, it moves some by about 1.
_STILL, _AHEAD = 0.1, 0.5


def fit_softmax_regression(
    X: Any,
    target: NDArray[np.intp],
    weight: F64,
    *,
    n_classes: int,
    ridge: float | F64,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    max_iter: int = 1000,
    start: tuple[F64, F64] | None = None,
    rng: np.random.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Fitted:
    """Minimise sum_i w_i loss_i + 1/2 sum_j ridge_j |W_j|^2 over W (D, S) and, if asked, an unpenalised intercept.

    Parameters
    ----------
    X : ndarray (N, D) of float32 or float64, or SciPy CSR matrix
    target : ndarray (N,) intp
        Class indices 0 ... n_classes - 1.
    weight : ndarray (N,) float64
        Row weights, not negative.
    n_classes : int
        Two classes have one score column, S = 1; more have S = n_classes.
    ridge : float or ndarray (D,)
        Penalty on the squared coefficients on the table's scale, of all features or of each; 0 for none.
    fit_intercept : bool
    tol : float
        Certified relative suboptimality at which to stop.
    max_iter : int
        Newton steps at most.
    start : (coef (D, S), intercept (S,)), optional
        Where to start; zero by default.
    rng : Generator, optional
    callback : callable, optional

    Returns
    -------
    Fitted
    """
    problem = RidgeProblem(X, target, weight, n_classes=n_classes, fit_intercept=fit_intercept)
    return problem.solve(ridge, tol=tol, max_iter=max_iter, start=start, rng=rng, callback=callback)


class RidgeProblem:
    """Rows and classes, seen through standardised columns once, to be solved for one ridge after another.

    Parameters
    ----------
    X, target, weight, n_classes, fit_intercept
        As in ``fit_softmax_regression``.
    only : ndarray (n,) intp, optional
        The rows of X to fit, which target and weight belong to; they are not copied out of an array.

    Attributes
    ----------
    by_rows : bool
        Whether optima are told as coordinates of the rows, which no other rows share, and not as coefficients.
    place : ndarray (U, S)
        The last optimum as ``solve`` takes it as ``place``, whatever the ridge: coefficients on the table's scale, or
        coordinates of the rows; the intercepts are the last row.
    place_scale : ndarray (U,)
        What makes the rows of places comparable.
    """

    def __init__(
        self,
        X: Any,
        target: NDArray[np.intp],
        weight: F64,
        *,
        n_classes: int,
        fit_intercept: bool = True,
        only: NDArray[np.intp] | None = None,
    ) -> None:
        began = time.perf_counter()
        self._table, self._target, self._weight, self._only = X, target, weight, only
        self._n_classes, self._fit_intercept = n_classes, fit_intercept
        raw = row_blocks(X, 1 if n_classes == 2 else n_classes, only)
        self._rows, self._centre, self._scale = standardised(raw, weight, centred=fit_intercept)
        self.by_rows = prefers_rows(raw.n_rows, raw.n_features)
        self.place_scale = np.ones(raw.n_rows + 1) if self.by_rows else np.append(self._scale, 1.0)
        self._before: _Before | None = None
        self._most_inner = 0
        self._prepared = time.perf_counter() - began

    def solve(
        self,
        ridge: float | F64,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        start: tuple[F64, F64] | None = None,
        place: F64 | None = None,
        rng: np.random.Generator | None = None,
        callback: Callable[[Step], None] | None = None,
    ) -> Fitted:
        """Minimise for this ridge; arguments as in ``fit_softmax_regression``.

        ``place`` (U, S) is a guess, made from places of ridges before that were multiples of this one. The fit begins
        there, or at the last of them where that one is better, which costs no pass to know.
        """
        began = time.perf_counter()
        with one_blas_thread():
            objective = SoftmaxObjective(
                self._rows,
                self._target,
                self._weight,
                n_classes=self._n_classes,
                ridge=ridge / np.square(self._scale),
                fit_intercept=self._fit_intercept,
            )
            fallback = None if place is None or self._before is None else self._before.under(objective.ridge)
            space = self._space(objective, start, place, fallback, np.random.default_rng(0) if rng is None else rng)
            problem: Problem[Any] = space
            prepared = self._prepared + time.perf_counter() - began
            ending = minimise(problem, tol=tol, max_iter=max_iter, callback=callback)
        seconds = {"prepare": prepared, **ending.seconds, "total": self._prepared + time.perf_counter() - began}
        self._prepared = 0.0
        fitted = on_the_tables_scale(
            ending, self._centre, self._scale, self._fit_intercept, objective.n_passes, seconds
        )
        self._keep(space, objective, ending, fitted)
        if not np.any(ridge) and ending.outcome in _DOUBTFUL:
            return self._looked_at(fitted, problem, objective, ending, tol)
        return fitted

    def _space(
        self,
        objective: SoftmaxObjective,
        start: tuple[F64, F64] | None,
        place: F64 | None,
        fallback: Fallback | None,
        rng: np.random.Generator,
    ) -> CoefficientSpace | RowSpace:
        """The space to work in: that of the rows when it is much the smaller one."""
        if start is None and self.by_rows and np.all(objective.ridge > 0):
            first = None if place is None else (objective.ridge[0] * place[:-1], place[-1])
            return RowSpace(objective, first, fallback)
        if start is None and place is not None and not self.by_rows:
            start = place[:-1], place[-1]
        coef, intercept = start or (np.zeros((len(self._scale), objective.n_scores)), np.zeros(objective.n_scores))
        if objective.n_scores > 1:  # no step changes what all classes have in common, and only the penalty sees it
            coef = coef - coef.mean(axis=1, keepdims=True)
        first = coef * self._scale[:, None], intercept + self._centre @ coef
        return CoefficientSpace(objective, *first, rng, fallback=fallback, earlier_inner=self._most_inner)

    def _keep(
        self, space: CoefficientSpace | RowSpace, objective: SoftmaxObjective, ending: Ending, fitted: Fitted
    ) -> None:
        """Remember what the next ridge begins with."""
        penalty = 0.5 * float(np.sum(objective.ridge[:, None] * np.square(ending.coef)))
        if isinstance(space, RowSpace):
            coordinates, shift = space.reached
            self.place = np.vstack([coordinates / objective.ridge[0], shift])
            first = coordinates, shift
        else:
            self._most_inner = max(self._most_inner, space.most_inner)
            self.place = np.vstack([fitted.coef, fitted.intercept])
            first = ending.coef, ending.shift
        self._before = _Before(*first, ending.value - penalty, penalty, float(objective.ridge[0]), self.by_rows)

    def _looked_at(
        self, fitted: Fitted, problem: Problem[Any], objective: SoftmaxObjective, ending: Ending, tol: float
    ) -> Fitted:
        """Without a penalty: whether a program finds the classes separated where the iteration ended in doubt."""
        X, target, weight = self._table if self._only is None else self._table[self._only], self._target, self._weight
        separated = ending.outcome is Outcome.GROWING
        looks = separated or looks_separated(X, target, weight, fitted.coef, fitted.intercept, tol)
        near, grows = _one_step_on(problem, objective, ending) if looks else (True, False)
        if near:
            return fitted
        lie = separation_of(
            X, target, weight, n_classes=self._n_classes, fit_intercept=self._fit_intercept, centre=self._centre,
            scale=self._scale,
        )  # fmt: skip
        outcome = decided(ending.outcome, lie, grows=grows)
        return fitted._replace(solution=replace(fitted.solution, outcome=outcome))


class _Before(NamedTuple):
    """An optimum in the coordinates of its space, its losses and its penalty, for a ridge that began with this."""

    first: F64
    shift: F64
    losses: float
    penalty: float
    ridge: float
    by_rows: bool

    def under(self, ridge: F64) -> Fallback:
        """The same coefficients and their objective under a multiple of that ridge."""
        times = float(ridge[0]) / self.ridge if self.ridge > 0 else 1.0
        first = self.first * times if self.by_rows else self.first
        return Fallback(first, self.shift, self.losses + times * self.penalty)


def _one_step_on(problem: Problem[Any], objective: SoftmaxObjective, ending: Ending) -> tuple[bool, bool]:
    """Whether one more Newton step would hardly move a score, and whether it would move a row's class ahead.

    In the first case there is an optimum, and no need of a program; in the second the coefficients grow.
    """
    inner = problem.newton_step(objective.at(ending.coef, ending.shift), refit=True)
    step, moved, ahead = inner.step, 0.0, 0.0
    for block in objective.rows.blocks():
        scores = block.affine(step.coef, step.shift)
        moved = max(moved, float(np.abs(scores).max(initial=0.0)))
        counted = objective.weight[block.rows] > 0
        ahead = max(ahead, float(leads(scores, objective.target[block.rows])[counted].max(initial=0.0)))
    return not inner.stalled and moved <= _STILL, ahead >= _AHEAD


def on_the_tables_scale(
    ending: Ending, centre: F64, scale: F64, fit_intercept: bool, n_passes: int, seconds: dict[str, float]
) -> Fitted:
    """Turn the coefficients of centred and scaled columns into those of the table's own."""
    found = ending.coef / scale[:, None]
    shift = ending.shift - centre @ found
    if len(shift) > 1:  # a shift of all scores changes nothing: the one with mean zero is returned
        found -= found.mean(axis=1, keepdims=True)
        if fit_intercept:
            shift -= shift.mean()
    solution = Solution(
        outcome=ending.outcome,
        objective=ending.value,
        suboptimality=ending.suboptimality,
        n_iter=ending.n_iter,
        n_passes=n_passes,
        seconds=seconds,
    )
    return Fitted(found, shift if fit_intercept else np.zeros(len(shift)), solution)


def prefers_rows(n_rows: int, n_features: int) -> bool:
    """Whether a penalised fit works in the space of its rows, which knows no start but zero."""
    return n_features > _FEATURES_PER_ROW * n_rows


def column_map(rows: RowBlocks, weight: F64, *, centred: bool) -> tuple[F64, F64]:
    """Weighted mean and standard deviation of each column; (0, root mean square) where columns are not centred.

    Sparse tables are not scaled (their columns are counts of one kind, and a diagonal preconditioner is
    invariant to scale) nor centred. A constant column gets scale 1. A cell whose square overflows is refused.
    """
    zeros, ones = np.zeros(rows.n_features), np.ones(rows.n_features)
    if rows.is_sparse:
        refuse_large(rows, None)
        return zeros, ones

    def moments(block: Block) -> tuple[F64, F64]:
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            return block.column_moments(weight[block.rows])

    total = max(float(weight.sum()), np.finfo(float).tiny)
    sums, squares = rows.sum(moments)
    if len(columns := suspects(squares, weight)):
        refuse_large(rows, columns)
        refuse_overflow(squares)
    if not centred:
        spread = np.sqrt(squares / total)
        return zeros, np.where(spread > 0, spread, 1.0)
    centre = sums / total
    # Second pass about the mean: sum x^2 - n mean^2 cancels when the mean is large.
    sums, squares = rows.seen_through(centre, ones).sum(moments)
    centre = centre + sums / total
    spread = np.sqrt(np.maximum(squares / total - np.square(sums / total), 0.0))
    flat = spread <= 1e-13 * np.abs(centre)  # constant but for rounding
    return centre, np.where(flat | (spread == 0), 1.0, spread)


def standardised(raw: RowBlocks, weight: F64, *, centred: bool) -> tuple[RowBlocks, F64, F64]:
    """Return rows seen through centred and scaled columns, and that centre (D,) and scale (D,)."""
    with one_blas_thread():  # the blocks are the threads' work, not the products
        centre, scale = column_map(raw, weight, centred=centred)
        return raw.seen_through(centre, scale), centre, scale


def refuse_large(rows: RowBlocks, columns: NDArray[np.intp] | None) -> None:
    """Refuse rows as stored where a cell of some of the columns (None: of all) is too large to be squared."""
    for block in rows.blocks():
        cell = large_cell(block.stored(), columns, first=block.rows.start)
        if cell is not None:
            raise LargeCellError(cell)


def refuse_overflow(squares: F64) -> None:
    """Refuse sums of squares of the columns (D,) that are no numbers though each square is one."""
    over = np.flatnonzero(~np.isfinite(squares))
    if over.size:
        raise InputError(
            f"fit: the weighted squares of column {over[0]} of X sum to more than float64 holds; divide the column, or "
            "the weights, by a large number."
        )
