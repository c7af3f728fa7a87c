"""The options of `TrustedClassifier`, looked at before any work is done, and the decisions that follow from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.checks import check_number
from normexp.base.errors import InputError, RangeError, ShapeError
from normexp.decide import cost_decision
from normexp.decide.door import read_share
from normexp.decide.shares import read_shares, read_thresholds
from normexp.ops import softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How logits become decisions.

    Parameters
    ----------
    shift : ndarray of float64, shape (K,)
        Added to the logits first: other shares, counted classes, thresholds.
    cost : ndarray of float64, shape (K, K) or (K, K + 1), or None
        ``cost[true, decided]``; a further column is what refusing costs.
    """

    shift: Floats
    cost: Floats | None

    def decide(self, logits: NDArray[Any], /) -> NDArray[np.intp]:
        """Index of the decision for each row, (N,)."""
        return self._decided(logits, None if self.cost is None else self.cost[:, : len(self.shift)])

    def refuses(self, logits: NDArray[Any], /) -> NDArray[np.bool_]:
        """Whether refusing costs less than any decision, (N,)."""
        if self.cost is None or self.cost.shape[1] == len(self.shift):
            return np.zeros(len(logits), dtype=bool)
        return np.asarray(self._decided(logits, self.cost) == len(self.shift))

    def _decided(self, logits: NDArray[Any], cost: Floats | None) -> NDArray[np.intp]:
        moved = logits + self.shift
        if cost is None or not len(moved):
            return np.asarray(moved.argmax(axis=1), dtype=np.intp)
        return cost_decision(np.asarray(softmax(moved)), cost)


def read_rule(model: Any, share: Floats, /, *, of: str) -> Rule:
    """The rule that `cost_matrix`, `prior`, `objective`, `adjustment` and `thresholds` make together.

    Parameters
    ----------
    model : TrustedClassifier
        With these parameters.
    share : ndarray of float64, shape (K,)
        Shares of the classes among the training rows, all above 0.
    of : str
        Who asks, for sentences.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    ShapeError, RangeError, InputError
        If an option does not fit the classes, or two contradict each other.
    """
    k = len(share)
    shift = np.zeros(k)
    if model.objective not in {None, "balanced"}:
        raise RangeError(f"{of}: objective is {model.objective!r}; None or 'balanced' would be right.")
    strength = 1.0 if model.objective == "balanced" else 0.0
    if model.adjustment is not None:
        if model.objective is not None:
            raise InputError(
                f"{of}: objective='balanced' is adjustment=1 already; give one of them, not adjustment="
                f"{model.adjustment!r} too."
            )
        strength = check_number(model.adjustment, of=of, name="adjustment", low=0.0, high=10.0)
    if model.prior is not None:
        if strength:
            raise InputError(
                f"{of}: prior says how often classes will come, and objective='balanced' (or adjustment) that this "
                "shall not matter; give one of them."
            )
        shift = shift + np.log(read_shares(model.prior, k, of=of)) - np.log(share)
    shift = shift - strength * np.log(share)
    if model.thresholds is not None:
        shift = shift - np.log(read_thresholds(model.thresholds, k, of=of))
    cost = None if model.cost_matrix is None else _read_cost(model.cost_matrix, k, of=of)
    return Rule(shift, cost)


def in_words(model: Any, /) -> str:
    """How a `TrustedClassifier` decides; empty for the most probable class."""
    words = []
    if model.cost_matrix is not None:
        words.append("for the least expected cost")
    if model.objective == "balanced" or model.adjustment == 1:
        words.append("as if all classes came equally often")
    elif model.adjustment:
        words.append(f"with logits adjusted by {float(model.adjustment):g} of the classes' shares")
    if model.prior is not None:
        words.append("for other shares of the classes")
    if model.thresholds is not None:
        words.append("by a threshold for each class")
    return ", ".join(words)


def _read_cost(cost_matrix: Any, n_classes: int, *, of: str) -> Floats:
    """A cost matrix whose every complaint bears the name of the one who asks."""
    cost: Floats = np.asarray(cost_matrix, dtype=np.float64)
    if cost.ndim != 2 or cost.shape[0] != n_classes or cost.shape[1] not in {n_classes, n_classes + 1}:
        raise ShapeError(
            f"{of}: cost_matrix has shape {cost.shape}; one row for each true class and one column for each decision, "
            f"({n_classes}, {n_classes}), would be right; one column more is what refusing costs."
        )
    try:
        cost_decision(np.full((1, n_classes), 1.0 / n_classes), cost)
    except RangeError as error:
        raise RangeError(str(error).replace("cost_decision", of)) from None
    return cost


def check_shares_of_rows(model: Any, /, *, of: str) -> tuple[float, float | None]:
    """`coverage` and `reject` (None for 0 or None: nothing is refused) as numbers within (0, 1)."""
    coverage = read_share(model.coverage, of=of, name="coverage", example="0.9")
    if model.reject is None or (isinstance(model.reject, (int, float)) and model.reject == 0):
        reject = None
    else:
        reject = read_share(model.reject, of=of, name="reject", example="0.05")
    if model.target_risk is not None:
        read_share(model.target_risk, of=of, name="target_risk", example="0.05")
    return coverage, reject
