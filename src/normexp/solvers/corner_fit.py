"""From a table and class indices to coefficients under a penalty with corners, once or along a path of penalties."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.blas_threads import one_blas_thread
from normexp.rows import RowBlocks, row_blocks
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import fit_softmax_regression, standardised
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Fitted, Solution
from normexp.solvers.penalty import Penalty
from normexp.solvers.proximal_newton import placed
from normexp.solvers.truncated_newton import Step, minimise
from normexp.solvers.working_set import minimise_with_corners, part_of

F64 = NDArray[np.float64]

# The null model, which alpha_max is read from, is solved to this share of its first gradient.
_NULL_TOL = 1e-10


class CornerProblem:
    """Rows and classes, seen through standardised columns once, to be solved for one penalty after another.

    Parameters
    ----------
    X : ndarray (N, D) of float32 or float64, SciPy CSR matrix, or RowBlocks
    target : ndarray (N,) intp
        Class indices 0 ... n_classes - 1.
    weight : ndarray (N,) float64
        Row weights, not negative.
    n_classes : int
        Two classes have one score column, S = 1; more have S = n_classes.
    fit_intercept : bool
    only : ndarray (n,) intp, optional
        The rows of X to fit, which target and weight belong to; they are not copied out of an array.

    Attributes
    ----------
    place : ndarray (D + 1, S)
        The last optimum on the table's scale; the intercepts are the last row.
    place_scale : ndarray (D + 1,)
        What makes the rows of places comparable.
    """

    place: F64

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
        self.n_classes, self.n_scores = n_classes, 1 if n_classes == 2 else n_classes
        self.target, self.weight, self.fit_intercept = target, weight, fit_intercept
        raw = X if isinstance(X, RowBlocks) else row_blocks(X, self.n_scores, only)
        self.rows, self.centre, self.scale = standardised(raw, weight, centred=fit_intercept)
        self.place_scale = np.append(self.scale, 1.0)
        self.prepared = time.perf_counter() - began

    def solve(
        self,
        penalty: Penalty,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        start: tuple[F64, F64] | None = None,
        ratio: float | None = None,
        callback: Callable[[Step], None] | None = None,
    ) -> Fitted:
        """Minimise sum_i w_i loss_i + penalty(W) over W (D, S) and, if asked, an unpenalised intercept.

        Parameters
        ----------
        penalty : Penalty
            On the coefficients of the table as it came.
        tol : float
            Certified relative suboptimality at which to stop.
        max_iter : int
            Proximal Newton steps at most.
        start : (coef (D, S), intercept (S,)), optional
            Where to start; zero coefficients and the classes' frequencies by default.
        ratio : float, optional
            When the start is the optimum of a stronger penalty, or a guess made from it: how many times as strong it
            was.
        callback : callable, optional

        Returns
        -------
        Fitted
        """
        began = time.perf_counter()
        with one_blas_thread():
            scaled = penalty.seen_through(self.scale)
            objective = self._objective(scaled.ridge)
            coef, shift = self._start(start)
            ended = minimise_with_corners(
                objective, scaled, coef, shift, tol=tol, max_iter=max_iter, ratio=ratio, callback=callback
            )
        reached = ended.reached
        point = reached.place.point
        coef = point.coef / self.scale[:, None]
        shift = point.shift - self.centre @ coef
        if self.n_scores > 1 and self.fit_intercept:  # a shift of all scores changes nothing: mean zero is returned
            shift -= shift.mean()
        spent = time.perf_counter() - began
        solution = Solution(
            outcome=reached.outcome,
            objective=reached.place.value,
            suboptimality=reached.suboptimality,
            n_iter=reached.n_iter,
            n_passes=ended.n_passes,
            seconds={"prepare": self.prepared, "steps": spent, "total": self.prepared + spent},
        )
        fitted = Fitted(coef, shift if self.fit_intercept else np.zeros(self.n_scores), solution)
        self.place = np.vstack([fitted.coef, fitted.intercept])
        return fitted

    def strongest(self, penalty: Penalty) -> float:
        """Return the least multiple of the penalty's corners at which all features that bear them are zero.

        It is the largest ratio of dual norm and corner among the pulls of the null model, which has the intercept and
        the features without any penalty only.
        """
        with one_blas_thread():
            scaled = penalty.seen_through(self.scale)
            objective = self._objective(np.zeros(len(self.scale)))
            coef, shift = self._start(None)
            index = np.flatnonzero(scaled.free)
            if len(index):
                part, _ = part_of(objective, index)
                rng = np.random.default_rng(0)
                ending = minimise(CoefficientSpace(part, coef[index], shift, rng), tol=_NULL_TOL, max_iter=200)
                coef[index], shift = ending.coef, ending.shift
            pull = placed(objective, scaled, coef, shift).point.pull
        cornered = scaled.corner > 0
        return float(np.max(scaled.dual_size(pull)[cornered] / scaled.corner[cornered], initial=0.0))

    def _objective(self, ridge: F64) -> SoftmaxObjective:
        return SoftmaxObjective(
            self.rows, self.target, self.weight, n_classes=self.n_classes, ridge=ridge, fit_intercept=self.fit_intercept
        )

    def _start(self, start: tuple[F64, F64] | None) -> tuple[F64, F64]:
        """Return the start on the scale of the rows."""
        if start is not None:
            coef, intercept = start
            return coef * self.scale[:, None], intercept + self.centre @ coef
        coef, shift = np.zeros((len(self.scale), self.n_scores)), np.zeros(self.n_scores)
        if self.fit_intercept:
            counts = np.bincount(self.target, weights=self.weight, minlength=self.n_classes)
            logs = np.log(np.maximum(counts, np.finfo(float).tiny) / counts.sum())
            shift = logs[1:] - logs[:1] if self.n_scores == 1 else logs - logs.mean()
        return coef, shift


def fit_penalised(
    X: Any,
    target: NDArray[np.intp],
    weight: F64,
    *,
    n_classes: int,
    penalty: Penalty,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    max_iter: int = 1000,
    start: tuple[F64, F64] | None = None,
    cornered: bool = False,
    rng: np.random.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Fitted:
    """Minimise sum_i w_i loss_i + penalty(W), by the solver that suits the penalty.

    Smooth penalties on all features, and none, go to ``fit_softmax_regression``, whose arguments these are; corners,
    and penalties that leave some features free, to ``CornerProblem``, as does all with ``cornered``.
    """
    smooth = not penalty.has_corners and (np.all(penalty.free) or not np.any(penalty.free))
    if smooth and not cornered:
        return fit_softmax_regression(
            X, target, weight, n_classes=n_classes, ridge=penalty.ridge, fit_intercept=fit_intercept, tol=tol,
            max_iter=max_iter, start=start, rng=rng, callback=callback,
        )  # fmt: skip
    problem = CornerProblem(X, target, weight, n_classes=n_classes, fit_intercept=fit_intercept)
    return problem.solve(penalty, tol=tol, max_iter=max_iter, start=start, callback=callback)
