"""Some of the rows: a piece of what is in memory, or a view of what stays on disk."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._indexing import _safe_indexing

from normexp.rows import StoredRows

Index = NDArray[np.intp]


def some_rows(X: Any, index: Index, /) -> Any:
    """Rows by their numbers.

    Parameters
    ----------
    X : rows, length N
        Of any kind.
    index : ndarray of intp, shape (M,)
        Which; ascending where the rows are stored.

    Returns
    -------
    rows, length M
        Of the same kind.
    """
    if type(X) is np.ndarray:
        return X[index]
    return X.subset(index) if isinstance(X, StoredRows) else _safe_indexing(X, index)


def first_rows(X: Any, count: int, n_rows: int, /) -> Any:
    """So many rows in memory: the first ones, over and over where there are fewer."""
    index = np.arange(count) % n_rows
    return X.take(index) if isinstance(X, StoredRows) else _safe_indexing(X, index)


def some_labels(X: Any, y: NDArray[Any], index: Index, /) -> NDArray[Any] | None:
    """Their labels; None for stored rows, which bring their own."""
    return None if isinstance(X, StoredRows) else y[index]
