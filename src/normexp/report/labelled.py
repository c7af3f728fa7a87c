"""What a fitted model leaves behind for others to judge: its logits beside the truth, and the facts of its training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Labelled:
    """Logits of a fitted model on rows whose classes are known.

    Parameters
    ----------
    logits : ndarray of float64, shape (N, K)
        One row of logits for each row of the table.
    target : ndarray of intp, shape (N,)
        Index of the true class of each row, into `classes`.
    classes : tuple of str, length K
        The classes as text.
    prior : ndarray of float64, shape (K,)
        Frequencies of the classes among the training rows; they sum to 1.
    examples : tuple of str, length N
        One short text (at most 200 characters) for each row, to show a person which row it is.
    trust : TrustEvidence or None
        What a trusted model said of these rows beside its logits.
    """

    logits: NDArray[np.float64]
    target: NDArray[np.intp]
    classes: tuple[str, ...]
    prior: NDArray[np.float64]
    examples: tuple[str, ...]
    trust: "TrustEvidence | None" = None


@dataclass(frozen=True)
class TrustEvidence:
    """What a trusted model said of rows, and what it had promised.

    Parameters
    ----------
    base_logits : ndarray, shape (N, K)
        As the base gave them, before calibration.
    sets : ndarray of bool, shape (N, K)
        Which classes the set of each row holds.
    unknown : ndarray of bool, shape (N,)
        Rows that look like no known class.
    refused : ndarray of bool, shape (N,)
        Rows that are not answered: unknown, too unsure for a target risk, or dearer to answer than to refuse.
    decided : ndarray of intp, shape (N,)
        Index of the class that the rule of decision names.
    coverage : float
        Share of sets that shall hold the truth.
    reject : float
        Share of rows of known classes that may be called unknown; 0 where none is.
    rule : str
        How it is decided, in words; empty for the most probable class.
    cost : ndarray of float64, shape (K, A), or None
        What decisions cost, ``cost[true, decided]``.
    promises : tuple of (str, str)
        What was settled at the fit: pairs of a title and a sentence.
    """

    base_logits: NDArray[Any]
    sets: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    decided: NDArray[np.intp]
    coverage: float
    reject: float
    rule: str
    cost: NDArray[np.float64] | None
    promises: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrainingFacts:
    """What is known about how a model was fitted.

    Parameters
    ----------
    rows, features, classes : int
        Sizes N, D (after encoding) and K.
    class_counts : tuple of int, length K
        Training rows of each class.
    seconds : float
        Wall-clock time of encoding and solving together.
    outcome : str
        How the solver ended, as a sentence.
    converged : bool
        Whether the solver reached its tolerance.
    suboptimality : float or None
        Upper bound on the distance of the objective to its optimum, where the solver tells one.
    n_iter : int
        Iterations of the solver.
    source : str
        Name of the file that was fitted, without its folder.
    target : str
        Name of the column with the classes.
    columns : tuple of str
        Names of the columns (or of the array) that the model reads.
    estimator : str
        The estimator as Python would print it.
    seed : int
        The seed of every random choice.
    versions : dict of str to str
        Versions of Python and of the libraries that took part.
    promises : tuple of (str, str)
        What a trusted model settled on held-out rows: pairs of a title and a sentence.
    """

    rows: int
    features: int
    classes: int
    class_counts: tuple[int, ...]
    seconds: float
    outcome: str
    converged: bool
    suboptimality: float | None
    n_iter: int
    source: str
    target: str
    columns: tuple[str, ...]
    estimator: str
    seed: int
    versions: dict[str, str]
    promises: tuple[tuple[str, str], ...] = ()


def as_mapping(facts: TrainingFacts, /) -> dict[str, Any]:
    """Training facts as plain values that JSON can hold.

    Parameters
    ----------
    facts : TrainingFacts
        The facts.

    Returns
    -------
    dict of str to object
        One entry for each field; tuples become lists.

    Examples
    --------
    >>> facts = TrainingFacts(3, 2, 2, (2, 1), 0.1, "Done.", True, None, 4, "a.csv", "y", ("u",), "E()", 0, {})
    >>> as_mapping(facts)["class_counts"]
    [2, 1]
    """
    plain = {name: getattr(facts, name) for name in TrainingFacts.__dataclass_fields__}
    plain["promises"] = [list(promise) for promise in facts.promises]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
