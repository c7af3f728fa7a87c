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
FOLDS: Final = 4
MANY_NUMBERS: Final = 400_000


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
    Text has rows of length 1 with many features: C = 30. Columns of a table are standardised; a walk starts at C = 1.
    An array comes in its own unit; there it starts at 1 over the mean square of its numbers, which is what C = 1 would
    be were the array divided by their root mean square. From there C goes up or down by factors of the root of 10, at
    most ten times, as long as the held-out log loss falls: that of all four quarters in turn up to 400 000 numbers, of
    one quarter beyond. At most 4 million numbers (and 20 000 rows) are drawn; below 300 rows C stays at the start.
    """
    if schema.text:
        return SoftmaxClassifier(C=TEXT_C, random_state=seed)
    start = TABLE_C if schema.layout == "table" else TABLE_C / _mean_square(rows)
    return SoftmaxClassifier(C=_walk(rows, target, start, seed=seed), random_state=seed)


def _walk(rows: Matrix | StoredRows, target: NDArray[np.intp], start: float, *, seed: int) -> float:
    """The C of least held-out log loss among start * STEP^k, k walking in one direction from 0."""
    n_rows, n_features = rows.shape
    if n_rows < FEWEST_ROWS:
        return start
    wanted = min(n_rows, 20_000, max(2000, 4_000_000 // max(1, n_features)))
    drawn = np.random.default_rng(seed).permutation(n_rows)[:wanted]
    rows, target = rows.take(drawn) if isinstance(rows, StoredRows) else rows[drawn], target[drawn]
    folds = [
        fold
        for fold in _folds(np.arange(wanted), target, whole=wanted * n_features <= MANY_NUMBERS)
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
        way = -1 if loss(-1) < loss(0) else 1
        power = 0
        while abs(power) < MOST_STEPS and loss(power + way) < loss(power):
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
