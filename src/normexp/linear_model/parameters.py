"""Checks of an estimator's parameters and row weights: one function for each complaint."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets

from normexp.base.errors import RangeError, ShapeError
from normexp.base.in_words import refusals_in_words
from normexp.linear_model.penalties import check_penalty

_STARTS = ("lda", "naive_bayes")


def check_parameters(model: Any) -> None:
    """Refuse parameters of a SoftmaxClassifier that have no meaning."""
    name = type(model).__name__
    _check_number(name, "C", model.C, "a number above 0 (numpy.inf for no penalty)", low=0.0, open_end=True)
    _check_number(name, "tol", model.tol, "a number that is not negative, such as 1e-6", low=0.0, open_end=False)
    if not isinstance(model.max_iter, numbers.Integral) or model.max_iter < 0:
        raise RangeError(f"{name}.fit: max_iter is {model.max_iter!r}; it must be a whole number, 0 or more.")
    if isinstance(model.init, str) and model.init not in _STARTS:
        raise RangeError(
            f"{name}.fit: init is {model.init!r}; it must be None, 'lda', 'naive_bayes' or an array of coefficients."
        )
    check_penalty(model)


def _check_number(name: str, parameter: str, value: Any, wanted: str, *, low: float, open_end: bool) -> None:
    is_number = isinstance(value, numbers.Real) and not np.isnan(float(value))
    if not is_number or float(value) < low or (open_end and float(value) == low):
        raise RangeError(f"{name}.fit: {parameter} is {value!r}; it must be {wanted}.")


def check_labels(y: ArrayLike) -> None:
    """Refuse labels (N,) that are not classes, as scikit-learn does.

    Whole numbers always are; scikit-learn's closer look at them, which takes as long as some Newton steps on a small
    table, only warns of more classes than half the rows.
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "biu" or 2 * len(np.unique(labels)) > len(labels):
        with refusals_in_words("SoftmaxClassifier.fit", y=y):
            check_classification_targets(y)


def check_row_weights(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Return row weights as float64 (N,), ones when none are given; refuse what cannot be weights."""
    if sample_weight is None:
        return np.ones(n_rows)
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(n_rows, float(sample_weight))
    weight = np.array(sample_weight, dtype=np.float64)
    if weight.ndim != 1:
        raise ShapeError(f"fit: sample_weight has {weight.ndim} dimensions; Sample weights must be 1D array or scalar.")
    if weight.shape != (n_rows,):
        raise ShapeError(
            f"fit: sample_weight.shape == {weight.shape}, expected {(n_rows,)}: one weight for each row of X."
        )
    bad = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if bad.size:
        raise RangeError(
            f"fit: sample_weight of row {bad[0]} is {weight[bad[0]]}; weights must be finite and not negative."
        )
    if not weight.any():
        raise RangeError("fit: every sample_weight is zero; at least one row must count.")
    return weight
