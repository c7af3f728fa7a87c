"""Which linear classifier is fitted when nobody says: its penalty depends on what the features are."""

from typing import Any, Final

import numpy as np
from scipy import sparse

from normexp.linear_model import SoftmaxClassifier
from normexp.tables import Schema
from normexp.tables.encoding import Matrix

TEXT_C: Final = 30.0
TABLE_C: Final = 1.0


def default_estimator(rows: Matrix, schema: Schema, /, *, seed: int) -> Any:
    """A `SoftmaxClassifier` with the penalty for the kind of rows.

    Parameters
    ----------
    rows : ndarray or csr_matrix, shape (N, D)
        The encoded training rows.
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
    Text has rows of length 1 with many features: C = 30. Columns of a table are standardised: C = 1. An array comes in
    its own unit, so C is taken relative to it: 1 over the mean square of its numbers, which is what C = 1 would be
    were the array divided by their root mean square.
    """
    if schema.text:
        penalty = TEXT_C
    elif schema.layout == "table":
        penalty = TABLE_C
    else:
        penalty = TABLE_C / _mean_square(rows)
    return SoftmaxClassifier(C=penalty, random_state=seed)


def _mean_square(rows: Matrix) -> float:
    """Mean square of the numbers that are not 0 by structure, 1 where all are 0."""
    if sparse.issparse(rows):
        total, count = float(np.sum(np.square(rows.data, dtype=np.float64))), rows.nnz
    else:
        flat = rows.reshape(-1)
        total, count = 0.0, flat.size
        for start in range(0, count, 1 << 22):  # no second copy of the array
            total += float(np.sum(np.square(flat[start : start + (1 << 22)], dtype=np.float64)))
    return total / count if total > 0 else 1.0
