"""From what stands in a file to the columns of a schema: which type a column has, and values that do not follow it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.source import Column, Kind, Schema

# What programs write where a value is missing. Text keeps these words: "NA" is a country, "none" an answer.
MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "?")
TRUTH: Final = {"true": True, "false": False}
WORDS: Final[dict[Kind, str]] = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2024-05-31 or 2024-05-31 12:30:00",
    "text": "text",
}
DATE_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_NAN: Final = ("nan", "NaN", "NAN")


def kind_of_values(values: pl.Series, /) -> Kind:
    """Tell what the values of a column of strings are, when every one that is not missing agrees.

    Parameters
    ----------
    values : polars.Series of String
        The column as it stands in the file.

    Returns
    -------
    {"number", "boolean", "date", "text"}
        The narrowest kind that all of them have; "text" when all are missing.

    Examples
    --------
    >>> kind_of_values(pl.Series(["1", "NA", "2.5e3"])), kind_of_values(pl.Series(["1", "x"]))
    ('number', 'text')
    """
    given = values.filter(~is_missing(values))
    if given.len() == 0:
        return "text"
    for kind in ("number", "boolean", "date"):
        if _cast(given, kind).null_count() == 0:
            return kind
    return "text"


def kind_of_dtype(path: Path, name: str, dtype: pl.DataType, /) -> Kind:
    """Tell what a typed column holds.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The column.
    dtype : polars.DataType
        Its type.

    Returns
    -------
    {"number", "boolean", "date", "text"}
        The kind.

    Raises
    ------
    InputError
        If a column holds lists, structures or bytes.
    """
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    if isinstance(dtype, pl.Date | pl.Datetime):
        return "date"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        return "text"
    raise InputError(
        f"{path}: the column {name!r} holds {dtype}. Numbers, true/false, dates and text can be read; "
        "spread it over several columns, or choose other columns with features."
    )


def conform(path: Path, frame: pl.DataFrame, schema: Schema, start: int, /) -> pl.DataFrame:
    """Take the columns of a schema, each cast to its kind, all values checked.

    Parameters
    ----------
    path : Path
        The file, for sentences.
    frame : polars.DataFrame
        Rows as they stand in the file, strings or typed.
    schema : Schema
        What is wanted.
    start : int
        Number of the first row.

    Returns
    -------
    polars.DataFrame
        Numbers as Float64 (missing: null), booleans, dates as Datetime in microseconds, text as String.

    Raises
    ------
    InputError
        If a value is not of its column's kind, or a number is infinite; the sentence names column, row and value.
    """
    return pl.DataFrame([_conform_column(path, frame[column.name], column, start) for column in schema.columns])


def labels(path: Path, values: pl.Series, start: int, /) -> NDArray[Any]:
    """Classes as they stand in the file: whole numbers as int64, everything else as text.

    Text that is the usual spelling of whole numbers throughout becomes int64, which prints as it stood.

    Parameters
    ----------
    path : Path
        The file, for sentences.
    values : polars.Series
        The target column.
    start : int
        Number of the first row.

    Returns
    -------
    ndarray of int64 or str, shape (N,)
        The classes.

    Raises
    ------
    InputError
        If a class is missing; the sentence names the row.
    """
    if values.dtype.is_float():
        missing = values.is_null() | values.is_nan()
        whole = values.drop_nulls().drop_nans()
        integral = bool((whole == whole.round()).all()) and bool((whole.abs() < 2.0**53).all())
        values = values.cast(pl.Int64, strict=False) if integral else values.cast(pl.String)
    elif values.dtype.is_integer():
        missing = values.is_null()
    else:
        values = values.cast(pl.String)
        missing = values.is_null() | (values.str.strip_chars() == "")
        # "nan" is also a bread; it means "missing" only where the other classes are numbers.
        nan = values.is_in(_NAN)
        if nan.any():
            others = values.filter(~nan & ~missing.fill_null(value=True))
            if others.cast(pl.Float64, strict=False).null_count() == 0:
                missing = missing | nan
    if missing.any():
        row = start + int(missing.arg_max() or 0)
        raise InputError(
            f"{path}: the target column {values.name!r} is empty or NaN in row {row} (rows count from 0 after the "
            "header). Each row needs a class; fill it in or leave the row out."
        )
    if values.dtype.is_integer():
        return values.cast(pl.Int64).to_numpy()
    if bool(values.str.contains(r"^(0|-?[1-9]\d{0,17})$").all()):
        return values.cast(pl.Int64).to_numpy()
    return np.asarray(values.to_list(), dtype=str)


def is_missing(values: pl.Series, /) -> pl.Series:
    """Where a string stands for a missing value, unless the column is one of text.

    Parameters
    ----------
    values : polars.Series of String
        The column as it stands in the file.

    Returns
    -------
    polars.Series of Boolean
        True where nothing stands, or a word of `MISSING`.

    Examples
    --------
    >>> is_missing(pl.Series(["1", "NA", " ", None, "-"])).to_list()
    [False, True, True, True, False]
    """
    return values.is_null() | values.str.strip_chars().is_in(MISSING).fill_null(value=True)


def _conform_column(path: Path, values: pl.Series, column: Column, start: int) -> pl.Series:
    """One column, cast and checked."""
    if column.kind == "text":
        return values.cast(pl.String)
    if values.dtype == pl.String:
        cast = _cast(values, column.kind)
        wrong = cast.is_null() & ~is_missing(values)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise InputError(
                f"{path}: the column {column.name!r} holds {values[row]!r} in row {start + row} (rows count from 0 "
                f"after the header), and {WORDS[column.kind]} is expected there. Correct the value, leave it empty, "
                "or leave "
                "the column out with features."
            )
    elif column.kind == "number":
        cast = values.cast(pl.Float64)
    elif column.kind == "date":
        cast = _naive(values)
    else:
        cast = values.cast(pl.Boolean)
    if column.kind == "number":
        cast = cast.fill_nan(None)
        infinite = cast.is_infinite()
        if infinite.any():
            row = int(infinite.arg_max() or 0)
            raise InputError(
                f"{path}: the column {column.name!r} is infinite in row {start + row} (rows count from 0 after the "
                "header). Each number must be finite; correct it, or leave it empty to say that it is missing."
            )
    return cast.rename(column.name)


def _cast(values: pl.Series, kind: Kind) -> pl.Series:
    """Strings as numbers, booleans or dates; null where that is impossible."""
    stripped = values.str.strip_chars()
    if kind == "number":
        return stripped.cast(pl.Float64, strict=False)
    if kind == "boolean":
        return stripped.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
    dated = pl.select(pl.when(stripped.str.contains(DATE_PATTERN)).then(stripped)).to_series()
    day = dated.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    # A zone is dropped: the clock on the wall is what repeats by day and week.
    clock = dated.str.slice(11).str.replace(r"(Z|[+-]\d{2}:?\d{2})$", "")
    hour, minute, second = (
        pl.lit(clock.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0)) for at in (0, 3, 6)
    )
    return day + pl.select(pl.duration(hours=hour, minutes=minute, seconds=second)).to_series()


def _naive(values: pl.Series) -> pl.Series:
    """Dates without a zone, in microseconds."""
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        values = values.dt.replace_time_zone(None)
    return values.cast(pl.Datetime("us"))
