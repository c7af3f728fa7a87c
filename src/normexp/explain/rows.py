"""Rows as explanations take them: float64, finite, dense or CSR; and in blocks that a cache holds."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array

F64 = NDArray[np.float64]
Index = NDArray[np.intp]
Rows = Any  # ndarray of float64 (N, D), or CSR matrix of float64 (N, D)
csr: Any = sparse.csr_matrix  # scipy's stubs tell dense from sparse too narrowly to follow both
_ENTRIES_AT_ONCE: Final = 1 << 18  # 2 MiB for each of the dozen arrays of a block


def is_sparse(rows: Any, /) -> bool:
    """Whether rows are a sparse matrix."""
    return bool(sparse.issparse(rows))


def as_dense(rows: Rows, /) -> F64:
    """Rows as an array."""
    return np.asarray(rows.toarray() if is_sparse(rows) else rows)


def as_rows(X: Any, /, *, of: str) -> Rows:
    """Rows as float64 (N, D), dense or CSR, all finite."""
    if is_sparse(X):
        rows: Any = csr(X, dtype=np.float64)
        entries = rows.data
    else:
        given = plain_array(X, of=of, name="X")
        if given.dtype.kind not in "biufO":
            raise DtypeError(f"{of}: X has dtype {given.dtype}; numbers would be right.")
        try:
            rows = given.astype(np.float64)
        except (TypeError, ValueError):
            raise DtypeError(f"{of}: X holds entries that are no numbers; numbers would be right.") from None
        entries = rows
        if rows.ndim != 2:
            raise ShapeError(
                f"{of}: X has shape {rows.shape}; rows by columns, (N, D), would be right. One row is X[None]."
            )
    bad = ~np.isfinite(entries)
    if bad.any():
        where = np.searchsorted(rows.indptr, np.flatnonzero(bad)[0], side="right") - 1 if rows is not entries else None
        row = int(np.argwhere(bad)[0][0]) if where is None else int(where)
        raise RangeError(f"{of}: X is not finite in row {row}; drop or mend such rows.")
    return rows


class Padded(NamedTuple):
    """Some rows of a CSR matrix side by side: positions in its data, 0 where a row is shorter, and which those are."""

    rows: Index
    place: Index
    held: NDArray[np.bool_]


def row_slices(n_rows: int, width: int, /) -> Iterator[slice]:
    """Cut rows into blocks of some hundred thousand entries."""
    step = max(1, _ENTRIES_AT_ONCE // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def padded_blocks(matrix: Any, /) -> Iterator[Padded]:
    """Cut a CSR matrix into rectangles of rows of nearly equal length."""
    lengths = np.diff(matrix.indptr)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        # rows grow along the order: as many as fit at the length of the longest of them
        sizes = np.arange(1, len(order) - start + 1) * np.maximum(lengths[order[start:]], 1)
        count = max(1, int(np.searchsorted(sizes, _ENTRIES_AT_ONCE, side="right")))
        rows = order[start : start + count]
        offsets = np.arange(int(lengths[rows].max()))
        held = offsets < lengths[rows][:, None]
        place = np.where(held, matrix.indptr[rows][:, None] + offsets, 0)
        yield Padded(rows, place, held)
        start += count
