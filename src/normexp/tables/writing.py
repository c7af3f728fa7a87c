"""Predictions as a table, in a file that is written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from normexp.base.atomic import write_atomically
from normexp.base.errors import InputError
from normexp.tables.predictions import Predictions
from normexp.tables.source import Progress


def write_predictions(
    predictions: Iterator[Predictions], path: str | os.PathLike[str], /, *, progress: Progress | None = None
) -> int:
    """Write predictions as CSV or Parquet while they are made.

    Parameters
    ----------
    predictions : iterator of Predictions
        Blocks of predictions; only one is held at a time.
    path : str or path-like
        The file; its suffix, ``.csv`` or ``.parquet``, tells the format.
    progress : callable or None
        Called as ``progress(rows_done, None)`` after each block.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError
        If the suffix is another one, or the file cannot be written; nothing is left behind then.
    """
    place = Path(path)
    suffix = place.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputError(
            f"{place}: predictions are written as .csv or .parquet, and the suffix is {suffix!r}. "
            "Rename the output file."
        )
    done = 0
    with write_atomically(place) as file, contextlib.ExitStack() as stack:
        writer: Any = None
        for block in predictions:
            frame = block.to_frame()
            if suffix == ".csv":
                file.write(_as_csv(frame, header=done == 0))
            else:
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(file, table.schema))
                writer.write_table(table)
            done += frame.height
            if progress is not None:
                progress(done, None)
    return done


def _as_csv(frame: pl.DataFrame, *, header: bool) -> bytes:
    """Rows as CSV; floats in the shortest form that reads back to the same number."""
    return frame.write_csv(include_header=header).encode()
