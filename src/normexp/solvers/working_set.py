"""Penalties with corners over many features: solve for those that may matter, then check all the others.

A round solves the problem of a working set of features to a tenth of the gap at hand; one pass over all features
then gives the gradient, a certified gap of the whole problem, features that are proven to be zero (gap-safe screening:
Ndiaye et al. 2017), and those that break the optimality conditions and join the set. Along a path of penalties the
first set comes from the sequential strong rule (Tibshirani et al. 2012, eq. 9), which may err and is checked the same
way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.rows import DenseRows, SparseRows
from normexp.solvers.dual_point import DualPoint, dual_point, survivors
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.penalty import Penalty
from normexp.solvers.proximal_newton import Place, Reached, descend, placed
from normexp.solvers.quadratic_model import MAX_UNKNOWNS, FeatureModel, MatrixModel, QuadraticModel
from normexp.solvers.truncated_newton import Step, relative_gap

F64 = NDArray[np.float64]

# Features that a first working set may hold; it doubles as it must.
_FIRST, _FIRST_SPARSE = 256, 2048
# From here on the strong rule leaves nothing out: the features that ought to move choose the set instead.
_LONG_STEP = 2.0
# A Hessian of few unknowns is always formed; of more only where that takes less than so many operations.
_FEW_UNKNOWNS, _OPERATIONS = 600, 4e10
# Rows times features of a sparse table that may be made dense to form a Hessian.
_DENSE_NUMBERS = 1 << 22


class Ended(NamedTuple):
    """Where the rounds stopped; n_passes counts those over parts of the features too."""

    reached: Reached
    n_passes: int


def minimise_with_corners(
    objective: SoftmaxObjective,
    penalty: Penalty,
    coef: F64,
    shift: F64,
    *,
    tol: float,
    max_iter: int,
    ratio: float | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Ended:
    """Minimise the objective plus the corners of the penalty.

    Parameters
    ----------
    objective : SoftmaxObjective
        Whose ridge is that of the penalty.
    penalty : Penalty
    coef : ndarray (D, S)
    shift : ndarray (S,)
        Where to start.
    tol : float
        Certified relative suboptimality at which to stop.
    max_iter : int
        Proximal Newton steps at most, of all rounds together.
    ratio : float, optional
        When the start is the optimum of a stronger penalty: how many times as strong it was, for the strong rule.
    callback : callable, optional

    Returns
    -------
    Ended
    """
    place = placed(objective, penalty, coef, shift)
    best = DualPoint(-np.inf, place.point.pull)
    kept = np.ones(len(coef), bool)
    members = np.zeros(len(coef), bool)
    squares: F64 | None = None
    n_iter = n_passes = 0
    while True:
        found = dual_point(objective, place.point, penalty)
        best = found if found.bound > best.bound else best
        gap = relative_gap(place.value, best.bound)
        if gap <= tol or n_iter >= max_iter:
            outcome = Outcome.CERTIFIED if gap <= tol else Outcome.MAX_ITER if max_iter else Outcome.NOT_STARTED
            return Ended(Reached(place, best, outcome, gap, n_iter), objective.n_passes + n_passes)
        if np.isfinite(gap) and len(coef) > _FIRST:
            squares = _squares(objective) if squares is None else squares
            kept &= survivors(objective, penalty, found, place.value - found.bound, squares)
        members = _working_set(penalty, place, members, kept, ratio, _first_size(objective))
        ratio = None
        index = np.flatnonzero(members)
        if len(index) == len(coef):
            reached = descend(
                _model(objective, penalty),
                place,
                tol=tol,
                max_iter=max_iter - n_iter,
                callback=callback,
                n_before=n_iter,
            )
            total = Reached(
                reached.place, reached.dual, reached.outcome, reached.suboptimality, n_iter + reached.n_iter
            )
            return Ended(total, objective.n_passes + n_passes)
        part, features = part_of(objective, index)
        few = penalty.of(index)
        inner = descend(
            _model(part, few, features),
            placed(part, few, place.point.coef[index], place.point.shift),
            tol=max(0.3 * tol, min(0.1, 0.1 * gap)),
            max_iter=max_iter - n_iter,
            callback=callback,
            n_before=n_iter,
        )
        n_iter, n_passes = n_iter + max(1, inner.n_iter), n_passes + part.n_passes
        wide = np.zeros_like(place.point.coef)
        wide[index] = inner.place.point.coef
        place = placed(objective, penalty, wide, inner.place.point.shift)
        if inner.outcome is Outcome.SEPARABLE or (
            inner.outcome in {Outcome.FLAT, Outcome.STUCK} and not _grows(penalty, place, members)
        ):
            dual = dual_point(objective, place.point, penalty)
            gap = relative_gap(place.value, max(best.bound, dual.bound))
            outcome = Outcome.CERTIFIED if gap <= tol else inner.outcome
            return Ended(Reached(place, dual, outcome, gap, n_iter), objective.n_passes + n_passes)


def _working_set(
    penalty: Penalty, place: Place, before: NDArray[np.bool_], kept: NDArray[np.bool_], ratio: float | None, first: int
) -> NDArray[np.bool_]:
    """Features to solve for next: those at work, those of the last set, and the worst of those that ought to move."""
    at_work = (penalty.size(place.point.coef) > 0) | (penalty.corner == 0)
    members: NDArray[np.bool_] = at_work | (before & kept)
    violation = np.where(members | ~kept, 0.0, penalty.violation(place.point.coef, place.point.grad_coef))
    if ratio is not None and ratio < _LONG_STEP:
        strong = penalty.dual_size(place.point.grad_coef) >= (2.0 - ratio) * penalty.corner
        members |= strong & kept
    count = int(members.sum())
    room = max(first - count, count)
    worst = np.argsort(-violation, kind="stable")[:room]
    members[worst[violation[worst] > 0]] = True
    if members.sum() > 0.5 * len(members):
        members[:] = True
    return members


def _first_size(objective: SoftmaxObjective) -> int:
    """Features of the first set: many of a sparse table with one score, where each costs little."""
    return max(_FIRST, _FIRST_SPARSE // objective.n_scores) if objective.rows.is_sparse else _FIRST


def _grows(penalty: Penalty, place: Place, members: NDArray[np.bool_]) -> bool:
    """Whether a feature outside of the set ought to move."""
    violation = penalty.violation(place.point.coef, place.point.grad_coef)
    return bool(np.any(violation[~members] > 0))


def _squares(objective: SoftmaxObjective) -> F64:
    """Weighted sum of squares of each feature, (D,)."""
    weight = objective.weight
    (squares,) = objective.rows.sum(lambda block: (block.column_moments(weight[block.rows])[1],))
    objective.n_passes += 1
    return np.asarray(np.maximum(squares, 0.0))


def _features(objective: SoftmaxObjective, index: NDArray[np.intp]) -> Any:
    """Return some features of all rows, (features, N): CSR, or a float64 array."""
    rows = objective.rows
    parts = [(block.rows, block.features(index)) for block in rows.blocks()] if rows.is_sparse else []
    if parts:
        stacked: Any = parts[0][1] if len(parts) == 1 else sparse.hstack([part for _, part in parts], format="csr")
        return stacked
    table = np.empty((len(index), rows.n_rows))
    for block in rows.blocks():
        table[:, block.rows] = block.features(index)
    return table


def part_of(objective: SoftmaxObjective, index: NDArray[np.intp]) -> tuple[SoftmaxObjective, Any]:
    """Return the problem of some features only, and these features."""
    features = _features(objective, index)
    rows = (
        SparseRows(features.T.tocsr(), objective.n_scores, transposed=features)
        if objective.rows.is_sparse
        else DenseRows(features.T, objective.n_scores)
    )
    part = SoftmaxObjective(
        rows,
        objective.target,
        objective.weight,
        n_classes=max(2, objective.n_scores),
        ridge=objective.ridge[index],
        fit_intercept=objective.fit_intercept,
    )
    return part, features


def _model(objective: SoftmaxObjective, penalty: Penalty, features: Any = None) -> QuadraticModel:
    """Which of the two models costs less."""
    rows = objective.rows
    unknowns = (rows.n_features + 1) * objective.n_scores
    cheap = unknowns <= _FEW_UNKNOWNS or (
        unknowns <= MAX_UNKNOWNS and float(unknowns) ** 2 * rows.n_rows <= _OPERATIONS
    )
    if cheap and (not rows.is_sparse or rows.n_rows * rows.n_features <= _DENSE_NUMBERS):
        return MatrixModel(objective, penalty)
    every = np.arange(rows.n_features)
    return FeatureModel(objective, penalty, _features(objective, every) if features is None else features)
