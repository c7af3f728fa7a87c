"""Which rows are held out together: each class spread evenly, copies of a row never on both sides."""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import StratifiedGroupKFold, check_cv

from normexp.base.errors import DtypeError, NormexpWarning, RangeError, ShapeError
from normexp.base.fingerprints import row_prints
from normexp.metrics.door import NAMED_ROWS
from normexp.rows import StoredRows

HELD_OUT: Final = 0.2  # of the rows, where there is one hold-out only
BY_NATURE: Final = 0.1  # share of repeated rows with other classes from which on rows repeat because they are coarse

# Rows outside memory of which copies are looked for: sorting their fingerprints takes about 50 bytes a row.
MOST_COMPARED: Final = 1_000_000
WORTH_SAYING: Final = 0.01  # share of copies from which on somebody should look at them

Index = NDArray[np.intp]


class Split(NamedTuple):
    """Rows to fit and rows that are held out.

    Parameters
    ----------
    kept, held : ndarray of intp
        Positions.
    """

    kept: Index
    held: Index


def plan_folds(
    X: Any, target: Index, cv: Any, /, *, groups: Any = None, counts: NDArray[np.bool_], seed: int, of: str
) -> list[Split]:
    """Splits in which each row that counts is held out at most once.

    Parameters
    ----------
    X : rows, length N
        The features, to find copies and for splitters that look at them.
    target : ndarray of intp, shape (N,)
        Class indices.
    cv : int, splitter or iterable
        Folds; 1 is a single hold-out of a fifth of the rows.
    groups : array-like, shape (N,), optional
        Rows of one group stay together.
    counts : ndarray of bool, shape (N,)
        Rows of weight above 0; others are never held out.
    seed : int
        Deals the rows.
    of : str
        Who asks, for sentences.

    Returns
    -------
    list of Split
        A class with a single row is never held out, so that each fit knows each class.

    Raises
    ------
    RangeError, DtypeError
        If `cv` makes no sense or nothing can be held out.

    Warns
    -----
    NormexpWarning
        If copies had to be kept together, or the given splits fit and hold out the same rows.
    """
    number = _whole(cv, of=of)
    if groups is not None:
        if np.shape(groups) != (len(target),):
            raise ShapeError(
                f"{of}: groups has shape {np.shape(groups)}; one group for each row, ({len(target)},), would be right."
            )
        if number is not None and len(np.unique(np.asarray(groups))) < max(2, number):
            raise RangeError(
                f"{of}: groups names {len(np.unique(np.asarray(groups)))} group(s) and cv asks for {max(2, number)} "
                "folds, of which each needs a group of its own; take fewer folds, or leave groups out."
            )
    if number is None:
        return list(_given(X, target, cv, groups, counts, of=of))
    if groups is not None:
        splitter = StratifiedGroupKFold(max(2, number), shuffle=True, random_state=seed)
        splits = [
            Split(np.asarray(kept), np.asarray(held))
            for kept, held in splitter.split(np.zeros(len(target)), target, groups)
        ]
        splits = splits[: 1 if number == 1 else None]
    else:
        splits = _dealt(target, _first_of_copies(X, target, of=of), number, seed)
    alone = np.bincount(target)[target] == 1
    usable = counts & ~alone
    cleaned = [_with(split, usable) for split in splits]
    cleaned = [split for split in cleaned if len(split.held)]
    if not cleaned:
        raise RangeError(
            f"{of}: each of the {int(np.max(target)) + 1} classes has a single row, so none can be held out to "
            "calibrate; give at least two rows of some class, or fit the estimator itself."
        )
    return cleaned


def _whole(cv: Any, *, of: str) -> int | None:
    """The number of folds; None for splitters."""
    if isinstance(cv, (bool, str, float)) or cv is None:
        raise DtypeError(
            f"{of}: cv is {cv!r}; a whole number of folds (5 is usual, 1 is a single hold-out), a splitter or a list "
            "of splits would be right."
        )
    if not hasattr(cv, "__index__"):
        return None
    number = int(cv.__index__())
    if number < 1:
        raise RangeError(f"{of}: cv is {cv!r}; 2 folds or more (5 is usual), or 1 for a single hold-out, are right.")
    return number


def _given(X: Any, target: Index, cv: Any, groups: Any, counts: NDArray[np.bool_], *, of: str) -> Iterator[Split]:
    """The splits of a splitter or of a list, looked at."""
    try:
        splitter = check_cv(cv, target, classifier=True)
    except ValueError as error:
        raise DtypeError(f"{of}: cv is {cv!r}; {error}") from None
    seen = np.zeros(len(target), dtype=bool)
    shared = 0
    for kept, held in splitter.split(X, target, groups):
        split = Split(np.asarray(kept), np.asarray(held))
        for index in split:
            if index.dtype.kind not in "iu" or (index.size and not 0 <= index.min() <= index.max() < len(target)):
                raise RangeError(
                    f"{of}: a split of cv holds positions of dtype {index.dtype} or beyond the {len(target)} rows; "
                    f"whole numbers from 0 to {len(target) - 1} would be right."
                )
        shared += len(np.intersect1d(split.kept, split.held))
        fresh = split.held[counts[split.held] & ~seen[split.held]]
        seen[fresh] = True
        if len(fresh):
            yield Split(split.kept, fresh)
    if shared:
        warnings.warn(
            f"{of}: the given splits hold out {shared} rows that they also fit. Calibrating on rows of the training "
            "makes the result over-confident; give splits without common rows.",
            NormexpWarning,
            stacklevel=5,
        )
    if not seen.any():
        raise RangeError(f"{of}: the given splits hold out no row; at least one row for each split is needed.")


def _with(split: Split, usable: NDArray[np.bool_]) -> Split:
    """The split in which only usable rows are held out and the others that it held out are fitted."""
    back = split.held[~usable[split.held]]
    return Split(np.sort(np.concatenate([split.kept, back])), split.held[usable[split.held]])


def _dealt(target: Index, first: Index, number: int, seed: int) -> list[Split]:
    """Each class dealt out evenly among the folds; copies go where the first of them went."""
    n_rows = len(target)
    # Positions as small as they can be: there may be many more rows than memory holds.
    small = np.int32 if n_rows < np.iinfo(np.int32).max else np.int64
    distinct = np.flatnonzero(first == np.arange(n_rows, dtype=small)).astype(small)
    order = distinct[np.random.default_rng(seed).permutation(len(distinct)).astype(small)]
    order = order[np.argsort(target[order].astype(small), kind="stable").astype(small)]
    parts = round(1.0 / HELD_OUT) if number == 1 else min(number, len(distinct))
    fold = np.empty(n_rows, dtype=np.min_scalar_type(parts))
    fold[order] = np.resize(np.arange(parts, dtype=fold.dtype), len(order))
    fold = fold[first]
    return [
        Split(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(1 if number == 1 else max(parts, 1))
    ]


def _first_of_copies(X: Any, target: Index, *, of: str) -> Index:
    """Position of the first row with the same features and class; says so where there are copies.

    Rows of few distinct values repeat by nature, then mostly with other classes too; such repeats are no copies.
    """
    own = np.arange(len(target), dtype=np.intp)
    prints = _fingerprints(X, len(target))
    if prints is None:
        return own
    _, first, group = np.unique(prints, return_index=True, return_inverse=True)
    if len(first) == len(target):
        return own
    size = np.bincount(group)
    repeated = size[group] > 1
    other = target != target[first[group]]
    mixed = np.bincount(group[other], minlength=len(first)) > 0
    if mixed.sum() > BY_NATURE * (size > 1).sum() or len(first) < NAMED_ROWS * len(np.unique(target)):
        return own
    pair = group * (int(target.max()) + 1) + target
    _, first_of_pair, place = np.unique(pair, return_index=True, return_inverse=True)
    copies = len(target) - len(first_of_pair)
    if copies > WORTH_SAYING * len(target):
        example = int(np.flatnonzero(repeated & (first_of_pair[place] != own))[0])
        warnings.warn(
            f"{of}: {copies} of the {len(target)} rows are copies of others (row {example} of row "
            f"{int(first_of_pair[place][example])}). They are kept on one side of each split, since a copy of a fitted "
            "row says nothing about new rows; whether they belong there at all is worth a look.",
            NormexpWarning,
            stacklevel=6,
        )
    return np.asarray(first_of_pair[place], dtype=np.intp)


def _fingerprints(X: Any, n_rows: int) -> NDArray[np.int64] | None:
    """A 64-bit number for each row that equal rows share; None for rows of unknown kind."""
    if isinstance(X, StoredRows):
        if X.n_rows > MOST_COMPARED:
            return None
        parts = [_prints_of(part, part.shape[0]) for part in X.batches()]
        return np.concatenate([part for part in parts if part is not None])
    return _prints_of(X, n_rows)


def _prints_of(X: Any, n_rows: int) -> NDArray[np.int64] | None:
    """The same for rows in memory."""
    if sparse.issparse(X):
        rows: Any = sparse.csr_matrix(X)  # type: ignore[call-overload]  # X is any sparse matrix or array
        rows.sum_duplicates()
        ends = rows.indptr
        return np.fromiter(
            (hash((rows.indices[a:b].tobytes(), rows.data[a:b].tobytes())) for a, b in pairwise(ends)),
            dtype=np.int64,
            count=rows.shape[0],
        )
    if hasattr(X, "itertuples"):  # pandas
        rows_of_frame: Any = X.itertuples(index=False, name=None)
    elif hasattr(X, "iter_rows"):  # polars
        rows_of_frame = X.iter_rows()
    else:
        table = np.asarray(X)
        if table.dtype.kind in "biuf" and table.ndim > 1:
            return row_prints(table.reshape(len(table), -1))
        rows_of_frame = X if table.ndim == 1 else map(tuple, table)
    try:
        return np.fromiter((hash(row) for row in rows_of_frame), dtype=np.int64, count=n_rows)
    except TypeError:  # a row of lists, or the like
        return None
