"""A fitted linear softmax head as plain arrays, one row of weights for each class, and back again.

Any fitted linear classifier whose probabilities are softmax of ``X @ coef_.T + intercept_`` will do: ours, or
``sklearn.linear_model.LogisticRegression``.
"""

import copy
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.base.errors import DtypeError, InputError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.decide.door import Floats, require_names
from normexp.metrics.door import name_rows

# What a head is made of, and what says how its rows look; other fitted attributes tell of a fit that is no longer this.
KEPT: Final = frozenset({"coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_", "n_iter_"})


class Head(NamedTuple):
    """A head with one row for each class, also where there are two.

    Parameters
    ----------
    coef : ndarray of float64, shape (K, D)
        Weights.
    intercept : ndarray of float64, shape (K,)
        Intercepts.
    classes : ndarray, shape (K,)
        Labels, sorted.
    names : tuple of str, length D, or None
        Names of the columns, where it was fitted on a table.
    """

    coef: Floats
    intercept: Floats
    classes: NDArray[Any]
    names: tuple[str, ...] | None = None

    def logits(self, x: Any) -> Floats:
        """Logits of rows, (N, K)."""
        return np.asarray(x @ self.coef.T) + self.intercept


def read_head(model: Any, *, of: str) -> Head:
    """The head of a fitted linear classifier."""
    if hasattr(model, "estimator_") and "coef_" not in vars(model):
        raise InputError(
            f"{of}: a {type(model).__name__} passes on the head of its estimator_, and what it learned beside that is "
            "for the classes that it has. Give model.estimator_, and wrap what comes back anew."
        )
    missing = [name for name in ("coef_", "intercept_", "classes_") if not hasattr(model, name)]
    if missing:
        raise InputError(
            f"{of}: {type(model).__name__} has no {' and no '.join(missing)}; a fitted linear softmax classifier, such "
            "as SoftmaxClassifier or LogisticRegression, would be right."
        )
    given: Any = model.coef_
    coef = np.asarray(given.toarray() if hasattr(given, "toarray") else given, dtype=np.float64)
    classes = np.asarray(model.classes_)
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (coef.shape[0],))
    if coef.shape[0] == 1 and classes.size == 2:  # log-odds of the second class
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.r_[0.0, intercept]
    if coef.shape[0] != classes.size:
        raise ShapeError(
            f"{of}: {type(model).__name__} has {coef.shape[0]} rows of coefficients for {classes.size} classes; one "
            "for each would be right (one-vs-one and multi-output models have no softmax head)."
        )
    names = getattr(model, "feature_names_in_", None)
    return Head(coef, np.array(intercept), classes, None if names is None else tuple(map(str, names)))


def with_head(model: Any, head: Head) -> Any:
    """A copy of the model that has this head; the model itself stays what it is."""
    new = copy.copy(model)
    for name in [name for name in vars(new) if name.endswith("_") and not name.startswith("_")]:
        if name not in KEPT:
            delattr(new, name)
    dtype = model.coef_.dtype
    coef, intercept = head.coef, head.intercept
    if head.classes.size == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    new.coef_ = np.ascontiguousarray(coef, dtype=dtype)
    if sparse.issparse(model.coef_):
        new.coef_ = sparse.csr_matrix(new.coef_)
    new.intercept_ = intercept.astype(dtype)
    new.classes_ = head.classes
    return new


def merged(head: Head, labels: NDArray[Any], coef: Floats, intercept: Floats, *, of: str) -> Head:
    """The head with further classes, all in the order of their labels."""
    known = np.isin(labels, head.classes)
    if known.any():
        raise RangeError(
            f"{of}: the model knows the class {labels[known].tolist()[0]!r} already; give it another name."
        )
    if labels.dtype.kind != head.classes.dtype.kind and not {labels.dtype.kind, head.classes.dtype.kind} <= set("iu"):
        raise DtypeError(
            f"{of}: the new class {labels.tolist()[0]!r} and the model's, such as {head.classes.tolist()[0]!r}, are of "
            "different types and cannot be sorted together; give labels of the same type."
        )
    classes = np.concatenate([head.classes, labels])
    order = np.argsort(classes, kind="stable")
    return Head(np.vstack([head.coef, coef])[order], np.concatenate([head.intercept, intercept])[order], classes[order])


def read_rows_of(given: Any, head: Head, *, of: str, name: str) -> Any:
    """Rows as a finite float64 array or CSR matrix of the head's width."""
    rows: Any
    require_names(given, head.names, of=of, name=name)
    if hasattr(given, "tocsr"):
        rows = given.tocsr().astype(np.float64)
        values = rows.data
        bad = np.zeros(rows.shape[0], dtype=bool)
        bad[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[~np.isfinite(values)]] = True
    else:
        rows = plain_array(given, of=of, name=name)
        if rows.dtype.kind not in "biuf":
            raise DtypeError(f"{of}: {name} has dtype {rows.dtype}; numbers would be right.")
        rows = rows.astype(np.float64)
        bad = ~np.isfinite(rows).all(axis=1) if rows.ndim == 2 else np.zeros(0, dtype=bool)
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != head.coef.shape[1]:
        raise ShapeError(
            f"{of}: {name} has shape {rows.shape}; at least one row of the {head.coef.shape[1]} features that the "
            "model was fitted on would be right."
        )
    if bad.any():
        raise RangeError(f"{of}: {name} is not finite in {name_rows(bad)}; drop or mend these rows.")
    return rows
