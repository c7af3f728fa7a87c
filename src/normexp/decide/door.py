"""The door of the deciders: predictions without labels, features, shares within (0, 1)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.metrics.door import Rows, name_rows, read_rows

Floats = NDArray[np.float64]


def read_prediction(prediction: ArrayLike, *, of: str, from_logits: bool, n_classes: int | None = None) -> Rows:
    """Checked logits or probabilities of rows whose classes nobody knows; there may be none."""
    z = np.asarray(prediction)
    if z.ndim == 2 and n_classes is not None and z.shape[1] != n_classes:
        raise ShapeError(f"{of}: the rows have {z.shape[1]} columns, but it was fitted on {n_classes} classes.")
    if z.ndim == 2 and z.shape[0] == 0 and z.shape[1] and z.dtype.kind in "biuf":
        return Rows(np.zeros(0, dtype=np.intp), z.astype(np.float64), from_logits, np.zeros(0))
    nobody = np.zeros(z.shape[0] if z.ndim else 0, dtype=np.intp)
    return read_rows(nobody, prediction, of=of, from_logits=from_logits, sample_weight=None)


def read_features(features: ArrayLike, *, of: str, n_rows: int | None, n_features: int | None = None) -> Floats:
    """Features as a finite float64 array (N, D)."""
    x = np.asarray(features)
    if x.dtype.kind not in "biuf":
        raise DtypeError(f"{of}: features have dtype {x.dtype}; numbers would be right.")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(f"{of}: features have shape {x.shape}; one row for each sample, (N, D), would be right.")
    if n_rows is not None and x.shape[0] != n_rows:
        raise ShapeError(f"{of}: features have {x.shape[0]} rows and logits {n_rows}; the same rows would be right.")
    if n_features is not None and x.shape[1] != n_features:
        raise ShapeError(f"{of}: features have {x.shape[1]} columns, but it was fitted on {n_features}.")
    x = x.astype(np.float64)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise RangeError(f"{of}: features are not finite in {name_rows(bad)}; drop or mend these rows.")
    return x


def read_numbers(value: Any, *, of: str, name: str) -> Floats:
    """Numbers as a float64 array, whatever its shape."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(f"{of}: {name} is nested lists of unequal lengths; equal lengths would be right.") from None
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"{of}: {name} is {value!r:.80}, of dtype {array.dtype}; an array of numbers would be right.")
    return array.astype(np.float64)


def read_share(value: Any, *, of: str, name: str, example: str) -> float:
    """A number strictly between 0 and 1."""
    try:
        share = float(value)
    except (TypeError, ValueError):
        raise DtypeError(f"{of}: {name} is {value!r}; a number between 0 and 1, such as {example}, is right.") from None
    if not 0.0 < share < 1.0:
        raise RangeError(f"{of}: {name} is {value!r}; a number between 0 and 1, such as {example}, would be right.")
    return share
