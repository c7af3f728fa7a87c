"""What every calibrator is: logits in, logits out, checked once at the door."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from normexp.base.blas_threads import one_blas_thread
from normexp.calibration.rows import CalibrationRows, Floats, read_calibration_rows, read_logits
from normexp.metrics.door import BLOCK_ELEMENTS
from normexp.ops import log_softmax, softmax


class Calibrator(BaseEstimator, ABC):
    """Abstract: `fit`, `transform` and `predict_proba` stand here; a method says how to fit rows and map a block."""

    floor_: float | None

    def fit(self, logits: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the map from rows whose classes are known and that the model was not trained on.

        Parameters
        ----------
        logits : array-like, shape (N, K)
            Logits; logarithms of probabilities will do.
        y : array-like of int, shape (N,)
            Class indices, 0 to K - 1.
        sample_weight : array-like, shape (N,), optional
            Weight of each row; 1 by default. A weight of 2 is the row twice.

        Returns
        -------
        Calibrator
            The same object, fitted.

        Raises
        ------
        ShapeError, RangeError, DtypeError
            If the arguments do not fit together, hold NaN, or name a class that is not there.

        Warns
        -----
        NormexpWarning
            If a class has no row.
        """
        rows = read_calibration_rows(logits, y, of=f"{type(self).__name__}.fit", sample_weight=sample_weight)
        return self.fit_rows(rows)

    def fit_rows(self, rows: CalibrationRows, /) -> Self:
        """Learn the map from rows that have passed the door."""
        with one_blas_thread():
            self._fit(self._floored(rows))
        return self

    def fit_raised(self, rows: CalibrationRows, /) -> Self:
        """Learn the map from rows of which none happened that was given probability 0: its zeros are raised already."""
        self.n_classes_, self.floor_ = rows.n_classes, None
        self._fit(rows)
        return self

    def transform(self, logits: ArrayLike) -> NDArray[Any]:
        """Calibrated logits, (N, K), in the dtype of `logits` (float32 for float16, float64 for integers)."""
        check_is_fitted(self, "n_classes_")
        z = read_logits(logits, of=f"{type(self).__name__}.transform", n_classes=self.n_classes_)
        out = np.empty(z.shape, dtype=z.dtype)
        self.see(z)
        step = max(1, BLOCK_ELEMENTS // z.shape[1])
        for start in range(0, z.shape[0], step):
            out[start : start + step] = self.map_block(z[start : start + step].astype(np.float64, copy=False))
        return out

    def predict_proba(self, logits: ArrayLike) -> NDArray[Any]:
        """Calibrated probabilities, (N, K)."""
        return np.asarray(softmax(self.transform(logits)))

    def map_block(self, z: Floats, /) -> Floats:
        """Calibrated logits of a block of checked rows, (B, K)."""
        return self._map(z if self.floor_ is None else raised(z, self.floor_))

    def map_columns(self, z: Floats, /) -> Floats:
        """The same of rows that lie class by class, (K, B), and have no zeros to be raised; may be z itself."""
        return np.ascontiguousarray(self._map(np.ascontiguousarray(z.T)).T)

    def see(self, z: NDArray[Any], /) -> None:
        """Look at all rows that are about to be transformed."""

    def _floored(self, rows: CalibrationRows) -> CalibrationRows:
        """The rows to learn from: where a class happened that was given probability 0, zeros are raised."""
        self.n_classes_ = rows.n_classes
        self.floor_ = _floor_of_zeros(rows)
        return rows if self.floor_ is None else _with_floor(rows, self.floor_)

    @abstractmethod
    def _fit(self, rows: CalibrationRows) -> None:
        """Set the fitted attributes."""

    @abstractmethod
    def _map(self, z: Floats) -> Floats:
        """Calibrated logits of a block, (B, K); -inf stays -inf."""


def raised(z: Floats, floor: float) -> Floats:
    """Log-probabilities in which `floor` stands for -inf; rows without -inf as they are."""
    zero = np.isneginf(z)
    hit = zero.any(axis=1)
    if not hit.any():
        return z
    out = z.copy()
    out[hit] = np.where(zero[hit], floor, np.asarray(log_softmax(z[hit])))
    return out


def _floor_of_zeros(rows: CalibrationRows) -> float | None:
    """Half the smallest positive probability, when a class happened that was given probability 0; else None."""
    smallest, happened = 0.0, False
    for block, z in rows.blocks():
        zero = np.isneginf(z)
        if not zero.any():
            continue
        happened |= bool(zero[np.arange(z.shape[0]), rows.target[block]].any())
        log_prob = np.asarray(log_softmax(z))
        smallest = min(smallest, float(log_prob[~zero].min()))
    if not happened:
        return None
    return float(min(smallest, -np.log(2.0 * rows.n_rows)) - np.log(2.0))


def _with_floor(rows: CalibrationRows, floor: float) -> CalibrationRows:
    """The rows in use with their zeros raised."""
    z = raised(rows.dense(), floor)
    return CalibrationRows(z, np.arange(rows.n_rows, dtype=np.intp), rows.target, rows.weight)
