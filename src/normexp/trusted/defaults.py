"""Which linear classifier is fitted when nobody says: its penalty depends on what the features are."""

import warnings
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.linear_model import SoftmaxClassifier
from normexp.metrics import log_loss
from normexp.rows import StoredRows
from normexp.tables import Schema
from normexp.tables.encoding import Matrix

TEXT_C: Final = 30.0
TABLE_C: Final = 1.0
STEP: Final = 10**0.5
MOST_STEPS: Final = 10
FEWEST_ROWS: Final = 300
LOOKED_AT: Final = 200  # rows that tell how many numbers a row holds, the same ones in memory and on disk
FOLDS: Final = 4
MANY_NUMBERS: Final = 400_000
MOST_NUMBERS: Final = 4_000_000
MOST_PRODUCTS: Final = 40_000_000


def default_estimator(
    rows: Matrix | StoredRows, target: NDArray[np.intp], schema: Schema, /, *, seed: int
) -> SoftmaxClassifier:
    """A `SoftmaxClassifier` with the penalty for the kind of rows.

    Parameters
    ----------
    rows : ndarray, csr_matrix or StoredRows, shape (N, D)
        The encoded training rows.
    target : ndarray of intp, shape (N,)
        Their class indices.
    schema : Schema
        What they were encoded from.
    seed : int
        Seed of every random choice.

    Returns
    -------
    SoftmaxClassifier
        Not yet fitted.

    Notes
    -----
    A walk starts at C = 30 for text, whose rows have length 1, and at C = 1 for columns of a table, which are
    standardised. An array comes in its own unit; there it starts at 1 over the mean square of its numbers, which is
    what C = 1 would be were the array divided by their root mean square. From there C goes up or down by factors of the
    root of 10, at most ten times, as long as the held-out log loss falls: that of all four quarters in turn up to
    400 000 numbers, of one quarter beyond. For text it goes down only: what a larger C gains there a temperature gains
    as well, at a tenth of the cost. At most 4 million numbers, of text 40 million divided by the number of classes, and
    20 000 rows are drawn; below 300 rows C stays at the start.
    """
    start = TEXT_C if schema.text else TABLE_C if schema.layout == "table" else TABLE_C / _mean_square(rows)
    chosen = _walk(rows, target, start, seed=seed, ways=(-1,) if schema.text else (-1, 1))
    return SoftmaxClassifier(C=chosen, random_state=seed)


def _walk(
    rows: Matrix | StoredRows, target: NDArray[np.intp], start: float, *, seed: int, ways: tuple[int, ...]
) -> float:
    """The C of least held-out log loss among start * STEP^k, k walking in one direction from 0."""
    n_rows = rows.shape[0]
    if n_rows < FEWEST_ROWS:
        return start
    order = np.random.default_rng(seed).permutation(n_rows)
    width = _numbers_a_row(rows, order[:LOOKED_AT])
    most = MOST_NUMBERS // width if len(ways) > 1 else MOST_PRODUCTS // (width * (int(target.max()) + 1))
    wanted = min(n_rows, 20_000, max(2000, most))
    rows, target = _taken(rows, order[:wanted]), target[order[:wanted]]
    folds = [
        fold
        for fold in _folds(np.arange(wanted), target, whole=wanted * width <= MANY_NUMBERS)
        if len(np.unique(target[fold[0]])) > 1 and len(fold[1])
    ]
    losses: dict[int, float] = {}

    def loss(power: int) -> float:
        if power not in losses:
            model = SoftmaxClassifier(C=start * STEP**power, tol=1e-3, random_state=seed)
            total = 0.0
            for used, held in folds:
                prediction = model.fit(rows[used], target[used]).predict_log_proba(rows[held])
                total += log_loss(np.searchsorted(model.classes_, target[held]), prediction)
            losses[power] = total
        return losses[power]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit that counts tells what there is to tell
        way = next((way for way in ways if loss(way) < loss(0)), 0)
        power = way
        while way and abs(power) < MOST_STEPS and loss(power + way) < loss(power):
            power += way
    return float(f"{start * STEP**power:.4g}")


def _folds(
    drawn: NDArray[np.intp], target: NDArray[np.intp], *, whole: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to judge: each of FOLDS parts in turn, or the first alone."""
    parts = np.array_split(drawn, FOLDS)
    for k, held in enumerate(parts if whole else parts[:1]):
        used = np.concatenate([part for other, part in enumerate(parts) if other != k])
        yield used, held[np.isin(target[held], target[used])]


def _taken(rows: Matrix | StoredRows, places: NDArray[np.intp]) -> Matrix:
    """Some rows, in memory."""
    return rows.take(places) if isinstance(rows, StoredRows) else rows[places]


def _numbers_a_row(rows: Matrix | StoredRows, some: NDArray[np.intp]) -> int:
    """How many numbers a row holds, in some of the rows those that are 0 by structure left out; at least 1."""
    if not (rows.is_sparse if isinstance(rows, StoredRows) else sparse.issparse(rows)):
        return int(rows.shape[1])
    taken = sparse.csr_matrix(_taken(rows, some))
    return max(1, -(-taken.nnz // len(some)))


def _mean_square(rows: Matrix | StoredRows) -> float:
    """Mean square of the numbers that are not 0 by structure, 1 where all are 0."""
    sums = [_squares(part) for part in (rows.batches() if isinstance(rows, StoredRows) else [rows])]
    total, count = sum(total for total, _ in sums), sum(count for _, count in sums)
    return total / count if total > 0 else 1.0


def _squares(rows: Matrix) -> tuple[float, int]:
    """Sum of squares of the numbers, and how many they are."""
    if sparse.issparse(rows):
        return float(np.sum(np.square(rows.data, dtype=np.float64))), rows.nnz
    flat = rows.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, 1 << 22):  # no second copy of the array
        total += float(np.sum(np.square(flat[start : start + (1 << 22)], dtype=np.float64)))
    return total, flat.size
