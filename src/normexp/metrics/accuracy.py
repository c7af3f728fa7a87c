"""Shares of rows that are decided rightly: accuracy, balanced accuracy, top-k accuracy."""

import numpy as np
from numpy.typing import ArrayLike

from normexp.metrics.door import Rows, decided, read_count, read_rows
from normexp.metrics.sums import FIRST, WEIGHT, Floats, GroupedSums, weighted_mean


def accuracy(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    """Share of rows whose most probable class is the true one.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]. Where several classes tie for the largest, the first of them is taken as the decision.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Examples
    --------
    >>> accuracy([0, 1, 1], [[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    0.6666666666666666
    """
    rows = read_rows(y, prediction, of="accuracy", from_logits=from_logits, sample_weight=sample_weight)
    return accuracy_form(rows).value(rows.weight)


def balanced_accuracy(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    """Mean over classes of the share of the class's rows that are decided rightly (the mean recall).

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]. Classes without a row in `y` are left out of the mean.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Examples
    --------
    >>> balanced_accuracy([0, 0, 0, 1], [[1.0, 0.0]] * 4)
    0.5
    """
    rows = read_rows(y, prediction, of="balanced_accuracy", from_logits=from_logits, sample_weight=sample_weight)
    return balanced_accuracy_form(rows).value(rows.weight)


def top_k_accuracy(
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    k: int = 5,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Share of rows whose true class is among the k most probable.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    k : int, default 5
        How many classes may be named; K or more gives 1.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]. Ties are broken by the class index, as in :func:`accuracy`, so that k = 1 gives the same.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there; or k is below 1.

    Examples
    --------
    >>> top_k_accuracy([2, 2], [[3.0, 1.0, 2.0], [3.0, 2.0, 1.0]], k=2)
    0.5
    """
    rows = read_rows(y, prediction, of="top_k_accuracy", from_logits=from_logits, sample_weight=sample_weight)
    return top_k_form(rows, k=k).value(rows.weight)


def accuracy_form(rows: Rows) -> GroupedSums:
    """Accuracy as sums over all rows."""
    right = (decided(rows) == rows.target).astype(np.float64)
    return GroupedSums(weighted_mean, right[None], proportion=True)


def balanced_accuracy_form(rows: Rows) -> GroupedSums:
    """Balanced accuracy as sums over the rows of each class."""
    right = (decided(rows) == rows.target).astype(np.float64)
    return GroupedSums(_mean_recall, right[None], rows.target, rows.n_classes, proportion=True)


def top_k_form(rows: Rows, *, k: int = 5) -> GroupedSums:
    """Top-k accuracy as sums over all rows."""
    k = read_count(k, of="top_k_accuracy", name="k")
    own = rows.prediction[np.arange(rows.n_rows), rows.target][:, None]
    before = np.arange(rows.n_classes) < rows.target[:, None]
    rank = ((rows.prediction > own) | ((rows.prediction == own) & before)).sum(axis=1)
    return GroupedSums(weighted_mean, (rank < k).astype(np.float64)[None], proportion=True)


def _mean_recall(sums: Floats) -> Floats:
    """Mean of the recalls of the classes that have weight."""
    weight = sums[..., WEIGHT]
    present = weight > 0
    recall = np.divide(sums[..., FIRST], weight, out=np.zeros_like(weight), where=present)
    mean: Floats = recall.sum(axis=1) / present.sum(axis=1)
    return mean
