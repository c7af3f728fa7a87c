"""Rows of Parquet files: columns of numbers, or one column of lists of equal length (embeddings)."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError, MissingExtraError
from normexp.base.witness import Witness
from normexp.rows.csr_shards import shard_paths
from normexp.rows.labels import Labels, join
from normexp.rows.stored import Regrouped, StoredRows

# Bytes that reading the columns of one row group may take: each column is read through a buffer of its share.
_BUFFER_BYTES = 1 << 25


@final
class ParquetRows(StoredRows):
    """What ``from_parquet`` returns."""

    def __init__(self, paths: Sequence[Path], where: str, target: str | None, features: Sequence[str] | None) -> None:
        super().__init__(where, None)
        self._column = target
        self._files = [Witness(path, of="from_parquet") for path in paths]
        schema: Any = None
        self._lengths: list[int] = []
        for file in self._files:
            with _opened(file) as parquet:
                self._lengths.append(parquet.metadata.num_rows)
                its = parquet.schema_arrow
            if schema is None:
                schema, self._read_columns = its, _chosen(file, its, target, features)
                self._is_list = _is_list(schema.field(self._read_columns[0]).type)
            else:
                _refuse_other_columns(file, its, schema, self._read_columns)
                if target is not None:
                    _refuse_other_classes(file, its, self._files[0], schema, target)
        self.n_rows = sum(self._lengths)
        if self.n_rows == 0:
            raise InputError(f"from_parquet: {where!r} has no rows; give a file that has some.")
        types = [schema.field(name).type for name in self._read_columns]
        numbers = [kind.value_type if self._is_list else kind for kind in types]
        self.dtype = np.dtype(
            np.float32 if all(str(kind) in {"float", "halffloat"} for kind in numbers) else np.float64
        )
        if self._is_list:
            self.n_features = self._list_length(types[0])
        else:
            self.n_features, self.names = len(self._read_columns), tuple(self._read_columns)

    @cached_property
    def labels(self) -> Labels | None:
        return None if self._column is None else join(self._label_parts(self._column), self.n_rows)

    def chunks(self, rows: int) -> Iterator[NDArray[Any]]:
        group = Regrouped(rows, self.n_features, self.dtype)
        for number, file in enumerate(self._files):
            first = 0
            for batch in self._batches(number, self._read_columns, min(rows, 1 << 16)):
                yield from group.push(self._numbers(file, batch, first))
                first += batch.num_rows
        yield from group.rest()

    def _batches(self, number: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Record batches of one shard, which must be what it was."""
        import pyarrow as pa

        file, seen = self._files[number], 0
        file.check()
        buffer_bytes = max(4096, min(1 << 20, _BUFFER_BYTES // len(columns)))
        with _opened(file, buffer_bytes) as parquet:
            batches = parquet.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError) as error:
                    raise file.unreadable(error) from None
                if batch is None:
                    break
                seen += batch.num_rows
                yield batch
        if seen != self._lengths[number]:
            raise file.unreadable(EOFError(f"it has {seen} rows instead of {self._lengths[number]}"))

    def _numbers(self, file: Witness, batch: Any, first: int) -> NDArray[Any]:
        """The features of a record batch as an array (n, D)."""
        for name in self._read_columns:
            column = batch.column(name)
            inner = column.flatten() if self._is_list and not column.null_count else column
            if inner.null_count:
                place = int(np.argmax(inner.is_null().to_numpy(zero_copy_only=False)))
                row = first + (place // self.n_features if inner is not column else place)
                raise InputError(
                    f"from_parquet: {str(file.path)!r} has no value in column {name!r}, row {row}; "
                    "fill it, or leave such rows out."
                )
        if self._is_list:
            flat = batch.column(self._read_columns[0]).flatten()
            if len(flat) != batch.num_rows * self.n_features:
                raise InputError(
                    f"from_parquet: {str(file.path)!r} has lists of other lengths than {self.n_features} in column "
                    f"{self._read_columns[0]!r}, in rows {first} to {first + batch.num_rows - 1}; all need one length."
                )
            listed: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
            return listed.reshape(batch.num_rows, self.n_features)
        values = np.empty((self.n_features, batch.num_rows), self.dtype)
        for k, name in enumerate(self._read_columns):
            values[k] = batch.column(name).to_numpy(zero_copy_only=False)
        return values.T

    def _list_length(self, kind: Any) -> int:
        if hasattr(kind, "list_size"):
            return int(kind.list_size)
        for number, length in enumerate(self._lengths):
            if length:
                return len(next(self._batches(number, self._read_columns, 1)).column(0)[0])
        raise AssertionError("a table without rows was refused before")

    def _label_parts(self, column: str) -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        import pyarrow as pa

        for number, file in enumerate(self._files):
            first = 0
            for batch in self._batches(number, [column], 1 << 16):
                values = batch.column(column)
                if values.null_count:
                    row = first + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
                    raise InputError(
                        f"from_parquet: {str(file.path)!r} has no class in column {column!r}, row {row}; "
                        "give every row a class, or leave it out."
                    )
                if not isinstance(values, pa.DictionaryArray):
                    values = values.dictionary_encode()
                classes = np.array(values.dictionary.to_pylist())
                yield classes, values.indices.to_numpy(zero_copy_only=False).astype(np.intp)
                first += batch.num_rows


def from_parquet(
    paths: str | Path | Sequence[str | Path],
    /,
    *,
    target: str | None = None,
    features: str | Sequence[str] | None = None,
) -> StoredRows:
    """Rows of a Parquet file, or of a folder of Parquet files with the same columns, read with each pass.

    Parameters
    ----------
    paths : path or sequence of paths
        One file; a folder, whose .parquet files are taken in the order of their names; or the files in their order.
    target : str, optional
        The column with the classes.
    features : str or sequence of str, optional
        Columns to read, in this order; patterns such as ``"emb_*"`` stand for all that fit. One column may hold
        lists of numbers of one length, such as embeddings. By default every column but ``target``.

    Returns
    -------
    StoredRows
        For ``SoftmaxClassifier.fit``; float32 when all columns are float32 or float16, else float64.

    Raises
    ------
    InputError
        When a shard cannot be read, lacks a column, holds text or missing values, or changes while it is used; the
        sentence names the shard.
    MissingExtraError
        Without pyarrow: ``pip install 'normexp[cli]'``.

    Notes
    -----
    Row groups are read through buffers of 32 MB in all, so their size does not matter; reading is fastest from row
    groups of some tens of thousands of rows. The classes of all rows are held in memory, 8 bytes a row.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from normexp import SoftmaxClassifier, rows
    >>> from sklearn.datasets import load_wine
    >>> wine = load_wine(as_frame=True).frame
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     wine[:100].to_parquet(pathlib.Path(folder) / "part-0.parquet")
    ...     wine[100:].to_parquet(pathlib.Path(folder) / "part-1.parquet")
    ...     table = rows.from_parquet(folder, target="target")
    ...     round(SoftmaxClassifier().fit(table).solution_.objective, 3)
    11.078
    """
    found = shard_paths(paths, "*.parquet", of="from_parquet")
    where = str(paths) if isinstance(paths, (str, Path)) else f"{len(found)} shards"
    return ParquetRows(found, where, target, [features] if isinstance(features, str) else features)


def _opened(file: Witness, buffer_bytes: int = 0) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("from_parquet", "cli") from None
    try:
        return pq.ParquetFile(file.path, buffer_size=buffer_bytes, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise file.unreadable(error) from None


def _chosen(file: Witness, schema: Any, target: str | None, features: Sequence[str] | None) -> list[str]:
    """Names of the columns to read."""
    names = [name for name in schema.names if name != target]
    if target is not None and target not in schema.names:
        raise InputError(
            f"from_parquet: {str(file.path)!r} has no column {target!r} for target; it has "
            f"{', '.join(schema.names[:20])}."
        )
    chosen: list[str] = []
    for pattern in ["*"] if features is None else features:
        fitting = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(
                f"from_parquet: {str(file.path)!r} has no column {pattern!r} for features; it has "
                f"{', '.join(names[:20])}."
            )
        chosen += [name for name in fitting if name not in chosen]
    if not chosen:
        raise InputError(f"from_parquet: {str(file.path)!r} has no column beside {target!r}; features are needed too.")
    for name in chosen:
        kind = schema.field(name).type
        if not _is_number(kind.value_type if _is_list(kind) else kind):
            raise InputError(
                f"from_parquet: column {name!r} of {str(file.path)!r} holds {kind}, not numbers; encode it, or choose "
                "columns with features=."
            )
        if _is_list(kind) and len(chosen) > 1:
            raise InputError(
                f"from_parquet: column {name!r} of {str(file.path)!r} holds lists; it must be the only one: "
                f"features={name!r}."
            )
    return chosen


def _refuse_other_columns(file: Witness, schema: Any, first: Any, columns: Sequence[str]) -> None:
    for name in columns:
        kind = schema.field(name).type if name in schema.names else None
        if kind != first.field(name).type:
            came = "lacks it" if kind is None else f"has {kind}"
            raise InputError(
                f"from_parquet: the first shard has {first.field(name).type} in column {name!r} and {str(file.path)!r} "
                f"{came}; all shards need the same columns."
            )


def _refuse_other_classes(file: Witness, schema: Any, first: Witness, its: Any, target: str) -> None:
    """Refuse classes that are text in one shard and numbers in another: no class would be the same in both."""
    if target not in schema.names:
        raise InputError(
            f"from_parquet: {str(file.path)!r} lacks the column {target!r} for target, which {str(first.path)!r} has; "
            "all shards need it."
        )
    kinds = its.field(target).type, schema.field(target).type
    if _sort(kinds[0]) != _sort(kinds[1]):
        raise InputError(
            f"from_parquet: the classes in column {target!r} are {kinds[0]} in {str(first.path)!r} and {kinds[1]} in "
            f"{str(file.path)!r}, so that no class would be the same in both; write them with one type."
        )


def _sort(kind: Any) -> str:
    """What sort of classes an Arrow type holds: numbers of any width are one, text of any kind another."""
    import pyarrow.types as pt

    if pt.is_dictionary(kind):
        return _sort(kind.value_type)
    if pt.is_integer(kind) or pt.is_floating(kind):
        return "number"
    text = ("string", "large_string", "string_view")
    return "text" if str(kind) in text else str(kind)


def _is_list(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind))
