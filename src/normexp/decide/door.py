"""The door of the deciders: predictions without labels, features, shares within (0, 1)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.checks import check_names
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import KINDS, plain_array
from normexp.metrics.door import Rows, name_rows, read_rows

Floats = NDArray[np.float64]


def read_prediction(prediction: ArrayLike, *, of: str, from_logits: bool, n_classes: int | None = None) -> Rows:
    """Checked logits or probabilities of rows whose classes nobody knows; there may be none."""
    z = plain_array(prediction, of=of, name="prediction")
    if z.ndim == 2 and n_classes is not None and z.shape[1] != n_classes:
        raise ShapeError(f"{of}: the rows have {z.shape[1]} columns, but it was fitted on {n_classes} classes.")
    if z.ndim == 2 and z.shape[0] == 0 and z.shape[1] and z.dtype.kind in KINDS:
        return Rows(np.zeros(0, dtype=np.intp), z.astype(np.float64), from_logits, np.zeros(0))
    nobody = np.zeros(z.shape[0] if z.ndim else 0, dtype=np.intp)
    return read_rows(nobody, z, of=of, from_logits=from_logits, sample_weight=None)


def read_features(features: ArrayLike, *, of: str, n_rows: int | None, n_features: int | None = None) -> Floats:
    """Features as a finite float64 array (N, D)."""
    x = plain_array(features, of=of, name="features")
    if x.dtype.kind not in KINDS:
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


def names_of(table: Any) -> tuple[str, ...] | None:
    """Names of the columns, where what came has some that are texts."""
    names = getattr(table, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def require_names(table: Any, names: Sequence[str] | None, *, of: str, name: str) -> None:
    """Refuse a table of the same width whose columns are not those of the fit, in their order."""
    given = names_of(table)
    if given is not None and names is not None:
        check_names(given, names, of=of, name=name)


def read_numbers(value: Any, *, of: str, name: str) -> Floats:
    """Numbers as a float64 array, whatever its shape."""
    array = plain_array(value, of=of, name=name)
    if array.dtype.kind not in KINDS:
        raise DtypeError(f"{of}: {name} is {value!r:.80}, of dtype {array.dtype}; an array of numbers would be right.")
    return array.astype(np.float64)


def read_share(value: Any, *, of: str, name: str, example: str) -> float:
    """A number strictly between 0 and 1."""
    try:
        share = math.nan if isinstance(value, (str, bytes)) else float(value)  # of which float() would read a number
    except (TypeError, ValueError):
        raise DtypeError(f"{of}: {name} is {value!r}; a number between 0 and 1, such as {example}, is right.") from None
    if not 0.0 < share < 1.0:
        raise RangeError(f"{of}: {name} is {value!r}; a number between 0 and 1, such as {example}, would be right.")
    return share
