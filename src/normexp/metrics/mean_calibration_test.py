"""Do the classes come as often as their mean probabilities say? A test whose level holds for any number of rows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.metrics.door import read_rows

Floats = NDArray[np.float64]


def mean_calibration_test(
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""P-value of calibration in the large: the mean probability of each class against how often it comes.

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
        Within [0, 1]. Small: some class comes more often, or less often, than its probabilities say, beyond doubt;
        :class:`normexp.calibration.ShareMatching` mends that.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    Were the probabilities right, the counts of class k would be a sum of independent draws, and Bennett's inequality
    bounds how probable a gap as large as the observed one would be:

    .. math:: 2 \exp\Bigl[-\frac{V_k}{b^2} h\Bigl(\frac{b |S_k|}{V_k}\Bigr)\Bigr], \quad h(u) = (1+u)\log(1+u) - u,

    with :math:`S_k = \sum_i w_i (1[y_i = k] - p_{ik})`, :math:`V_k = \sum_i w_i^2 p_{ik}(1-p_{ik})` and b the largest
    weight; K times the least of these bounds is returned (Bonferroni). Unlike a normal approximation it holds for
    classes that are expected in a fraction of a row. It is a bound: p-values are two to ten times too large. Cost: one
    softmax, a block of rows at a time.

    References
    ----------
    Boucheron, Lugosi & Massart (2013), "Concentration Inequalities", theorem 2.9 (Bennett's inequality).

    Examples
    --------
    >>> said = [[0.6, 0.4]] * 500
    >>> mean_calibration_test([0] * 300 + [1] * 200, said, from_logits=False)
    1.0
    >>> mean_calibration_test([0] * 400 + [1] * 100, said, from_logits=False) < 1e-6
    True
    """
    rows = read_rows(y, prediction, of="mean_calibration_test", from_logits=from_logits, sample_weight=sample_weight)
    gap: Floats = np.bincount(rows.target, rows.weight, rows.n_classes).astype(np.float64)
    variance: Floats = np.zeros(rows.n_classes)
    for block, prob in rows.probability_blocks():
        weight = rows.weight[block]
        gap -= weight @ prob
        variance += (weight * weight) @ (prob * (1.0 - prob))
    largest = float(rows.weight.max())
    # Two sums of N terms may differ by N roundings of their size; a gap of that size is none.
    rounding = rows.n_rows * np.finfo(np.float64).eps * float(rows.weight.sum())
    gap = np.maximum(np.abs(gap) - rounding, 0.0)
    exponent = np.where(gap > 0.0, np.inf, 0.0)
    spread = variance > 0.0
    ratio = largest * gap[spread] / variance[spread]
    exponent[spread] = variance[spread] / largest**2 * ((1.0 + ratio) * np.log1p(ratio) - ratio)
    return min(1.0, 2.0 * rows.n_classes * float(np.exp(-exponent.max())))
