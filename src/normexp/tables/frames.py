"""Sources whose rows are named columns: one way to settle their schema and to check it, whatever the file format."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from normexp.base.errors import InputError, NormexpWarning
from normexp.tables.choosing import check_columns, check_names, choose, demand_column
from normexp.tables.conform import WORDS, conform, kind_of_dtype, kind_of_values, labels
from normexp.tables.source import BATCH_ROWS, INFERRED_ROWS, Block, Column, Kind, Layout, Schema, Source


class FrameSource(Source):
    """A table with named columns, in a file of some format.

    Parameters
    ----------
    path : Path
        The file.
    target : str or None
        Name of the column with the classes.
    text : tuple of str
        Names of the columns that are running text.
    features : tuple of str or None
        Names and patterns that choose the columns to read.
    """

    layout: Layout = "table"
    typed: bool  # whether the format itself says what each column holds

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        super().__init__(path, target=target, text=text, features=features)
        self._names = self.column_names()
        check_names(path, self._names)
        if target is not None:
            demand_column(path, self._names, target, role="target column")
        for name in text:
            demand_column(path, self._names, name, role="text column")

    @abstractmethod
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""

    @abstractmethod
    def frames(self, columns: tuple[str, ...], *, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Rows of some columns as they stand in the file."""

    def column_types(self) -> Mapping[str, pl.DataType]:
        """Types of the columns where the format tells them.

        Returns
        -------
        mapping of str to polars.DataType
            Empty for formats without types.
        """
        return {}

    def infer(self) -> Schema:
        """Settle the columns and their kinds, from the file's own types or from its first rows.

        Returns
        -------
        Schema
            What every block will look like.

        Raises
        ------
        InputError
            If there is no row, or no column to learn from.
        """
        chosen = choose(self.path, self._names, target=self.target, text=self.text, features=self.features)
        types = self.column_types()
        kinds: dict[str, Kind]
        if self.typed:
            kinds = {name: kind_of_dtype(self.path, name, types[name]) for name in chosen}
            for name in self.text:
                if kinds[name] != "text":
                    raise InputError(
                        f"{self.path}: the text column {name!r} holds {types[name]}, and text is expected. "
                        "Name a column of text."
                    )
        else:
            first = next(self.frames(chosen, batch_rows=INFERRED_ROWS), None)
            if first is None:
                raise self._no_rows()
            kinds = {name: kind_of_values(first[name]) for name in chosen}
            for name in self.text:
                if kinds[name] in {"number", "date"}:
                    warnings.warn(
                        f"{self.path}: the text column {name!r} holds {kinds[name]}s; each will be read as words. "
                        f"Leave out --text {name} to have them as {kinds[name]}s.",
                        NormexpWarning,
                        stacklevel=2,
                    )
                kinds[name] = "text"
        return Schema("table", columns=tuple(Column(name, kinds[name]) for name in chosen), text=self.text)

    def batches(self, schema: Schema, *, with_target: bool, batch_rows: int = BATCH_ROWS) -> Iterator[Block]:
        """Read the rows from the start; see `Source.batches`.

        Parameters
        ----------
        schema : Schema
            What the blocks must look like.
        with_target : bool
            Whether the classes are read too.
        batch_rows : int
            Largest number of rows of a block.

        Yields
        ------
        Block
            The rows.

        Raises
        ------
        InputError
            If a row does not follow the schema, or there is none.
        """
        if with_target and self.target is None:
            raise InputError(
                f"{self.path}: the classes are needed, and no target column was named. "
                "Say which column holds them with --target (in Python target=)."
            )
        wanted = dict.fromkeys((*schema.names, self.target)) if with_target else dict.fromkeys(schema.names)
        start = 0
        for frame in self.frames(tuple(name for name in wanted if name is not None), batch_rows=batch_rows):
            features = conform(self.path, frame, schema, start)
            target = labels(self.path, frame[self.target], start) if with_target and self.target is not None else None
            yield Block(features, target, start)
            start += frame.height
        if start == 0:
            raise self._no_rows()

    def check(
        self,
        schema: Schema,
        *,
        known: tuple[str, ...] = (),
        features: tuple[str, ...] | None = None,
        ignore_extra: bool = False,
    ) -> None:
        """Refuse a table whose columns are not those of a model; see `Source.check`.

        Parameters
        ----------
        schema : Schema
            What the model was fitted on.
        known : tuple of str
            Columns that the model knows but does not read.
        features : tuple of str or None
            The patterns that chose its columns.
        ignore_extra : bool
            Whether columns that the model does not know are passed over.

        Raises
        ------
        InputError
            If a column is missing, extra or of another type, or there is no row.
        """
        self.refuse_layout(schema)
        own = () if self.target is None else (self.target,)
        check_columns(
            self.path, self._names, schema, known=(*known, *own), features=features, ignore_extra=ignore_extra
        )
        types = self.column_types()
        for column in schema.columns if self.typed else ():
            kind = kind_of_dtype(self.path, column.name, types[column.name])
            # empty, or words that may well say dates, as in a CSV file: each of them is looked at
            may_fit = types[column.name] == pl.Null or (kind, column.kind) == ("text", "date")
            if kind != column.kind and (kind, column.kind) != ("boolean", "number") and not may_fit:
                raise InputError(
                    f"{self.path}: the column {column.name!r} holds {types[column.name]}, and the model was fitted on "
                    f"{WORDS[column.kind]} there. Give a table whose columns have the types of the fit."
                )
        next(self.batches(schema, with_target=False))

    def _no_rows(self) -> InputError:
        """Say that the table has no rows."""
        return InputError(
            f"{self.path}: the file has a header ({len(self._names)} columns) and no rows. "
            "At least one row is needed; give a file that has rows."
        )
