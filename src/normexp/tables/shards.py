"""A folder of Parquet files that are one table: read one after the other, in the order of their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import final

import polars as pl

from normexp.base.errors import InputError
from normexp.tables.choosing import enumerate_names, nearest
from normexp.tables.columnar import ParquetSource
from normexp.tables.source import BATCH_ROWS, Block, Layout, Schema, Source

PATTERNS = ("*.parquet", "*.pq")


def parquet_files(folder: Path, /) -> list[Path]:
    """Parquet files of a folder in the order of their names; hidden ones are left out.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of Path
        The files; none where there are none.
    """
    found = [path for pattern in PATTERNS for path in folder.glob(pattern)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith((".", "_")))


@final
class ParquetFolder(Source):
    """Parquet files of one folder, as one table; rows are counted within each file, whose name each sentence says.

    Parameters
    ----------
    path : Path
        The folder.
    target : str or None
        Name of the column with the classes.
    text : tuple of str
        Names of the columns that are running text.
    features : tuple of str or None
        Names and patterns that choose the columns to read.
    """

    layout: Layout = "table"

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        super().__init__(path, target=target, text=text, features=features)
        self._shards = [
            ParquetSource(file, target=target, text=text, features=features) for file in parquet_files(path)
        ]
        if not self._shards:
            raise InputError(f"{path}: the folder holds no Parquet file. Give a folder with .parquet files, or a file.")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(shard.path for shard in self._shards)

    @property
    def n_rows(self) -> int:
        """Number of rows of all files."""
        return sum(shard.n_rows for shard in self._shards)

    def infer(self) -> Schema:
        """Settle the columns by the first file, and see that the others have them.

        Returns
        -------
        Schema
            What every block will look like.

        Raises
        ------
        InputError
            If a file lacks a column of the first, has one of another kind, or one more.
        """
        schema = self._shards[0].infer()
        for shard in self._shards[1:]:
            self._compare(shard, schema)
        return schema

    def batches(self, schema: Schema, *, with_target: bool, batch_rows: int = BATCH_ROWS) -> Iterator[Block]:
        """Rows of one file after the other; see `Source.batches`.

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
            The rows; a block holds rows of one file.

        Raises
        ------
        InputError
            If a row does not follow the schema, or there is none.
        """
        start = 0
        for shard in self._shards:
            if shard.n_rows == 0:
                continue
            for block in shard.batches(schema, with_target=with_target, batch_rows=batch_rows):
                yield Block(block.features, block.target, start + block.start)
            start += shard.n_rows
        if start == 0:
            raise InputError(
                f"{self.path}: the {len(self._shards)} Parquet files have no rows. At least one row is needed; give "
                "files that have rows."
            )

    def check(
        self,
        schema: Schema,
        *,
        known: tuple[str, ...] = (),
        features: tuple[str, ...] | None = None,
        ignore_extra: bool = False,
    ) -> None:
        """Refuse files whose columns are not those of a model; see `Source.check`.

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
            If a column is missing, extra or of another type.
        """
        for shard in self._shards:
            if shard.n_rows:
                shard.check(schema, known=known, features=features, ignore_extra=ignore_extra)

    def _compare(self, shard: ParquetSource, schema: Schema) -> None:
        """Refuse a file whose columns are others than those of the first."""
        first = self._shards[0].path.name
        names = shard.column_names()
        for column in schema.columns:
            if column.name not in names:
                raise InputError(
                    f"{shard.path}: the column {column.name!r}, which {first!r} of the same folder has, is missing. "
                    f"{nearest(column.name, names)}; all files of a folder need the same columns."
                )
        its = shard.infer()
        extra = [name for name in its.names if name not in schema.names]
        if extra:
            raise InputError(
                f"{shard.path}: {enumerate_names(extra, limit=3)} {'is a column' if len(extra) == 1 else 'are columns'}"
                f" that {first!r} of the same folder lacks. All files of a folder need the same columns; choose some "
                "with features, or write the files again."
            )
        kinds, types = {column.name: column.kind for column in its.columns}, shard.column_types()
        for column in schema.columns:
            fits = (kinds[column.name], column.kind) == ("boolean", "number") or types[column.name] == pl.Null
            if kinds[column.name] != column.kind and not fits:
                raise InputError(
                    f"{shard.path}: the column {column.name!r} holds {kinds[column.name]}s, and {column.kind}s in "
                    f"{first!r} of the same folder. All files of a folder need the same kinds; write the file again."
                )
