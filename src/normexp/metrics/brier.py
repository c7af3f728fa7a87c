"""Brier score, summed over the classes, and its split into calibration and refinement."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from normexp.metrics.door import Rows, read_rows, squared_error
from normexp.metrics.sums import Floats, GroupedSums, weighted_counts, weighted_mean


class Decomposition(NamedTuple):
    """The Brier score, taken apart: ``score = calibration + refinement = calibration - discrimination + uncertainty``.

    Parameters
    ----------
    calibration : float
        What recalibrating each class's probabilities would have won on these rows; 0 is best.
    refinement : float
        What would be left then: the classes that the predictions cannot tell apart.
    discrimination : float
        What the predictions win over the class frequencies alone, once recalibrated.
    uncertainty : float
        The score of predicting the class frequencies of these rows.
    score : float
        The Brier score itself.
    """

    calibration: float
    refinement: float
    discrimination: float
    uncertainty: float
    score: float


def brier(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    r"""Mean squared distance between the probabilities and the truth, summed over the classes.

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
        Within [0, 2]; smaller is better. For two classes it is twice the score of the positive class alone.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    :math:`\sum_i w_i \sum_k (p_{ik} - [y_i = k])^2 / \sum_i w_i` (Brier, 1950).

    Examples
    --------
    >>> brier([0, 1], [[0.8, 0.2], [0.5, 0.5]], from_logits=False)
    0.29
    """
    rows = read_rows(y, prediction, of="brier", from_logits=from_logits, sample_weight=sample_weight)
    return brier_form(rows).value(rows.weight)


def decomposition(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> Decomposition:
    r"""Split the Brier score into calibration and refinement, without bins.

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
    Decomposition
        (calibration, refinement, discrimination, uncertainty, score); all at least 0, up to rounding.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    The estimator is CORP, taken class by class: the probabilities of class k are recalibrated by the isotonic
    regression of :math:`[y_i = k]` on :math:`p_{ik}` (rows with equal probability are pooled first), and the parts
    are summed over k. The sum to the score is exact, and no number of bins is to be chosen. The recalibration is
    fitted on the rows that it is judged on, so on few rows calibration is somewhat too large and refinement too
    small; :func:`ece` with ``kind="debiased"`` corrects for that. Cost: K sorts of N numbers.

    References
    ----------
    Dimitriadis, Gneiting & Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS 118(8).

    Examples
    --------
    >>> parts = decomposition([0, 1, 0, 1], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]], from_logits=False)
    >>> round(parts.calibration, 6), round(parts.refinement, 6), round(parts.score, 6)
    (0.02, 0.0, 0.02)
    """
    rows = read_rows(y, prediction, of="decomposition", from_logits=from_logits, sample_weight=sample_weight)
    total = rows.weight.sum()
    score = float(rows.weight @ squared_error(rows) / total)
    frequency = weighted_counts(rows.target, rows.weight, rows.n_classes) / total
    uncertainty = float(frequency @ (1.0 - frequency))
    prob = np.concatenate([block for _, block in rows.probability_blocks()])
    refinement = float(
        sum(
            _recalibrated_error(prob[:, k], (rows.target == k).astype(np.float64), rows.weight)
            for k in range(rows.n_classes)
        )
        / total
    )
    return Decomposition(score - refinement, refinement, uncertainty - refinement, uncertainty, score)


def brier_form(rows: Rows) -> GroupedSums:
    """Brier score as sums over all rows."""
    return GroupedSums(weighted_mean, squared_error(rows)[None])


def _recalibrated_error(prob: Floats, hit: Floats, weight: Floats) -> float:
    """Sum of weighted squared errors of one class after isotonic recalibration."""
    positive = weight > 0
    prob, hit, weight = prob[positive], hit[positive], weight[positive]
    _, level = np.unique(prob, return_inverse=True)
    level_weight = weighted_counts(level, weight)
    rate = weighted_counts(level, weight * hit) / level_weight
    fitted = isotonic_regression(rate, weights=level_weight).x[level]
    return float(weight @ (fitted - hit) ** 2)
