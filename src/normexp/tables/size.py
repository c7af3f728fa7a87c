"""How much memory the rows of a file would take, told from its first rows."""

from itertools import islice
from math import prod
from typing import Any, Final, NamedTuple

import polars as pl

from normexp.tables.encoding import TableEncoder
from normexp.tables.source import Schema, Source
from normexp.tables.streams import lines

_LOOKED_AT: Final = 2048  # rows
# Memory of a fit over the bytes of its file that no file has reached: small files need no closer look.
_MOST_PER_BYTE: Final = 60
_MOST_PER_GZIP_BYTE: Final = 600
_GZIP: Final = 5  # text shrinks to a fifth or so
_ENCODED_COPIES: Final = 3  # encoding holds two copies of its result, the folds of a fit another one and their scores
_BYTES_A_ROW: Final = 100  # class, weight, fold, position, and what sorting them takes


class Size(NamedTuple):
    """What a table takes.

    Parameters
    ----------
    rows : int
        How many there are; counted by the file, or told from the length of its first lines.
    row_bytes : int
        Memory of one row while all are encoded and fitted.
    encoded_bytes : int
        Bytes of an encoded row.
    """

    rows: int
    row_bytes: int
    encoded_bytes: int

    @property
    def total(self) -> int:
        """Memory of all rows, in bytes."""
        return self.rows * self.row_bytes


def surely_fits(source: Source, schema: Schema, room: int, /) -> bool:
    """Whether a file is so small that its rows fit, without a look at them.

    Parameters
    ----------
    source : Source
        The file.
    schema : Schema
        What its rows hold.
    room : int
        Bytes that there are.

    Returns
    -------
    bool
        False only means that a closer look is needed.
    """
    on_disk = sum(
        path.stat().st_size * (_MOST_PER_GZIP_BYTE if path.suffix == ".gz" else _MOST_PER_BYTE)
        for path in source.paths
        if path.is_file()
    )
    width = len(schema.columns) or (1 if schema.layout == "sparse" else prod(schema.shape))
    # a column of one value takes no room in Parquet, and as much as any in memory
    packed = (source.n_rows or 0) * (_BYTES_A_ROW + 8 * _ENCODED_COPIES * width)
    return max(on_disk, packed) <= room


def size_of(source: Source, schema: Schema, /) -> Size:
    """Estimate what the rows of a file would take in memory.

    Parameters
    ----------
    source : Source
        The file.
    schema : Schema
        What its rows hold.

    Returns
    -------
    Size
        Right where the first rows are like the others.

    Raises
    ------
    InputError
        If a row does not follow the schema, or there is none.
    """
    block = next(source.batches(schema, with_target=False, batch_rows=_LOOKED_AT))
    features = block.features
    held = int(features.estimated_size()) if isinstance(features, pl.DataFrame) else _bytes(features)
    encoded = _bytes(TableEncoder(schema).fit_transform(features))
    rows = source.n_rows
    if rows is None:
        length = [len(line.encode()) + 1 for line in islice(lines(source.path), 1 + block.n_rows)]
        unfolded = source.path.stat().st_size * (_GZIP if source.path.suffix == ".gz" else 1)
        rows = max(block.n_rows, unfolded * len(length) // max(1, sum(length)))
    each = (held + _ENCODED_COPIES * encoded) // block.n_rows + _BYTES_A_ROW
    return Size(int(rows), each, encoded // block.n_rows + 1)


def _bytes(matrix: Any) -> int:
    """Bytes of an array or a sparse matrix."""
    if hasattr(matrix, "indptr"):
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)
    return int(matrix.nbytes)
