"""The reliability curve: observed accuracy at each level of stated confidence, with a band."""

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from normexp.base.checks import check_whole
from normexp.base.errors import RangeError, ShapeError
from normexp.base.plain_arrays import plain_numbers
from normexp.metrics.door import Rows, read_count, read_level, read_rows
from normexp.metrics.ece import confidence_gap, mass_bins, width_bins
from normexp.metrics.sums import Floats, weighted_counts

ROUNDING: Final = 1e-9  # of a weighted count of successes that is all of the trials


class ReliabilityCurve(NamedTuple):
    """One entry for each bin that holds rows, in the order of confidence.

    Parameters
    ----------
    n_rows : ndarray of float64, shape (B,)
        Rows in the bin; with weights, their total weight.
    confidence, accuracy : ndarray of float64, shape (B,)
        Mean stated probability, and observed frequency.
    low, high : ndarray of float64, shape (B,)
        Ends of the interval for the frequency.
    """

    n_rows: Floats
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats


def reliability_curve(
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    n_bins: int = 15,
    bins: Literal["width", "mass"] = "width",
    label: int | None = None,
    level: float = 0.95,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    r"""Observed frequency against stated probability, bin by bin.

    Parameters
    ----------
    y : array-like of int, shape (N,)
        Class indices.
    prediction : array-like, shape (N, K)
        Logits, or probabilities.
    n_bins : int, default 15
        Number of bins; empty ones are left out.
    bins : {"width", "mass"}, default "width"
        Bins of equal width, or holding equal numbers of rows.
    label : int, optional
        The class whose probability is judged; by default that of the decided class (top-label calibration).
    level : float, default 0.95
        Level of the band, within (0, 1).
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    ReliabilityCurve
        (n_rows, confidence, accuracy, low, high).

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the arguments do not fit together, hold NaN, or name a class that is not there.

    Notes
    -----
    The band is Wilson's binomial interval for each bin by itself, with the effective number of rows
    :math:`(\sum w)^2 / \sum w^2`. A calibrated model leaves it in about one bin of twenty.

    Examples
    --------
    >>> prob = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]
    >>> curve = reliability_curve([0, 0, 0, 1], prob, n_bins=2, bins="mass", from_logits=False)
    >>> curve.accuracy
    array([0.5, 1. ])
    """
    rows = read_rows(y, prediction, of="reliability_curve", from_logits=from_logits, sample_weight=sample_weight)
    n_bins = read_count(n_bins, of="reliability_curve", name="n_bins")
    level = read_level(level, of="reliability_curve")
    if not isinstance(bins, str) or bins not in ("width", "mass"):
        raise RangeError(f'reliability_curve: bins is {bins!r}; "width" or "mass" would be right.')
    prob, hit = _stated(rows, label)
    cell = width_bins(prob, n_bins) if bins == "width" else mass_bins(prob, rows.weight, n_bins)
    return _curve(prob, hit, rows.weight, cell, level)


def wilson(successes: ArrayLike, trials: ArrayLike, /, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's interval for a proportion; trials need not be whole numbers, and 0 trials give (0, 1).

    Parameters
    ----------
    successes, trials : array-like, same shape
        Counts, or effective counts.
    level : float, default 0.95
        Within (0, 1).

    Returns
    -------
    low, high : ndarray of float64
        Ends of the interval, within [0, 1].

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If the counts are no numbers, differ in shape, or are more successes than trials; or if `level` lies outside
        (0, 1).

    References
    ----------
    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    level = read_level(level, of="wilson")
    n = plain_numbers(trials, of="wilson", name="trials").astype(np.float64)
    held = plain_numbers(successes, of="wilson", name="successes").astype(np.float64)
    if held.shape != n.shape:
        raise ShapeError(f"wilson: successes has shape {held.shape}; that of trials, {n.shape}, would be right.")
    if not ((held >= 0.0) & (held <= n * (1.0 + ROUNDING)) & np.isfinite(n)).all():
        raise RangeError("wilson: each entry of successes must lie between 0 and that of trials, and all be finite.")
    rate = np.divide(np.minimum(held, n), n, out=np.full(n.shape, 0.5), where=n > 0)
    z = float(ndtri(0.5 + 0.5 * level))
    centre = n * rate + 0.5 * z * z
    half = z * np.sqrt(n * rate * (1.0 - rate) + 0.25 * z * z)
    return np.maximum((centre - half) / (n + z * z), 0.0), np.minimum((centre + half) / (n + z * z), 1.0)


def _stated(rows: Rows, label: int | None) -> tuple[Floats, Floats]:
    """Probability under judgement, and whether it came true, each (N,)."""
    if label is None:
        confidence, gap = confidence_gap(rows)
        return confidence, (gap <= 0).astype(np.float64)
    label = check_whole(label, of="reliability_curve", name="label", right="a class index, or None,")
    if not 0 <= label < rows.n_classes:
        raise RangeError(f"reliability_curve: label is {label}; there are {rows.n_classes} classes, counted from 0.")
    prob = np.concatenate([block[:, label] for _, block in rows.probability_blocks()])
    return prob, (rows.target == label).astype(np.float64)


def _curve(prob: Floats, hit: Floats, weight: Floats, cell: NDArray[np.intp], level: float) -> ReliabilityCurve:
    """Means over the cells that hold weight."""
    count = weighted_counts(cell, weight)
    held = count > 0
    count, squared = count[held], weighted_counts(cell, weight * weight)[held]
    confidence = weighted_counts(cell, weight * prob)[held] / count
    accuracy = np.minimum(weighted_counts(cell, weight * hit)[held] / count, 1.0)
    effective = count * count / squared
    low, high = wilson(accuracy * effective, effective, level=level)
    return ReliabilityCurve(count, confidence, accuracy, low, high)
