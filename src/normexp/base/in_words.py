"""One door for what other libraries refuse: their plain errors leave as normexp's, and say whose argument it was."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from normexp.base.errors import DtypeError, InputError, NormexpError, RangeError, ShapeError


@contextmanager
def refusals_in_words(of: str, X: Any = None, y: Any = None) -> Iterator[None]:
    """Raise what is refused within as a `NormexpError` that is the same builtin, in one sentence.

    Parameters
    ----------
    of : str
        The function that a person called, such as "SoftmaxClassifier.fit".
    X, y : object
        Its rows and labels, to say where something stands in them.

    Raises
    ------
    ShapeError, RangeError, InputError
        For a ValueError; the words of scikit-learn that people search for stay in it.
    DtypeError
        For a TypeError.

    Notes
    -----
    Costs nothing until something is refused. ``NotFittedError`` passes as it is, and so do all of normexp's own.
    """
    try:
        yield
    except NormexpError:
        raise
    except (ValueError, TypeError) as error:
        if isinstance(error, AttributeError):  # scikit-learn's NotFittedError is both
            raise
        raise _as_ours(error, of, X, y) from None
    except RuntimeError as error:
        if "requires grad" not in str(error):
            raise
        raise DtypeError(f"{of}: a tensor asks for a gradient, which is not passed on; tensor.detach() does.") from None


def _as_ours(error: Exception, of: str, X: Any, y: Any) -> NormexpError:
    """The error to raise instead."""
    words = str(error)
    if isinstance(error, TypeError) and not isinstance(error, ValueError):
        return DtypeError(f"{of}: {words}")
    if found := re.search(r"inconsistent numbers of samples: \[([^,]+), ([^\]]+)\]", words):
        rows, labels = (re.sub(r"\D", "", part.split("(")[-1]) for part in found.groups())
        return ShapeError(
            f"{of}: Found input variables with inconsistent numbers of samples: X has {rows} rows and y has {labels} "
            "labels; one label for each row would be right."
        )
    if found := re.match(r"Input (\w+) contains (NaN|infinity[^.]*)", words):
        name, what = found.groups()
        return RangeError(
            f"{of}: Input {name} contains {what}{_where(y if name == 'y' else X)}; finite numbers would be right: "
            "fill such cells (with sklearn.impute.SimpleImputer, say), or leave their rows out."
        )
    if re.match(r"could not convert string|[Uu]nable to convert array of bytes/strings|dtype='numeric' is not", words):
        return InputError(
            f"{of}: X holds text, which is no number ({words.splitlines()[0].rstrip('.')}); encode such columns first, "
            "with sklearn.preprocessing.OneHotEncoder, say, or by `normexp fit`, which reads tables."
        )
    if found := re.match(r"Expected 2D array, got (\w+) array instead", words):
        return ShapeError(
            f"{of}: {found.group()}, X of shape {np.shape(X)}; rows with features would be right. Reshape your data: "
            "X.reshape(-1, 1) where it is one feature, X.reshape(1, -1) where it is one row."
        )
    if re.match(r"X has \d+ features, but", words):
        return ShapeError(f"{of}: {words.rstrip('.')}; give the columns of the fit, in their order.")
    if words.startswith("Complex data not supported"):
        return RangeError(f"{of}: Complex data not supported; real numbers would be right.")
    kind = ShapeError if re.match(r"Found array with|bad input shape|y should be a 1d", words) else RangeError
    return kind(f"{of}: {words}")


def _where(values: Any) -> str:
    """Where the first number that is not finite stands; nothing where that cannot be told."""
    try:
        if hasattr(values, "tocoo"):
            cells = values.tocoo()
            bad = np.flatnonzero(~np.isfinite(cells.data))
            at: tuple[int, ...] = min(zip(cells.row[bad].tolist(), cells.col[bad].tolist(), strict=True))
        else:
            array = np.asarray(values, dtype=np.float64)
            at = tuple(int(one) for one in np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape))
    except (TypeError, ValueError):
        return ""
    column = f", column {at[1]}" if len(at) == 2 else ""
    return f", first in row {at[0]}{column} (both count from 0)" if column else f", first in row {at[0]} (from 0)"
