"""The door through which every file comes: its suffix says what it is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from normexp.base.errors import InputError
from normexp.tables.arrays import ArraySource
from normexp.tables.columnar import JsonLinesSource, ParquetSource
from normexp.tables.delimited import DelimitedSource
from normexp.tables.marked_lines import FastTextSource, LibsvmSource
from normexp.tables.shards import ParquetFolder, parquet_files
from normexp.tables.source import Source
from normexp.tables.streams import check_file

SUFFIXES: Final = {
    ".csv": "comma-separated table",
    ".tsv": "tab-separated table",
    ".tab": "tab-separated table",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".ndjson": "lines of JSON",
    ".jsonl": "lines of JSON",
    ".npz": "NumPy archive",
    ".npy": "NumPy array",
    ".svm": "libsvm",
    ".libsvm": "libsvm",
    ".svmlight": "libsvm",
    ".txt": "fastText lines",
    ".ft": "fastText lines",
}

SPREADSHEETS: Final = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


def open_source(
    path: str | os.PathLike[str],
    /,
    *,
    target: str | None = None,
    text: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
) -> Source:
    r"""Open a file of rows; its suffix says the format, and a second suffix ``.gz`` that it is compressed.

    Parameters
    ----------
    path : str or path-like
        A table (CSV, TSV, Parquet, NDJSON; a folder of Parquet files with the same columns), NumPy arrays (``.npz``
        with X and y, ``.npy`` with y.npy beside it, or a folder with X.npy and y.npy), a libsvm file, or fastText
        lines.
    target : str or None
        The column (or array) with the classes; None where only features are needed.
    text : str, sequence of str, or None
        Columns that are running text.
    features : str, sequence of str, or None
        Names and patterns such as ``emb_*`` (also several with commas between them) that choose the columns to read.

    Returns
    -------
    Source
        The rows; nothing but the header was read so far.

    Raises
    ------
    InputError
        If the file is missing, empty, a folder without arrays, of an unknown suffix, or lacks a column.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("mass,kind\n170,apple\n80,lemon\n")
    >>> source = open_source(path, target="kind")
    >>> source.infer().columns
    (Column(name='mass', kind='number'),)
    """
    place = Path(path)
    texts = _names(text)
    patterns = _names(features) or None
    suffixes = [suffix.lower() for suffix in place.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[-2] if len(suffixes) > 1 else "") if compressed else (suffixes[-1] if suffixes else "")
    if place.is_dir():
        folder = ParquetFolder if parquet_files(place) and not (place / "X.npy").is_file() else ArraySource
        return folder(place, target=target, text=texts, features=patterns)
    if suffix not in SUFFIXES or (compressed and suffix in (".parquet", ".pq", ".npz", ".npy")):
        check_file(place)
        if suffix in SPREADSHEETS:
            raise InputError(
                f"{place}: this is a spreadsheet, of which nobody knows which sheet and rows are meant. Save the sheet "
                "as CSV (UTF-8, with commas) and give that file."
            )
        raise InputError(
            f"{place}: the suffix {''.join(suffixes[-2:])!r} is not known. Known are {', '.join(SUFFIXES)} "
            "(text formats also with .gz); rename or convert the file."
        )
    kind = {
        ".csv": DelimitedSource,
        ".tsv": DelimitedSource,
        ".tab": DelimitedSource,
        ".parquet": ParquetSource,
        ".pq": ParquetSource,
        ".ndjson": JsonLinesSource,
        ".jsonl": JsonLinesSource,
        ".npz": ArraySource,
        ".npy": ArraySource,
        ".txt": FastTextSource,
        ".ft": FastTextSource,
    }.get(suffix, LibsvmSource)
    source: Source = kind(place, target=target, text=texts, features=patterns)
    return source


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several in a string with commas, or a sequence, as a tuple."""
    if given is None:
        return ()
    parts = [given] if isinstance(given, str) else list(given)
    return tuple(name.strip() for part in parts for name in part.split(",") if name.strip())
