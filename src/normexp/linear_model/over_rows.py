"""Predictions over rows that are not in memory: the same methods, block by block."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from normexp.base.errors import InputError, ShapeError
from normexp.rows import DaskTable, StoredRows, from_dask, is_dask
from normexp.rows.dask_rows import rows_of_chunk

_M = TypeVar("_M", bound=Callable[..., Any])


def is_streamed(X: Any) -> bool:
    """Whether X is read in blocks instead of being an array."""
    return isinstance(X, (StoredRows, DaskTable)) or is_dask(X)


def over_rows(method: _M) -> _M:
    """Let a method of arrays (n, D) take stored rows too; the answers of the blocks become one answer."""

    @wraps(method)
    def either(self: Any, X: Any, *given: Any, **named: Any) -> Any:
        if isinstance(X, DaskTable) or is_dask(X):
            table = X if isinstance(X, DaskTable) else from_dask(X)
            model = without_names(self, table)
            return _lazily(lambda chunk: method(model, chunk, *given, **named), table)
        if not isinstance(X, StoredRows):
            return method(self, X, *given, **named)
        model = without_names(self, X)
        parts = [method(model, chunk, *given, **named) for chunk in X.batches()]
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        return np.concatenate(parts)

    either.takes_rows = True  # type: ignore[attr-defined]  # read by StoredRows.map
    return either  # type: ignore[return-value]  # wraps keeps the signature


def _lazily(predict: Callable[[Any], Any], table: DaskTable) -> Any:
    """Dask arrays of the answers, one chunk for each of the rows; nothing is computed yet."""
    like = predict(np.zeros((1, table.n_features), table.dtype))

    def answer(part: int | None) -> Any:
        shown = like if part is None else like[part]

        def chunk(values: Any) -> Any:
            found = predict(rows_of_chunk(values, table.dtype))
            return found if part is None else found[part]

        if shown.ndim == 1:
            return table.array.map_blocks(chunk, drop_axis=1, dtype=shown.dtype, meta=shown[:0])
        sizes = table.array.chunks[0], (shown.shape[1],)
        return table.array.map_blocks(chunk, chunks=sizes, dtype=shown.dtype, meta=shown[:0])

    return tuple(answer(part) for part in range(len(like))) if isinstance(like, tuple) else answer(None)


def without_names(model: Any, X: Any) -> Any:
    """Compare the columns' names and number once; return the model as arrays without names want it."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None and X.names is not None and tuple(names) != tuple(X.names):
        odd = next((name for name in names if name not in X.names), None)
        came = f"lack the column {odd!r}" if odd is not None else "have the columns in another order, or more of them"
        raise InputError(
            f"{type(model).__name__}: the rows in {X.where} {came}; choose the columns of the fit, in their order: "
            f"features=list(model.feature_names_in_)."
        )
    width = getattr(model, "n_features_in_", X.n_features)
    if X.n_features != width:
        raise ShapeError(
            f"{type(model).__name__}: the rows in {X.where} have {X.n_features} features, and the model was fitted on "
            f"{width}."
        )
    bare = copy.copy(model)
    if names is not None:
        del bare.feature_names_in_
    return bare
