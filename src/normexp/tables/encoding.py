"""From the rows of a source to what a linear model reads: one matrix, dense or CSR, of finite numbers."""

from collections.abc import Iterable
from typing import Any, Final, Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skrub import DatetimeEncoder, StringEncoder, TableVectorizer

from normexp.base.magnitude import LargeCellError, large_cell
from normexp.tables.csr import Csr, beside
from normexp.tables.source import Features, Schema
from normexp.tables.tallies import Moments, Ranges
from normexp.tables.words import TextEncoder

Matrix = NDArray[Any] | Csr
_CATEGORIES: Final = 40  # more distinct values than this are text to be compared by their pieces, skrub's own limit


@final
class TableEncoder(BaseEstimator):
    """Columns of a table, or an array, as features of a linear model.

    Numbers are standardised in float64, their gaps filled with the mean and marked in a column of their own. Dates
    become their distance in time and the position in day, week and year, standardised and filled like numbers, in
    whatever writing skrub knows them as dates. Categories become one column for each, text
    with many values the leading components of its character n-grams (both by skrub). Running text becomes sparse
    features (see `TextEncoder`). Arrays and sparse rows stay as they are.

    Parameters
    ----------
    schema : Schema
        What the rows hold.
    seed : int
        Seed of the components.

    Notes
    -----
    Of numbers, truth values and encoded dates, or of the columns of an array, it knows ``lowest_`` and ``highest_``
    among the training rows and whether all of them are whole, ``whole_`` (D,).

    skrub works in float32, which cannot hold numbers such as 1e9 + 1; so numbers do not pass through it.
    """

    text_: TextEncoder | None
    imputer_: SimpleImputer | None
    words_: TableVectorizer | None
    dates_: TableVectorizer | None
    lowest_: NDArray[Any] | None = None  # of those in model files from before it was there
    highest_: NDArray[Any] | None = None
    whole_: NDArray[np.bool_] | None = None
    standard_: NDArray[np.float64] | None = None

    def __init__(self, schema: Schema, *, seed: int = 0) -> None:
        self.schema = schema
        self.seed = seed

    def fit_transform(self, features: Features, /) -> Matrix:
        """Learn the encoding and encode the rows that it was learned from.

        Parameters
        ----------
        features : polars.DataFrame, ndarray or csr_matrix
            The training rows.

        Returns
        -------
        ndarray or csr_matrix, shape (N, D)
            The encoded rows.
        """
        if not isinstance(features, pl.DataFrame):
            self.learn_dates(None)
            self.learn_ranges(Ranges(features.shape[1]).add(features))
            return features
        numbers, words = self.names("number", "boolean", "date"), self.names("text")
        parts: list[Matrix] = []
        self.learn_dates(features if self.names("date") else None)
        if numbers:
            raw = self.numbers(features)
            self.refuse_large(raw)
            self.learn_ranges(Ranges(raw.shape[1]).add(raw))
            # a column without any number holds nothing to learn from, and keeps its place as zeros
            self.imputer_ = SimpleImputer(add_indicator=True, keep_empty_features=True).fit(raw)
            self.scaler_ = StandardScaler(copy=False)
            parts.append(self.scaler_.fit_transform(self.imputer_.transform(raw)))
        self.words_ = self._table_vectorizer() if words else None
        if self.words_ is not None:
            parts.append(self._standardised(self._learn_standard(self.words_.fit_transform(_words(features, words)))))
        if self.schema.text:
            self.text_ = TextEncoder()
            parts.append(self.text_.fit_transform(self.texts(features)))
        return _beside(parts, features.height)

    def learn_dates(self, features: pl.DataFrame | None, /) -> None:
        """Begin to learn in parts: how dates are encoded.

        Parameters
        ----------
        features : polars.DataFrame or None
            Rows with the columns of dates; whether a time of day stands in any is all that matters. None: no dates.
        """
        self.text_ = self.imputer_ = self.words_ = None
        self.dates_ = None if features is None else self._table_vectorizer().fit(features.select(self.names("date")))

    def learn_numbers(self, moments: Moments | None, /) -> None:
        """Learn in parts: how numbers and encoded dates are filled and scaled.

        Parameters
        ----------
        moments : Moments or None
            Of `numbers` of all rows; None where there is no such column.
        """
        if moments is not None:
            self.imputer_ = moments.imputer()
            self.scaler_ = moments.scaler(self.imputer_)

    def learn_ranges(self, ranges: Ranges | None, /) -> None:
        """Learn in parts: what numbers the training rows hold.

        Parameters
        ----------
        ranges : Ranges or None
            Of `numbers`, or of the array, of all rows; None where there is no such column.
        """
        if ranges is not None:
            self.lowest_, self.highest_, self.whole_ = ranges.lowest, ranges.highest, ranges.whole

    def learn_words(self, features: pl.DataFrame | None, /) -> None:
        """Learn in parts: how words are encoded.

        Parameters
        ----------
        features : polars.DataFrame or None
            Rows with the columns of words; None: there are none.
        """
        if features is not None:
            self.words_ = self._table_vectorizer()
            self._learn_standard(self.words_.fit_transform(features))

    def learn_texts(self, parts: Iterable[list[str]], /, *, mean_length: float, most_keys: int) -> int:
        """Learn in parts: the features of running text; see `TextEncoder.fit_in_parts`."""
        self.text_ = TextEncoder()
        return self.text_.fit_in_parts(parts, mean_length=mean_length, most_keys=most_keys)

    def fit(self, features: Features, /) -> Self:
        """Learn the encoding.

        Parameters
        ----------
        features : polars.DataFrame, ndarray or csr_matrix
            The training rows.

        Returns
        -------
        TableEncoder
            Itself.
        """
        self.fit_transform(features)
        return self

    def transform(self, features: Features, /) -> Matrix:
        """Encode rows.

        Parameters
        ----------
        features : polars.DataFrame, ndarray or csr_matrix
            Rows of the schema.

        Returns
        -------
        ndarray or csr_matrix, shape (N, D)
            The encoded rows.
        """
        if not isinstance(features, pl.DataFrame):
            return features
        parts: list[Matrix] = []
        if self.imputer_ is not None:
            parts.append(self.scaler_.transform(self.imputer_.transform(self.numbers(features))))
        if self.words_ is not None:
            parts.append(self._standardised(self.words_.transform(_words(features, self.names("text")))))
        if self.text_ is not None:
            parts.append(self.text_.transform(self.texts(features)))
        return _beside(parts, features.height)

    def names(self, *kinds: str) -> list[str]:
        """Names of the columns of some kinds, running text left out."""
        return [c.name for c in self.schema.columns if c.kind in kinds and c.name not in self.schema.text]

    def _table_vectorizer(self) -> TableVectorizer:
        """How skrub encodes dates and categories."""
        return TableVectorizer(
            cardinality_threshold=_CATEGORIES,
            # no dropped level: the penalty then treats all categories alike, and an unknown one is none of them
            low_cardinality=OneHotEncoder(dtype=np.float32, handle_unknown="ignore", sparse_output=False),
            high_cardinality=StringEncoder(random_state=self.seed),
            datetime=DatetimeEncoder(add_weekday=True, add_total_seconds=False, periodic_encoding="circular"),
        )

    def numbers(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Numbers, truth values and dates as float64, NaN where missing."""
        columns = []
        for name in self.names("number", "boolean", "date"):
            column = features[name]
            column = column.dt.epoch("us") if column.dtype == pl.Datetime else column
            columns.append(column.cast(pl.Float64).to_numpy())
        raw = np.column_stack(columns)
        if self.dates_ is None:
            return raw
        dates = self.dates_.transform(features.select(self.names("date")))
        return np.hstack([raw, dates.cast(pl.Float64).fill_null(np.nan).to_numpy()])  # a gap is no year 0

    def refuse_large(self, raw: NDArray[np.float64], *, first: int = 0) -> None:
        """Refuse `numbers` (n, D) of training rows, the first of which has this number, that cannot be squared."""
        if (cell := large_cell(raw, first=first)) is not None:
            raise LargeCellError(cell).named(self.names("number", "boolean", "date"))

    def _learn_standard(self, encoded: pl.DataFrame) -> pl.DataFrame:
        """Mean and deviation (2, D) of what skrub made numbers of words: a year is some 2000 deviations from 0."""
        self.standard_ = np.zeros((2, encoded.width))
        self.standard_[1] = 1.0
        kinds = self.words_.kind_to_columns_ if self.words_ is not None else {}
        outputs = self.words_.input_to_outputs_ if self.words_ is not None else {}
        for name in (*kinds.get("datetime", ()), *kinds.get("numeric", ())):
            for output in outputs[name]:
                values = encoded[output].cast(pl.Float64).drop_nulls().drop_nans()
                middle, spread = values.mean(), values.std(ddof=0)
                self.standard_[:, encoded.get_column_index(output)] = (middle or 0.0, spread or 1.0)
        return encoded

    def _standardised(self, encoded: pl.DataFrame) -> NDArray[np.float32]:
        """Turn what skrub returns into an array, gaps at the mean."""
        raw: NDArray[np.float32] = encoded.cast(pl.Float32).fill_null(np.nan).to_numpy()
        if self.standard_ is not None:
            raw = ((raw - self.standard_[0]) / self.standard_[1]).astype(np.float32)
        return np.nan_to_num(raw, copy=False, nan=0.0)

    def texts(self, features: pl.DataFrame) -> list[str]:
        """Join the running text of each row; several columns one under the other."""
        columns = [features[name].fill_null("").to_list() for name in self.schema.text]
        return columns[0] if len(columns) == 1 else ["\n".join(row) for row in zip(*columns, strict=True)]


def _words(features: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Categories with a word for missing ones: that a value is missing is a value too."""
    return features.select(names).with_columns(pl.all().fill_null(""))


def _beside(parts: list[Matrix], n_rows: int) -> Matrix:
    """Parts of the features beside one another; sparse as soon as one part is."""
    parts = [part for part in parts if part.shape[1]]
    if not parts:
        return np.zeros((n_rows, 1))
    if any(issparse(part) for part in parts):
        return beside(parts) if len(parts) > 1 else parts[0]
    dense: list[Any] = list(parts)
    return np.ascontiguousarray(np.hstack(dense))
