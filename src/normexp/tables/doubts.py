"""Columns that are hardly what the person who fits them thinks they are.

Names of rows, row numbers, stray words among numbers, numbers with decimal commas, running text that nobody named as
such, columns without a difference.
"""

from typing import Any, Final, cast

import polars as pl

from normexp.tables.conform import is_missing
from normexp.tables.source import Schema

_FEWEST_ROWS: Final = 50  # of fewer, a column may well hold another word in each, or 1, 2, 3, without naming it
_MOSTLY: Final = 0.9  # a column of words with such a share of numbers is meant to be one of numbers
_RUNNING: Final = 7.0  # words, in the middle one of the rows: questions have nine, addresses three to six
_DISTINCT: Final = 0.5  # share of the texts that no other row has: a long name of a category comes again
# 1.234,5 and 1,234.5 and 1'234.5, with a sign, a currency or a percent sign, unlike 1.2.2024 or 192.168.0.1
_OTHERWISE: Final = (
    r"^[+\-\x{2212}]?\s?[€$£]?\s?"
    r"((\d{1,3}([.'\x{2019}\s]\d{3})+|\d+)(,\d+)?|(\d{1,3}([,'\x{2019}\s]\d{3})+|\d+)(\.\d+)?)"
    r"\s?(%|€|\$|£|EUR|USD|CHF|GBP)?$"
)


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
        A sentence for each doubtful column, and one where no column takes two values; none among fewer than 50 rows,
        or in an array.

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
    found = [_of_all(features.select(schema.names))]
    for column in schema.columns:
        if column.kind == "text" and column.name not in schema.text:
            found.append(_of_words(column.name, features[column.name]))
        elif column.kind == "number":
            found.append(_of_numbers(column.name, features[column.name]))
    return [sentence for sentence in found if sentence]


def _of_all(features: pl.DataFrame) -> str:
    """No column tells one row from another."""
    if any(features[name].n_unique() > 1 for name in features.columns):
        return ""
    which = f"the column {features.columns[0]!r} holds" if features.width == 1 else "each column holds"
    return (
        f"{which} one and the same value, or none, in all {features.height} rows, so that the model knows how often "
        "each class comes and nothing else. Give columns that differ from row to row."
    )


def _of_words(name: str, values: pl.Series) -> str:
    """Single words of which no two rows hold the same; running text; or numbers, but for some or for how."""
    words = values.drop_nulls()
    given = words.filter(~is_missing(words)).str.strip_chars()
    is_number = given.cast(pl.Float64, strict=False).is_not_null()
    numbers = int(is_number.sum())
    meant = is_number | given.str.contains(_OTHERWISE)
    if numbers < _MOSTLY * len(given) <= int(meant.sum()):
        return (
            f"the column {name!r} holds numbers that are written in another way, such as "
            f"{given.filter(~is_number & meant)[0]!r}, and is read as words. Write digits and a decimal point, such as "
            "1234.5, and nothing else."
        )
    if _MOSTLY * len(given) <= numbers < len(given):
        return (
            f"the column {name!r} holds numbers but for {len(given) - numbers} of its {len(values)} values, such as "
            f"{given.filter(~is_number)[0]!r}, and is read as words for their sake. Write numbers there, or nothing."
        )
    if len(words) == len(values) == words.n_unique() and not words.str.contains(r"\s").any():
        return _named(name, "another word in each row, as names of rows do")
    n_words = cast("float", given.str.count_matches(r"\S+").median()) if len(given) else 0.0
    if n_words >= _RUNNING and given.n_unique() > _DISTINCT * len(given):
        return (
            f"the column {name!r} holds running text, {n_words:.0f} words in the middle one of its rows, and is read "
            f"as if it named a category. Fit it with --text {name}, and its words will tell the classes apart."
        )
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
