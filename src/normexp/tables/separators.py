"""What stands between the columns of a text file, and between the digits of its numbers: told by the file itself."""

import re
from typing import Final

import polars as pl

from normexp.tables.conform import is_missing

SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# 1.234,5 and 1234,5 and 12: what a number may be where a comma is the decimal sign
_NUMBER: Final = r"^[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$"
_THOUSANDS: Final = r"^[+-]?[1-9]\d{0,2}([.,]\d{3})+$"


def separator_of(header: str, /, *, usual: str) -> str:
    r"""What stands between the columns.

    Parameters
    ----------
    header : str
        The first line.
    usual : str
        What should stand there by the file's name.

    Returns
    -------
    str
        ``usual`` where it stands in the line outside quotation marks, or nothing else does; else the sign of
        `SEPARATORS` that is there most often.

    Examples
    --------
    >>> separator_of('"mass, g";kind', usual=","), separator_of("mass", usual=",")
    (';', ',')
    """
    bare = re.sub(r'"[^"]*"', "", header)
    if usual in bare or not any(sign in bare for sign in SEPARATORS):
        return usual
    return max(SEPARATORS, key=bare.count)


def has_decimal_commas(rows: pl.DataFrame, /, *, separator: str) -> bool:
    """Whether the numbers of a table are written with decimal commas, as spreadsheets of half of the world do.

    Parameters
    ----------
    rows : polars.DataFrame of String
        The first rows as they stand in the file.
    separator : str
        What stands between the columns. Beside commas there is no telling; beside semicolons any comma within the
        numbers of a column is decimal; else there must be one that cannot part thousands.

    Returns
    -------
    bool
        False also where another column has decimal points: of both it is the points.

    Examples
    --------
    >>> has_decimal_commas(pl.DataFrame({"x": ["1,5", "2"], "y": ["a", "b"]}), separator=";")
    True
    """
    if separator == ",":
        return False
    found = False
    for values in rows:
        given = values.filter(~is_missing(values)).str.strip_chars()
        if not len(given):
            continue
        if given.cast(pl.Float64, strict=False).null_count() == 0:
            if (given.str.contains(".", literal=True) & ~given.str.contains(_THOUSANDS)).any():
                return False
        elif given.str.contains(_NUMBER).all():
            sure = given.str.contains(",", literal=True)
            found |= bool((sure if separator == ";" else sure & ~given.str.contains(_THOUSANDS)).any())
    return found


def with_decimal_points(values: pl.Series, /) -> pl.Series:
    """Numbers that are written with decimal commas, and perhaps points between thousands, as others write them.

    Parameters
    ----------
    values : polars.Series of String
        The column as it stands in the file.

    Returns
    -------
    polars.Series of String
        The same, but for the numbers in it.

    Examples
    --------
    >>> with_decimal_points(pl.Series(["1.234,5", "12", "red, green"])).to_list()
    ['1234.5', '12', 'red, green']
    """
    bare = values.str.strip_chars()
    plain = bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return pl.select(pl.when(bare.str.contains(_NUMBER)).then(plain).otherwise(values)).to_series().rename(values.name)
