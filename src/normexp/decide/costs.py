"""Decisions that weigh what an error costs, and how often classes come."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.checks import check_number
from normexp.base.errors import RangeError, ShapeError
from normexp.decide.door import read_numbers, read_prediction
from normexp.metrics.door import name_rows

MOST_COST: Final = 1e300


def cost_decision(prob: ArrayLike, cost_matrix: ArrayLike, /) -> NDArray[np.intp]:
    r"""Decision of least expected cost for each row.

    Parameters
    ----------
    prob : array-like, shape (N, K)
        Calibrated probabilities.
    cost_matrix : array-like, shape (K, A)
        ``cost_matrix[true, decided]``, finite. With A > K the further columns are decisions such as "ask a person".

    Returns
    -------
    ndarray of int, shape (N,)
        Index of the decision; the first one where several tie.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If rows do not sum to 1, the matrix does not fit, or says that the right decision costs more than a wrong one.

    Notes
    -----
    :math:`\arg\min_a \sum_k p_k C_{ka}` (Elkan, 2001). With ``1 - eye(K)`` this is the most probable class.

    References
    ----------
    Elkan (2001), "The foundations of cost-sensitive learning", IJCAI, eq. 1.

    Examples
    --------
    >>> from normexp.decide import cost_decision
    >>> cost_decision([[0.9, 0.1], [0.99, 0.01]], [[0, 1], [20, 0]])  # missing class 1 costs 20
    array([1, 0])
    """
    rows = read_prediction(prob, of="cost_decision", from_logits=False)
    cost = read_numbers(cost_matrix, of="cost_decision", name="cost_matrix")
    k = rows.n_classes
    if cost.ndim != 2 or cost.shape[0] != k or cost.shape[1] < k:
        raise ShapeError(
            f"cost_decision: cost_matrix has shape {cost.shape} and prob {k} classes; one row for each true class and "
            f"one column for each decision, ({k}, {k}) or wider, would be right."
        )
    bad = np.asarray(~np.isfinite(cost).all(axis=1))
    if bad.any():
        raise RangeError(f"cost_decision: cost_matrix is not finite in {name_rows(bad)}.")
    less = cost[:, :k] < np.diagonal(cost)[:, None]
    if less.any():
        true, decided = np.argwhere(less)[0]
        raise RangeError(
            f"cost_decision: cost_matrix says that for true class {true} deciding {decided} costs "
            f"{cost[true, decided]:g} and deciding {true} costs {cost[true, true]:g}; the right decision must not cost "
            "more than a wrong one. Rows are true classes, columns decisions: is the matrix transposed?"
        )
    if np.abs(cost).max() > MOST_COST:
        cost = np.ldexp(cost, -4)  # sums of K costs with weights that add up to 1 then are finite
    return np.asarray((rows.prediction.astype(np.float64) @ cost).argmin(axis=1), dtype=np.intp)


def balanced_decision(logits: ArrayLike, prior: ArrayLike, /, *, strength: float = 1.0) -> NDArray[np.intp]:
    r"""Decision that counts every class alike, however rare: logit adjustment.

    Parameters
    ----------
    logits : array-like, shape (N, K)
        Logits of a model fitted without class weights.
    prior : array-like, shape (K,)
        Shares of the classes in its training rows, above 0.
    strength : float, default 1.0
        1 maximises balanced accuracy for calibrated logits; 0 is the most probable class.

    Returns
    -------
    ndarray of int, shape (N,)
        Class indices.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the prior does not fit, logits hold NaN, or strength is no number from -100 to 100.

    Notes
    -----
    :math:`\arg\max_k z_k - \tau\log\pi_k`. Probabilities are left as they are; only the decision moves.

    References
    ----------
    Menon et al. (2021), "Long-tail learning via logit adjustment", ICLR, eq. 9.

    Examples
    --------
    >>> from normexp.decide import balanced_decision
    >>> balanced_decision([[1.0, 0.0]], [0.9, 0.1])
    array([1])
    """
    rows = read_prediction(logits, of="balanced_decision", from_logits=True)
    strength = check_number(strength, of="balanced_decision", name="strength", low=-100.0, high=100.0)
    share = read_numbers(prior, of="balanced_decision", name="prior")
    if share.shape != (rows.n_classes,):
        raise ShapeError(f"balanced_decision: prior has shape {share.shape}; ({rows.n_classes},) would be right.")
    if not (np.isfinite(share) & (share > 0)).all():
        raise RangeError(
            "balanced_decision: prior must be finite and above 0 for each class; leave absent classes out."
        )
    adjusted = rows.prediction - strength * np.log(share)  # their sum is the same for all classes
    return np.asarray(adjusted.argmax(axis=1), dtype=np.intp)
