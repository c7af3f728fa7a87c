"""How often each class came where a model was trained, from a small table with a line for each class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.choosing import enumerate_names
from normexp.tables.small_tables import parse_number, read_lines

_NAMED: Final = 6  # classes in a sentence


def read_class_shares(path: Path, classes: Sequence[str], /) -> NDArray[np.float64]:
    r"""Read the shares of classes: a CSV (or TSV) file with the class first and its share, or count of rows, after it.

    Parameters
    ----------
    path : Path
        The file. A header is passed over: a first line whose second cell is no number.
    classes : sequence of str, length K
        Names of the classes.

    Returns
    -------
    ndarray of float64, shape (K,)
        The shares in the order of the classes; they sum to 1.

    Raises
    ------
    InputError
        If a line is no class with a number above 0, or a class comes twice or not at all; the sentence names the line,
        counted from 1.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "shares.csv"
    >>> _ = path.write_text("class,rows\nspam,100\nham,300\n")
    >>> read_class_shares(path, ["ham", "spam"])
    array([0.75, 0.25])
    """
    found: dict[str, float] = {}
    for place, (line, row) in enumerate(read_lines(path, "classes and their shares")):
        share = parse_number(row[1]) if len(row) == 2 else math.nan
        if place == 0 and len(row) == 2 and math.isnan(share):
            continue  # the header
        if len(row) != 2 or not 0 < share < math.inf:
            raise InputError(
                f"{path}: line {line} holds {','.join(row)!r}; a class and its share, or its count of rows, a number "
                "above 0, would be right."
            )
        if row[0] not in classes:
            raise InputError(
                f"{path}: line {line} is for {row[0]!r}, and the classes are "
                f"{enumerate_names(classes, limit=_NAMED)}. Correct the name."
            )
        if row[0] in found:
            raise InputError(f"{path}: line {line} is for {row[0]!r} again; each class has one line.")
        found[row[0]] = share
    missing = [name for name in classes if name not in found]
    if missing:
        raise InputError(
            f"{path}: no line is for {enumerate_names(missing, limit=_NAMED)}. Each class needs its share, or its "
            "count of rows; add it."
        )
    shares = np.array([found[name] for name in classes])
    return np.asarray(shares / shares.sum())
