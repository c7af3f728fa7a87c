"""How rows that are not in memory reach the solver: labels, weights, start, checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import compute_class_weight

from normexp.base.errors import InputError, RangeError, ShapeError
from normexp.linear_model.head import dense
from normexp.linear_model.parameters import check_row_weights
from normexp.rows import Labels, StoredRows, StreamedRows, encode
from normexp.solvers import Checkpoint, Meter, Progress, Step, digest, fit_streamed

F64 = NDArray[np.float64]
_C = TypeVar("_C", bound=Any)


def fit_rows(
    model: _C,
    X: StoredRows,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    *,
    checkpoint: str | Path | None,
    progress: Callable[[Progress], None] | None,
    log: Callable[[Step], None] | None,
) -> _C:
    """Fit a SoftmaxClassifier, whose parameters are checked, on stored rows.

    Parameters
    ----------
    model : SoftmaxClassifier
    X : StoredRows
    y : array-like (N,) or None
        None where the rows know their target.
    sample_weight : array-like (N,) or None
    checkpoint, progress
        As in ``SoftmaxClassifier.fit``.
    log : callable or None
        Called after each step.

    Returns
    -------
    SoftmaxClassifier
        The same object, fitted.
    """
    _refuse_what_needs_memory(model)
    labels = _labels(X, y)
    refuse_one_class(labels.classes)
    weight = check_row_weights(sample_weight, X.n_rows)
    if model.class_weight is not None:
        weight = weight * class_weights(model, labels)[labels.index]
    meter = Meter(X.n_rows, progress)
    n_classes = len(labels.classes)
    rows = StreamedRows(X, labels.index, weight, n_classes=n_classes, report=meter.rows)
    start = start_of(model, labels.classes, X.n_features)
    state, identity = None, None
    if checkpoint is not None:
        state = Checkpoint(checkpoint)
        identity = {"labels": digest(labels.classes, labels.index), "weights": digest(weight), "dtype": str(X.dtype)}
    fitted = fit_streamed(
        rows,
        ridge=ridge_of(model),
        fit_intercept=bool(model.fit_intercept),
        tol=float(model.tol),
        max_iter=int(model.max_iter),
        start=start,
        seed=seed_of(model),
        callback=told(meter, log),
        checkpoint=state,
        identity=identity,
    )
    model.classes_ = labels.classes
    model.n_features_in_ = X.n_features
    if X.names is not None:
        model.feature_names_in_ = np.array(X.names, dtype=object)
    model._take(fitted, X.dtype)  # noqa: SLF001  (its own entrance for rows)
    return model


def ridge_of(model: Any) -> float:
    """Penalty on the squared coefficients."""
    return 0.0 if model.penalty is None else 1.0 / float(model.C)


def seed_of(model: Any) -> int:
    """A number from the model's random state."""
    return 0 if model.random_state is None else int(model._generator().integers(2**31))  # noqa: SLF001  (its own)


def told(meter: Meter, log: Callable[[Step], None] | None) -> Callable[[Step], None]:
    """Tell the meter of each step, and the log if there is one."""

    def callback(step: Step) -> None:
        meter.step(step)
        if log is not None:
            log(step)

    return callback


def class_weights(model: Any, labels: Labels) -> F64:
    """Weight of each class, (K,), as scikit-learn understands ``class_weight``."""
    found = compute_class_weight(model.class_weight, classes=labels.classes, y=labels.classes[labels.index])
    return np.asarray(found, dtype=np.float64)


def refuse_one_class(classes: NDArray[Any]) -> None:
    """Refuse labels that leave nothing to tell apart."""
    if len(classes) < 2:
        raise RangeError(
            f"SoftmaxClassifier.fit: y holds one class only, {classes[0]!r}; at least 2 classes are needed to tell "
            "them apart."
        )


def start_of(model: Any, classes: NDArray[Any], n_features: int) -> tuple[F64, F64] | None:
    """Coefficients and intercepts to start at: those of the fit before (``warm_start``), or ``init``."""
    n_scores = 1 if len(classes) == 2 else len(classes)
    if model.warm_start and hasattr(model, "coef_") and np.array_equal(getattr(model, "classes_", []), classes):
        coef = dense(model.coef_).T.astype(np.float64)
        if coef.shape == (n_features, n_scores):
            return coef, model.intercept_.astype(np.float64)
    if model.init is None:
        return None
    start = np.asarray(model.init, dtype=np.float64)
    wanted = (n_scores, n_features + bool(model.fit_intercept))
    if start.shape != wanted:
        raise ShapeError(f"SoftmaxClassifier.fit: init has shape {start.shape}; {wanted} is needed.")
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
