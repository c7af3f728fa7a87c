"""The objective over labelled rows that are streamed: nothing of size N is held but what the rows themselves hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.rows import ColumnMap, LabelledRows
from normexp.solvers.function import Objective, Point
from normexp.solvers.passes import CurvatureAlong, Drawing, Evaluate, LossesAlong, Origin, ShiftCovariance

F64 = NDArray[np.float64]

# Up to so many numbers (32 MB in float64) the probabilities are kept, which saves a product in each Hessian pass.
_KEPT_NUMBERS = 1 << 22
# Bytes of the rows that a preconditioner is estimated from, at most: 32 MB.
_SAMPLE_BYTES = 1 << 25
# What a sparse row takes of a dense one's bytes, one part in so many: a guess that is on the safe side for text.
_SPARSENESS = 10


class StreamedObjective(Objective):
    """A softmax regression over labelled rows.

    Parameters
    ----------
    rows : LabelledRows
        The table, centred and scaled, with class indices and weights.
    ridge : ndarray (D,) float64
    fit_intercept : bool
    seed : int
        Of the rows that are drawn for preconditioners.
    wanted : int
        How many rows a preconditioner wants; 0 for none.
    """

    point: Point  # of the last evaluation, which comes before all curvatures

    def __init__(self, rows: LabelledRows, *, ridge: F64, fit_intercept: bool, seed: int, wanted: int) -> None:
        self.rows, self.ridge, self.fit_intercept = rows, ridge, fit_intercept
        self._labelled: LabelledRows = rows
        self._curved_rows = rows.for_curvature()
        self.class_weight, self.total_weight = rows.class_weight, rows.total_weight
        n_classes = len(rows.class_weight)
        self.n_scores = 1 if n_classes == 2 else n_classes
        self.n_passes, self.damping = 0, 0.0
        row_bytes = rows.n_features * rows.dtype.itemsize
        if rows.is_sparse:
            row_bytes //= _SPARSENESS
        most = max(1, _SAMPLE_BYTES // max(1, row_bytes))
        self.takes_all = 0 < rows.n_rows <= min(2 * wanted, most)
        self._wanted, self._seed, self._draws = min(wanted, most // 4), seed, 0
        self._working: Any = rows.dtype
        self.curvature = 0.0
        self._origin_pull: tuple[F64, F64] | None = None
        self._wrong = 1
        self._kept: NDArray[np.floating] | None = None
        self._keep()
        self.drawn: list[Any] = []

    @property
    def column_map(self) -> ColumnMap:
        """The map through which the rows are seen."""
        return self._labelled.column_map

    @property
    def draws(self) -> bool:
        """Whether evaluations draw rows for the preconditioner."""
        return self.takes_all or self._wanted > 0

    @property
    def is_sharp(self) -> bool:
        """Whether Hessian products are taken in float64."""
        return self._curved_rows is self._labelled and self._working == np.float64

    @property
    def working(self) -> np.dtype[Any]:
        working: np.dtype[Any] = np.dtype(self._working)
        return working

    def sharpen(self) -> bool:
        if self.is_sharp:
            return False
        self._curved_rows, self._working = self._labelled, np.dtype(np.float64)
        self._keep()
        return True

    def at(self, coef: F64, shift: F64) -> Point:
        self._hessian = None
        drawing, all_rows = None, False
        if self.takes_all:
            all_rows, self._draws = self._draws == 0, 1  # once is enough
        elif self._wanted:
            self._draws += 1
            # The rows' curvature falls as the fit goes on, so that of the point before draws too few: ask for more.
            most = self.total_weight * (1 - 1 / len(self.class_weight))
            drawing = Drawing(
                2 * self._wanted,
                self.curvature or most,
                self.total_weight,
                self.damping,
                self._seed + 1_000_003 * self._draws,
            )
        evaluate = Evaluate(
            coef,
            shift,
            self._working,
            drawing=drawing,
            all_rows=all_rows,
            counts_wrong=not np.all(self.ridge > 0),
            kept=self._kept,
        )
        *sums, self.curvature, drawn, self._wrong = self.rows.sum(evaluate)
        self.n_passes += 1
        if drawn:
            self.drawn = drawn
        loss, entropy, pull, grad_shift = sums
        self.point = self._point(coef, shift, (loss, entropy, pull, grad_shift))
        return self.point

    def curvature_along(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        if self._hessian is not None:
            return self._product(self._hessian, coef, shift)
        narrow = coef.astype(self._working, copy=False), shift.astype(self._working, copy=False)
        product = CurvatureAlong(self.point.coef, self.point.shift, *narrow, self.damping, self._kept)
        along_coef, along_shift = self._curved_rows.sum(product)
        self.n_passes += 1
        if not self.fit_intercept:
            along_shift = np.zeros_like(along_shift)
        return along_coef + self.ridge[:, None] * coef, along_shift

    def shift_covariance(self) -> F64:
        covariance = ShiftCovariance(self.point.coef, self.point.shift, self._working, self._kept)
        self.n_passes += 1
        return np.asarray(self._curved_rows.sum(covariance)[0])

    def values_along(self, point: Point, coef: F64, shift: F64, lengths: F64) -> F64:
        (losses,) = self.rows.sum(LossesAlong(point.coef, point.shift, coef, shift, lengths))
        self.n_passes += 1
        return self._values(losses, point, coef, lengths)

    def separates(self) -> bool:
        return self._wrong == 0

    def _keep(self) -> None:
        if self._labelled.is_local and self.rows.n_rows * self.n_scores <= _KEPT_NUMBERS:
            self._kept = np.empty((self.rows.n_rows, self.n_scores), self._working)

    def origin(self) -> tuple[F64, F64]:
        if self._origin_pull is None:
            self._origin_pull = self.rows.sum(Origin(self.n_scores))
            self.n_passes += 1
        return self._origin_pull
