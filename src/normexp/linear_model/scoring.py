"""Folds and scores of a search: what the splitter and the scorer are given, and words for what they refuse."""

import inspect
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import check_cv

from normexp.base.errors import DtypeError, NormexpWarning, RangeError
from normexp.base.in_words import refusals_in_words
from normexp.linear_model.head import LinearHead, score_blocks, two_columns
from normexp.ops import softmax

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def read_scorer(scoring: Any, /, *, of: str, asking: bool = False) -> Any:
    """The scorer that ``scoring`` names or is; ``asking`` for row weights where it is named and routing is enabled."""
    if isinstance(scoring, str):
        with refusals_in_words(of):
            scorer = get_scorer(scoring)
        if asking and get_config()["enable_metadata_routing"]:
            scorer = scorer.set_score_request(sample_weight=True)
        return scorer
    if not callable(scoring):
        raise DtypeError(
            f"{of}: scoring is {scoring!r}; the name of a scorer, such as 'neg_log_loss', or a function (model, X, y) "
            "would be right."
        )
    return scoring


def weights_of_scorer(scoring: Any, weight: NDArray[np.float64] | None, /, *, of: str) -> dict[str, Any]:
    """Row weights as the scorer takes them; a warning where it takes none."""
    if weight is None:
        return {}
    if not isinstance(scoring, str) and not hasattr(scoring, "_score_func"):
        parameters = inspect.signature(scoring).parameters
        open_end = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        if "sample_weight" not in parameters and not open_end:
            warnings.warn(
                f"{of}: scoring is a function without an argument sample_weight, so its scores count all rows alike, "
                "though the fits weigh them; take sample_weight=None in it.",
                NormexpWarning,
                stacklevel=4,
            )
            return {}
    return {"sample_weight": weight}


def planned_folds(cv: Any, rows: Any, labels: NDArray[Any], for_split: dict[str, Any], /, *, of: str) -> list[Fold]:
    """Rows to fit and rows to score of each fold, as positions.

    Parameters
    ----------
    cv : int, splitter or iterable
        As the estimator was given it.
    rows, labels : array or sparse matrix (N, D), ndarray (N,)
        What is split.
    for_split : dict
        Further arguments of the splitter, such as groups (N,).
    of : str
        Who asks, for sentences.

    Returns
    -------
    list of (ndarray of intp, ndarray of intp)
        One pair for each fold.

    Raises
    ------
    RangeError
        For a number of folds that cannot be made, and positions beyond the rows.
    """
    if isinstance(cv, bool) or (hasattr(cv, "__index__") and cv.__index__() < 2):
        raise RangeError(f"{of}: cv is {cv!r}; at least 2 folds are needed, or a splitter.")
    every = np.arange(len(labels))
    with refusals_in_words(f"{of}: cv is {cv!r}"):
        splitter = check_cv(cv, labels, classifier=True)
        parts = _within(splitter.split(rows, labels, **for_split), labels, of)
        folds = [(every[used], every[held]) for used, held in parts]
    if not folds:
        raise RangeError(f"{of}: cv holds no fold; at least one pair of rows to fit and rows to score is needed.")
    return folds


def _within(folds: Any, labels: NDArray[Any], of: str) -> Any:
    """The folds, refused where they name rows that are not there."""
    for used, held in folds:
        for part in map(np.asarray, (used, held)):
            if part.dtype != bool and part.size and not -len(labels) <= part.min() <= part.max() < len(labels):
                raise RangeError(f"{of}: cv names the row {part.max()}, and there are {len(labels)} (from 0).")
        yield used, held


def cut_to(params: dict[str, Any], held: NDArray[np.intp], n_rows: int, /) -> dict[str, Any]:
    """Arguments of a scorer for the rows held out: what has one entry for each row is cut to them."""
    return {
        name: np.asarray(value)[held] if np.shape(value)[:1] == (n_rows,) else value for name, value in params.items()
    }


def held_out_score(
    scorer: Any, model: Any, rows: Any, labels: NDArray[Any], params: dict[str, Any], /, *, of: str
) -> float:
    """Score of a fitted model on the rows held out, finite.

    Raises
    ------
    RangeError, DtypeError
        If the scorer refuses the rows, or finds NaN.
    """
    with refusals_in_words(f"{of}: the scorer refuses the rows of a fold"):
        score = float(_with_labels(scorer, model.classes_)(model, rows, labels, **params))
    if np.isnan(score):
        raise RangeError(
            f"{of}: the score of a fold is NaN, most often because its held-out rows lack a class; fewer folds, more "
            "rows of each class or scoring='neg_log_loss' would be right."
        )
    return score


def held_out_log_loss(
    model: LinearHead, rows: Any, labels: NDArray[Any], weight: NDArray[np.float64] | None = None, /
) -> float:
    """What scikit-learn's scorer "neg_log_loss" says of a fitted model, without its checks of rows known to be right.

    On tables of some hundred rows these take longer than a warm-started fit. labels (n,) are among the model's classes;
    probabilities are clipped as scikit-learn clips them, at the machine's epsilon of their precision.
    """
    index = np.searchsorted(model.classes_, labels)
    logs, first = np.empty(len(labels)), 0
    for scores in score_blocks(model, rows):  # predict_proba would check the rows again
        prob = softmax(two_columns(scores))
        own = prob[np.arange(len(prob)), index[first : first + len(prob)]]
        eps = np.finfo(own.dtype).eps
        logs[first : first + len(own)] = np.log(np.clip(own, eps, 1 - eps))
        first += len(own)
    return float(np.average(logs, weights=weight))


def _with_labels(scorer: Any, classes: NDArray[Any]) -> Any:
    """The scorer told which classes the columns of the probabilities are, where its function takes them.

    Held-out rows may lack a class. `LogisticRegressionCV` does the same; here scores of predicted labels stay as they
    are, whose ``labels`` mean which classes to average over.
    """
    score, method = getattr(scorer, "_score_func", None), getattr(scorer, "_response_method", None)
    given = getattr(scorer, "_kwargs", {})
    if score is None or method == "predict" or "labels" in given:
        return scorer
    parameters = inspect.signature(score).parameters
    if "labels" not in parameters:
        return scorer
    named = {"labels": classes, **given}
    if len(classes) == 2 and "pos_label" in parameters:
        named = {"pos_label": classes[-1], **named}
    sign = getattr(scorer, "_sign", 1)
    return make_scorer(score, greater_is_better=sign == 1, response_method=method, **named)
