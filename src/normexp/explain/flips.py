"""The smallest change of a row that flips its decision: for a linear head an exact distance, not a search."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.explain.head import Head
from normexp.explain.nearest import NORMS, dual_lengths, into_half_space, into_polyhedron, length_of
from normexp.explain.rows import F64, Index, as_dense

_BEYOND: Final = 1e-9  # of the gap: how far past the boundary a changed row stands
_ROUNDING: Final = 32.0 * 2.0**-53  # of the terms of the scores: what they may be off by
_LEAST: Final = 1e-150  # for a row of zeros on a boundary through zero; its square is still a number
_MOST_TRIES: Final = 30


class Contrast(NamedTuple):
    """The nearest rows with another decision.

    Parameters
    ----------
    x : ndarray of float64 (N, D)
        The changed rows, a hair beyond the boundary (1e-9 of the gap, or the scores' rounding).
    radius : ndarray of float64 (N,)
        Distance of each row to the boundary; infinity where no change flips the decision.
    decided : ndarray (N,)
        Class of each changed row; the old one where the radius is infinite.
    """

    x: F64
    radius: F64
    decided: NDArray[Any]


def contrast(
    model: Any,
    X: Any,
    /,
    *,
    to: Any = None,
    norm: float = 2,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    frozen: ArrayLike | None = None,
    scale: ArrayLike | None = None,
) -> Contrast:
    r"""Smallest change of each row that flips its decision.

    Parameters
    ----------
    model : classifier
        As for `contributions`; the steps in front of its coefficients must be affine.
    X : array-like, sparse matrix or DataFrame (N, D)
        Finite rows; sparse ones are made dense.
    to : label, array-like of labels (N,), or None
        The class to reach; None: any other.
    norm : {1, 2, numpy.inf}
        How a change is measured: 1 changes as few columns as will do, 2 all by a little, infinity bounds the largest.
    lower, upper : float, array-like (D,), or None
        Bounds that changed columns keep; the rows must lie within them.
    frozen : array-like (D,) of bool, or of column numbers, or None
        Columns that must not change.
    scale : float, array-like (D,), or None
        What counts as a change of 1 in each column, above 0; None: 1. The radius is in these units.

    Returns
    -------
    Contrast
        ``x`` (N, D), ``radius`` (N,) and ``decided`` (N,).

    Raises
    ------
    DtypeError, ShapeError, RangeError
        For a model that is not linear in X, and for bounds, scales and labels that do not fit.

    Notes
    -----
    The half-space where class k beats the decision c lies at the distance :math:`(z_c - z_k) / \|W_c - W_k\|_*` with
    the dual norm; the least of these is the radius, and the decision keeps within it in every direction. To reach one
    class, k must beat all others: a least-distance program with K - 1 constraints, solved only where the nearest point
    of the half-space against c does not do. With bounds the conditions of optimality are solved by a sort. Cost:
    N K D, and some milliseconds a row where a program is needed or bounds are given.

    Examples
    --------
    >>> import numpy as np, normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = nx.SoftmaxClassifier().fit(X, y)
    >>> found = nx.explain.contrast(model, X[100:101], norm=1)
    >>> (found.x - X[100:101]).round(2), found.radius.round(2), int(found.decided[0])  # a narrower petal
    (array([[ 0.  ,  0.  ,  0.  , -1.87]]), array([1.87]), 1)
    """
    head = Head.read(model, of="contrast")
    if head.opaque or head.groups is not None:
        raise DtypeError(
            f"contrast: the model has a {type(head.opaque[-1]).__name__}, which is not affine, so a smallest change of "
            "its input is not exact; give what comes out of that step and the model behind it."
        )
    if norm not in NORMS:
        raise RangeError(f"contrast: norm is {norm!r}; 1, 2 or numpy.inf would be right.")
    rows = as_dense(head.columns(X))
    unit = per_column(scale, 1.0, head, "scale")
    if not (np.isfinite(unit) & (unit > 0)).all():
        raise RangeError(
            f"contrast: scale holds {unit[~(unit > 0) | ~np.isfinite(unit)][0]}; numbers above 0 are right."
        )
    low, high = per_column(lower, -np.inf, head, "lower"), per_column(upper, np.inf, head, "upper")
    outside = np.argwhere((rows < low) | (rows > high) | np.isnan(low) | np.isnan(high))
    if len(outside):
        row, column = outside[0]
        raise RangeError(
            f"contrast: row {row} has {rows[row, column]:g} in column {column}, outside the bounds {low[column]:g} to "
            f"{high[column]:g}; bounds that enclose the rows would be right."
        )
    held = _frozen(frozen, head)
    target = None if to is None else head.class_index(to, len(rows), name="to")
    return _Search(head, rows, unit, np.where(held, rows, low), np.where(held, rows, high), norm, held).run(target)


class _Search:
    """Rows, their decisions and their room, in units of ``scale``."""

    def __init__(
        self, head: Head, rows: F64, unit: F64, low: F64, high: F64, norm: float, held: NDArray[np.bool_]
    ) -> None:
        self.head, self.rows, self.unit, self.norm = head, rows, unit, norm
        self.box = low, high
        self.low, self.high = (low - rows) / unit, (high - rows) / unit
        self.coef = np.where(held, 0.0, head.column_coef * unit)
        self.bounded = bool(np.isfinite(np.minimum(-self.low, self.high)[:, ~held]).any())
        self.logits = head.logits(head.features(rows))
        self.decision = self.logits.argmax(axis=1)
        size = np.abs(rows) @ np.abs(head.column_coef).T + np.abs(head.intercept)
        self.rounding = _ROUNDING * size.max(axis=1, initial=0.0)

    def run(self, target: Index | None) -> Contrast:
        """Find the steps; then move each row a hair beyond its boundary and see that the decision has changed."""
        x, radius, decided = self.rows.copy(), np.full(len(self.rows), np.inf), self.decision.copy()
        rivals = self._rivals_by_distance() if target is None else [[(int(k), 0.0)] for k in target]
        for row, candidates in enumerate(rivals):
            goal = None if target is None else int(target[row])
            if goal == self.decision[row]:
                radius[row] = 0.0
                continue
            best = -1
            for near, at_least in candidates:
                if at_least >= radius[row]:
                    break
                step = self._step(row, near, goal, 0.0)
                length = np.inf if step is None else length_of(step, self.norm)
                if length < radius[row]:
                    radius[row], best = length, near
            moved = None if best < 0 else self._beyond(row, best, goal)
            if moved is None:
                radius[row] = np.inf
            else:
                x[row], decided[row] = moved
        return Contrast(x, radius, self.head.classes[decided])

    def _rivals_by_distance(self) -> list[list[tuple[int, float]]]:
        """For each row the rivals within reach and their distance without bounds, the nearest first."""
        ranked: list[list[tuple[int, float]]] = [[] for _ in range(len(self.rows))]
        for own in np.unique(self.decision):
            length = dual_lengths(self.coef - self.coef[own], self.norm)
            reachable = np.flatnonzero(length > 0)
            for row in np.flatnonzero(self.decision == own):
                distance = (self.logits[row, own] - self.logits[row, reachable]) / length[reachable]
                order = np.argsort(distance, kind="stable") if self.bounded else np.argsort(distance)[:1]
                ranked[row] = [(int(reachable[k]), float(distance[k])) for k in order]
        return ranked

    def _step(self, row: int, near: int, goal: int | None, margin: float) -> F64 | None:
        """Shortest step of a row to where `near` beats the decision by a margin, or where `goal` beats everybody."""
        own = int(self.decision[row])
        slope = self.coef[near] - self.coef[own]
        gain = float(self.logits[row, own] - self.logits[row, near]) + margin
        low, high = self.low[row], self.high[row]
        step = np.zeros_like(slope) if gain <= 0.0 else into_half_space(slope, gain, self.norm, low, high)
        if goal is None or step is None:
            return step
        others = np.flatnonzero(np.arange(len(self.coef)) != goal)
        slopes, gains = self.coef[goal] - self.coef[others], self.logits[row, others] - self.logits[row, goal] + margin
        if np.all((slopes @ step >= gains) | (others == own)):
            return step
        return into_polyhedron(slopes, gains, self.norm, low, high)

    def _beyond(self, row: int, near: int, goal: int | None) -> tuple[F64, int] | None:
        """Row beyond the boundary and its decision there; None where the bounds leave no room beyond it."""
        margin = max(_BEYOND * float(np.ptp(self.logits[row])), float(self.rounding[row]), _LEAST)
        for _ in range(_MOST_TRIES):
            step = self._step(row, near, goal, margin)
            if step is None:
                return None
            moved = np.clip(self.rows[row] + self.unit * step, self.box[0][row], self.box[1][row])
            decision = int(self.head.logits(self.head.features(moved[None]))[0].argmax())
            if decision != self.decision[row] and goal in {None, decision}:
                return moved, decision
            margin *= 2.0
        return None


def per_column(value: ArrayLike | None, default: float, head: Head, name: str, /) -> F64:
    """A number for each column of the model, from one or many."""
    try:
        given = np.asarray(default if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DtypeError(f"{head.of}: {name} is {value!r}; a number, or one for each column, would be right.") from None
    if given.shape not in {(), (head.n_columns,)}:
        raise ShapeError(
            f"{head.of}: {name} has shape {given.shape}; one number, or one for each of the {head.n_columns} columns, "
            "would be right."
        )
    return np.broadcast_to(given, (head.n_columns,)).copy()


def _frozen(frozen: ArrayLike | None, head: Head) -> NDArray[np.bool_]:
    """Which columns must not change."""
    held = np.zeros(head.n_columns, dtype=bool)
    if frozen is None:
        return held
    given = np.asarray(frozen)
    if given.dtype == bool and given.shape == held.shape:
        return given
    if given.size == 0:
        return held
    if given.dtype.kind not in "iu" or given.ndim != 1 or given.min() < 0 or given.max() >= len(held):
        raise RangeError(
            f"contrast: frozen is {frozen!r}; {head.n_columns} booleans, or column numbers from 0 to "
            f"{head.n_columns - 1}, would be right."
        )
    held[given] = True
    return held
