"""Checks of an estimator's parameters and row weights: one function for each complaint."""

import numbers
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from normexp.base.errors import RangeError, ShapeError
from normexp.base.in_words import refusals_in_words
from normexp.base.plain_arrays import plain_numbers
from normexp.linear_model.penalties import check_penalty

_STARTS = ("lda", "naive_bayes")


def check_parameters(model: Any, *, of: str | None = None) -> None:
    """Refuse parameters of a SoftmaxClassifier that have no meaning; of: the function called, by default its fit."""
    name = of or f"{type(model).__name__}.fit"
    _check_number(name, "C", model.C, "a number above 0 (numpy.inf for no penalty)", low=0.0, open_end=True)
    _check_number(name, "tol", model.tol, "a number that is not negative, such as 1e-6", low=0.0, open_end=False)
    if not isinstance(model.max_iter, numbers.Integral) or model.max_iter < 0:
        raise RangeError(f"{name}: max_iter is {model.max_iter!r}; it must be a whole number, 0 or more.")
    if isinstance(model.init, str) and model.init not in _STARTS:
        raise RangeError(
            f"{name}: init is {model.init!r}; it must be None, 'lda', 'naive_bayes' or an array of coefficients."
        )
    check_penalty(model, of=name)


def _check_number(name: str, parameter: str, value: Any, wanted: str, *, low: float, open_end: bool) -> None:
    is_number = isinstance(value, numbers.Real) and not np.isnan(float(value))
    if not is_number or float(value) < low or (open_end and float(value) == low):
        raise RangeError(f"{name}: {parameter} is {value!r}; it must be {wanted}.")


def generator_of(random_state: Any) -> np.random.Generator:
    """The generator that an estimator's random_state stands for; the same at each call for None and for a number."""
    if random_state is None:
        return np.random.default_rng(0)
    return np.random.default_rng(check_random_state(random_state).randint(2**31))


def check_labels(y: ArrayLike) -> None:
    """Refuse labels (N,) that are not classes, as scikit-learn does.

    Whole numbers always are; scikit-learn's closer look at them, which takes as long as some Newton steps on a small
    table, only warns of more classes than half the rows.
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "biu" or 2 * len(np.unique(labels)) > len(labels):
        with refusals_in_words("SoftmaxClassifier.fit", y=y):
            check_classification_targets(y)


def check_row_weights(sample_weight: ArrayLike | None, n_rows: int, *, of: str = "fit") -> NDArray[np.float64]:
    """Return row weights as float64 (N,), ones when none are given; refuse what cannot be weights."""
    if sample_weight is None:
        return np.ones(n_rows)
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(n_rows, float(sample_weight))
    weight = np.array(plain_numbers(sample_weight, of=of, name="sample_weight"), dtype=np.float64)
    if weight.ndim != 1:
        raise ShapeError(
            f"{of}: sample_weight has {weight.ndim} dimensions; Sample weights must be 1D array or scalar."
        )
    if weight.shape != (n_rows,):
        raise ShapeError(
            f"{of}: sample_weight.shape == {weight.shape}, expected {(n_rows,)}: one weight for each row of X."
        )
    bad = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if bad.size:
        raise RangeError(
            f"{of}: sample_weight of row {bad[0]} is {weight[bad[0]]}; weights must be finite and not negative."
        )
    if not weight.any():
        raise RangeError(f"{of}: every sample_weight is zero; at least one row must count.")
    return weight


def class_factors(
    class_weight: Any, classes: NDArray[Any], counts: NDArray[np.intp] | None, *, of: str
) -> NDArray[np.float64] | None:
    """Return the weight of each class (K,) as scikit-learn understands ``class_weight``; refuse what cannot be weights.

    ``counts`` (K,) are the classes' numbers of rows, None where they are not known: of a stream.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise RangeError(
                f"{of}: class_weight is {class_weight!r}; it must be 'balanced', None or a dict {{label: weight}}."
            )
        if counts is None:
            raise RangeError(
                f"{of}: class_weight 'balanced' needs the whole of y, which a batch is not; pass a dict of weights, "
                "such as {label: n_rows / (n_classes * count)}."
            )
        return np.asarray(counts.sum() / (len(classes) * counts), dtype=np.float64)
    if not isinstance(class_weight, Mapping):
        raise RangeError(
            f"{of}: class_weight is a {type(class_weight).__name__}; it must be 'balanced', None or a dict "
            "{label: weight}."
        )
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown and any(label not in class_weight for label in labels):  # classes that a fold lacks are no mistake
        raise RangeError(
            f"{of}: class_weight names {unknown[0]!r}, which is not among the classes {labels[:8]!r}, and leaves some "
            "of these out; give labels as they stand in y."
        )
    for label, value in class_weight.items():
        if not isinstance(value, numbers.Real) or not 0.0 <= float(value) < np.inf:
            raise RangeError(
                f"{of}: class_weight of {label!r} is {value!r}; weights must be finite numbers that are not negative."
            )
    factors = np.array([float(class_weight.get(label, 1.0)) for label in labels])
    if not factors.any():
        raise RangeError(f"{of}: class_weight is zero for every class; at least two classes must count.")
    return factors


def check_weighted_classes(classes: NDArray[Any], weights: NDArray[Any], *, of: str) -> None:
    """Refuse classes (K,) of which only one has any weight (K,): no finite intercept tells it from nothing."""
    counted = np.flatnonzero(weights > 0)
    if len(counted) == 1:
        only = classes.tolist()[counted[0]]
        raise RangeError(
            f"{of}: only rows of the class {only!r} have a weight above zero; at least 2 classes "
            "must count to be told apart: give weight to rows of another class."
        )


def checked_start(init: ArrayLike, n_scores: int, n_features: int, *, intercept: bool) -> NDArray[np.float64]:
    """Return starting coefficients as float64 (S, D + 1), or (S, D) without intercept; refuse what is no start."""
    try:
        start = np.asarray(init, dtype=np.float64)
    except (TypeError, ValueError):
        raise RangeError(
            "SoftmaxClassifier.fit: init holds something that is no number, or rows of unequal lengths; an array of "
            "coefficients is needed."
        ) from None
    wanted = (n_scores, n_features + intercept)
    if start.shape != wanted:
        raise ShapeError(
            f"SoftmaxClassifier.fit: init has shape {start.shape}; {wanted} is needed: one row for each score, "
            f"one column for each feature{' and one for the intercept' if intercept else ''}."
        )
    bad = np.argwhere(~np.isfinite(start))
    if len(bad):
        row, column = bad[0].tolist()
        raise RangeError(
            f"SoftmaxClassifier.fit: init holds {start[row, column]} in row {row}, column {column}; starting "
            "coefficients must be finite: leave init out, or mend them."
        )
    return start


def is_number(value: Any) -> bool:
    """Whether an option, of any type whatever its annotation says, is a real number."""
    return isinstance(value, numbers.Real)


def is_path(value: Any) -> bool:
    """Whether it is the path of a file."""
    return isinstance(value, (str, PathLike))
