"""What happened to each class, and which classes are taken for which."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normexp.metrics.door import decided, read_rows
from normexp.metrics.sums import Floats, weighted_counts


class PerClass(NamedTuple):
    """One entry for each class.

    Parameters
    ----------
    support, predicted : ndarray of float64, shape (K,)
        Weight of the rows that are of the class, and of the rows decided for it.
    precision, recall, f1 : ndarray of float64, shape (K,)
        NaN where no row was decided for the class, is of the class, or either.
    frequency, mean_probability : ndarray of float64, shape (K,)
        Share of the rows, and mean predicted probability; a calibrated model has the two equal.
    """

    support: Floats
    predicted: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    frequency: Floats
    mean_probability: Floats


class ConfusionPair(NamedTuple):
    """Rows of class `true` decided for class `decided`: their weight `n_rows`, and its share of class `true`."""

    true: int
    decided: int
    n_rows: float
    share: float


def per_class(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> PerClass:
    """Precision, recall, F1, support, frequency and mean probability of each class.

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
    PerClass
        (support, predicted, precision, recall, f1, frequency, mean_probability), each of shape (K,).

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    A ratio whose denominator is 0 is NaN, not 0: that a class was never decided for is not the same as that it was
    always decided for wrongly.

    Examples
    --------
    >>> table = per_class([0, 0, 1], [[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    >>> table.recall
    array([0.5, 1. ])
    """
    rows = read_rows(y, prediction, of="per_class", from_logits=from_logits, sample_weight=sample_weight)
    decision, k, total = decided(rows), rows.n_classes, rows.weight.sum()
    support = weighted_counts(rows.target, rows.weight, k)
    predicted = weighted_counts(decision, rows.weight, k)
    right = weighted_counts(rows.target, rows.weight * (decision == rows.target), k)
    mean = np.zeros(k)
    for block, prob in rows.probability_blocks():
        mean += rows.weight[block] @ prob
    return PerClass(
        support=support,
        predicted=predicted,
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=_ratio(2.0 * right, support + predicted),
        frequency=support / total,
        mean_probability=mean / total,
    )


def confusion_pairs(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> tuple[ConfusionPair, ...]:
    """Every pair (true class, wrongly decided class) that occurs, the most frequent first.

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
    tuple of ConfusionPair
        (true, decided, n_rows, share of the true class); ties in the order of the classes. Never a K x K matrix.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Examples
    --------
    >>> confusion_pairs([0, 0, 1], [[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    (ConfusionPair(true=0, decided=1, n_rows=1.0, share=0.5),)
    """
    rows = read_rows(y, prediction, of="confusion_pairs", from_logits=from_logits, sample_weight=sample_weight)
    decision, k = decided(rows), rows.n_classes
    support = weighted_counts(rows.target, rows.weight, k)
    wrong = (decision != rows.target) & (rows.weight > 0)
    pair, inverse = np.unique(rows.target[wrong] * k + decision[wrong], return_inverse=True)
    count = weighted_counts(inverse, rows.weight[wrong], pair.size)
    order = np.argsort(-count, kind="stable")
    return tuple(
        ConfusionPair(int(p // k), int(p % k), float(c), float(c / support[p // k]))
        for p, c in zip(pair[order], count[order], strict=True)
    )


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide part by whole; NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
