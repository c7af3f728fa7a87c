"""Class labels of many rows as indices into their sorted classes: whole at once, or part by part."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import InputError, ShapeError


@dataclass(frozen=True)
class Labels:
    """The classes, sorted (K,), and the index of each row's class (N,)."""

    classes: NDArray[Any]
    index: NDArray[np.intp] = field(repr=False)


def encode(labels: ArrayLike, n_rows: int, *, of: str) -> Labels:
    """Sorted classes and each row's index; refuse what is not one label for each row."""
    array = np.asarray(labels)
    if array.shape != (n_rows,):
        raise ShapeError(f"{of}: the labels have shape {array.shape}; one for each row, ({n_rows},), would be right.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{of}: the label of row {row} is {array[row]}; give every row a class, or leave it out.")
    classes, index = np.unique(array, return_inverse=True)
    return Labels(classes, index.astype(np.intp, copy=False))


def load_or_take(labels: ArrayLike | str | Path, *, of: str) -> ArrayLike:
    """Return labels as given, or read them from a .npy file."""
    if not isinstance(labels, (str, Path)):
        return labels
    try:
        loaded: NDArray[Any] = np.load(labels, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{of}: the labels cannot be read from {str(labels)!r} ({error}); give a .npy file.") from None
    return loaded


def join(parts: Iterable[tuple[NDArray[Any], NDArray[np.intp]]], n_rows: int) -> Labels:
    """Labels of all rows from parts, each with the classes that it knows and indices into them."""
    known: dict[Any, int] = {}
    index = np.empty(n_rows, dtype=np.intp)
    first = 0
    for classes, codes in parts:
        places = np.array([known.setdefault(label, len(known)) for label in classes.tolist()], dtype=np.intp)
        index[first : first + len(codes)] = places[codes] if len(places) else 0
        first += len(codes)
    classes = np.array(list(known))
    order = np.argsort(classes, kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return Labels(classes[order], rank[index])


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 of arrays: their dtypes, shapes and numbers."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes() if array.dtype.kind != "O" else repr(array.tolist()).encode())
    return found.hexdigest()[:16]
