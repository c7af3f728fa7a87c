"""Columns that are hardly what the person who fits them thinks they are: names of rows, row numbers, stray words."""

from typing import Any, Final

import polars as pl

from normexp.tables.source import Schema

_FEWEST_ROWS: Final = 50  # of fewer, a column may well hold another word in each, or 1, 2, 3, without naming it
_MOSTLY: Final = 0.9  # a column of words with such a share of numbers is meant to be one of numbers


def doubts(features: Any, schema: Schema, /) -> list[str]:
    """What is doubtful in the columns of a table, and what to do about it.

    Parameters
    ----------
    features : polars.DataFrame, ndarray or csr_matrix
        The training rows, in the order of the file.
    schema : Schema
        What they hold.

    Returns
    -------
    list of str
        A sentence for each doubtful column; none among fewer than 50 rows, or in an array.

    Examples
    --------
    >>> from normexp.tables.source import Column
    >>> rows = pl.DataFrame({"id": [f"A{i}" for i in range(60)], "say": [f"it is {i}" for i in range(60)]})
    >>> for sentence in doubts(rows, Schema("table", columns=(Column("id", "text"), Column("say", "text")))):
    ...     print(sentence.split(",")[0])
    the column 'id' holds another word in each row
    """
    if not isinstance(features, pl.DataFrame) or features.height < _FEWEST_ROWS:
        return []
    found = []
    for column in schema.columns:
        if column.kind == "text" and column.name not in schema.text:
            found.append(_of_words(column.name, features[column.name]))
        elif column.kind == "number":
            found.append(_of_numbers(column.name, features[column.name]))
    return [sentence for sentence in found if sentence]


def _of_words(name: str, values: pl.Series) -> str:
    """Single words, not running text, of which no two rows hold the same; or numbers but for a few words."""
    words = values.drop_nulls()
    is_number = words.str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
    numbers = int(is_number.sum())
    if _MOSTLY * len(words) <= numbers < len(words):
        return (
            f"the column {name!r} holds numbers but for {len(words) - numbers} of its {len(words)} values, such as "
            f"{words.filter(~is_number)[0]!r}, and is read as words for their sake. Write numbers there, or nothing."
        )
    if len(words) == len(values) == words.n_unique() and not words.str.contains(r"\s").any():
        return _named(name, "another word in each row, as names of rows do")
    return ""


def _of_numbers(name: str, values: pl.Series) -> str:
    """Whole numbers that count the rows of the file."""
    if values.null_count() == 0 and float(values[0]).is_integer() and bool((values.diff().drop_nulls() == 1).all()):
        return _named(name, "the numbers of its rows")
    return ""


def _named(name: str, what: str) -> str:
    return (
        f"the column {name!r} holds {what}, and what such a column tells of them it cannot tell of new ones. Leave it "
        "out of the file, or choose the others with --features."
    )
