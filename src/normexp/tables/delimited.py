"""CSV and TSV, plain or gzip, read in blocks whose memory does not depend on the number of rows."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyarrow import csv

from normexp.base.errors import InputError
from normexp.tables.frames import FrameSource
from normexp.tables.separators import SEPARATORS, has_decimal_commas, separator_of, with_decimal_points
from normexp.tables.streams import TextBytes, check_file

_CHUNK_BYTES: Final = 1 << 20
_SEPARATOR_LINE: Final = re.compile(rb'\A"?sep=[^\n]"?\r?\n')  # for spreadsheets; the header tells as much


class DelimitedSource(FrameSource):
    """A CSV or TSV file with a header.

    Every column is read as text, and cast to its kind afterwards: the parser cannot stumble over a value far down the
    file, labels stay as they stand, and a value of another kind is named with its row.

    What stands between the columns the header tells where it is not what the name promises. Decimal commas, which
    stand beside semicolons as a rule, become points on the way (`separators.has_decimal_commas`).
    """

    typed = False

    def __init__(self, path: Path, **chosen: Any) -> None:
        check_file(path)
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
            If the header is empty.
        """
        return tuple(self._parse(self._head, None, first_row=-1).schema.names)

    @cached_property
    def _head(self) -> bytes:
        """The first rows, with the header."""
        with TextBytes(self.path) as file:
            return next(_chunks(file), b"")

    @cached_property
    def _separator(self) -> str:
        """What stands between the columns."""
        usual = "\t" if self.path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) else ","
        return separator_of(self._head.split(b"\n", 1)[0].decode("utf-8"), usual=usual)

    @cached_property
    def _decimal_commas(self) -> bool:
        """Whether the numbers are written with them."""
        if self._separator == ",":
            return False
        rows = pl.DataFrame(pl.from_arrow(self._parse(self._head, self._names, first_row=-1)))
        return has_decimal_commas(rows, separator=self._separator)

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
        done, last = -1, ""  # row -1 is the header
        with TextBytes(self.path) as file:
            for chunk in _chunks(file):
                table = self._parse(chunk, columns, first_row=done)
                done += table.num_rows + (done < 0)
                for start in range(0, table.num_rows, batch_rows):
                    frame = pl.DataFrame(pl.from_arrow(table.slice(start, batch_rows)))
                    last = frame[-1, -1] or ""
                    if self._decimal_commas:
                        kept = (self.target, *self.text)
                        frame = pl.DataFrame([c if c.name in kept else with_decimal_points(c) for c in frame])
                    yield frame
            if file.quotes % 2 == 1 and "\n" in last:
                raise InputError(
                    f'{self.path}: a quotation mark (") is opened and never closed, so the last row swallows the rest '
                    "of the file. Close it, or double it where it is part of the text."
                )

    def _parse(self, chunk: bytes, columns: tuple[str, ...] | None, *, first_row: int) -> Any:
        """Read whole rows as text; the first of them is the header where `first_row` is -1."""
        ragged: list[Any] = []

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        header = first_row < 0
        try:
            return csv.read_csv(
                pa.BufferReader(chunk),
                read_options=csv.ReadOptions(
                    use_threads=False,
                    block_size=max(len(chunk) + 1, 1 << 16),
                    column_names=None if columns is None else self._names,
                    skip_rows_after_names=int(header and columns is not None),
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self._separator, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(columns or (), pa.large_string()),
                    include_columns=list(columns or ()),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(self._sentence(error, ragged, max(first_row, -1))) from None

    def _sentence(self, error: Exception, ragged: list[Any], first_row: int) -> str:
        """Say what the parser stumbled over."""
        if ragged:
            row = ragged[0]
            where = (
                "" if row.number is None else f"row {first_row + row.number - 1} (rows count from 0 after the header)"
            )
            return (
                f"{self.path}: {where or 'a row'} has {row.actual_columns} values and the header has "
                f"{row.expected_columns}: {row.text[:80]!r}. Each row needs as many values as the header; put "
                "quotation marks around values "
                f"that hold {SEPARATORS[self._separator]}, or correct the row."
            )
        if "Empty CSV" in str(error):
            return f"{self.path}: the file is empty. A header and rows are expected; give a file that has them."
        return f"{self.path}: the file cannot be read as a table ({error}). Correct it, or write it again."


def _chunks(file: TextBytes) -> Iterator[bytes]:
    """Cut a file into pieces of about a mebibyte that hold whole rows.

    The parser's own streaming reads many blocks ahead in other threads, and its memory grows with the file.
    """
    rest, is_first = b"", True
    while piece := file.read(max(_CHUNK_BYTES, len(rest))):  # doubled for a long row, so that the cost stays linear
        rest += _SEPARATOR_LINE.sub(b"", piece, count=1) if is_first else piece
        is_first = False
        end = _end_of_rows(rest)
        if rest[:end].strip():
            yield rest[:end]
            rest = rest[end:]
    if rest.strip():
        yield rest


def _end_of_rows(text: bytes) -> int:
    """Find where the last row ends that is whole: at a line break with an even number of quotation marks before it."""
    quotes, end = text.count(b'"'), len(text)
    while (at := text.rfind(b"\n", 0, end)) >= 0:
        quotes -= text.count(b'"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0
