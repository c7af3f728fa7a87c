"""Checks at the door: one function per complaint. Kernels and backends trust what has passed here."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import AxisError, DtypeError, RangeError, ShapeError
from normexp.base.precision import compute_dtype


def check_logits(logits: Any, *, of: str, name: str = "logits") -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Make an array of ``logits``, of a dtype that can be computed with; and a masked array's mask if it hides any."""
    hidden: Any = np.ma.nomask
    if isinstance(logits, np.ma.MaskedArray):
        hidden, logits = logits.mask, logits.data
    array = _as_array(logits, of=of, name=name)
    if compute_dtype(array.dtype) is None:
        raise DtypeError(
            f"{of}: {name} have dtype {array.dtype}; float16, bfloat16, float32, float64, bool or integers "
            f"would be right. Convert them first."
        )
    return array, hidden if hidden is not np.ma.nomask and hidden.any() else None


def check_array(values: Any, *, of: str, name: str) -> NDArray[Any]:
    """Make an array of ``values``, without hidden entries: only the logits may be masked."""
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            raise RangeError(f"{of}: {name} is a masked array with hidden entries; fill them, or mask the logits.")
        values = values.data
    return _as_array(values, of=of, name=name)


def _as_array(values: Any, *, of: str, name: str) -> NDArray[Any]:
    """An array of anything but lists of unequal lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ShapeError(
            f"{of}: {name} came as lists of unequal lengths; an array, or lists of equal lengths, would be right."
        ) from None


def check_whole(value: Any, *, of: str, name: str, right: str = "a whole number") -> int:
    """The value as an int; neither a bool, nor a text, nor an array of more than one number."""
    if not _is_whole(value):
        raise DtypeError(f"{of}: {name} is {_shown(value)}; {right} would be right.")
    return int(value.__index__())


def _is_whole(value: Any) -> bool:
    """Whether the value is one whole number."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iu"
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_))


def _shown(value: Any) -> str:
    """The value, in one line."""
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) and value.ndim else repr(value)


def check_axis(axis: Any, ndim: int, *, of: str, holder: str = "the logits have") -> tuple[int, ...]:
    """The axes as non-negative numbers in rising order; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for one in axes:
        if not _is_whole(one):
            raise DtypeError(f"{of}: axis is {_shown(axis)}; an integer, a tuple of integers or None would be right.")
        number = one.__index__()
        if ndim == 0 and len(axes) == 1 and number in {0, -1}:
            return ()
        if not -ndim <= number < ndim:
            raise AxisError(f"{of}: axis is {axis!r}, but {holder} {ndim} dimensions: {-ndim} to {ndim - 1}.")
        found.append(number % ndim)
    if len(set(found)) < len(found):
        raise AxisError(f"{of}: axis {axis!r} names a dimension twice; name each once.")
    return tuple(sorted(found))


def check_temperature(temperature: Any, shape: tuple[int, ...], *, of: str) -> NDArray[np.float64]:
    """The temperature as float64, not negative, not NaN, broadcastable to ``shape``."""
    array = check_array(temperature, of=of, name="temperature")
    if compute_dtype(array.dtype) is None:
        raise DtypeError(f"{of}: temperature has dtype {array.dtype}; a number or an array of numbers would be right.")
    array = array.astype(np.float64)
    fits = array >= 0.0
    if not fits.all():
        first = int(np.flatnonzero(~fits)[0])
        at = tuple(int(place) for place in np.unravel_index(first, array.shape))
        where = f" at {at[0] if len(at) == 1 else at}" if at else ""
        raise RangeError(
            f"{of}: temperature is {array.reshape(-1)[first]}{where}; numbers of at least 0 would be right."
        )
    return check_broadcast(array, shape, of=of, name="temperature")


def check_where(where: Any, shape: tuple[int, ...], *, of: str) -> NDArray[np.bool_]:
    """The mask as booleans, broadcastable to ``shape``."""
    array = check_array(where, of=of, name="where")
    if array.dtype != np.bool_:
        raise DtypeError(f"{of}: where has dtype {array.dtype}; booleans, True where the logit counts, would be right.")
    return check_broadcast(array, shape, of=of, name="where")


def check_broadcast(array: NDArray[Any], shape: tuple[int, ...], *, of: str, name: str) -> NDArray[Any]:
    """The array itself, when it can be broadcast to ``shape`` without enlarging it."""
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{of}: {name} has shape {array.shape}, which cannot be broadcast to the logits' {shape}.")
    return array


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *, of: str) -> NDArray[Any]:
    """The array that the caller wants filled, of just the right shape and dtype, and writable."""
    if isinstance(out, np.ma.MaskedArray):
        raise DtypeError(f"{of}: out is a masked array; a plain NumPy array would be right.")
    if not isinstance(out, np.ndarray):
        raise DtypeError(f"{of}: out is a {type(out).__name__}; a NumPy array would be right.")
    if out.shape != shape:
        raise ShapeError(f"{of}: out has shape {out.shape}; the logits' shape {shape} would be right.")
    if out.dtype != dtype:
        raise DtypeError(f"{of}: out has dtype {out.dtype}; {dtype} would be right.")
    if not out.flags.writeable:
        raise RangeError(f"{of}: out is read-only; a writable array would be right.")
    return out


def check_number(value: Any, *, of: str, name: str, low: float, high: float = math.inf) -> float:
    """The value as a float within [low, high]."""
    if isinstance(value, (str, bytes, bytearray)):  # of which float() would read a number
        raise DtypeError(f"{of}: {name} is {value!r}; a number from {low:g} to {high:g} would be right.")
    try:
        number = float(value)
    except OverflowError:
        raise RangeError(f"{of}: {name} is beyond float64; a number from {low:g} to {high:g} would be right.") from None
    except (TypeError, ValueError):
        raise DtypeError(f"{of}: {name} is {value!r}; a number from {low:g} to {high:g} would be right.") from None
    if not (low <= number <= high and math.isfinite(number)):
        raise RangeError(f"{of}: {name} is {value!r}; a number from {low:g} to {high:g} would be right.")
    return number


def check_reduction(reduction: Any, *, of: str) -> str:
    """One of the three words."""
    if not isinstance(reduction, str) or reduction not in {"mean", "sum", "none"}:
        raise RangeError(f"{of}: reduction is {_shown(reduction)}; 'mean', 'sum' or 'none' would be right.")
    return str(reduction)


def check_weight(weight: Any, classes: int, *, of: str) -> NDArray[np.float64] | None:
    """Class weights (K,) as float64, none negative; None stays None."""
    if weight is None:
        return None
    array = check_array(weight, of=of, name="weight")
    if compute_dtype(array.dtype) is None:
        raise DtypeError(f"{of}: weight has dtype {array.dtype}; numbers would be right.")
    if array.shape != (classes,):
        raise ShapeError(f"{of}: weight has shape {array.shape}; one for each class, ({classes},), would be right.")
    array = array.astype(np.float64)
    if not (np.isfinite(array) & (array >= 0.0)).all():
        raise RangeError(
            f"{of}: weight holds {array[~(np.isfinite(array) & (array >= 0.0))][0]}; "
            f"finite numbers of at least 0 would be right."
        )
    return array


def check_names(given: Sequence[str], fitted: Sequence[str], /, *, of: str, name: str) -> None:
    """Refuse as many columns as the fit had that are not those of the fit, in their order."""
    if len(given) != len(fitted):
        return
    for place, (one, other) in enumerate(zip(given, fitted, strict=True)):
        if one != other:
            raise ShapeError(
                f"{of}: column {place} of {name} is {one!r} and the model was fitted with {str(other)!r} there; the "
                "same columns in the same order would be right."
            )
