"""Files of numbers that a network left: logits, probabilities or features as a matrix, and the labels beside them.

Nothing is encoded and nothing is filled in: what stands in the file comes out, as one matrix of numbers.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.array_files import open_arrays
from normexp.tables.choosing import enumerate_names, nearest
from normexp.tables.conform import labels
from normexp.tables.frames import FrameSource
from normexp.tables.opening import open_source
from normexp.tables.separators import separator_of
from normexp.tables.streams import check_file, lines

_WITH_COMMA: Final = r"\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*"
TABLES: Final = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".ndjson", ".jsonl")
KNOWN: Final = (".npz", ".npy", ".csv", ".tsv", ".parquet", ".ndjson")
LIKELY: Final = ("logits", "log_prob", "log_probs", "probs", "prob", "probabilities", "proba", "scores", "predictions")
BATCH_ROWS: Final = 65_536


class Matrix(NamedTuple):
    """A matrix from a file.

    Parameters
    ----------
    values : ndarray, shape (N, C)
        The numbers, in the dtype of the file; text of a table becomes float64, what is missing NaN.
    columns : tuple of str
        Names of the columns of a table; empty for arrays.
    name : str
        Name of the array that was taken; empty where there is only one.
    """

    values: NDArray[Any]
    columns: tuple[str, ...]
    name: str


def read_matrix(path: Path, /, *, take: Sequence[str] = (), leave: Sequence[str] = ()) -> Matrix:
    r"""Read the numbers of a file.

    Parameters
    ----------
    path : Path
        ``.npz``, ``.npy``, CSV, TSV (both also ``.gz``), Parquet or NDJSON. A CSV or TSV whose first line is numbers
        has no header.
    take : sequence of str
        Name of the array in an archive, or names and patterns (``logit_*``) of columns.
    leave : sequence of str
        Names of arrays or columns that are something else, such as the labels.

    Returns
    -------
    Matrix
        One row for each row of the file.

    Raises
    ------
    InputError
        For a file of another kind, a broken one, text among the numbers, or where it is not clear what to take.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
    >>> _ = path.write_text("cat,dog,y\n1.5,0.5,cat\n0.0,2.0,dog\n")
    >>> read_matrix(path, leave=["y"])
    Matrix(values=array([[1.5, 0.5], [0. , 2. ]]), columns=('cat', 'dog'), name='')
    """
    suffix = _suffix(path)
    if suffix in (".npz", ".npy"):
        return _from_arrays(path, take, leave)
    if suffix in TABLES:
        return _from_table(path, take, leave)
    check_file(path)
    raise InputError(
        f"{path}: the suffix {path.suffix!r} is not one of {', '.join(KNOWN)}, which can hold a matrix of numbers. "
        "Convert the file, for example with numpy.save."
    )


def read_entries(path: Path, name: str | None = None, /) -> NDArray[Any]:
    """Read one entry for each row: labels as whole numbers or text.

    Parameters
    ----------
    path : Path
        A file as in `read_matrix`, or ``.txt`` with one label a line.
    name : str or None
        The array or column; None where the file holds one only, or calls it y, label, labels, target or class.

    Returns
    -------
    ndarray of int64 or str, shape (N,)
        The labels.

    Raises
    ------
    InputError
        For a file of another kind or a broken one, a name that is not there, or a missing label.
    """
    suffix = _suffix(path)
    if suffix == ".txt":
        check_file(path)
        return labels(path, pl.Series("labels", list(lines(path))), 0)
    if suffix in (".npz", ".npy"):
        arrays = open_arrays(path)
        held = getattr(arrays, "names", None)
        wanted = path.name if held is None else _entry_name(path, held, name)
        found = arrays.load(wanted)
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim != 1 or found.dtype.kind not in "fiubUS":
            raise InputError(
                f"{path}: {wanted!r} has shape {found.shape} and dtype {found.dtype}; one whole number or text for "
                "each row, shape (N,), is expected of labels. Name another array."
            )
        text = np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found
        return labels(path, pl.Series(wanted, text.tolist() if text.dtype.kind == "U" else np.asarray(text)), 0)
    if suffix in TABLES:
        if _is_headless(path):
            separator = _separator(path)
            written = [line.split(separator) for line in lines(path) if line.strip()]
            if len(written[0]) > 1:
                raise InputError(
                    f"{path}: the file has {len(written[0])} columns and no header, and it is not clear which of them "
                    "the labels are. Give a file with the labels alone."
                )
            return labels(path, pl.Series("labels", [entries[0] for entries in written]), 0)
        source = _table(path)
        column = _entry_name(path, source.column_names(), name)
        frames = [frame[column] for frame in source.frames((column,), batch_rows=BATCH_ROWS)]
        if not frames:
            raise InputError(f"{path}: the file has a header and no rows. Give a file with one label for each row.")
        return labels(path, pl.concat(frames), 0)
    check_file(path)
    raise InputError(
        f"{path}: the suffix {path.suffix!r} is not one of {', '.join((*KNOWN, '.txt'))}. Convert the file."
    )


def names_in(path: Path, /) -> tuple[str, ...]:
    """Names of the arrays or columns of a file; empty where it has none.

    Parameters
    ----------
    path : Path
        A file as in `read_matrix`.

    Returns
    -------
    tuple of str
        The names.
    """
    suffix = _suffix(path)
    if suffix == ".npz":
        return tuple(getattr(open_arrays(path), "names", ()))
    return tuple(_table(path).column_names()) if suffix in TABLES and not _is_headless(path) else ()


def _suffix(path: Path) -> str:
    """Suffix that says the format: that before .gz where there is one."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes[-1] if suffixes else "")


def _from_arrays(path: Path, take: Sequence[str], leave: Sequence[str]) -> Matrix:
    """A matrix from NumPy's files."""
    arrays = open_arrays(path)
    held: list[str] | None = getattr(arrays, "names", None)
    if held is None:
        name, shown = path.name, ""
    elif take:
        name = shown = take[0]
        if name not in held:
            hint = nearest(name, held).replace("column", "array")
            raise InputError(f"{path}: the archive has no array {name!r}. {hint}; correct the name.")
    else:
        name = shown = _likeliest(path, {key: arrays.load(key) for key in held if key not in leave})
    values = arrays.load(name)
    if values.dtype.kind not in "fiub":
        raise InputError(f"{path}: {name!r} holds {values.dtype}, and numbers are expected. Give an array of numbers.")
    if values.ndim != 2 or values.size == 0:
        raise InputError(
            f"{path}: {name!r} has shape {values.shape}; one row for each example and one column for each number, "
            "shape (N, K), with at least one of each, is expected. Reshape it."
        )
    return Matrix(np.asarray(values), (), shown)


def _likeliest(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    """The array that holds the scores: by its name, or because it is the only matrix of numbers."""
    matrices = [key for key, value in arrays.items() if value.ndim == 2 and value.dtype.kind in "fiub"]
    usual = [key for key in matrices if key.lower() in LIKELY]
    found = usual if len(usual) == 1 else matrices
    if len(found) == 1:
        return found[0]
    if not found:
        shapes = ", ".join(f"{key!r} {value.shape}" for key, value in arrays.items())
        single = [key for key, value in arrays.items() if value.ndim == 1 and value.dtype.kind == "f"]
        one = single[0] if single else "z"
        raise InputError(
            f"{path}: the archive holds {shapes or 'nothing else'}, and no matrix of numbers (N, K). One column for "
            "each class is needed; of a network with a single logit write the columns 0 and that logit, with "
            f"numpy.column_stack([0 * {one}, {one}])."
        )
    raise InputError(
        f"{path}: the archive holds several matrices, {enumerate_names(found)}; say which one with --take, such as "
        f"--take {found[0]}."
    )


def _from_table(path: Path, take: Sequence[str], leave: Sequence[str]) -> Matrix:
    """A matrix from the columns of a table."""
    if _is_headless(path):
        return _without_header(path)
    source = _table(path)
    names = source.column_names()
    for pattern in take:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"{path}: no column fits {pattern!r}. {nearest(pattern.rstrip('*'), names)}; correct it.")
    chosen = tuple(
        name
        for name in names
        if name not in leave and name and (not take or any(fnmatchcase(name, pattern) for pattern in take))
    )
    if not chosen:
        raise InputError(f"{path}: no column of numbers is left beside {enumerate_names(list(leave))}; add some.")
    blocks: list[NDArray[np.float64]] = []
    start = 0
    for frame in source.frames(chosen, batch_rows=BATCH_ROWS):
        blocks.append(np.column_stack([_numbers(path, frame[name], start) for name in chosen]))
        start += frame.height
    if not blocks:
        raise InputError(
            f"{path}: the file has a header ({len(names)} columns) and no rows. Give a file that has rows."
        )
    return Matrix(np.concatenate(blocks), chosen, "")


def _numbers(path: Path, column: pl.Series, start: int) -> NDArray[np.float64]:
    """A column as float64, what is missing as NaN."""
    found = column.str.strip_chars().cast(pl.Float64, strict=False) if column.dtype == pl.String else column
    if not (found.dtype.is_numeric() or found.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"{path}: the column {column.name!r} holds {column.dtype}, and numbers are expected.")
    if column.dtype == pl.String:
        missing = column.str.strip_chars().str.to_lowercase().is_in(["", "nan", "na", "null", "none"])
        wrong = found.is_null() & column.is_not_null() & ~missing
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise InputError(
                f"{path}: the column {column.name!r} holds {column[row]!r} in row {start + row} (rows count from 0), "
                "and a number is expected. If it holds the labels, name it with --labels; else choose the columns of "
                "numbers with --take."
            )
    return np.asarray(found.cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


def _table(path: Path) -> FrameSource:
    """The table of a file."""
    source = open_source(path)
    if not isinstance(source, FrameSource):
        raise InputError(f"{path}: this is no table with named columns. Give CSV, TSV, Parquet or NDJSON.")
    return source


def _entry_name(path: Path, names: Sequence[str], name: str | None) -> str:
    """Which array or column holds the labels."""
    if name is not None:
        if name not in names:
            raise InputError(f"{path}: there is no {name!r} in the file. {nearest(name, names)}; correct the name.")
        return name
    if len(names) == 1:
        return names[0]
    usual = [other for other in names if other.lower() in ("y", "label", "labels", "target", "class", "y_true")]
    if len(usual) == 1:
        return usual[0]
    raise InputError(
        f"{path}: the file holds {enumerate_names(list(names))}, and it is not clear which of them the labels are. "
        "Give a file with the labels alone, or call them y."
    )


def _separator(path: Path) -> str:
    """What stands between the columns; semicolons between numbers with decimal commas, where there is no header."""
    first = next(lines(path), "")
    if re.fullmatch(rf"{_WITH_COMMA}(;{_WITH_COMMA})+", first):
        return ";"
    return separator_of(first, usual="\t" if _suffix(path) in (".tsv", ".tab") else ",")


def _numerals(path: Path) -> Iterator[str]:
    """The lines of a file of numbers, with decimal points; beside semicolons there may be commas."""
    has_commas = _separator(path) == ";"
    return (line.replace(",", ".") if has_commas else line for line in lines(path))


def _is_headless(path: Path) -> bool:
    """Whether the first line of a CSV or TSV is numbers that do not merely count the columns."""
    if _suffix(path) not in (".csv", ".tsv", ".tab"):
        return False
    check_file(path)
    first = next(_numerals(path), "").split(_separator(path))
    try:
        numbers = [float(entry) for entry in first]
    except ValueError:
        return False
    return len(first) == 1 or all(numbers != [float(start + i) for i in range(len(first))] for start in (0, 1))


def _without_header(path: Path) -> Matrix:
    """Numbers of a CSV or TSV without a header."""
    try:
        values = np.loadtxt(_numerals(path), delimiter=_separator(path), ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise InputError(
            f"{path}: the first line is numbers, so the file has no header, and then a row is not numbers of the same "
            f"count ({str(error).splitlines()[0]}). Correct the row."
        ) from None
    return Matrix(values, (), "")
