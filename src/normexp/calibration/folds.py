"""Folds for cross-validation: each class spread evenly, the same split every time."""

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import RangeError


def split_folds(target: NDArray[np.intp], n_folds: int, /) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of positions (kept, held out); each class is dealt out evenly, in a fixed random order."""
    n_rows = target.size
    n_folds = min(n_folds, n_rows)
    order = np.random.default_rng(0).permutation(n_rows)
    order = order[np.argsort(target[order], kind="stable")]
    fold = np.empty(n_rows, dtype=np.intp)
    fold[order] = np.arange(n_rows) % n_folds
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(n_folds)]


def side_by_side(target: NDArray[np.intp], n_folds: int, /) -> tuple[NDArray[np.intp], list[slice]]:
    """The order that lays each fold's held-out rows side by side, and where each fold then stands.

    Examples
    --------
    >>> order, folds = side_by_side(np.array([0, 1, 0, 1]), 2)
    >>> sorted(order.tolist()), folds
    ([0, 1, 2, 3], [slice(0, 2, None), slice(2, 4, None)])
    """
    held = [out for _, out in split_folds(target, n_folds)]
    ends = np.cumsum([out.size for out in held]).tolist()
    return np.concatenate(held), [slice(end - out.size, end) for out, end in zip(held, ends, strict=True)]


def outside(fold: slice, n_rows: int, /) -> NDArray[np.intp]:
    """Positions of the rows outside a fold."""
    return np.concatenate([np.arange(fold.start), np.arange(fold.stop, n_rows)])


def check_cv(cv: object, /, *, of: str) -> int:
    """The number of folds as an int of at least 2."""
    if isinstance(cv, bool) or not hasattr(cv, "__index__") or int(cv.__index__()) < 2:
        raise RangeError(f"{of}: cv is {cv!r}; a whole number of folds, 2 or more (5 is usual), would be right.")
    return int(cv.__index__())
