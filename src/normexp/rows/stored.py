"""Tables that stay where they are stored: read in chunks, from the first row to the last, one chunk ahead."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from normexp.rows.labels import Labels, encode, load_or_take

_T = TypeVar("_T")

# Numbers of a chunk: 8 MB of float32. Three chunks are held at most: at work, read, and being read.
_CHUNK_NUMBERS = 1 << 21


class StoredRows(ABC):
    """A table of N rows and D features on disk, with the classes of its rows if it knows them.

    Made by ``from_npy``, ``from_parquet`` and ``from_csr_shards``. ``SoftmaxClassifier.fit`` takes it in the place
    of X, and so do ``predict``, ``predict_proba`` and ``predict_top_k``.

    Attributes
    ----------
    n_rows, n_features : int
    dtype : dtype
        float32 or float64, what chunks hold.
    is_sparse : bool
        Whether chunks are CSR matrices.
    names : tuple of str or None
        Names of the features, where the files tell them.
    """

    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    is_sparse = False
    names: tuple[str, ...] | None = None

    def __init__(self, where: str | Path, target: ArrayLike | str | Path | None) -> None:
        self.where = str(where)
        self._target = target

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features, (N, D)."""
        return self.n_rows, self.n_features

    @property
    def chunk_rows(self) -> int:
        """How many rows are read together."""
        return max(1, _CHUNK_NUMBERS // max(1, self.n_features))

    @abstractmethod
    def chunks(self, rows: int) -> Iterator[Any]:
        """Yield arrays (rows, D) in the order of the rows, the last one shorter; of CSR shards each as it is."""

    @cached_property
    def labels(self) -> Labels | None:
        """The classes and each row's index, read once; None where no target was named."""
        if self._target is None:
            return None
        return encode(load_or_take(self._target, of=self.where), self.n_rows, of=self.where)

    def batches(self, rows: int | None = None) -> Iterator[Any]:
        """Yield the rows in chunks, the next one read in the background.

        Parameters
        ----------
        rows : int, optional
            Rows of a chunk; by default as many as make about 2 million numbers.

        Yields
        ------
        ndarray or csr_matrix (n, D)
        """
        return read_ahead(self.chunks(self.chunk_rows if rows is None else rows))

    def map(self, function: Callable[[Any], _T]) -> Iterator[_T]:
        """Apply a function to each chunk of rows, such as the ``predict_proba`` of a model, in bounded memory.

        Parameters
        ----------
        function : callable
            Takes an array or CSR matrix (n, D).

        Yields
        ------
        object
            What the function returned, in the order of the rows.
        """
        takes_rows = getattr(function, "takes_rows", False)  # a model's method, which compares the columns' names
        for chunk in self.batches():
            whole: Any = ArrayRows(chunk, names=self.names) if takes_rows else chunk
            yield function(whole)

    def labelled(self, labels: Labels, /) -> "StoredRows":
        """The same rows, which now know these classes.

        Parameters
        ----------
        labels : Labels
            The classes and each row's index; see `normexp.rows.encode`.

        Returns
        -------
        StoredRows
            Another view of the same files.
        """
        again = copy.copy(self)
        again.__dict__["labels"] = labels  # where the property keeps what it has read
        return again

    def subset(self, index: NDArray[np.intp], /) -> "StoredRows":
        """Some of the rows, still where they are stored: each pass reads all and hands on these.

        Parameters
        ----------
        index : ndarray (M,) of int
            Numbers of the rows, ascending, none twice.

        Returns
        -------
        StoredRows
            With the classes that these rows have.
        """
        return _SubsetRows(self, index)

    def take(self, index: NDArray[np.intp], /) -> Any:
        """Some of the rows in memory, gathered in one pass that ends with the last of them.

        Parameters
        ----------
        index : ndarray (M,) of int
            Numbers of the rows, in any order.

        Returns
        -------
        ndarray or csr_matrix (M, D)
            In the order of ``index``.
        """
        order = np.argsort(index, kind="stable")
        wanted = np.asarray(index)[order]
        parts: list[Any] = []
        first = taken = 0
        for chunk in self.batches():
            stop = int(np.searchsorted(wanted, first + chunk.shape[0]))
            parts.append(chunk[wanted[taken:stop] - first])
            first, taken = first + chunk.shape[0], stop
            if taken == len(wanted):
                break
        found: Any = sparse.vstack(parts, format="csr") if self.is_sparse else np.concatenate(parts)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found[back]

    def __repr__(self) -> str:
        kind = "sparse " if self.is_sparse else ""
        return f"<{self.n_rows} rows of {self.n_features} {kind}{self.dtype} features in {self.where}>"


@final
class ArrayRows(StoredRows):
    """An array or CSR matrix in memory, read like a stored one; it has been checked before."""

    def __init__(self, X: Any, names: tuple[str, ...] | None = None) -> None:
        super().__init__("X", None)
        self.names = names
        self.n_rows, self.n_features = X.shape
        self.dtype, self.is_sparse, self._X = X.dtype, sparse.issparse(X), X

    def chunks(self, rows: int) -> Iterator[Any]:
        for first in range(0, self.n_rows, self.n_rows if self.is_sparse else rows):
            yield self._X if self.is_sparse else self._X[first : first + rows]


@final
class _SubsetRows(StoredRows):
    """Some rows of stored ones."""

    def __init__(self, rows: StoredRows, index: NDArray[np.intp]) -> None:
        super().__init__(rows.where, None)
        self._rows, self._kept = rows, np.zeros(rows.n_rows, bool)
        self._kept[index] = True
        self.n_rows, self.n_features = int(self._kept.sum()), rows.n_features
        self.dtype, self.is_sparse, self.names = rows.dtype, rows.is_sparse, rows.names

    @cached_property
    def labels(self) -> Labels | None:
        whole = self._rows.labels
        if whole is None:
            return None
        index = whole.index[self._kept]
        there = np.bincount(index, minlength=len(whole.classes)) > 0
        return Labels(whole.classes[there], index if there.all() else (np.cumsum(there) - 1)[index])

    def chunks(self, rows: int) -> Iterator[Any]:
        group = Regrouped(rows, self.n_features, self.dtype)
        first = 0
        for chunk in self._rows.chunks(rows):
            here = self._kept[first : first + chunk.shape[0]]
            first += chunk.shape[0]
            if self.is_sparse:
                yield chunk[here]
            else:
                yield from group.push(chunk[here])
        yield from group.rest()


def read_ahead(chunks: Iterator[_T], reader: ThreadPoolExecutor | None = None) -> Iterator[_T]:
    """Yield the chunks; while one is at work, a thread reads the next: the reader's, or one for this time."""
    if reader is None:
        with ThreadPoolExecutor(1, thread_name_prefix="normexp-reader") as own:
            yield from read_ahead(chunks, own)
        return
    waiting = reader.submit(next, chunks, None)
    try:
        while (chunk := waiting.result()) is not None:
            waiting = reader.submit(next, chunks, None)
            yield chunk
    finally:  # also where nobody wants the rest: files are closed when their reader has come back
        wait([waiting])
        chunks.close()  # type: ignore[attr-defined]  # a generator


class Regrouped:
    """Cuts arrays of any lengths into arrays of one length, in a buffer that is made once for each."""

    def __init__(self, rows: int, n_features: int, dtype: np.dtype[Any]) -> None:
        self._rows, self._shape, self._dtype = rows, n_features, dtype
        self._held = np.empty((0, n_features), dtype)
        self._filled = 0

    def push(self, values: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Take rows in; yield what has become full."""
        taken = 0
        while taken < len(values):
            if self._filled == 0:
                self._held = np.empty((self._rows, self._shape), self._dtype)
            count = min(self._rows - self._filled, len(values) - taken)
            self._held[self._filled : self._filled + count] = values[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == self._rows:
                yield self._held
                self._filled = 0

    def rest(self) -> Iterator[NDArray[Any]]:
        """Yield the last, shorter array, if any row is left."""
        if self._filled:
            yield self._held[: self._filled]
            self._filled = 0
