"""How rows that are not in memory reach the solver: labels, weights, start, checkpoint."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import InputError, RangeError
from normexp.base.magnitude import naming_columns
from normexp.linear_model.head import dense
from normexp.linear_model.parameters import (
    check_row_weights,
    check_weighted_classes,
    checked_start,
    class_factors,
    generator_of,
    is_path,
)
from normexp.rows import (
    ArrayRows,
    DaskTable,
    LabelledRows,
    Labels,
    StoredRows,
    StreamedRows,
    digest,
    encode,
    from_dask,
    is_dask,
    labelled,
)
from normexp.solvers import Checkpoint, Meter, Progress, Step, fit_streamed

F64 = NDArray[np.float64]
_C = TypeVar("_C", bound=Any)


def fit_rows(
    model: _C,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    checkpoint: str | Path | None,
    progress: Callable[[Progress], None] | None,
    log: Callable[[Step], None] | None,
) -> _C:
    """Fit a SoftmaxClassifier, whose parameters are checked, on stored rows.

    Parameters
    ----------
    model : SoftmaxClassifier
    X : StoredRows, DaskTable or Dask collection
    y : array-like (N,), Dask array or series, or None
        None where the rows know their target.
    sample_weight : the same or None
    checkpoint, progress
        As in ``SoftmaxClassifier.fit``.
    log : callable or None
        Called after each step.

    Returns
    -------
    SoftmaxClassifier
        The same object, fitted.
    """
    if checkpoint is not None and not is_path(checkpoint):
        raise RangeError(
            f"SoftmaxClassifier.fit: checkpoint is {checkpoint!r}; it must be the path of a file, or None for none."
        )
    _refuse_what_needs_memory(model)
    table = from_dask(X) if is_dask(X) else X
    meter = Meter(table.n_rows, progress)
    rows: LabelledRows
    if isinstance(table, DaskTable):
        classes, rows = labelled(table, y, sample_weight, partial(class_weights, model), meter.rows)
    else:
        classes, rows = _labelled_here(model, table, y, sample_weight, meter)
    check_weighted_classes(classes, rows.class_weight, of="SoftmaxClassifier.fit")
    state = None if checkpoint is None else Checkpoint(checkpoint)
    identity = None if state is None else {"labels": digest(classes) + rows.digest, "dtype": str(table.dtype)}
    with naming_columns(table.names if not isinstance(table, ArrayRows) else getattr(model, "feature_names_in_", None)):
        fitted = fit_streamed(
            rows,
            ridge=ridge_of(model),
            fit_intercept=bool(model.fit_intercept),
            tol=float(model.tol),
            max_iter=int(model.max_iter),
            start=start_of(model, classes, table.n_features),
            seed=seed_of(model),
            callback=told(meter, log),
            checkpoint=state,
            identity=identity,
        )
    model.classes_ = classes
    model.n_features_in_ = table.n_features
    if table.names is not None:
        model.feature_names_in_ = np.array(table.names, dtype=object)
    elif hasattr(model, "feature_names_in_") and not isinstance(table, ArrayRows):
        del model.feature_names_in_
    model._take(fitted, table.dtype)  # noqa: SLF001  (its own entrance for rows)
    return model


def _labelled_here(
    model: Any, table: StoredRows, y: ArrayLike | None, sample_weight: ArrayLike | None, meter: Meter
) -> tuple[NDArray[Any], StreamedRows]:
    """Rows that this process reads, with their labels and weights."""
    labels = _labels(table, y)
    counts = np.bincount(labels.index, minlength=len(labels.classes))
    of_class = class_weights(model, labels.classes, counts)
    weight = check_row_weights(sample_weight, table.n_rows)
    if of_class is not None:
        weight = weight * of_class[labels.index]
    rows = StreamedRows(table, labels.index, weight, n_classes=len(labels.classes), report=meter.rows)
    return labels.classes, rows


def ridge_of(model: Any) -> float:
    """Penalty on the squared coefficients."""
    return 0.0 if model.penalty is None else 1.0 / float(model.C)


def seed_of(model: Any) -> int:
    """A number from the model's random state."""
    return 0 if model.random_state is None else int(generator_of(model.random_state).integers(2**31))


def told(meter: Meter, log: Callable[[Step], None] | None) -> Callable[[Step], None]:
    """Tell the meter of each step, and the log if there is one."""

    def callback(step: Step) -> None:
        meter.step(step)
        if log is not None:
            log(step)

    return callback


def class_weights(model: Any, classes: NDArray[Any], counts: NDArray[np.intp]) -> F64 | None:
    """Weight of each class (K,) as scikit-learn understands ``class_weight``, from the classes' numbers of rows."""
    if len(classes) < 2:
        raise RangeError(
            f"SoftmaxClassifier.fit: y holds one class only, {classes.tolist()[0]!r}; at least 2 classes are needed to "
            "tell them apart."
        )
    return class_factors(model.class_weight, classes, counts, of="SoftmaxClassifier.fit")


def start_of(model: Any, classes: NDArray[Any], n_features: int) -> tuple[F64, F64] | None:
    """Coefficients and intercepts to start at: those of the fit before (``warm_start``), or ``init``."""
    n_scores = 1 if len(classes) == 2 else len(classes)
    if model.warm_start and hasattr(model, "coef_") and np.array_equal(getattr(model, "classes_", []), classes):
        coef = dense(model.coef_).T.astype(np.float64)
        if coef.shape == (n_features, n_scores):
            return coef, model.intercept_.astype(np.float64)
    if model.init is None:
        return None
    start = checked_start(model.init, n_scores, n_features, intercept=bool(model.fit_intercept))
    if not model.fit_intercept:
        return start.T.copy(), np.zeros(n_scores)
    return start[:, :-1].T.copy(), start[:, -1].copy()


def _labels(X: StoredRows, y: ArrayLike | None) -> Labels:
    if y is not None:
        return encode(y, X.n_rows, of="SoftmaxClassifier.fit")
    if X.labels is None:
        raise InputError(
            f"SoftmaxClassifier.fit: the rows in {X.where} know no classes and y is None; give y, or name the target "
            "when the rows are opened."
        )
    return X.labels


def _refuse_what_needs_memory(model: Any) -> None:
    if model.penalty not in {"l2", None}:
        raise RangeError(
            f"SoftmaxClassifier.fit: penalty is {model.penalty!r}, which needs the rows in memory; with rows that are "
            "read in blocks, or checkpoint=, 'l2' and None are possible."
        )
    if model.penalty_factor is not None:
        raise RangeError(
            "SoftmaxClassifier.fit: penalty_factor is given, which needs the rows in memory; with rows that are "
            "read in blocks, or checkpoint=, all columns have the same penalty: leave it out."
        )
    if isinstance(model.init, str):
        raise RangeError(
            f"SoftmaxClassifier.fit: init is {model.init!r}, which needs the rows in memory; with rows that are read "
            "in blocks, or checkpoint=, None or an array of coefficients is possible."
        )
