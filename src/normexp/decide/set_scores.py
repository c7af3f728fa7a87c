"""How strange each class would be as the truth of a row: the three scores of conformal sets."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from normexp.decide.door import Floats
from normexp.metrics.door import BLOCK_ELEMENTS, Rows
from normexp.ops import log_softmax

CERTAIN: Final = 800.0  # above -log of the smallest float64: where the mass left is exactly 0, ranks go on from here

SCORES: Final = ("lac", "aps", "raps")


def set_scores(rows: Rows, kind: str, *, penalty: float, free_ranks: int) -> Floats:
    """Score of each class of each row, (N, K); larger is stranger, and -inf at the most probable class.

    The most probable class has the least score by decree: it is in every set, so sets are never empty, and since the
    calibration rows are scored by the same rule, the coverage stays exact.
    """
    out = np.empty((rows.n_rows, rows.n_classes))
    step = max(1, BLOCK_ELEMENTS // rows.n_classes)
    for start in range(0, rows.n_rows, step):
        block = slice(start, min(start + step, rows.n_rows))
        log_prob = _log_prob(rows.prediction[block], from_logits=rows.from_logits)
        out[block] = -log_prob if kind == "lac" else _by_mass(log_prob, kind, penalty, free_ranks)
    out[np.arange(rows.n_rows), rows.prediction.argmax(axis=1)] = -np.inf
    return out


def _log_prob(prediction: NDArray[np.floating], *, from_logits: bool) -> Floats:
    """Log-probabilities of a block."""
    if from_logits:
        return np.asarray(log_softmax(prediction.astype(np.float64)))
    with np.errstate(divide="ignore"):
        logarithm: Floats = np.log(prediction.astype(np.float64))
    return logarithm


def _by_mass(log_prob: Floats, kind: str, penalty: float, free_ranks: int) -> Floats:
    """Score by the mass of the classes that are more probable."""
    order = np.argsort(-log_prob, axis=1, kind="stable")
    ranked = np.exp(np.take_along_axis(log_prob, order, axis=1))
    # What those more probable leave, summed from the smallest on: exact where 1 - mass would round to 0.
    left = np.cumsum(ranked[:, ::-1], axis=1)[:, ::-1]
    rank = np.arange(1.0, ranked.shape[1] + 1.0)
    if kind == "raps":
        score = (1.0 - left) + penalty * np.maximum(rank - free_ranks, 0.0)
    else:
        with np.errstate(divide="ignore"):
            score = np.where(left > 0.0, -np.log(left), CERTAIN + rank)
    out: Floats = np.empty_like(ranked)
    np.put_along_axis(out, order, score, axis=1)
    return out
