"""Small tables that a person wrote, read with the numbers of their lines, for sentences that name them."""

import csv
import io
import math
import re
from pathlib import Path

from normexp.base.errors import InputError
from normexp.tables.separators import separator_of


def read_lines(path: Path, content: str, /) -> list[tuple[int, list[str]]]:
    r"""Read the lines of a small CSV or TSV file that hold anything.

    Parameters
    ----------
    path : Path
        The file, in UTF-8, with or without a byte order mark.
    content : str
        What the file is to hold, for a sentence: "costs".

    Returns
    -------
    list of (int, list of str)
        For each line that holds anything its number, counted from 1, and its cells without the blanks around them.
        Beside semicolons ``0,5`` is ``0.5``.

    Raises
    ------
    InputError
        If the file is no UTF-8 text or no CSV.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "costs.csv"
    >>> _ = path.write_text("true,ham\n\nham, 0\n")
    >>> read_lines(path, "costs")
    [(1, ['true', 'ham']), (3, ['ham', '0'])]
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is no UTF-8 text; a CSV file of {content} would be right. Save it as CSV "
            "(UTF-8)."
        ) from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = separator_of(first, usual="\t" if path.suffix.lower() == ".tsv" else ",")
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        return [(reader.line_num, _cells(row, separator)) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num} is no CSV ({error}); mend it, or save the table anew."
        ) from None


def _cells(row: list[str], separator: str) -> list[str]:
    """The cells without the blanks around them, and with decimal points."""
    bare = [cell.strip() for cell in row]
    return [re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", cell) for cell in bare] if separator == ";" else bare


def parse_number(cell: str, /) -> float:
    """Parse the number that a cell holds; NaN where it holds none.

    Parameters
    ----------
    cell : str
        The cell.

    Returns
    -------
    float
        The number.

    Examples
    --------
    >>> parse_number("0.5"), parse_number("rows")
    (0.5, nan)
    """
    try:
        return float(cell)
    except ValueError:
        return math.nan
