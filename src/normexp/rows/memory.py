"""Rows that lie in memory (or in a memory map): dense arrays and CSR matrices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.backends import curvature
from normexp.backends.threads import get_num_threads
from normexp.rows.blocks import Block, Floats, Parts, RowBlocks, ordered_sum

# A block's rows and its scores should stay in the second-level cache (1-2 MB a core) with their product.
_BLOCK_NUMBERS = 1 << 19
# Tables up to this size are centred and scaled once, in a copy; larger ones block by block, without a copy.
_COPY_NUMBERS = 1 << 22
# From so many scores on Hessian products of sparse rows wait for memory: they take float32, half of it.
_NARROW_NUMBERS = 1 << 24


def row_blocks(X: Any, n_outputs: int, only: NDArray[np.intp] | None = None) -> RowBlocks:
    """Blocks over an array (N, D) or a SciPy CSR matrix, for scores of n_outputs columns; only: of these rows.

    Rows of an array are taken out block by block, without a copy of the table.
    """
    if sparse.issparse(X):
        as_rows: Any = X
        return SparseRows((as_rows if only is None else as_rows[only]).tocsr(), n_outputs)
    return DenseRows(X, n_outputs, only=only)


@dataclass(frozen=True)
class ColumnMap:
    """Centring and scaling of columns, and the precision that blocks compute in afterwards."""

    centre: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    precision: Any = np.float64

    def apply(self, values: Floats) -> Floats:
        """Return the rows centred and scaled, contiguous, in the working precision."""
        if self.centre is None or self.scale is None:
            return np.ascontiguousarray(values, dtype=self.precision)
        if self.precision == np.float32:  # a Hessian product forgives what rounding does to a large mean
            narrow: Floats = np.subtract(values, self.centre.astype(np.float32), order="C")
            narrow *= (1.0 / self.scale).astype(np.float32)
            return narrow
        # Centre in float64: a float32 column with a large mean would lose its digits. Then round once.
        mapped = np.subtract(values, self.centre, dtype=np.float64, order="C")
        mapped /= self.scale
        return mapped.astype(self.precision, copy=False)


class DenseBlock(Block):
    """A dense block whose rows are read, centred and scaled when a thread gets to it."""

    def __init__(
        self, stored: Floats, rows: slice, column_map: ColumnMap, only: NDArray[np.intp] | None = None
    ) -> None:
        self.rows = rows
        self._stored, self._map, self._only = stored, column_map, only

    @cached_property
    def _values(self) -> Floats:
        return self._map.apply(self.stored())

    def table(self) -> Floats:
        return self._values

    def stored(self) -> Floats:
        return self._stored if self._only is None else self._stored[self._only]

    def affine(self, coef: Floats, shift: Floats) -> Floats:
        scores = self._values @ coef.astype(self._values.dtype, copy=False)
        scores += shift
        return scores

    def adjoint(self, residual: Floats, precision: Any = np.float64) -> NDArray[Any]:  # noqa: ARG002  (many are added)
        product = self._values.T @ residual.astype(self._values.dtype, copy=False)
        return product.astype(np.float64, copy=False)

    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = np.flatnonzero(weight)
        values = self._values
        if 2 * len(kept) <= len(weight):  # most rows are not in the sample
            values, weight = values[kept], weight[kept]
        weighted = values * weight.astype(values.dtype)[:, None]
        return (values.T @ weighted).astype(np.float64, copy=False)

    def column_moments(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = self._values.astype(np.float64, copy=False)
        return weight @ values, weight @ np.square(values)


def rows_of_a_block(n_features: int, n_outputs: int) -> int:
    """Rows of a dense block, whose scores have n_outputs columns."""
    return max(256, _BLOCK_NUMBERS // max(1, n_features + n_outputs))


class DenseRows(RowBlocks):
    """A dense table (N, D), float32 or float64, that stays where it is.

    Parameters
    ----------
    X : ndarray (N, D)
        The table; it may be read-only or memory-mapped, and is not copied when large.
    n_outputs : int
        Number of score columns, which sets the number of rows in a block.
    centre, scale : ndarray (D,), optional
        The affine map of the columns.
    precision : dtype, optional
        What blocks compute in; float64 by default.
    pool : ThreadPoolExecutor, optional
        The threads of another view of the same table.
    only : ndarray (n,) intp, optional
        The rows of the table that there are.
    """

    is_sparse = False

    def __init__(
        self,
        X: Floats,
        n_outputs: int,
        *,
        centre: NDArray[np.float64] | None = None,
        scale: NDArray[np.float64] | None = None,
        precision: Any = np.float64,
        pool: ThreadPoolExecutor | None = None,
        only: NDArray[np.intp] | None = None,
    ) -> None:
        self.n_rows, self.n_features = X.shape[0] if only is None else len(only), X.shape[1]
        self.dtype = X.dtype
        self.precision = np.dtype(precision)
        self._table, self._outputs, self._only = X, n_outputs, only
        self._map = ColumnMap(centre, scale, self.precision)
        self._size = rows_of_a_block(self.n_features, n_outputs)
        self._starts = range(0, self.n_rows, self._size)
        threads = get_num_threads()
        self._pool = pool
        if pool is None and threads > 1 and len(self._starts) > 1:
            self._pool = ThreadPoolExecutor(threads)
        self._ready: list[Block] | None = None
        if centre is not None and self.n_rows * self.n_features <= _COPY_NUMBERS:
            mapped = self._map.apply(X if only is None else X[only])
            self._ready = list(self._cut(mapped, ColumnMap(precision=self.precision), None))

    def blocks(self) -> Iterator[Block]:
        return self._cut(self._table, self._map, self._only) if self._ready is None else iter(self._ready)

    def _cut(self, stored: Floats, column_map: ColumnMap, only: NDArray[np.intp] | None) -> Iterator[Block]:
        for start in self._starts:
            rows = slice(start, min(start + self._size, self.n_rows))
            if only is None:
                yield DenseBlock(stored[rows], rows, column_map)
            else:
                yield DenseBlock(stored, rows, column_map, only[rows])

    def seen_through(self, centre: NDArray[np.float64], scale: NDArray[np.float64]) -> "DenseRows":
        return self._again(ColumnMap(centre, scale, self.precision))

    def for_curvature(self) -> "DenseRows":
        if self.dtype != np.float32:
            return self
        return self._again(ColumnMap(self._map.centre, self._map.scale, np.float32))

    def _again(self, view: ColumnMap) -> "DenseRows":
        return DenseRows(
            self._table,
            self._outputs,
            centre=view.centre,
            scale=view.scale,
            precision=view.precision,
            pool=self._pool,
            only=self._only,
        )

    def sum(self, fn: Callable[[Block], Parts]) -> Parts:
        return ordered_sum(fn, self.blocks(), self._pool)


@dataclass
class SparseBlock(Block):
    """A CSR block; centring is implicit. Its products are split over the threads of ``pool`` into ``parts``."""

    rows: slice
    matrix: "sparse.csr_matrix"
    transposed: "sparse.csr_matrix"
    centre: NDArray[np.float64] | None
    scale: NDArray[np.float64] | None
    pool: ThreadPoolExecutor | None
    parts: int

    def stored(self) -> Any:
        return self.matrix

    def table(self) -> Floats:
        dense = np.asarray(self.matrix.todense())
        return dense if self.scale is None or self.centre is None else (dense - self.centre) / self.scale

    def affine(self, coef: Floats, shift: Floats) -> Floats:
        if self.scale is not None and self.centre is not None:
            coef = coef / self.scale[:, None].astype(coef.dtype)
            shift = shift - (self.centre @ coef).astype(coef.dtype)
        scores = curvature.csr_dot(self.matrix, np.ascontiguousarray(coef), self.pool, self.parts)
        scores += shift
        return scores

    def adjoint(self, residual: Floats, precision: Any = np.float64) -> NDArray[Any]:
        product = curvature.csr_dot(self.transposed, np.ascontiguousarray(residual), self.pool, self.parts)
        total: NDArray[Any] = product.astype(precision, copy=False)
        if self.scale is not None and self.centre is not None:
            total -= np.outer(self.centre, residual.sum(axis=0, dtype=np.float64))
            total /= self.scale[:, None]
        return total

    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled: Any = self.matrix.multiply(weight[:, None])
        weighted = scaled.tocsr()
        moments = np.asarray((self.transposed @ weighted).todense(), dtype=np.float64)
        if self.scale is not None and self.centre is not None:
            sums = np.asarray(weight @ self.matrix, dtype=np.float64).ravel()
            cross = np.outer(self.centre, sums)
            moments -= cross + cross.T - weight.sum() * np.outer(self.centre, self.centre)
            moments /= np.outer(self.scale, self.scale)
        return moments

    def column_moments(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sums = np.asarray(weight @ self.matrix, dtype=np.float64).ravel()
        squares = np.asarray(weight @ self.matrix.multiply(self.matrix).tocsr(), dtype=np.float64).ravel()
        if self.scale is not None and self.centre is not None:
            total = float(weight.sum())
            squares = (squares - 2 * self.centre * sums + total * self.centre**2) / self.scale**2
            sums = (sums - total * self.centre) / self.scale
        return sums, squares

    def column_squares(self, weights: Floats) -> Floats:
        squared: Any = self.transposed.multiply(self.transposed).tocsr()
        total = curvature.csr_dot(squared, weights, self.pool, self.parts)
        if self.scale is not None and self.centre is not None:
            crossed = curvature.csr_dot(self.transposed, weights, self.pool, self.parts)
            total -= 2 * self.centre[:, None] * crossed
            total += np.outer(np.square(self.centre), weights.sum(axis=0))
            total /= np.square(self.scale)[:, None]
        return total

    def features(self, index: NDArray[np.intp]) -> Any:
        return self.transposed[index] if self.scale is None else super().features(index)


class SparseRows(RowBlocks):
    """A CSR matrix (N, D) in memory; centring is implicit, so it stays sparse. One block, its products threaded.

    Parameters
    ----------
    X : csr_matrix (N, D)
    n_outputs : int
        Number of score columns.
    centre, scale : ndarray (D,), optional
        The affine map of the columns.
    transposed : csr_matrix (D, N), optional
        The columns, where they are at hand.
    """

    is_sparse = True

    def __init__(
        self,
        X: "sparse.csr_matrix",
        n_outputs: int,
        *,
        centre: NDArray[np.float64] | None = None,
        scale: NDArray[np.float64] | None = None,
        transposed: "sparse.csr_matrix | None" = None,
    ) -> None:
        self.n_rows, self.n_features = X.shape
        self.dtype = X.dtype
        self.precision = np.dtype(np.float64)
        self._outputs = n_outputs
        parts = get_num_threads() if X.nnz > 1 << 16 else 1
        self._block = SparseBlock(
            rows=slice(0, self.n_rows),
            matrix=X,
            transposed=X.T.tocsr() if transposed is None else transposed,
            centre=centre,
            scale=scale,
            pool=ThreadPoolExecutor(parts) if parts > 1 else None,
            parts=parts,
        )

    def blocks(self) -> Iterator[Block]:
        yield self._block

    def seen_through(self, centre: NDArray[np.float64], scale: NDArray[np.float64]) -> "SparseRows":
        if not centre.any() and np.all(scale == 1.0):
            return self
        block = self._block
        return SparseRows(block.matrix, self._outputs, centre=centre, scale=scale, transposed=block.transposed)

    def for_curvature(self) -> "SparseRows":
        block = self._block
        if self.dtype == np.float32 or self.n_rows * self._outputs < _NARROW_NUMBERS:
            return self
        narrow: Any = block.matrix.astype(np.float32)
        return SparseRows(
            narrow,
            self._outputs,
            centre=block.centre,
            scale=block.scale,
            transposed=block.transposed.astype(np.float32),
        )

    def sum(self, fn: Callable[[Block], Parts]) -> Parts:
        return fn(self._block)

    def gram_product(self, coordinates: NDArray[np.float64], ridge: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._block.scale is not None:
            return super().gram_product(coordinates, ridge)
        return curvature.csr_gram(self._block.transposed, 1.0 / ridge, coordinates, self._block.pool)
