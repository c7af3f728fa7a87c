"""Parquet, and lines of JSON: tables whose rows are read in batches."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from normexp.base.errors import InputError
from normexp.tables.frames import FrameSource
from normexp.tables.streams import check_file, lines


class ParquetSource(FrameSource):
    """A Parquet file."""

    typed = True

    def __init__(self, path: Path, **chosen: Any) -> None:
        check_file(path)
        try:
            with pq.ParquetFile(path) as file:
                self._types = {
                    f.name: pl.DataFrame(pl.from_arrow(pa.table({"c": pa.array([], f.type)})))["c"].dtype
                    for f in file.schema_arrow
                }
                self._rows = file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{path}: the file cannot be read as Parquet ({str(error).splitlines()[0]}). "
                "Give a whole Parquet file, or the suffix of what it is."
            ) from None
        super().__init__(path, **chosen)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self._rows)

    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._types)

    def column_types(self) -> Mapping[str, pl.DataType]:
        """Types of the columns."""
        return self._types

    def frames(self, columns: tuple[str, ...], *, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Rows of some columns.

        Parameters
        ----------
        columns : tuple of str
            Which columns.
        batch_rows : int
            Largest number of rows at once.

        Yields
        ------
        polars.DataFrame
            Some rows.

        Raises
        ------
        InputError
            If the file is broken further down.
        """
        try:
            with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(batch_size=batch_rows, columns=list(columns), use_threads=False):
                    yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{self.path}: the Parquet file is broken ({str(error).splitlines()[0]}). Copy or write it again."
            ) from None


class JsonLinesSource(FrameSource):
    """Lines of JSON objects (NDJSON), plain or gzip.

    Values are taken as they would stand in a CSV file, so that one rule settles the kinds of both.
    """

    typed = False

    def __init__(self, path: Path, **chosen: Any) -> None:
        check_file(path)
        super().__init__(path, **chosen)

    def column_names(self) -> tuple[str, ...]:
        """Names of the columns: the keys of the first thousand rows.

        Returns
        -------
        tuple of str
            The names, in order of their first appearance.

        Raises
        ------
        InputError
            If the first lines are not JSON objects.
        """
        names: dict[str, None] = {}
        for row, record in self._records():
            names.update(dict.fromkeys(record))
            if row == 999:
                break
        if not names:
            raise InputError(
                f"{self.path}: the file has no rows. One JSON object a line is expected; give a file that has rows."
            )
        return tuple(names)

    def frames(self, columns: tuple[str, ...], *, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Rows as text.

        Parameters
        ----------
        columns : tuple of str
            Which columns; a row without one has it missing.
        batch_rows : int
            Largest number of rows at once.

        Yields
        ------
        polars.DataFrame
            Some rows.

        Raises
        ------
        InputError
            If a line is not a JSON object, or a value is a list or an object.
        """
        values: list[list[str | None]] = [[] for _ in columns]
        for row, record in self._records():
            for column, name in zip(values, columns, strict=True):
                column.append(self._as_text(record.get(name), name, row))
            if values and len(values[0]) == batch_rows:
                yield _strings(columns, values)
                values = [[] for _ in columns]
        if values and values[0]:
            yield _strings(columns, values)

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the objects with their row numbers; blank lines are passed over."""
        row = 0
        for line in lines(self.path):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise InputError(
                    f"{self.path}: row {row} (rows count from 0) is not a JSON object: {line[:80]!r}. "
                    'Each line must be one object such as {"text": "…", "label": "…"}; correct the line.'
                )
            yield row, record
            row += 1

    def _as_text(self, value: Any, name: str, row: int) -> str | None:
        """Write a JSON value as it would stand in a CSV file."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return repr(value)
        what = "a list" if isinstance(value, list) else "a nested object"
        raise InputError(
            f"{self.path}: the column {name!r} holds {what} in row {row} (rows count from 0), and a number, text, "
            "true/false or null is expected. Spread it over several columns."
        )


def _strings(columns: tuple[str, ...], values: list[list[str | None]]) -> pl.DataFrame:
    """Columns of text as a frame."""
    named = zip(columns, values, strict=True)
    return pl.DataFrame([pl.Series(name, column, dtype=pl.String) for name, column in named])
