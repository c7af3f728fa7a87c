"""Arrays in NumPy's files: an archive with features and classes, a pair of files, or a folder that holds the pair."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.array_files import open_arrays
from normexp.tables.conform import labels
from normexp.tables.source import BATCH_ROWS, Block, Layout, Progress, Schema, Source


class ArraySource(Source):
    """Features and classes as arrays: row i of one belongs to entry i of the other.

    Parameters
    ----------
    path : Path
        A ``.npz`` archive, a ``.npy`` file of features with ``y.npy`` beside it, or a folder with ``X.npy`` and
        ``y.npy``. The files ``.npy`` are mapped into memory, not read.
    target : str or None
        Name of the array with the classes, where it is not ``y``.
    text : tuple of str
        Must be empty: arrays hold no text.
    features : tuple of str or None
        Name of the array with the features, where it is not ``X``.
    """

    layout: Layout = "dense"

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        if text:
            raise InputError(
                f"{path}: arrays hold no text, and text={text[0]!r} was asked for. Give a table, or leave text out."
            )
        if features is not None and len(features) != 1:
            raise InputError(
                f"{path}: features names {len(features)} arrays, and one array holds all features. Name that one."
            )
        super().__init__(path, target=target, text=text, features=features)
        self._arrays = open_arrays(path)
        self._x_name, self._y_name = self._arrays.pair(target, None if features is None else features[0])
        x = self._arrays.load(self._x_name)
        if x.dtype.kind not in "fiub":
            raise InputError(
                f"{path}: the array {self._x_name!r} holds {x.dtype}, and features must be numbers. "
                "Give an array of numbers."
            )
        if x.ndim < 2 or x.size == 0:
            raise InputError(
                f"{path}: the array {self._x_name!r} has shape {x.shape}, and features need one row for each example, "
                "shape (N, D), with at least one row and one column. Reshape it."
            )
        self._x = x

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self._x.shape[0])

    def infer(self) -> Schema:
        """Tell the shape of one row.

        Returns
        -------
        Schema
            What every block will look like.
        """
        return Schema("dense", shape=tuple(int(size) for size in self._x.shape[1:]))

    def batches(self, schema: Schema, *, with_target: bool, batch_rows: int = BATCH_ROWS) -> Iterator[Block]:
        """Rows of the arrays; images are flattened; see `Source.batches`.

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
            The rows; float32 and float64 as they are, small integers as float32, others as float64.

        Raises
        ------
        InputError
            If a number is NaN or infinite, or a class is missing.
        """
        target = self._target() if with_target else None
        width = int(np.prod(schema.shape))
        for start in range(0, self.n_rows, batch_rows):
            rows = self._x[start : start + batch_rows]
            block = np.ascontiguousarray(rows.reshape(rows.shape[0], width), dtype=_computing_dtype(rows.dtype))
            self._refuse_infinite(block, start)
            yield Block(block, None if target is None else target[start : start + batch_rows], start)

    def read(self, schema: Schema, *, with_target: bool, progress: Progress | None = None) -> Block:
        """All rows at once, in one copy at most; see `Source.read`.

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
            Every row.

        Raises
        ------
        InputError
            If a number is NaN or infinite, or a class is missing.
        """
        target = self._target() if with_target else None
        whole = np.empty((self.n_rows, int(np.prod(schema.shape))), dtype=_computing_dtype(self._x.dtype))
        for block in self.batches(schema, with_target=False, batch_rows=BATCH_ROWS):
            whole[block.start : block.start + block.n_rows] = block.features
            if progress is not None:
                progress(block.start + block.n_rows, self.n_rows)
        return Block(whole, target, 0)

    def check(
        self,
        schema: Schema,
        *,
        known: tuple[str, ...] = (),  # noqa: ARG002  (arrays have no extra columns)
        features: tuple[str, ...] | None = None,  # noqa: ARG002
        ignore_extra: bool = False,  # noqa: ARG002
    ) -> None:
        """Refuse an array whose rows have another shape than those of a model; see `Source.check`.

        Parameters
        ----------
        schema : Schema
            What the model was fitted on.
        known, features, ignore_extra
            Without meaning here.

        Raises
        ------
        InputError
            If the shapes differ.
        """
        self.refuse_layout(schema)
        if int(np.prod(self._x.shape[1:])) != int(np.prod(schema.shape)):
            raise InputError(
                f"{self.path}: the rows of {self._x_name!r} have shape {tuple(self._x.shape[1:])}, and the model was "
                f"fitted on rows of shape {schema.shape}. Give an array of such rows."
            )

    def _target(self) -> NDArray[Any]:
        """Read the classes and check them."""
        if self._y_name is None:
            raise InputError(f"{self.path}: the classes are needed, and {self._arrays.without_target()}")
        y = self._arrays.load(self._y_name)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or y.shape[0] != self.n_rows:
            raise InputError(
                f"{self.path}: {self._y_name!r} has shape {y.shape} and {self._x_name!r} has {self.n_rows} rows. "
                f"One class for each row is needed, shape ({self.n_rows},)."
            )
        if y.dtype.kind not in "fiubUS":
            raise InputError(f"{self.path}: {self._y_name!r} holds {y.dtype}, and classes are whole numbers or text.")
        if y.dtype.kind == "S":
            y = np.char.decode(y, "utf-8")
        return labels(self.path, pl.Series(self._y_name, y.tolist() if y.dtype.kind == "U" else np.asarray(y)), 0)

    def _refuse_infinite(self, block: NDArray[Any], start: int) -> None:
        """Refuse NaN and infinite numbers, with their place."""
        # The sum of finite floats is finite unless it overflows: one pass in the good case.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(block.sum(dtype=np.float64)):
                return
        bad = ~np.isfinite(block)
        if bad.any():
            row, column = (int(at) for at in np.argwhere(bad)[0])
            word = "NaN" if np.isnan(block[row, column]) else "infinite"
            raise InputError(
                f"{self.path}: the feature in column {column} of {self._x_name!r} is {word} in row {start + row} (both "
                "count from 0). Each feature must be a finite number; correct it, or leave the row out."
            )


def _computing_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float32 where it holds every value of the dtype, float64 elsewhere."""
    if dtype in (np.dtype(np.float32), np.dtype(np.float16)) or (dtype.kind in "iub" and dtype.itemsize <= 2):
        return np.dtype(np.float32)
    return np.dtype(np.float64)
