"""Predictions over rows that are not in memory: the same methods, block by block."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from normexp.base.errors import InputError, ShapeError
from normexp.rows import StoredRows

_M = TypeVar("_M", bound=Callable[..., Any])


def is_streamed(X: Any) -> bool:
    """Whether X is read in blocks instead of being an array."""
    return isinstance(X, StoredRows)


def over_rows(method: _M) -> _M:
    """Let a method of arrays (n, D) take stored rows too; the answers of the blocks become one answer."""

    @wraps(method)
    def either(self: Any, X: Any, *given: Any, **named: Any) -> Any:
        if not isinstance(X, StoredRows):
            return method(self, X, *given, **named)
        model = without_names(self, X)
        parts = [method(model, chunk, *given, **named) for chunk in X.batches()]
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        return np.concatenate(parts)

    either.takes_rows = True  # type: ignore[attr-defined]  # read by StoredRows.map
    return either  # type: ignore[return-value]  # wraps keeps the signature


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
