"""Selective prediction: what the error becomes when only the surest rows are answered."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normexp.metrics.door import Rows, decided, log_confidence, read_rows
from normexp.metrics.sums import Floats, weighted_counts


class RiskCoverageCurve(NamedTuple):
    """Risk at each coverage that a threshold on the confidence can reach.

    Parameters
    ----------
    coverage : ndarray of float64, shape (T,)
        Share of the rows that are answered, rising to 1.
    risk : ndarray of float64, shape (T,)
        Share of errors among the answered rows.
    threshold : ndarray of float64, shape (T,)
        Answer the rows whose confidence is at least this.
    """

    coverage: Floats
    risk: Floats
    threshold: Floats


def risk_coverage_curve(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> RiskCoverageCurve:
    """Share of errors among the rows that are answered, for each threshold on the confidence.

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
    RiskCoverageCurve
        (coverage, risk, threshold), one entry for each distinct confidence; the last has coverage 1 and the error
        rate of all rows.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    Rows are ranked by log-probability, which tells apart rows whose probability rounds to 1.

    Examples
    --------
    >>> curve = risk_coverage_curve([0, 1], [[0.9, 0.1], [0.6, 0.4]], from_logits=False)
    >>> curve.coverage, curve.risk
    (array([0.5, 1. ]), array([0. , 0.5]))
    """
    rows = read_rows(y, prediction, of="risk_coverage_curve", from_logits=from_logits, sample_weight=sample_weight)
    level, weight, error = _by_confidence(rows)
    answered = np.cumsum(weight)
    return RiskCoverageCurve(answered / answered[-1], np.cumsum(error) / answered, np.exp(level))


def aurc(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    r"""Area under the risk-coverage curve: the mean risk over all coverages.

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
        Within [0, 1]; smaller is better. With no information in the confidence it is the error rate.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    :math:`\sum_i w_i R_i / \sum_i w_i`, with :math:`R_i` the risk among row i and all rows surer than it
    (Geifman & El-Yaniv, 2017). Rows of equal confidence enter in random order; the area is the expectation
    over it, by taking each such row's error as the mean of theirs. A row of weight w enters at once, so
    it counts a little differently from w rows of weight 1.

    Examples
    --------
    >>> aurc([0, 1], [[0.9, 0.1], [0.6, 0.4]], from_logits=False)
    0.25
    """
    rows = read_rows(y, prediction, of="aurc", from_logits=from_logits, sample_weight=sample_weight)
    level, weight, error = _by_confidence(rows, merge_ties=False)
    _, tie = np.unique(-level, return_inverse=True)
    shared = (weighted_counts(tie, error) / weighted_counts(tie, weight))[tie]
    risk = np.cumsum(weight * shared) / np.cumsum(weight)
    return float(weight @ risk / weight.sum())


def _by_confidence(rows: Rows, *, merge_ties: bool = True) -> tuple[Floats, Floats, Floats]:
    """Log-confidence, weight and weight of errors, the surest first, of rows or of distinct confidences."""
    decision = decided(rows)
    level = log_confidence(rows, decision)
    counts = rows.weight > 0
    level, weight = level[counts], rows.weight[counts]
    error = weight * (decision != rows.target)[counts]
    if not merge_ties:
        order = np.argsort(-level, kind="stable")
        return level[order], weight[order], error[order]
    distinct, tie = np.unique(-level, return_inverse=True)
    return -distinct, weighted_counts(tie, weight), weighted_counts(tie, error)
