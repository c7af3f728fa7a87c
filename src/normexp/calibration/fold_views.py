"""Rows, their folds, and the log-probabilities that affine maps read, class by class."""

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.columns import MANY, normalise
from normexp.calibration.rows import CalibrationRows
from normexp.calibration.temperature import fit_temperature, fold_temperatures

# So many logits are read tens of times in float32, which halves the time; where they lie within LARGEST_SINGLE that
# takes 1e-7 of their size from each, and 1e-3 nats from a sum over all rows. Final maps are fitted in float64.
LARGEST_SINGLE: Final = 1e3


class FoldViews:
    """Rows and what affine maps read of them: log-probabilities at the temperature of all rows, and at each fold's.

    Parameters
    ----------
    rows : CalibrationRows
        N rows.
    folds : list of slice
        The rows held out in each fold, which lie side by side.
    temperatures : list of float, optional
        Those outside each fold; found here by default.
    """

    def __init__(self, rows: CalibrationRows, folds: list[slice], temperatures: list[float] | None = None) -> None:
        self.rows, self.folds = rows, folds
        self.temperatures = fold_temperatures(rows, folds, 1.0) if temperatures is None else temperatures
        self.temperature, _ = fit_temperature(rows, 1.0)

    @cached_property
    def _logits(self) -> NDArray[Any]:
        logits = np.concatenate([z for _, z in self.rows.column_blocks()], axis=1)
        if logits.size < MANY:
            return logits
        low, high = float(np.min(logits, where=np.isfinite(logits), initial=0.0)), float(logits.max())
        return logits.astype(np.float32) if high - low < LARGEST_SINGLE * min(1.0, *self.temperatures) else logits

    @cached_property
    def _has_zeros(self) -> bool:
        return bool(np.isneginf(self._logits).any())

    @cached_property
    def bottom(self) -> float:
        """What stands for the logarithm of 0."""
        if not self._has_zeros:
            return float(np.min(self.whole[1:], initial=0.0))
        u = at_temperature(self._logits, self.temperature)[1:]
        return float(np.min(u, where=np.isfinite(u), initial=0.0))

    @cached_property
    def whole(self) -> NDArray[Any]:
        """1 and the log-probabilities of all rows at their temperature, (K + 1, N)."""
        return self._raised(at_temperature(self._logits, self.temperature))

    def of_fold(self, number: int) -> NDArray[Any]:
        """The same at a fold's temperature."""
        return self._raised(at_temperature(self._logits, self.temperatures[number]))

    def _raised(self, x: NDArray[Any]) -> NDArray[Any]:
        if self._has_zeros:
            x[np.isneginf(x)] = self.bottom
        return x


def at_temperature(logits: NDArray[Any], temperature: float, /) -> NDArray[Any]:
    """1 and the log-probabilities of logits (K, N) at a temperature, (K + 1, N), in their dtype.

    Examples
    --------
    >>> at_temperature(np.zeros((2, 1)), 2.0).round(4).ravel()
    array([ 1.    , -0.6931, -0.6931])
    """
    x = np.empty((len(logits) + 1, logits.shape[1]), logits.dtype)
    x[0] = 1.0
    np.divide(logits, temperature, out=x[1:])
    normalise(x[1:])
    return x
