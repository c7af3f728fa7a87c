"""The numbers of one row of a table model that may change, and how far: as far as those of the training rows go."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.explain.rows import F64, Index, as_dense

FEWEST_DIGITS: Final = 2  # of a change: at most a tenth more than it must be
MOST_DIGITS: Final = 17


@dataclass(frozen=True)
class Room:
    """Numbers of a row, n of them, and how far each may move.

    Parameters
    ----------
    model : TableClassifier
        The model.
    row : polars.DataFrame of height 1, or ndarray of float64 (1, D)
        The row.
    columns : ndarray of intp (n,)
        Where the numbers stand in encoded rows.
    names : tuple of str (n,) or None
        Their columns in a table; None for an array.
    values, low, high : ndarray of float64 (n,)
        What they are, and their bounds, which enclose that.
    whole : ndarray of bool (n,)
        Which of them must stay whole.
    spread : ndarray of float64 (n,)
        Standard deviation among the training rows of a table; 1 for an array.
    """

    model: Any
    row: Any
    columns: Index
    names: tuple[str, ...] | None
    values: F64
    low: F64
    high: F64
    whole: NDArray[np.bool_]
    spread: F64

    @classmethod
    def of(cls, model: Any, row: Any, /, *, within: bool) -> Self:
        """Read the numbers of a row; `within` keeps them between the least and largest of the training rows."""
        encoder = model.encoder_
        if isinstance(row, pl.DataFrame):
            order, numbers = encoder.names("number", "boolean", "date"), set(encoder.names("number"))
            there = {name: row[name][0] for name in row.columns if name in numbers}
            there = {name: value for name, value in there.items() if value is not None and np.isfinite(value)}
            names: tuple[str, ...] | None = tuple(there)
            columns = np.asarray([order.index(name) for name in there], dtype=np.intp)
            values: F64 = np.asarray(list(there.values()), dtype=np.float64)
            whole = np.asarray([row[name].dtype.is_integer() for name in there], dtype=bool)
            spread: F64 = np.asarray(encoder.scaler_.scale_[columns] if there else values)
        else:
            row = as_dense(row).astype(np.float64)
            names, columns, values = None, np.arange(row.shape[1]), row[0]
            whole, spread = np.zeros(len(values), dtype=bool), np.ones(len(values))
        low, high = np.full(len(values), -np.inf), np.full(len(values), np.inf)
        if encoder.lowest_ is not None:  # None: a model file from before they were kept
            whole = whole | (encoder.whole_[columns] & (np.rint(values) == values))
            if within:
                low, high = np.fmin(encoder.lowest_[columns], values), np.fmax(encoder.highest_[columns], values)
        return cls(model, row, columns, names, values, low, high, whole, spread)

    def number(self, k: int, after: float, digits: int, /) -> float:
        """Round number k away from what it is, to some digits of the change, but not beyond its bounds."""
        before = float(self.values[k])
        size = max(abs(after - before), np.finfo(float).tiny)
        unit = 10.0 ** (np.floor(np.log10(size)) - digits + 1)
        if self.whole[k]:
            unit = max(unit, 1.0)
        steps = np.ceil(after / unit) if after >= before else np.floor(after / unit)
        decimals = max(0, int(-np.floor(np.log10(unit))))  # 3.1 steps of 0.1 is written 0.31, not 0.31000000000000005
        number = min(max(round(float(steps * unit), decimals), float(self.low[k])), float(self.high[k]))
        return int(number) if self.whole[k] else number

    def before(self, k: int, /) -> float:
        """Number k as it is."""
        return int(self.values[k]) if self.whole[k] else float(self.values[k])

    def name(self, k: int, /) -> str:
        """Name of the column of number k, or its place in an array."""
        return place_of(self.model, k) if self.names is None else self.names[k]

    def decision(self, changes: dict[int, float], /) -> int:
        """Class index that the model decides for when some numbers are others."""
        if self.names is None:
            moved = self.row.copy()
            for k, number in changes.items():
                moved[0, k] = number
        else:
            moved = self.row
            for k, number in changes.items():
                moved = with_value(moved, self.names[k], number)
        return int(self.model.decision_function(self.model.encoder_.transform(moved))[0].argmax())


def with_value(row: pl.DataFrame, name: str, value: Any, /) -> pl.DataFrame:
    """Copy of a row with another value in one column; of whole numbers only where it is whole."""
    dtype = row[name].dtype
    if isinstance(value, float) and dtype.is_integer() and not value.is_integer():
        dtype = pl.Float64()
    return row.with_columns(pl.Series(name, [value]).cast(dtype))


def place_of(model: Any, column: int, /) -> str:
    """Name of a column of an array: its place in the shape of a row, or its number in a libsvm file."""
    schema = model.schema_
    if schema.layout == "sparse":
        return f"[{column + schema.first_index}]"
    place = np.unravel_index(column, schema.shape) if len(schema.shape) > 1 else (column,)
    return "[" + ", ".join(str(int(at)) for at in place) + "]"
