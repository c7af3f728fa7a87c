"""Log loss: the mean of minus the log of the true class's probability, from logits without a detour."""

from numpy.typing import ArrayLike

from normexp.metrics.door import Rows, nll, read_rows
from normexp.metrics.sums import GroupedSums, weighted_mean


def log_loss(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    r"""Mean of minus the log-probability of the true class, in nats.

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
        At least 0; smaller is better. A strictly proper score: only the true probabilities minimise it.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    :math:`-\sum_i w_i \log p_{i, y_i} / \sum_i w_i`. Nothing is clipped: from logits the loss is computed by
    :func:`normexp.cross_entropy`, which is right to 1 ULP however confident the row; and probability 0 at the true
    class of a row gives +inf, which is what a certain error costs.

    Examples
    --------
    >>> round(log_loss([0, 1], [[0.0, 0.0], [0.0, 0.0]]), 6)
    0.693147
    >>> log_loss([1], [[1000.0, 0.0]])
    1000.0
    """
    rows = read_rows(y, prediction, of="log_loss", from_logits=from_logits, sample_weight=sample_weight)
    return log_loss_form(rows).value(rows.weight)


def log_loss_form(rows: Rows) -> GroupedSums:
    """Log loss as sums over all rows."""
    return GroupedSums(weighted_mean, nll(rows)[None])
