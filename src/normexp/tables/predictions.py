"""What a model says about some rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trust:
    """What a trusted model says of some rows beside its probabilities.

    Parameters
    ----------
    decision : ndarray of str, shape (N,)
        The decided class, or "unknown" for rows that are refused.
    sets : ndarray of str, shape (N,)
        The classes of the set, most probable first, with ``|`` between them.
    unknown_score : ndarray of float64, shape (N,)
        How little a row looks like any known class; larger is stranger.
    reason : ndarray of str, shape (N,)
        What spoke loudest for or against the label; empty where the model cannot tell.
    """

    decision: NDArray[np.str_]
    sets: NDArray[np.str_]
    unknown_score: NDArray[np.float64]
    reason: NDArray[np.str_]


@dataclass(frozen=True)
class Predictions:
    """Predictions for some rows that follow one another.

    Parameters
    ----------
    label : ndarray of str or int64, shape (N,)
        The most probable class of each row, as it stood in the training file.
    probability : ndarray of float64, shape (N,)
        Its probability.
    log_probability : ndarray of float64, shape (N,)
        Its logarithm, exact also where the probability rounds to 1.
    entropy : ndarray of float64, shape (N,)
        Doubt of the whole distribution, in nats: 0 is certain, log K knows nothing.
    top_labels : ndarray, shape (N, k), or None
        The k most probable classes, most probable first.
    top_probabilities : ndarray of float64, shape (N, k), or None
        Their probabilities.
    trust : Trust or None
        What a trusted model says beside.
    """

    label: NDArray[Any]
    probability: NDArray[np.float64]
    log_probability: NDArray[np.float64]
    entropy: NDArray[np.float64]
    top_labels: NDArray[Any] | None = None
    top_probabilities: NDArray[np.float64] | None = None
    trust: Trust | None = None

    def to_frame(self) -> pl.DataFrame:
        """Put the predictions into a table.

        Returns
        -------
        polars.DataFrame
            Columns label, probability, log_probability, entropy; top_1, top_1_probability, … where asked for; and
            decision, set, unknown_score, reason of a trusted model.
        """
        columns: dict[str, Any] = {
            "label": self.label,
            "probability": self.probability,
            "log_probability": self.log_probability,
            "entropy": self.entropy,
        }
        if self.top_labels is not None and self.top_probabilities is not None:
            for rank in range(self.top_labels.shape[1]):
                columns[f"top_{rank + 1}"] = self.top_labels[:, rank]
                columns[f"top_{rank + 1}_probability"] = self.top_probabilities[:, rank]
        if self.trust is not None:
            columns |= {
                "decision": self.trust.decision,
                "set": self.trust.sets,
                "unknown_score": self.trust.unknown_score,
                "reason": self.trust.reason,
            }
        return pl.DataFrame({name: _plain(column) for name, column in columns.items()})


def _plain(column: NDArray[Any]) -> Any:
    """Give a column as polars takes: text as a list of strings."""
    return column.tolist() if column.dtype.kind in "UO" else np.ascontiguousarray(column)
