"""What a solver knows of the rows: blocks that multiply, and one sum over them.

A table of N rows and D features is seen through an affine map of its columns,

    x_tilde = (x - centre) / scale,

which is never stored for large tables: each block applies it to its own rows. Memory, a file or a
cluster differ only in where a block comes from; ``sum(fn)`` adds the blocks' results in the order of
the rows, whatever the number of threads, so the bits do not depend on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Parts = tuple[Any, ...]


class Block(ABC):
    """Some consecutive rows of the table, seen through the affine map of the columns.

    ``target`` and ``weight``, the class indices and weights of its rows, are set only where the labels lie with the
    rows: in tables that are streamed.
    """

    rows: slice
    target: NDArray[np.intp]
    weight: NDArray[np.float64]

    @abstractmethod
    def stored(self) -> Any:
        """Return the rows as they are stored, neither centred nor scaled: an array or a CSR matrix (n, D)."""

    @abstractmethod
    def table(self) -> Floats:
        """Return the rows themselves, centred and scaled, dense (n, D)."""

    @abstractmethod
    def affine(self, coef: Floats, shift: Floats) -> Floats:
        """Scores x_tilde @ coef + shift: coef (D, K), shift (K,) -> (n, K), fresh and C-contiguous."""

    @abstractmethod
    def adjoint(self, residual: Floats, precision: Any = np.float64) -> NDArray[Any]:
        """Sum of outer products, x_tilde' @ residual: residual (n, K) -> (D, K).

        In this precision where the block is all rows, in float64 where it is one of many that are added.
        """

    @abstractmethod
    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted second moments x_tilde' diag(weight) x_tilde, (D, D)."""

    @abstractmethod
    def column_moments(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weighted sums of x_tilde and of its squares, two arrays (D,)."""

    def column_squares(self, weights: Floats) -> Floats:
        """Sums of squares of x_tilde's columns, weighted by each column of weights: (n, K) -> (D, K)."""
        return np.asarray(np.square(self.table()).T @ weights, dtype=np.float64)

    def features(self, index: NDArray[np.intp]) -> Any:
        """Return some columns of x_tilde feature by feature, (features, n): a C-contiguous array, or CSR."""
        return np.ascontiguousarray(self.table()[:, index].T)


class RowBlocks(ABC):
    """All rows of a table, in blocks."""

    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    is_sparse: bool

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in the order of the rows."""

    @abstractmethod
    def seen_through(self, centre: NDArray[np.float64], scale: NDArray[np.float64]) -> "RowBlocks":
        """Return the same rows with their columns centred and scaled."""

    def for_curvature(self) -> "RowBlocks":
        """Return the same rows in the precision that Hessian products need: not more than that of the table."""
        return self

    @abstractmethod
    def sum(self, fn: Callable[[Block], Parts]) -> Parts:
        """Add fn(block) over all blocks, part by part, in the order of the rows."""

    def gram_product(self, coordinates: NDArray[np.float64], ridge: NDArray[np.float64]) -> NDArray[np.float64]:
        """Product of X_tilde diag(1 / ridge) X_tilde', (N, N), with coordinates (N, K)."""
        (pulled,) = self.sum(lambda block: (block.adjoint(coordinates[block.rows]),))
        pulled /= ridge[:, None]
        scores = np.empty_like(coordinates)
        shift = np.zeros(coordinates.shape[1])

        def part(block: Block) -> Parts:
            scores[block.rows] = block.affine(pulled, shift)
            return ()

        self.sum(part)
        return scores


def ordered_sum(fn: Callable[[Block], Parts], blocks: Iterator[Block], pool: ThreadPoolExecutor | None) -> Parts:
    """Add the parts of fn over blocks in their order; with a pool, a few blocks are computed ahead."""
    if pool is None:
        return _fold(fn(block) for block in blocks)
    ahead = 2 * pool._max_workers  # noqa: SLF001  (the executor offers no public count)
    waiting: list[Future[Parts]] = []

    def results() -> Iterator[Parts]:
        for block in blocks:
            waiting.append(pool.submit(fn, block))
            if len(waiting) >= ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()

    return _fold(results())


def _fold(results: Iterator[Parts]) -> Parts:
    total: list[Any] = []
    for parts in results:
        if not total:
            total = list(parts)
        else:
            _accumulate(total, parts)
    return tuple(total)


def _accumulate(total: list[Any], parts: Sequence[Any]) -> None:
    for position, part in enumerate(parts):
        if isinstance(part, np.ndarray):
            total[position] += part  # the first block's arrays are nobody else's
        else:
            total[position] = total[position] + part
