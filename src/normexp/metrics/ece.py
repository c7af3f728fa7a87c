"""Calibration error: how far stated probabilities lie from observed frequencies, in four estimators."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import RangeError
from normexp.metrics.door import Rows, decided, log_confidence, read_count, read_rows
from normexp.metrics.smooth import GRID, smooth_error
from normexp.metrics.sums import FIRST, WEIGHT, WEIGHT_SQUARED, Floats, GroupedSums, weighted_counts, weighted_mean

Kind = Literal["binned", "debiased", "smooth", "classwise"]
ROWS_PER_BIN = 10  # fewer rows do not tell a bin's variance; the debiased estimator then takes fewer bins


def ece(
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    kind: Kind = "debiased",
    n_bins: int = 15,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Typical gap between confidence and accuracy: the expected calibration error.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    kind : {"debiased", "binned", "smooth", "classwise"}, default "debiased"
        Which estimator; see Notes.
    n_bins : int, default 15
        Number of bins; "smooth" has none.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within [0, 1]; 0 is best.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there; or `kind` is unknown.

    Notes
    -----
    With confidence :math:`c_i = \max_k p_{ik}`, hit :math:`h_i = [\arg\max_k p_{ik} = y_i]`, gap
    :math:`g_i = c_i - h_i` and bins B of rows with similar confidence:

    - ``"binned"``: :math:`\sum_B \frac{n_B}{N} |\bar g_B|`, bins of equal width, closed on the right (Guo et al.).
      The usual number, and biased: noise alone makes every bin's gap positive, by about :math:`0.4 / \sqrt{n_B}`.
    - ``"debiased"``: :math:`\sqrt{\max(0, \sum_B \frac{n_B}{N} (\bar g_B^2 - v_B))}`, bins of equal mass (at least
      10 rows each, else fewer bins), :math:`v_B` the estimated variance of the mean gap (Kumar et al., section 5).
      The quantity under the root has no bias from noise. It is the root of the mean square of the bins' gaps, so for
      a miscalibrated model it lies somewhat above the mean gap of ``"binned"``. Rows count as their effective
      number :math:`(\sum w)^2 / \sum w^2`, which also makes its bootstrap right.
    - ``"smooth"``: kernel smoothing instead of bins, the width being the error itself (Błasiok & Nakkiran); continuous
      in the predictions and free of choices, but with some of the bias of ``"binned"``.
    - ``"classwise"``: the binned gap of each class's probability, averaged over all K classes (Kull et al.).

    References
    ----------
    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", ICML.
    Kumar, Liang & Ma (2019), "Verified uncertainty calibration", NeurIPS.
    Kull et al. (2019), "Beyond temperature scaling", NeurIPS.
    Błasiok & Nakkiran (2024), "Smooth ECE", ICLR.

    Examples
    --------
    >>> prob = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]
    >>> round(ece([0, 0, 0, 1], prob, kind="binned", n_bins=1, from_logits=False), 6)
    0.0
    >>> round(ece([0, 0, 0, 1], prob, kind="binned", n_bins=10, from_logits=False), 6)
    0.35
    """
    rows = read_rows(y, prediction, of="ece", from_logits=from_logits, sample_weight=sample_weight)
    if kind == "classwise":
        return _classwise(rows, n_bins)
    return ece_form(rows, kind=kind, n_bins=n_bins).value(rows.weight)


def overconfidence(
    y: ArrayLike, prediction: ArrayLike, /, *, from_logits: bool = True, sample_weight: ArrayLike | None = None
) -> float:
    """Mean confidence minus accuracy: positive where the model claims too much, negative where too little.

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
        Within [-1, 1]. It can be 0 for a miscalibrated model that is too sure here and too timid there.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Examples
    --------
    >>> overconfidence([0, 1], [[0.75, 0.25], [0.75, 0.25]], from_logits=False)
    0.25
    """
    rows = read_rows(y, prediction, of="overconfidence", from_logits=from_logits, sample_weight=sample_weight)
    return overconfidence_form(rows).value(rows.weight)


def ece_form(rows: Rows, *, kind: Kind = "debiased", n_bins: int = 15) -> GroupedSums:
    """Top-label calibration error as sums over bins of confidence."""
    n_bins = read_count(n_bins, of="ece", name="n_bins")
    confidence, gap = confidence_gap(rows)
    if kind == "binned":
        return GroupedSums(_mean_gap, gap[None], width_bins(confidence, n_bins), n_bins)
    if kind == "debiased":
        used = max(1, min(n_bins, int(np.count_nonzero(rows.weight)) // ROWS_PER_BIN))
        return GroupedSums(_debiased_gap, np.stack([gap, gap * gap]), mass_bins(confidence, rows.weight, used), used)
    if kind == "smooth":
        cell = np.minimum((confidence * GRID).astype(np.intp), GRID - 1)
        return GroupedSums(_smooth_gap, gap[None], cell, GRID)
    raise RangeError(f'ece: kind is {kind!r}; "debiased", "binned", "smooth" or "classwise" would be right.')


def overconfidence_form(rows: Rows) -> GroupedSums:
    """Mean confidence minus accuracy as sums over all rows."""
    return GroupedSums(weighted_mean, confidence_gap(rows)[1][None])


def confidence_gap(rows: Rows) -> tuple[Floats, Floats]:
    """Confidence (N,) of the decision, and confidence minus hit (N,)."""
    decision = decided(rows)
    log_prob = log_confidence(rows, decision)
    confidence = np.minimum(np.exp(log_prob), 1.0)
    # From the logarithm, since 1 - confidence would round to 0 where the confidence is near 1.
    return confidence, np.where(decision == rows.target, np.expm1(np.minimum(log_prob, 0.0)), confidence)


def width_bins(prob: Floats, n_bins: int) -> NDArray[np.intp]:
    """Bin of each probability among `n_bins` of equal width, closed on the right."""
    return np.clip(np.ceil(prob * n_bins).astype(np.intp) - 1, 0, n_bins - 1)


def mass_bins(prob: Floats, weight: Floats, n_bins: int) -> NDArray[np.intp]:
    """Bin of each probability among `n_bins` of equal weight; equal probabilities share a bin."""
    level, inverse = np.unique(prob, return_inverse=True)
    level_weight = weighted_counts(inverse, weight, level.size)
    middle = (np.cumsum(level_weight) - 0.5 * level_weight) / level_weight.sum()
    bin_of_level = np.minimum((middle * n_bins).astype(np.intp), n_bins - 1)
    return np.asarray(bin_of_level[inverse], dtype=np.intp)


def _classwise(rows: Rows, n_bins: int) -> float:
    """Mean over classes of the binned gap between the class's probability and its frequency."""
    n_bins = read_count(n_bins, of="ece", name="n_bins")
    n_classes = rows.n_classes
    gap = np.zeros(n_classes * n_bins)
    for block, prob in rows.probability_blocks():
        cell = width_bins(prob, n_bins) + np.arange(n_classes) * n_bins
        error = prob.copy()
        error[np.arange(len(error)), rows.target[block]] -= 1.0
        error *= rows.weight[block, None]
        gap += weighted_counts(cell.ravel(), error.ravel(), gap.size)
    return float(np.abs(gap).sum() / (rows.weight.sum() * n_classes))


def _mean_gap(sums: Floats) -> Floats:
    """Sum over bins of the absolute gap, as a share of all weight."""
    total: Floats = np.abs(sums[..., FIRST]).sum(axis=1) / sums[..., WEIGHT].sum(axis=1)
    return total


def _debiased_gap(sums: Floats) -> Floats:
    """Root of the mean squared gap, less what noise adds to it."""
    weight, squared = sums[..., WEIGHT], sums[..., WEIGHT_SQUARED]
    effective = np.divide(weight * weight, squared, out=np.zeros_like(weight), where=squared > 0)
    usable = effective > 1.0 + 1e-9  # a bin with one row does not tell its own noise
    safe = np.where(usable, weight, 1.0)
    gap, gap_squared = sums[..., FIRST] / safe, sums[..., FIRST + 1] / safe
    noise = (gap_squared - gap * gap) / np.where(usable, effective - 1.0, 1.0)
    excess = np.where(usable, weight * (gap * gap - noise), 0.0).sum(axis=1) / weight.sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(excess, 0.0)))


def _smooth_gap(sums: Floats) -> Floats:
    """Smooth calibration error of the mean gap in each cell of the grid."""
    return smooth_error(sums[..., FIRST] / sums[..., WEIGHT].sum(axis=1, keepdims=True))
