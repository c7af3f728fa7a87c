"""Could the gaps between confidence and accuracy be chance? A test by consistency resampling."""

import numpy as np
from numpy.typing import ArrayLike

from normexp.metrics.door import read_count, read_generator, read_rows
from normexp.metrics.ece import confidence_gap, mass_bins
from normexp.metrics.sums import weighted_counts


def calibration_test(
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    n_bins: int = 15,
    n_resamples: int = 1000,
    rng: np.random.Generator | int | None = None,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""P-value of the top-label calibration: how often a calibrated model shows gaps as large as these.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    n_bins : int, default 15
        Number of bins of equal mass over which gaps are averaged.
    n_resamples : int, default 1000
        Number of simulated outcomes; the p-value is at least ``1 / (n_resamples + 1)``.
    rng : numpy.random.Generator or int, optional
        Source of randomness; an int makes the value repeatable.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    float
        Within (0, 1]. Small: the predictions are miscalibrated beyond doubt; how much, :func:`ece` tells.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    Each row's hit is drawn anew with its stated confidence as probability, and
    :math:`\sum_B n_B \bar g_B^2` over the bins (:math:`\bar g` the mean gap) is compared with its observed value. Other
    than an interval around the observed gaps, this holds on few rows too: 45 hits of 45 at a confidence of 0.97 are
    no evidence of timidity, although the observed hits show no spread at all.

    References
    ----------
    Bröcker & Smith (2007), "Increasing the reliability of reliability diagrams", Weather and Forecasting 22.

    Examples
    --------
    >>> prob = [[0.97, 0.03]] * 45
    >>> calibration_test([0] * 45, prob, from_logits=False, rng=0) > 0.05
    True
    >>> calibration_test([0] * 300, [[0.9, 0.1]] * 300, from_logits=False, rng=0) < 0.01
    True
    """
    rows = read_rows(y, prediction, of="calibration_test", from_logits=from_logits, sample_weight=sample_weight)
    n_bins = read_count(n_bins, of="calibration_test", name="n_bins")
    n_resamples = read_count(n_resamples, of="calibration_test", name="n_resamples")
    generator = read_generator(rng, of="calibration_test")
    confidence, gap = confidence_gap(rows)
    group = mass_bins(confidence, rows.weight, n_bins)
    mass = weighted_counts(group, rows.weight, n_bins)
    mass[mass == 0] = 1.0  # an empty bin has no gap either

    def spread(gaps: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float((weighted_counts(group, rows.weight * gaps, n_bins) ** 2 / mass).sum())

    observed = spread(gap) * (1.0 - 1e-9)  # equal outcomes must count as equal whatever the rounding
    extreme = sum(
        spread(confidence - (generator.random(rows.n_rows) < confidence)) >= observed for _ in range(n_resamples)
    )
    return (1 + extreme) / (1 + n_resamples)
