"""Labels as they stand in a file, matched with the columns of a matrix of scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.choosing import enumerate_names


class Indexed(NamedTuple):
    """Labels as indices.

    Parameters
    ----------
    place : ndarray of int64, shape (N,)
        Column of each row's class; numbers that were given are passed on as they are.
    classes : tuple of str, length K
        Names of the classes, in the order of the columns.
    told : str
        How labels and columns were matched, as a sentence; empty where nothing was to be decided.
    """

    place: NDArray[np.int64]
    classes: tuple[str, ...]
    told: str


def index_labels(
    labels: NDArray[Any], n_classes: int, /, *, columns: Sequence[str] = (), classes: Sequence[str] = ()
) -> Indexed:
    """Find the column of each label.

    Parameters
    ----------
    labels : ndarray of int or str, shape (N,)
        What stands in the file: indices, or names of classes.
    n_classes : int
        Number of columns.
    columns : sequence of str
        Names of the columns, where they have some; a prefix that all share (``logit_``) is passed over.
    classes : sequence of str
        Names of the classes in the order of the columns, where somebody gave them.

    Returns
    -------
    Indexed
        The indices, the names, and how they were found.

    Raises
    ------
    InputError
        If names of classes cannot be matched with columns.

    Examples
    --------
    >>> index_labels(np.array(["dog", "cat"]), 2, columns=["p_cat", "p_dog"])
    Indexed(place=array([1, 0]), classes=('cat', 'dog'), told='')
    """
    if classes and len(classes) != n_classes:
        raise InputError(
            f"audit: {len(classes)} names of classes came for {n_classes} columns; one for each column would be right."
        )
    for names in (tuple(classes), tuple(columns), _without_prefix(columns)):
        found = _by_name(labels, names, n_classes)
        if found is not None:
            return Indexed(found, names, "")
    names = tuple(classes) or (_without_prefix(columns) if len(columns) == n_classes else ())
    if labels.dtype.kind in "iu":
        return Indexed(labels.astype(np.int64), names or tuple(str(k) for k in range(n_classes)), "")
    distinct = np.unique(labels)
    if names or distinct.size != n_classes:
        known = f"the columns are {enumerate_names(list(names))}" if names else f"there are {n_classes} columns"
        raise InputError(
            f"audit: the labels are text ({enumerate_names(distinct.tolist())}) and {known}, so it is not clear which "
            "class is which column. Name the columns after the classes, or give their names in the order of the "
            "columns with --classes FILE."
        )
    order = tuple(str(name) for name in distinct)
    return Indexed(
        np.searchsorted(distinct, labels).astype(np.int64),
        order,
        f"The columns have no names, so classes were matched in alphabetical order, as scikit-learn has them: "
        f"{enumerate_names(list(order), limit=4)}.",
    )


def _by_name(labels: NDArray[Any], names: Sequence[str], n_classes: int) -> NDArray[np.int64] | None:
    """Index of each label among the names; None where not every label is there."""
    if len(names) != n_classes or len(set(names)) != n_classes:
        return None
    place = {name: index for index, name in enumerate(names)}
    found = [place.get(str(label)) for label in labels.tolist()]
    return None if None in found else np.array(found, dtype=np.int64)


def _without_prefix(columns: Sequence[str]) -> tuple[str, ...]:
    """The names without what all of them begin with, up to the last separator in it."""
    if len(columns) < 2:
        return tuple(columns)
    first, last = min(columns), max(columns)  # what these two share, all share
    prefix = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    cut = max((prefix.rfind(mark) for mark in "_.-: "), default=-1) + 1
    return tuple(name[cut:] for name in columns)
