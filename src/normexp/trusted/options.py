"""The options of `TrustedClassifier`, looked at before any work is done, and the decisions that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.checks import check_number
from normexp.base.errors import DtypeError, InputError, RangeError, ShapeError
from normexp.decide import cost_decision
from normexp.decide.door import read_numbers, read_share
from normexp.decide.shares import read_shares, read_thresholds
from normexp.ops import softmax

UNKNOWN: Final = "unknown"  # what a refused row is called where nobody says otherwise

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
    if model.objective is not None and (not isinstance(model.objective, str) or model.objective != "balanced"):
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
    return Rule(shift, read_cost(model, k, of=of))


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


def read_cost(model: Any, n_classes: int, /, *, of: str) -> Floats | None:
    """The cost matrix of a `TrustedClassifier`, (K, K) or (K, K + 1); None where it has none.

    Parameters
    ----------
    model : TrustedClassifier
        With `classes_` where its costs bear names.
    n_classes : int
        K.
    of : str
        Who asks, for sentences.

    Raises
    ------
    ShapeError, RangeError, InputError
        If the costs do not fit the classes, or say that the right decision costs more than a wrong one.
    """
    given = model.cost_matrix
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = _in_order(given, model, of=of)
    cost = read_numbers(given, of=of, name="cost_matrix")
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


def _in_order(given: Mapping[Any, Mapping[Any, float]], model: Any, *, of: str) -> list[list[float]]:
    """Rows and columns of costs with names, in the order of the classes; the one for refusing comes last."""
    names = [str(label) for label in model.classes_.tolist()]
    refused = UNKNOWN if model.reject_label is None else str(model.reject_label)
    flat = [true for true, row in given.items() if not isinstance(row, Mapping)]
    if flat:
        raise DtypeError(
            f"{of}: cost_matrix gives {flat[0]!r} the cost {given[flat[0]]!r}; for each true class a mapping of "
            "decisions to costs, as {'a': {'a': 0, 'b': 1}, 'b': {'a': 5, 'b': 0}}, would be right."
        )
    costs = {str(true): {str(label): cost for label, cost in row.items()} for true, row in given.items()}
    _look_at_names(list(costs), names, (), f"{of}: the rows of cost_matrix", "true class")
    columns = names
    for true in names:
        allowed = () if refused in names else (refused,)
        _look_at_names(
            list(costs[true]), names, allowed, f"{of}: the costs (cost_matrix) of the true class {true!r}", "decision"
        )
        columns = [*names, *(name for name in allowed if name in costs[names[0]])]
        if len(costs[true]) != len(columns):
            raise InputError(
                f"{of}: cost_matrix says what {refused!r} costs for some true classes only; say it for all or for none."
            )
    return [[costs[true][decided] for decided in columns] for true in names]


def _look_at_names(found: list[str], names: list[str], more: tuple[str, ...], where: str, what: str) -> None:
    """Refuse names of no class, and classes without a name."""
    strange = [name for name in found if name not in names and name not in more]
    if strange:
        also = f" and {more[0]!r}, for refusing," if more else ""
        raise InputError(f"{where} name {strange[0]!r}; the classes {_listed(names)}{also} would be right.")
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{where} lack {_listed(missing)}; each class is needed as {what}.")


def _listed(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:6])) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")


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
