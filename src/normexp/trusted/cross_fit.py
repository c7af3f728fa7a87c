"""Logits of rows by fits that have not seen them."""

import copy
import inspect
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _check_method_params

from normexp.linear_model import SoftmaxClassifier
from normexp.linear_model.head import dense
from normexp.rows import StoredRows
from normexp.solvers import prefers_rows
from normexp.trusted.base_logits import logits_of
from normexp.trusted.folds import HELD_OUT, Index, Split
from normexp.trusted.portions import some_labels, some_rows

# More rows, or more numbers, than these make no promise any firmer: 20 000 rows fix a coverage within 0.4 points.
MOST_ROWS: Final = 20_000
MOST_NUMBERS: Final = 4_000_000
FEWEST_ROWS: Final = 1000  # held out in any case, however many classes there are
FOLD_TOL: Final = 1e-4  # relative objective at which a fold's fit ends: held-out log losses agree to about 1e-4
FOLDS: Final = 5
FEWEST_FOLDS: Final = 3  # fewer fit so much less than all rows that one hold-out is as good and cheaper
# Multiplications that the fits of the folds may take together, about 20 s of one slow core.
AFFORDABLE: Final = 20_000_000_000


class OutOfFold(NamedTuple):
    """Held-out logits.

    Parameters
    ----------
    rows : ndarray of intp, shape (M,)
        Positions of the rows, ascending.
    logits : ndarray, shape (M, K)
        Their logits.
    n_fits : int
        How many fits it took.
    """

    rows: Index
    logits: NDArray[Any]
    n_fits: int


def cross_fit(
    base: Any,
    fitted: Any,
    X: Any,
    y: NDArray[Any],
    classes: NDArray[Any],
    splits: list[Split],
    /,
    *,
    source: str,
    fit_params: dict[str, Any],
    seed: int,
    of: str,
) -> OutOfFold:
    """Fit the base once for each split and take the logits of the rows held out.

    Parameters
    ----------
    base : classifier
        Not fitted; it is cloned for each split.
    fitted : classifier
        The same fitted on all rows; a `SoftmaxClassifier` starts from its coefficients.
    X, y : rows and labels, length N
        All rows.
    classes : ndarray, shape (K,)
        All classes.
    splits : list of Split
        From `plan_folds`.
    source : str
        From `choose_source`.
    fit_params : dict
        Passed to each fit; what has length N is cut to the rows of the split.
    seed : int
        Draws the rows where there are more than enough.
    of : str
        Who asks, for sentences.

    Returns
    -------
    OutOfFold
        Of at most 20 000 rows, and 4 million numbers where that leaves 1000 rows.

    Notes
    -----
    Starting at the coefficients of all rows saves about half the steps. The fit of a fold ends when a dual bound proves
    its objective within 1e-4 of the minimum, which is unique: the start leaves no trace that matters.
    """
    drawn = _drawn(splits, len(classes), seed)
    base = clone(base)  # without what a fit left in it
    rows: list[Index] = []
    logits: list[NDArray[Any]] = []
    for number, split in enumerate(splits):
        held = np.sort(split.held[drawn[split.held]])
        if not len(held):
            continue
        kept = some_rows(X, split.kept)
        known = kept.labels.classes if isinstance(X, StoredRows) else np.unique(y[split.kept])
        model = _for_fold(base, fitted, len(split.kept), whole=len(known) == len(classes))
        params = _check_method_params(X, fit_params, indices=split.kept)
        if params.get("checkpoint") is not None:  # one file for each problem
            params["checkpoint"] = f"{params['checkpoint']}.fold-{number + 1}"
        try:
            model.fit(kept, some_labels(X, y, split.kept), **params)
        except Exception as error:
            error.add_note(f"{of}: raised by the fit of fold {number + 1} of {len(splits)}.")
            raise
        rows.append(held)
        logits.append(logits_of(model, some_rows(X, held), source, classes, of=of))
    order = np.argsort(np.concatenate(rows), kind="stable")
    return OutOfFold(np.concatenate(rows)[order], np.concatenate(logits)[order], len(rows))


def affordable_folds(fitted: Any, X: Any, n_classes: int, /) -> int:
    """How many folds the cost of a fit allows: 5, 4 or 3, else 1 for a single hold-out.

    The cost is counted and not timed, so that the same rows give the same folds on every machine: passes over the rows
    times stored numbers times classes. Where a fit does not tell its passes, there are 5 folds. Of rows outside memory
    a single hold-out is taken as soon as it has all rows that are scored in any case: each fit reads them some tens of
    times.
    """
    if isinstance(X, StoredRows) and HELD_OUT * X.n_rows >= _enough(n_classes):
        return 1
    solution = getattr(fitted, "solution_", None)
    if solution is None:
        return FOLDS
    stored = int(X.nnz if hasattr(X, "nnz") else np.prod(np.shape(X)))
    work = int(solution.n_passes) * stored * (1 if n_classes == 2 else n_classes)
    folds = int(AFFORDABLE / max(1.0, work * (1.0 - 1.0 / FOLDS)))
    return min(FOLDS, folds) if folds >= FEWEST_FOLDS else 1


def accepts_weight(base: Any) -> bool:
    """Whether fit of a classifier has an argument sample_weight, or routes it to a part that asked for it."""
    if get_config()["enable_metadata_routing"] and get_routing_for_object(base).consumes("fit", ["sample_weight"]):
        return True
    try:
        return "sample_weight" in inspect.signature(base.fit).parameters
    except (TypeError, ValueError):
        return False


def _drawn(splits: list[Split], n_classes: int, seed: int) -> NDArray[np.bool_]:
    """Which rows are scored: all, or as many as are enough."""
    held = np.sort(np.concatenate([split.held for split in splits]))
    chosen = np.zeros(int(held[-1]) + 1, dtype=bool)
    enough = _enough(n_classes)
    if len(held) > enough:
        held = np.random.default_rng([seed, 1]).choice(held, enough, replace=False)
    chosen[held] = True
    return chosen


def _enough(n_classes: int) -> int:
    """How many held-out rows are scored at most."""
    return min(MOST_ROWS, max(FEWEST_ROWS, MOST_NUMBERS // n_classes))


def _for_fold(base: Any, fitted: Any, n_kept: int, *, whole: bool) -> Any:
    """A clone of the base, started at the coefficients of all rows where it can be."""
    model = copy.deepcopy(base) if type(base) is SoftmaxClassifier else clone(base)  # a clone takes milliseconds
    if type(base) is not SoftmaxClassifier or base.init is not None or not whole:
        return model
    model.tol = max(base.tol, FOLD_TOL)  # a parameter each, of an estimator that was made here
    if prefers_rows(n_kept, fitted.coef_.shape[1]) or not np.isfinite(fitted.intercept_).all():
        return model
    start = dense(fitted.coef_)
    model.init = np.column_stack([start, fitted.intercept_]) if base.fit_intercept else start
    return model
