"""What a solver sees of stored rows: labelled blocks of one chunk after another, and one sum over them."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends.threads import get_num_threads
from normexp.rows.blocks import Block, Parts, RowBlocks, ordered_sum
from normexp.rows.labels import digest
from normexp.rows.memory import ColumnMap, DenseBlock, SparseBlock, rows_of_a_block
from normexp.rows.stored import StoredRows, read_ahead

F64 = NDArray[np.float64]


class LabelledRows(RowBlocks):
    """Abstract: rows whose blocks carry class indices and weights, so that a pass needs nothing but the block.

    ``sum`` may run its function in another process; it must be picklable there.
    """

    total_weight: float
    class_weight: F64
    column_map: ColumnMap
    is_local: bool

    @property
    @abstractmethod
    def digest(self) -> str:
        """What tells these labels and weights from others."""

    @abstractmethod
    def seen_through(self, centre: F64, scale: F64) -> "LabelledRows":
        """Return the same rows with their columns centred and scaled."""

    @abstractmethod
    def for_curvature(self) -> "LabelledRows":
        """Return the same rows in the precision that Hessian products need: that of the table, not more."""


@dataclass(frozen=True)
class Cut:
    """How a chunk of rows becomes blocks: the number of a block's rows, and the map of the columns."""

    rows: int
    column_map: ColumnMap

    def blocks(self, X: Any, target: NDArray[np.intp], weight: F64, first: int) -> Iterator[Block]:
        """Yield the blocks of a chunk whose first row is the table's row number ``first``."""
        is_sparse: bool = sparse.issparse(X)
        size = X.shape[0] if is_sparse else self.rows
        for start in range(0, X.shape[0], max(1, size)):
            stop = min(start + size, X.shape[0])
            here = slice(first + start, first + stop)
            block: Block
            if is_sparse:
                matrix: Any = X
                block = SparseBlock(
                    here, matrix, matrix.T.tocsr(), self.column_map.centre, self.column_map.scale, pool=None, parts=1
                )
            else:
                block = DenseBlock(X[start:stop], here, self.column_map)
            block.target, block.weight = target[start:stop], weight[start:stop]
            yield block


class _Threads:
    """One reader and the workers of a fit: threads that stay hand freed memory on to the next pass."""

    def __init__(self) -> None:
        count = get_num_threads()
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="normexp-reader")
        self.pool = ThreadPoolExecutor(count) if count > 1 else None


class StreamedRows(LabelledRows):
    """Stored rows with their class indices and weights; blocks are those that the same rows in memory have.

    Parameters
    ----------
    table : StoredRows
    target : ndarray (N,) intp
    weight : ndarray (N,) float64
    n_classes : int
    column_map : ColumnMap
    report : callable, optional
        Called with the number of rows read so far in this pass.
    threads : optional
        Those of another view of the same rows.
    """

    is_local = True

    def __init__(
        self,
        table: StoredRows,
        target: NDArray[np.intp],
        weight: F64,
        *,
        n_classes: int,
        column_map: ColumnMap | None = None,
        report: Callable[[int], None] | None = None,
        threads: "_Threads | None" = None,
    ) -> None:
        self.n_rows, self.n_features, self.dtype = table.n_rows, table.n_features, table.dtype
        self.is_sparse = table.is_sparse
        self.column_map = ColumnMap() if column_map is None else column_map
        self._table, self._target, self._weight, self._report = table, target, weight, report
        self._classes = n_classes
        self.total_weight = float(weight.sum())
        self.class_weight = np.bincount(target, weights=weight, minlength=n_classes).astype(np.float64, copy=False)
        self._cut = Cut(rows_of_a_block(table.n_features, 1 if n_classes == 2 else n_classes), self.column_map)
        self._threads = _Threads() if threads is None else threads

    @cached_property
    def digest(self) -> str:
        """What tells these labels and weights from others."""
        return digest(self._target, self._weight)

    def blocks(self) -> Iterator[Block]:
        whole_blocks = max(1, self._table.chunk_rows // self._cut.rows) * self._cut.rows
        first = 0
        for X in read_ahead(self._table.chunks(whole_blocks), self._threads.reader):
            here = slice(first, first + X.shape[0])
            yield from self._cut.blocks(X, self._target[here], self._weight[here], first)
            first = here.stop
            if self._report is not None:
                self._report(first)

    def seen_through(self, centre: F64, scale: F64) -> "StreamedRows":
        if self.is_sparse and not centre.any() and np.all(scale == 1.0):
            return self
        return self._again(ColumnMap(centre, scale, self.column_map.precision))

    def for_curvature(self) -> "StreamedRows":
        if self.dtype != np.float32 or self.is_sparse:
            return self
        return self._again(ColumnMap(self.column_map.centre, self.column_map.scale, np.dtype(np.float32)))

    def sum(self, fn: Callable[[Block], Parts]) -> Parts:
        return ordered_sum(fn, self.blocks(), self._threads.pool)

    def _again(self, column_map: ColumnMap) -> "StreamedRows":
        return StreamedRows(
            self._table,
            self._target,
            self._weight,
            n_classes=self._classes,
            column_map=column_map,
            report=self._report,
            threads=self._threads,
        )
