"""CSV and TSV, plain or gzip, read in blocks whose memory does not depend on the number of rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyarrow import csv

from normexp.base.errors import InputError
from normexp.tables.frames import FrameSource
from normexp.tables.streams import TextBytes, check_file

# The parser reads up to 32 blocks ahead, so the first size bounds the memory; the others are for longer rows.
_BLOCK_BYTES: Final = (1 << 20, 1 << 24, 1 << 28)
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class _LongRowError(Exception):
    """A row is longer than a block of the parser."""


class DelimitedSource(FrameSource):
    """A CSV or TSV file with a header.

    Every column is read as text, and cast to its kind afterwards: the parser cannot stumble over a value far down the
    file, labels stay as they stand, and a value of another kind is named with its row.
    """

    typed = False

    def __init__(self, path: Path, **chosen: Any) -> None:
        check_file(path)
        name = path.name.lower().removesuffix(".gz")
        self._delimiter = "\t" if name.endswith((".tsv", ".tab")) else ","
        super().__init__(path, **chosen)

    def column_names(self) -> tuple[str, ...]:
        """Names in the header.

        Returns
        -------
        tuple of str
            The names, in order.

        Raises
        ------
        InputError
            If the header is empty or written with other delimiters.
        """
        with TextBytes(self.path) as file:
            names = tuple(self._open(file, None, [], _BLOCK_BYTES[1]).schema.names)
        others = [d for d in _DELIMITERS if d != self._delimiter and len(names) == 1 and d in names[0]]
        if others:
            found, wanted = _DELIMITERS[others[0]], _DELIMITERS[self._delimiter]
            name = {"tabs": ", or call it .tsv", "commas": ", or call it .csv"}.get(found, "")
            raise InputError(
                f"{self.path}: the header is a single column, {names[0][:80]!r}, that holds {found}. "
                f"{wanted.capitalize()} must stand between the columns of this kind of file; write it with "
                f"{wanted}{name}."
            )
        return names

    def frames(self, columns: tuple[str, ...], *, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Rows as text.

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
            If a row has more or fewer values than the header.
        """
        done = 0
        for block_bytes in _BLOCK_BYTES:
            try:
                for frame in self._frames_after(done, columns, batch_rows, block_bytes):
                    yield frame
                    done += frame.height
            except _LongRowError:
                if block_bytes == _BLOCK_BYTES[-1]:
                    raise InputError(
                        f"{self.path}: the row after row {done} is longer than {block_bytes} bytes. Most often a quotation "
                        "mark is opened and never closed; close it, or double it where it is part of the text."
                    ) from None
            else:
                return

    def _frames_after(
        self, skipped: int, columns: tuple[str, ...], batch_rows: int, block_bytes: int
    ) -> Iterator[pl.DataFrame]:
        """Rows as text, after some that were read already."""
        ragged: list[Any] = []
        last, before = "", 0
        with TextBytes(self.path) as file:
            try:
                for batch in self._open(file, columns, ragged, block_bytes):
                    first = max(0, skipped - before)
                    before += batch.num_rows
                    for start in range(first, batch.num_rows, batch_rows):
                        frame = pl.DataFrame(pl.from_arrow(batch.slice(start, batch_rows)))
                        yield frame
                        last = frame[-1, -1] or ""
            except pa.ArrowInvalid as error:
                if "straddl" in str(error):
                    raise _LongRowError from None
                raise InputError(self._sentence(error, ragged)) from None
            if file.quotes % 2 == 1 and "\n" in last:
                raise InputError(
                    f'{self.path}: a quotation mark (") is opened and never closed, so the last row swallows the rest '
                    "of the file. Close it, or double it where it is part of the text."
                )

    def _open(self, file: TextBytes, columns: tuple[str, ...] | None, ragged: list[Any], block_bytes: int) -> Any:
        """Open the reader of some columns; rows of another length are put into `ragged`."""

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        try:
            return csv.open_csv(
                file,
                read_options=csv.ReadOptions(use_threads=False, block_size=block_bytes),
                parse_options=csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(columns or (), pa.large_string()),
                    include_columns=list(columns or ()),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "straddl" in str(error):
                raise _LongRowError from None
            raise InputError(self._sentence(error, ragged)) from None

    def _sentence(self, error: Exception, ragged: list[Any]) -> str:
        """Say what the parser stumbled over."""
        if ragged:
            row = ragged[0]
            where = "" if row.number is None else f"row {row.number - 2} (rows count from 0 after the header)"
            return (
                f"{self.path}: {where or 'a row'} has {row.actual_columns} values and the header has "
                f"{row.expected_columns}: {row.text[:80]!r}. Each row needs as many values as the header; put "
                "quotation marks around values "
                f"that hold {_DELIMITERS[self._delimiter]}, or correct the row."
            )
        if "Empty CSV" in str(error):
            return f"{self.path}: the file is empty. A header and rows are expected; give a file that has them."
        return f"{self.path}: the file cannot be read as a table ({error}). Correct it, or write it again."
