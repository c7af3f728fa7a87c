"""The door of the estimators: rows and labels come in checked, or a sentence says what is wrong with them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from normexp.base.errors import InputError, RangeError
from normexp.base.in_words import refusals_in_words
from normexp.rows import DaskTable, StoredRows, is_dask

FLOATS = [np.float64, np.float32]

_MOST = np.iinfo(np.int32).max
# Bytes of a Dask collection that is computed where rows are needed in memory.
_COMPUTED = 1e9


def read_labelled(
    model: Any, X: Any, y: Any, /, *, of: str, reset: bool = True, look_at_labels: bool = True
) -> tuple[Any, NDArray[Any]]:
    """Rows in memory and their labels.

    Parameters
    ----------
    model : estimator
        Remembers the number and names of the columns, or compares them where ``reset`` is False.
    X : array-like, data frame or sparse matrix (N, D)
        Numbers. A Dask collection of up to 1 GB is computed.
    y : array-like (N,)
        Class labels.
    of : str
        The function that a person called.
    reset : bool
        Whether this is a new fit.
    look_at_labels : bool
        Whether labels that are not classes are refused here.

    Returns
    -------
    X : ndarray or CSR matrix (N, D)
        float32 or float64, finite; of a sparse one the indices are int32, as the kernels take them.
    y : ndarray (N,)

    Raises
    ------
    ShapeError, RangeError, InputError, DtypeError
        Each names ``of``, what came and what would be right.
    """
    refuse_rows_outside_memory(X, of=of)
    X = computed(X, of=of)
    with refusals_in_words(of, X, y):
        rows, labels = validate_data(model, X, y, accept_sparse="csr", dtype=FLOATS, reset=reset)
        if look_at_labels:
            check_classification_targets(labels)
    return _with_short_indices(rows, of), labels


def read_rows(model: Any, X: Any, /, *, of: str) -> Any:
    """Rows (N, D) to predict, with the columns of the fit; the same refusals."""
    with refusals_in_words(of, X):
        return validate_data(model, X, accept_sparse="csr", dtype=FLOATS, reset=False)


def refuse_rows_outside_memory(X: Any, /, *, of: str) -> None:
    """Say which estimator reads stored rows in blocks, instead of taking them for a scalar."""
    if isinstance(X, (StoredRows, DaskTable)):
        raise InputError(
            f"{of}: the rows in {X.where} are not in memory, where {of} needs them; SoftmaxClassifier.fit and "
            "TrustedClassifier.fit read them in blocks. Give an array, of some of the rows where all do not fit."
        )


def computed(X: Any, /, *, of: str) -> Any:
    """Return a Dask collection as the array or data frame that it stands for, and anything else as it came.

    Collections of more than 1 GB, or of unknown size, are refused: they are rarely meant to be in memory.
    """
    if not is_dask(X):
        return X
    size = _bytes_of(X)
    if not size <= _COMPUTED:
        came = "an unknown number of bytes" if np.isnan(size) else f"{size / 1e9:.3g} GB"
        raise InputError(
            f"{of}: X is a Dask collection of {came}, and {of} needs its rows in memory; up to {_COMPUTED / 1e9:g} GB "
            "are computed without being asked. SoftmaxClassifier.fit reads Dask blocks where they lie; or give "
            "X.compute(), of some of the rows where all do not fit."
        )
    return X.compute()


def _bytes_of(X: Any) -> float:
    """What a Dask array or dataframe takes in memory; NaN for an array whose chunks do not say."""
    if hasattr(X, "nbytes"):
        return float(X.nbytes)
    return float(X.memory_usage(deep=False).sum().compute())


def _with_short_indices(rows: Any, of: str) -> Any:
    """The same matrix with int32 indices; its numbers are not copied."""
    if not hasattr(rows, "indptr") or rows.indices.dtype == rows.indptr.dtype == np.int32:
        return rows
    if rows.nnz > _MOST or max(rows.shape) > _MOST:
        raise RangeError(
            f"{of}: X has {rows.nnz} stored numbers in a shape of {rows.shape}; in memory at most {_MOST} of each are "
            "possible: store it with normexp.rows.from_csr_shards, which SoftmaxClassifier.fit reads in blocks."
        )
    short = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return type(rows)((rows.data, *short), shape=rows.shape)
