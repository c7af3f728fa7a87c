"""What a file of rows is to the rest of normexp: a schema that is settled once, and blocks of rows that follow it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.csr import Csr, under

Kind = Literal["number", "boolean", "date", "text"]
Layout = Literal["table", "dense", "sparse"]
Progress = Callable[[int, int | None], None]
Features = pl.DataFrame | NDArray[Any] | Csr

BATCH_ROWS: Final = 8192
INFERRED_ROWS: Final = 10_000  # rows that settle the type of a column; later rows must follow
EXAMPLE_CHARACTERS: Final = 200


@dataclass(frozen=True)
class Column:
    """One column that a model reads.

    Parameters
    ----------
    name : str
        Its name in the file.
    kind : {"number", "boolean", "date", "text"}
        What its values are.
    """

    name: str
    kind: Kind


@dataclass(frozen=True)
class Schema:
    """What each block of rows looks like, whichever file it comes from.

    Parameters
    ----------
    layout : {"table", "dense", "sparse"}
        A polars frame, an array, or a CSR matrix.
    columns : tuple of Column
        The columns of a table, in order; empty for the other layouts.
    text : tuple of str
        Names of the columns (among `columns`) that are read as running text.
    shape : tuple of int
        Shape of one row of an array, ``(D,)`` for a CSR matrix; empty for a table.
    first_index : int
        Number of the first feature in a libsvm file, 0 or 1.
    """

    layout: Layout
    columns: tuple[Column, ...] = ()
    text: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    first_index: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Block:
    """Some rows that follow one another in a file.

    Parameters
    ----------
    features : polars.DataFrame, ndarray of shape (N, D), or csr_matrix of shape (N, D)
        What the model reads.
    target : ndarray of str or int64, shape (N,), or None
        The classes as they stand in the file, where they were asked for.
    start : int
        Number of the first row, counted from 0 without the header.
    """

    features: Features
    target: NDArray[Any] | None
    start: int

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.features.shape[0])


class Source(ABC):
    """A file (or a folder of arrays) whose rows are features, perhaps with their classes.

    Parameters
    ----------
    path : Path
        The file.
    target : str or None
        Name of the column, or of the array, that holds the classes.
    text : tuple of str
        Names of the columns that are running text.
    features : tuple of str or None
        Names and patterns that choose the columns to read.
    """

    layout: Layout

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        self.path = path
        self.target = target
        self.text = text
        self.features = features

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold the rows."""
        return (self.path,)

    @property
    def n_rows(self) -> int | None:
        """Number of rows where the file tells it without being read, else None."""
        return None

    @abstractmethod
    def infer(self) -> Schema:
        """Settle which columns are read and what each of them holds, from the first rows of the file.

        Returns
        -------
        Schema
            What every block will look like.

        Raises
        ------
        InputError
            If the file is not what its name promises, or columns that were asked for are absent.
        """

    @abstractmethod
    def batches(self, schema: Schema, *, with_target: bool, batch_rows: int = BATCH_ROWS) -> Iterator[Block]:
        """Read the file from the start, some rows at a time.

        Parameters
        ----------
        schema : Schema
            What the blocks must look like: this file's own, or that of the model that reads it.
        with_target : bool
            Whether the classes are read too.
        batch_rows : int
            Largest number of rows of a block.

        Yields
        ------
        Block
            The rows, in the order of the file.

        Raises
        ------
        InputError
            If a row does not follow the schema.
        """

    @abstractmethod
    def check(
        self,
        schema: Schema,
        *,
        known: tuple[str, ...] = (),
        features: tuple[str, ...] | None = None,
        ignore_extra: bool = False,
    ) -> None:
        """Refuse a file that does not fit the schema of a model, before any work is done.

        Parameters
        ----------
        schema : Schema
            What the model was fitted on.
        known : tuple of str
            Columns that the model knows but does not read: its target.
        features : tuple of str or None
            The patterns that chose its columns; a column outside them is not extra.
        ignore_extra : bool
            Whether columns that the model does not know are passed over.

        Raises
        ------
        InputError
            If a column is missing, extra or of another type.
        """

    def with_target(self, target: str | None, /) -> Self:
        """Open the same file with another column as its classes.

        Parameters
        ----------
        target : str or None
            The column.

        Returns
        -------
        Source
            A source of the same kind.

        Raises
        ------
        InputError
            If the column is absent.
        """
        return type(self)(self.path, target=target, text=self.text, features=self.features)

    def read(self, schema: Schema, *, with_target: bool, progress: Progress | None = None) -> Block:
        """All rows at once.

        Parameters
        ----------
        schema : Schema
            What the rows must look like.
        with_target : bool
            Whether the classes are read too.
        progress : callable or None
            Called as ``progress(rows_read, total)``.

        Returns
        -------
        Block
            Every row of the file.

        Raises
        ------
        InputError
            If a row does not follow the schema, or there is no row.
        """
        blocks = []
        for block in self.batches(schema, with_target=with_target, batch_rows=1 << 16):
            blocks.append(block)
            if progress is not None:
                progress(block.start + block.n_rows, self.n_rows)
        if not blocks:
            raise InputError(
                f"{self.path}: the file has no rows. At least one row is needed; give a file that has rows."
            )
        return Block(
            features=_stack([block.features for block in blocks]),
            target=join_labels([block.target for block in blocks if block.target is not None]) if with_target else None,
            start=0,
        )

    def refuse_layout(self, schema: Schema) -> None:
        """Refuse a file whose rows are of another nature than those a model was fitted on.

        Parameters
        ----------
        schema : Schema
            What the model was fitted on.

        Raises
        ------
        InputError
            If the layouts differ.
        """
        if self.layout != schema.layout:
            words = {"table": "a table with named columns", "dense": "an array", "sparse": "a libsvm file"}
            raise InputError(
                f"{self.path}: this is {words[self.layout]}, and the model was fitted on {words[schema.layout]}. "
                f"Give {words[schema.layout]}."
            )


def join_labels(labels: list[NDArray[Any]], /) -> NDArray[Any]:
    """Classes of several blocks as one array, int64 when all of them are whole numbers and else text.

    Parameters
    ----------
    labels : list of ndarray
        The classes of each block, int64 or text.

    Returns
    -------
    ndarray of int64 or str, shape (N,)
        The classes.
    """
    if all(label.dtype.kind == "i" for label in labels):
        return np.concatenate(labels)
    return np.concatenate([label.astype(str) for label in labels])


def _stack(parts: list[Any]) -> Features | Any:
    """Blocks of rows under one another."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, pl.DataFrame):
        return pl.concat(parts)
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    return under(parts)
