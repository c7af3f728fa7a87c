"""Logits of any classifier: from its decision function, its log-probabilities or its probabilities."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.calibration.rows import read_logits
from normexp.metrics.door import SUM_TOLERANCE, name_rows
from normexp.ops import softmax

SAME: Final = 1e-4  # probabilities that differ by less come from the same logits (float32 models among them)
LOOKED_AT: Final = 32  # rows on which a decision function and probabilities are compared
LOG_SUM_TOLERANCE: Final = 5e-3  # of the sum of exponentials: logarithms kept in float16 are off by a few thousandths
SOURCES: Final = ("decision_function", "predict_log_proba", "predict_proba")


def choose_source(model: Any, X: Any, /, *, of: str) -> str:
    """Name the method of a fitted classifier whose answer is the best logits.

    Parameters
    ----------
    model : classifier
        Fitted.
    X : rows
        A few rows.
    of : str
        Who asks, for sentences.

    Returns
    -------
    str
        "decision_function", "predict_log_proba" or "predict_proba".

    Raises
    ------
    DtypeError
        If the classifier has none of the three.

    Notes
    -----
    A decision function is taken where its softmax is what the classifier itself calls its probabilities, or where it
    calls nothing so: then it holds them beyond the point where a probability rounds to 1. Otherwise (margins beside
    probabilities that were made in another way) the probabilities are the classifier's word, and their logarithms
    are logits.
    """
    scores = hasattr(model, "decision_function")
    if not hasattr(model, "predict_proba"):
        if scores:
            return "decision_function"
        raise DtypeError(
            f"{of}: the estimator {type(model).__name__} has neither decision_function nor predict_proba; a classifier "
            "with logits or probabilities is needed (SVC needs nothing more, Perceptron has decision_function)."
        )
    if scores:
        z = np.asarray(model.decision_function(X), dtype=np.float64)
        z = _two_columns(z)
        prob = np.asarray(model.predict_proba(X))
        if z.shape == prob.shape and np.allclose(np.asarray(softmax(z)), prob, rtol=0.0, atol=SAME):
            return "decision_function"
    return "predict_log_proba" if hasattr(model, "predict_log_proba") else "predict_proba"


def logits_of(model: Any, X: Any, source: str, classes: NDArray[Any], /, *, of: str) -> NDArray[Any]:
    """Logits of rows for all classes; -inf for those that the classifier does not know.

    Parameters
    ----------
    model : classifier
        Fitted on some or all of the classes.
    X : rows, length N
        In whatever form the classifier takes.
    source : str
        What `choose_source` named.
    classes : ndarray, shape (K,)
        All classes, sorted.
    of : str
        Who asks, for sentences.

    Returns
    -------
    ndarray, shape (N, K)
        Floating; no NaN.

    Raises
    ------
    ShapeError
        If the answer has not one column for each class, as the votes of ``SVC(decision_function_shape="ovo")``.
    RangeError
        If it holds NaN, or probabilities are negative or do not sum to 1 (within 0.001; logarithms of them 0.005).
    """
    if source == "decision_function":
        answer = _two_columns(np.asarray(model.decision_function(X)))
    else:
        answer = np.asarray(model.predict_proba(X)) if source == "predict_proba" else _log_proba(model, X)
    known = np.asarray(getattr(model, "classes_", classes))
    if answer.ndim != 2 or answer.shape[1] != len(known):
        raise ShapeError(
            f"{of}: {source} of {type(model).__name__} has shape {answer.shape} for {len(known)} classes; one column "
            'for each class is needed (decision_function_shape="ovr" gives it where there is a choice).'
        )
    if source != "decision_function":
        answer = _logarithms(answer, type(model).__name__, source, of)
    if len(known) < len(classes):
        full = np.full((answer.shape[0], len(classes)), -np.inf, dtype=answer.dtype)
        full[:, np.searchsorted(classes, known)] = answer
        answer = full
    return read_logits(answer, of=of)


def _logarithms(answer: NDArray[Any], name: str, source: str, of: str) -> NDArray[Any]:
    """Log-probabilities, where the answer is one of probabilities; else a sentence."""
    if answer.dtype.kind not in "biuf":
        return answer  # refused by its dtype
    prob, tolerance = answer, SUM_TOLERANCE
    if source == "predict_log_proba":
        with np.errstate(over="ignore"):
            prob, tolerance = np.exp(answer), LOG_SUM_TOLERANCE
    total = prob.sum(axis=1, dtype=np.float64)
    off = (np.abs(total - 1.0) > tolerance) | (prob < 0.0).any(axis=1)  # a row with NaN is refused by the next door
    if off.any():
        first = int(np.flatnonzero(off)[0])
        found = f"sums to {total[first]:.6g}" if abs(total[first] - 1.0) > tolerance else "holds a negative number"
        raise RangeError(
            f"{of}: {source} of the estimator {name} gives {name_rows(off)} (rows count from 0, as they were passed to "
            f"it) that are no probabilities: row {first} {found}. One probability for each class, of sum 1, is needed; "
            "scores of separate yes-or-no outputs (sigmoids) are none. Normalise them in the estimator, or let it give "
            "logits by decision_function and no predict_proba."
        )
    if source == "predict_log_proba":
        return answer
    with np.errstate(divide="ignore"):
        logarithm: NDArray[Any] = np.log(answer)
    return logarithm


def _log_proba(model: Any, X: Any) -> NDArray[Any]:
    """Log-probabilities, of which -inf is one."""
    with np.errstate(divide="ignore"):
        return np.asarray(model.predict_log_proba(X))


def _two_columns(z: NDArray[Any]) -> NDArray[Any]:
    """The log-odds of two classes as the columns 0 and z."""
    if z.ndim == 1:
        return np.column_stack([np.zeros_like(z), z])
    return np.column_stack([np.zeros_like(z[:, 0]), z[:, 0]]) if z.ndim == 2 and z.shape[1] == 1 else z
