"""Whose array is this? Looked up among what is loaded: whoever holds a tensor has imported its library already."""

import functools
import sys
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def array_library(x: Any) -> Literal["numpy", "torch", "array_api"]:
    """Which library computes on ``x``: NumPy for its own arrays and for all that it can make an array of."""
    if isinstance(x, np.ndarray):
        return "numpy"
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, getattr(torch, "Tensor", ())):  # a half-loaded torch has no Tensor yet
        return "torch"
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.generic):
        return "array_api"
    return "numpy"


def by_library(function: Callable[P, R]) -> Callable[P, R]:
    """Send calls whose first argument is not NumPy's business to the function of the same name for its library."""
    name = function.__name__

    @functools.wraps(function)
    def dispatched(*arguments: P.args, **options: P.kwargs) -> R:
        if arguments:
            library = array_library(arguments[0])
            if library != "numpy":
                found: R = getattr(_backend(library), name)(*arguments, **options)
                return found
        return function(*arguments, **options)

    return dispatched


def _backend(library: str) -> Any:
    """The functions for tensors, or for arrays of any other library that follows the standard."""
    if library == "torch":
        from normexp.backends import tensors  # noqa: PLC0415  (whoever has no torch must not need it)

        return tensors
    from normexp.backends import standard  # noqa: PLC0415  (import normexp stays quick)

    return standard
