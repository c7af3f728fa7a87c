"""What an encoding needs to know of all rows, gathered while they go by: each of these holds no row."""

from typing import Any, Final, Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

F64 = NDArray[np.float64]

# Values of a column of categories that are remembered: more than skrub encodes one by one (40), whichever of them it
# takes for missing.
MOST_VALUES: Final = 128
_ROWS_AT_ONCE: Final = 4096


@final
class Moments:
    """Mean, variance and number of the values of each column that are not missing.

    Notes
    -----
    All values are taken less the first one of their column, so that a mean far from 0 takes no digits away. Blocks are
    joined by the formula of Chan, Golub & LeVeque (1983, eq. 2.1), in float64.
    """

    def __init__(self, n_columns: int) -> None:
        self.n_rows = 0
        self._first, self._count = np.zeros(n_columns), np.zeros(n_columns)
        self._mean, self._squares = np.zeros(n_columns), np.zeros(n_columns)  # about the first value

    def add(self, raw: F64, /) -> None:
        """Take rows in: raw (n, D), NaN where missing."""
        there = ~np.isnan(raw)
        count = there.sum(axis=0).astype(np.float64)
        some = np.maximum(count, 1.0)
        new = (self._count == 0) & (count > 0)
        self._first[new] = raw[there.argmax(axis=0), np.arange(raw.shape[1])][new]
        raw = raw - self._first
        mean = np.where(there, raw, 0.0).sum(axis=0) / some
        away = np.where(there, raw - mean, 0.0)
        off = away.sum(axis=0)  # rounding of the mean
        squares = np.square(away).sum(axis=0) - np.square(off) / some
        mean += off / some
        both = np.maximum(self._count + count, 1.0)
        apart = mean - self._mean
        self._squares += squares + np.square(apart) * self._count * count / both
        self._mean += apart * count / both
        self._count += count
        self.n_rows += len(raw)

    def imputer(self) -> SimpleImputer:
        """Fitted: gaps are filled with the mean, and marked."""
        mean = self._first + self._mean
        gaps = np.where(self._count < self.n_rows, np.nan, mean)
        rows = np.stack([np.where(self._count > 0, mean, np.nan), gaps])  # two rows with these very statistics
        return SimpleImputer(add_indicator=True, keep_empty_features=True).fit(rows)

    def scaler(self, imputer: SimpleImputer) -> StandardScaler:
        """Fitted to the rows as the imputer fills them."""
        share = 1.0 - self._count[imputer.indicator_.features_] / self.n_rows
        mean = np.concatenate([self._first + self._mean, share])
        variance = np.concatenate([self._squares / self.n_rows, share * (1.0 - share)])
        scaler = StandardScaler(copy=False).fit(np.zeros((1, len(mean))))
        scaler.mean_, scaler.var_, scaler.n_samples_seen_ = mean, variance, np.int64(self.n_rows)
        # constant but for rounding, as scikit-learn tells it
        eps = np.finfo(np.float64).eps
        flat = variance <= self.n_rows * eps * variance + np.square(self.n_rows * mean * eps)
        scaler.scale_ = np.where(flat, 1.0, np.sqrt(variance))
        return scaler


@final
class Ranges:
    """Least and largest value of each column, and whether all its values are whole; missing ones say nothing.

    Parameters
    ----------
    n_columns : int
        D.
    """

    def __init__(self, n_columns: int) -> None:
        self.lowest, self.highest = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
        self.whole = np.ones(n_columns, dtype=bool)

    def add(self, raw: Any, /) -> Self:
        """Take rows in: raw (n, D), dense with NaN where missing, or CSR."""
        if not raw.shape[0]:
            return self
        if _is_sparse(raw):
            self.lowest = np.fmin(self.lowest, raw.min(axis=0).toarray()[0])
            self.highest = np.fmax(self.highest, raw.max(axis=0).toarray()[0])
            self.whole[raw.indices[np.rint(raw.data) != raw.data]] = False
            return self
        for start in range(0, len(raw), _ROWS_AT_ONCE):
            rows = raw[start : start + _ROWS_AT_ONCE]
            self.lowest = np.fmin(self.lowest, np.fmin.reduce(rows, axis=0))
            self.highest = np.fmax(self.highest, np.fmax.reduce(rows, axis=0))
            if rows.dtype.kind == "f" and self.whole.any():
                self.whole &= ((np.rint(rows) == rows) | np.isnan(rows)).all(axis=0)
        return self


@final
class Dates:
    """A date of each column that stands for all: one with a time of day where there is any."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._found: dict[str, Any] = {}
        self._timed: set[str] = set()

    def add(self, frame: pl.DataFrame, /) -> None:
        """Take rows in."""
        for name in self._names:
            if name in self._timed:
                continue
            given = frame[name].drop_nulls()
            timed = given.filter(given.dt.truncate("1d") != given)
            if timed.len():
                self._timed.add(name)
                self._found[name] = timed[0]
            elif given.len():
                self._found.setdefault(name, given[0])

    def frame(self) -> pl.DataFrame:
        """One row, from which the encoding of dates is learned."""
        return pl.DataFrame([pl.Series(name, [self._found.get(name)], pl.Datetime("us")) for name in self._names])


@final
class Categories:
    """The distinct values of each column of words, while there are few."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._values: dict[str, dict[str, None]] = {name: {} for name in names}

    @property
    def has_many(self) -> bool:
        """Whether some column has more values than are remembered."""
        return any(len(values) > MOST_VALUES for values in self._values.values())

    def add(self, frame: pl.DataFrame, /) -> None:
        """Take rows in; a missing value is the empty word."""
        for name in self._names:
            values = self._values[name]
            if len(values) <= MOST_VALUES:
                values.update(dict.fromkeys(frame[name].fill_null("").unique(maintain_order=True).to_list()))

    def frame(self, sample: pl.DataFrame | None) -> pl.DataFrame:
        """Rows from which the encoding is learned.

        Parameters
        ----------
        sample : polars.DataFrame or None
            Some rows; None where no column has many values.

        Returns
        -------
        polars.DataFrame
            Columns of few values hold each of them; columns of many hold the sample's, and more of those that came
            first where the sample has so few that it would be taken for a column of few.
        """
        columns: dict[str, list[str]] = {}
        for name in self._names:
            columns[name] = list(self._values[name])
            if len(columns[name]) > MOST_VALUES and sample is not None:
                drawn = sample[name].fill_null("")
                columns[name] = drawn.to_list() + (columns[name] if drawn.n_unique() <= MOST_VALUES else [])
        height = max(map(len, columns.values()))
        return pl.DataFrame([pl.Series(name, _cycled(values, height), pl.String) for name, values in columns.items()])


@final
class Classes:
    """The classes of all rows, as small numbers, and which they are."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._are_numbers = True
        self._parts: list[NDArray[Any]] = []

    def add(self, target: NDArray[Any], /) -> None:
        """Take the classes of some rows in, int64 or text."""
        self._are_numbers &= target.dtype.kind == "i"
        labels, codes = np.unique(target, return_inverse=True)
        place = np.array([self._known.setdefault(str(label), len(self._known)) for label in labels.tolist()])
        narrow = np.min_scalar_type(len(self._known))
        self._parts.append(place.astype(narrow)[codes])

    def settled(self) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """The classes, sorted (K,), int64 when all are whole numbers, and the index of each row's class (N,)."""
        names = np.array(list(self._known))
        labels = names.astype(np.int64) if self._are_numbers else names
        order = np.argsort(labels, kind="stable")
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        index = np.empty(sum(map(len, self._parts)), np.intp)
        first = 0
        for part in self._parts:
            index[first : first + len(part)] = rank[part]
            first += len(part)
        self._parts = []
        return labels[order], index


def _is_sparse(raw: Any) -> bool:
    """Whether rows are a sparse matrix; scipy's own guard would hide its methods."""
    return bool(issparse(raw))


def _cycled(values: list[str], height: int) -> list[str]:
    """The values over and over, so many of them."""
    return (values * -(-height // max(1, len(values))))[:height]
