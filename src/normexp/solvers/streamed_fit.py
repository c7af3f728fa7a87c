"""From labelled rows that are streamed, from disk or a cluster, to the coefficients of a softmax regression."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.blas_threads import one_blas_thread
from normexp.base.errors import ClusterError, InputError
from normexp.base.magnitude import LargeCellError
from normexp.rows import LabelledRows
from normexp.solvers.checkpoint import Checkpoint, Identity, State
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import on_the_tables_scale, refuse_overflow
from normexp.solvers.function import Point
from normexp.solvers.metric import rows_to_draw
from normexp.solvers.outcome import Fitted
from normexp.solvers.passes import ColumnMoments
from normexp.solvers.streamed_metric import StreamedMetric
from normexp.solvers.streamed_objective import StreamedObjective
from normexp.solvers.truncated_newton import Resumed, Step, minimise

F64 = NDArray[np.float64]


class Progress(NamedTuple):
    """How far a fit over streamed rows is: told after each chunk of rows and after each step.

    Attributes
    ----------
    n_passes : int
        Passes over the rows that are complete.
    rows_done, n_rows : int
        Rows of the present pass that are read, and rows in all.
    rows_per_s : float
        Rows read a second, since the fit began.
    n_iter : int
        Newton steps taken.
    suboptimality : float
        Certified bound on (f - f*) / f* after the last step; infinite before there is one.
    elapsed_s : float
    """

    n_passes: int
    rows_done: int
    n_rows: int
    rows_per_s: float
    n_iter: int
    suboptimality: float
    elapsed_s: float


class Meter:
    """Counts rows and passes and tells ``Progress`` to a callback."""

    def __init__(self, n_rows: int, callback: Callable[[Progress], None] | None) -> None:
        self._n_rows, self._callback = n_rows, callback
        self._began, self._read, self._passes, self._at = time.perf_counter(), 0, 0, 0
        self._n_iter, self._gap = 0, np.inf

    def rows(self, done: int) -> None:
        """So many rows of this pass are read."""
        self._read += done - self._at
        self._at = done
        if done >= self._n_rows:
            self._passes, self._at = self._passes + 1, 0
        self._tell(done)

    def step(self, step: Step) -> None:
        """A Newton step is taken."""
        self._n_iter, self._gap = step.iteration, step.suboptimality
        self._tell(self._at)

    def _tell(self, done: int) -> None:
        if self._callback is not None:
            elapsed = time.perf_counter() - self._began
            rate = self._read / max(elapsed, 1e-9)
            self._callback(Progress(self._passes, done, self._n_rows, rate, self._n_iter, self._gap, elapsed))


@dataclass
class _Keeper:
    """Writes the state after each step."""

    checkpoint: Checkpoint
    identity: Identity
    objective: StreamedObjective

    def __call__(self, point: Point, resumed: Resumed) -> None:
        self.checkpoint.write(self.identity, State(point.coef, point.shift, resumed, self.objective.n_passes))


def fit_streamed(
    rows: LabelledRows,
    *,
    ridge: float,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    max_iter: int = 1000,
    start: tuple[F64, F64] | None = None,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
    checkpoint: Checkpoint | None = None,
    identity: dict[str, Any] | None = None,
) -> Fitted:
    """Minimise sum_i w_i loss_i + ridge/2 |W|^2 over rows that are read anew in each pass.

    Parameters
    ----------
    rows : LabelledRows
        The table as it is stored, neither centred nor scaled.
    ridge : float
        Penalty on the squared coefficients on the table's scale; 0 for none.
    fit_intercept : bool
    tol : float
        Certified relative suboptimality at which to stop.
    max_iter : int
        Newton steps at most, those before a checkpoint included.
    start : (coef (D, S), intercept (S,)), optional
        Where to start; zero by default.
    seed : int
        Of the rows that are drawn for preconditioners.
    callback : callable, optional
        Called with a ``Step`` after each step.
    checkpoint : Checkpoint, optional
        Where the state is kept after each step, and gone on from.
    identity : dict, optional
        What tells this problem from others, for the checkpoint.

    Returns
    -------
    Fitted

    Raises
    ------
    ClusterError
        When a cluster fails or has no workers any more.
    InputError
        When a row is not finite, a file cannot be read, or the checkpoint is another problem's.
    """
    began = time.perf_counter()
    n_scores = 1 if len(rows.class_weight) == 2 else len(rows.class_weight)
    with one_blas_thread():  # the blocks are the threads' work, not the products
        try:
            centre, scale = _column_map(rows, centred=fit_intercept)
            objective = StreamedObjective(
                rows.seen_through(centre, scale),
                ridge=ridge / np.square(scale),
                fit_intercept=fit_intercept,
                seed=seed,
                wanted=rows_to_draw(rows.n_rows, rows.n_features, n_scores, is_sparse=rows.is_sparse),
            )
            objective.n_passes = 1 if rows.is_sparse else 2
            coef, shift = _started(start, rows.n_features, n_scores, centre, scale)
            resumed, keep = None, None
            if checkpoint is not None:
                facts: dict[str, Any] = {
                    "rows": rows.n_rows,
                    "features": rows.n_features,
                    "classes": len(rows.class_weight),
                }
                facts |= {"ridge": ridge, "fit_intercept": fit_intercept, **(identity or {})}
                keep = _Keeper(checkpoint, Identity(facts, centre, scale), objective)
                if checkpoint.exists:
                    state = checkpoint.read(keep.identity)
                    coef, shift, resumed = state.coef, state.shift, state.resumed
                    objective.n_passes += state.n_passes
            rng = np.random.default_rng(seed)
            space = CoefficientSpace(objective, coef, shift, rng, metric=StreamedMetric(objective, rng))
            prepared = time.perf_counter() - began
            ending = minimise(space, tol=tol, max_iter=max_iter, callback=callback, resumed=resumed, keep=keep)
        except (InputError, ClusterError) as error:
            if checkpoint is not None and checkpoint.exists and str(checkpoint.path) not in str(error):
                raise type(error)(
                    f"{error} The checkpoint {str(checkpoint.path)!r} stands: the same call goes on from there."
                ) from error
            raise
    seconds = {"prepare": prepared, **ending.seconds, "total": time.perf_counter() - began}
    return on_the_tables_scale(ending, centre, scale, fit_intercept, objective.n_passes, seconds)


def _started(start: tuple[F64, F64] | None, n_features: int, n_scores: int, centre: F64, scale: F64) -> tuple[F64, F64]:
    """The first point on the scale of the centred and scaled columns."""
    coef, intercept = start or (np.zeros((n_features, n_scores)), np.zeros(n_scores))
    if n_scores > 1:
        coef = coef - coef.mean(axis=1, keepdims=True)
    return coef * scale[:, None], intercept + centre @ coef


def _column_map(rows: LabelledRows, *, centred: bool) -> tuple[F64, F64]:
    """Weighted mean and standard deviation of each column, as in ``fit.column_map``; refuse what is not finite."""
    zeros, ones = np.zeros(rows.n_features), np.ones(rows.n_features)
    total = max(rows.total_weight, np.finfo(float).tiny)
    sums, squares, bad, large = rows.sum(ColumnMoments())
    if bad:
        raise InputError(
            f"SoftmaxClassifier.fit: row {min(bad)} of X holds NaN or infinity (rows count from 0); fill such values, "
            "or leave the row out."
        )
    if large:
        raise LargeCellError(min(large))
    if rows.is_sparse:
        return zeros, ones
    refuse_overflow(squares)
    if not centred:
        spread = np.sqrt(squares / total)
        return zeros, np.where(spread > 0, spread, 1.0)
    centre = sums / total
    sums, squares, _, _ = rows.seen_through(centre, ones).sum(ColumnMoments(looks=False))
    centre = centre + sums / total
    spread = np.sqrt(np.maximum(squares / total - np.square(sums / total), 0.0))
    flat = spread <= 1e-13 * np.abs(centre)  # constant but for rounding
    return centre, np.where(flat | (spread == 0), 1.0, spread)
