"""Rows that are copies of others: they prove nothing twice, and stand on both sides of a split."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.fingerprints import row_prints
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.metrics.door import BLOCK_ELEMENTS
from normexp.ops import log_softmax

FEWEST_DISTINCT: Final = 20  # distinct logits; the leaves of a small tree are fewer, and its rows are no copies
CHANCE: Final = 1e-4  # of so few disagreements among rows of equal logits, were they drawn one by one
MOST_DISAGREEING: Final = 0.01  # of the repeated rows; copies agree


class Merged(NamedTuple):
    """Rows without copies.

    Parameters
    ----------
    rows : CalibrationRows
        M rows.
    n_copies : int
        How many went.
    place : ndarray of int, shape (N,)
        Where each given row, or what it was a copy of, stands among them.
    """

    rows: CalibrationRows
    n_copies: int
    place: NDArray[np.intp]


def merge_copies(rows: CalibrationRows, /) -> Merged:
    r"""One row for all copies of it, and how many rows were copies; the same rows and 0 where none are.

    Parameters
    ----------
    rows : CalibrationRows
        N rows.

    Returns
    -------
    Merged
        One row for each distinct pair of logits and class, at its first place, with the weights of its copies summed
        and then all brought to the mean weight that the rows had: ten copies of each row are the rows.

    Notes
    -----
    Equal logits alone prove nothing: trees, votes and coarse features repeat them, and then the classes differ as often
    as the probabilities say. Let :math:`t_i` be the class of the first row with the logits of row i. Were the classes
    drawn one by one, row i would differ from :math:`t_i` with probability :math:`1 - p_i(t_i)`, independently; with
    :math:`\mu` the sum of these over the repeated rows, d differences or fewer have a chance of at most
    :math:`e^{-\mu + d + d\log(\mu/d)}` (Chernoff). Below 1e-4, and where no more than one in a hundred differs, the
    rows are copies. For p stands the larger of the given probability and that after a temperature fitted on one row of
    each distinct logits, so that a model which is merely too modest is not taken for one with copies.

    Cost: a hash of each row; a temperature where logits repeat.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(100, 3))
    >>> y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> index = np.repeat(np.arange(100), 4)
    >>> merge_copies(CalibrationRows(z, index, y[index], np.ones(400)))[1]
    300
    """
    first = _first_with_same_logits(rows)
    repeated = np.flatnonzero(first != np.arange(rows.n_rows))
    if not repeated.size or rows.n_rows - repeated.size < FEWEST_DISTINCT:
        return Merged(rows, 0, np.arange(rows.n_rows))
    differing = int(np.count_nonzero(rows.target[repeated] != rows.target[first[repeated]]))
    if differing > MOST_DISAGREEING * repeated.size:
        return Merged(rows, 0, np.arange(rows.n_rows))
    distinct = rows.take(np.flatnonzero(first == np.arange(rows.n_rows)))
    temperature, _ = fit_temperature(distinct, 1.0)
    expected = _expected_differences(rows, first, repeated, temperature)
    if _chance(differing, expected) >= CHANCE:
        return Merged(rows, 0, np.arange(rows.n_rows))
    pair = first * rows.n_classes + rows.target
    _, start, place = np.unique(pair, return_index=True, return_inverse=True)
    total = np.bincount(place, rows.weight)
    order = np.argsort(start)
    merged = rows.take(start[order])
    weight: Floats = np.asarray(total[order] * (order.size / rows.n_rows), dtype=np.float64)
    return Merged(
        CalibrationRows(merged.logits, merged.index, merged.target, weight),
        rows.n_rows - order.size,
        np.argsort(order)[place],
    )


def _first_with_same_logits(rows: CalibrationRows) -> NDArray[np.intp]:
    """Position of the first row in use with the same logits, bit for bit, (N,)."""
    prints = np.empty(rows.n_rows, dtype=np.int64)
    step = max(1, BLOCK_ELEMENTS // rows.n_classes)
    for start in range(0, rows.n_rows, step):
        prints[start : start + step] = row_prints(rows.logits[rows.index[start : start + step]])
    _, first, place = np.unique(prints, return_index=True, return_inverse=True)
    return np.asarray(first[place], dtype=np.intp)


def _expected_differences(
    rows: CalibrationRows, first: NDArray[np.intp], repeated: NDArray[np.intp], temperature: float
) -> float:
    """How many repeated rows would have another class than the first of them, were all drawn one by one."""
    again = CalibrationRows(rows.logits, rows.index[repeated], rows.target[first[repeated]], rows.weight[repeated])
    expected = 0.0
    for block, z in again.blocks():
        place = np.arange(z.shape[0]), again.target[block]
        given = np.asarray(log_softmax(z))[place]
        mended = np.asarray(log_softmax(z, temperature=temperature))[place]
        expected += float(-np.expm1(np.maximum(given, mended)).sum())
    return expected


def _chance(found: int, expected: float) -> float:
    """Bound of the chance that a sum of independent yes-or-no numbers of mean `expected` is `found` or less."""
    if found >= expected:
        return 1.0
    return math.exp(found - expected + (found * math.log(expected / found) if found else 0.0))
