"""Arrays of other libraries as NumPy arrays: tensors of a network, masked arrays, tables with gaps."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.checks import check_array
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.precision import is_bfloat16

KINDS = "biuf"  # of dtypes that hold real numbers


def plain_array(values: Any, /, *, of: str, name: str) -> NDArray[Any]:
    """An array of whatever was given, on behalf of the function `of`; the kind of its dtype is left to the caller.

    Tensors come without their gradient and from whatever device they lie on; 8- and 16-bit numbers that NumPy has
    not are widened, which is exact; gaps of a table become NaN.

    Parameters
    ----------
    values : array-like, tensor or table
    of, name : str
        The function and the argument, for the sentence.

    Returns
    -------
    ndarray

    Raises
    ------
    ShapeError, RangeError, DtypeError
        For lists of unequal lengths, hidden entries of a masked array, and what is no array at all.

    Examples
    --------
    >>> plain_array([1.0, 2.0], of="brier", name="sample_weight")
    array([1., 2.])
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise RangeError(
            f"{of}: {name} is a masked array with hidden entries, and what they should count as is not known; fill "
            "them, or leave their rows out."
        )
    try:
        array = check_array(_of_tensor(values), of=of, name=name)
    except (ShapeError, RangeError):
        raise
    except (TypeError, RuntimeError) as error:
        raise DtypeError(
            f"{of}: {name} came as {type(values).__name__}, of which NumPy makes no array ({error}); an array of "
            "numbers would be right."
        ) from None
    if is_bfloat16(array.dtype):
        return array.astype(np.float32)
    if array.dtype.kind == "O" and hasattr(values, "to_numpy"):
        return _of_table(values, array)
    return array


def plain_numbers(values: Any, /, *, of: str, name: str) -> NDArray[Any]:
    """An array of real numbers.

    Parameters
    ----------
    values : array-like, tensor or table
    of, name : str
        The function and the argument, for the sentence.

    Returns
    -------
    ndarray of bool, int or float

    Raises
    ------
    ShapeError, RangeError, DtypeError
        As for :func:`plain_array`, and for texts, objects, dates and complex numbers.

    Examples
    --------
    >>> plain_numbers([1, 2], of="brier", name="sample_weight")
    array([1, 2])
    """
    array = plain_array(values, of=of, name=name)
    if array.dtype.kind not in KINDS:
        raise DtypeError(f"{of}: {name} has dtype {array.dtype}; numbers would be right.")
    return array


def _of_tensor(values: Any) -> Any:
    """A tensor as an array; everything else as it is. torch is looked up, never imported."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(values, torch.Tensor):
        return values
    if values.is_floating_point() and values.dtype not in {torch.float16, torch.float32, torch.float64}:
        values = values.float()
    return values.numpy(force=True)


def _of_table(values: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Columns of pandas that may hold gaps as numbers, the gaps as NaN; left as objects where they are no numbers."""
    try:
        numbers = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        return array
    # Words that read as numbers are words still.
    return array if any(isinstance(entry, (str, bytes)) for entry in array.flat) else numbers
