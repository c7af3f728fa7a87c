"""A fitted classifier as its explanations read it: what becomes of a row, and the linear scores at the end."""

from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from normexp.base.checks import check_names
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.in_words import refusals_in_words
from normexp.explain.affine import flatten, is_affine, pull_back, training_mean
from normexp.explain.rows import F64, Index, Rows, as_dense, as_rows

if TYPE_CHECKING:
    from normexp.explain.sources import ColumnGroups


@dataclass(frozen=True)
class Head:
    """A linear softmax head behind steps that make its features.

    Parameters
    ----------
    classes : ndarray (K,)
        The labels.
    coef : ndarray of float64 (K, P)
        On what comes out of the last step; two classes have the rows 0 and w.
    intercept : ndarray of float64 (K,)
        Of the scores.
    opaque : tuple of transformer
        The first steps, up to the last that is not affine.
    affine : tuple of transformer
        The steps after them.
    column_coef : ndarray of float64 (K, D)
        On the columns: what goes into the first affine step.
    groups : ColumnGroups or None
        Which columns belong to which column of a table.
    names : ndarray of str (D,) or None
        Names of the columns, where some step knows them.
    of : str
        The function that reads the model, for its complaints.
    """

    classes: NDArray[Any]
    coef: F64 = field(repr=False)
    intercept: F64 = field(repr=False)
    opaque: tuple[Any, ...]
    affine: tuple[Any, ...]
    column_coef: F64 = field(repr=False)
    groups: "ColumnGroups | None"
    names: NDArray[Any] | None
    of: str

    @classmethod
    def read(cls, model: Any, *, of: str) -> Self:
        """Read a fitted model; refuse one that has no linear scores."""
        model = getattr(model, "best_estimator_", model)
        base = base_of(model)
        if base is not model:  # the log-odds of the base, in its unit
            inner = cls.read(base, of=of)
            shift = getattr(model, "class_shift_", None)  # which decisions follow, unlike a temperature
            return inner if shift is None else replace(inner, intercept=inner.intercept + shift)
        encoder = getattr(model, "encoder_", None)
        if encoder is not None and hasattr(model, "estimator_"):
            inner = cls.read(model.estimator_, of=of)
            if inner.opaque:
                raise DtypeError(
                    f"{of}: the table model's estimator has a {type(inner.opaque[-1]).__name__}, which is not affine, "
                    "so columns of the table cannot be told apart behind it; importance() works for any classifier."
                )
            from normexp.explain.sources import column_groups  # noqa: PLC0415  (table models alone need polars)

            groups = column_groups(encoder, inner.column_coef.shape[1])
            return cls(
                np.asarray(model.classes_), inner.coef, inner.intercept, (encoder,), inner.affine, inner.column_coef,
                groups, None, of,
            )  # fmt: skip
        steps = flatten(model)
        last = steps[-1] if steps else model
        _require_coefficients(last, of)
        front = steps[:-1]
        cut = max((number + 1 for number, step in enumerate(front) if not is_affine(step)), default=0)
        opaque, affine = tuple(front[:cut]), tuple(_nameless(step) for step in front[cut:])
        coef, intercept = _scores(last)
        column_coef = coef
        for step in reversed(affine):
            column_coef = pull_back(step, column_coef)
        names = _names(opaque, (*front[cut:], last), column_coef.shape[1])
        return cls(np.asarray(last.classes_), coef, intercept, opaque, affine, column_coef, None, names, of)

    @property
    def n_columns(self) -> int:
        """How many columns contributions are told for, before they are grouped."""
        return int(self.column_coef.shape[1])

    def columns(self, X: Any, /) -> Rows:
        """Take rows to the columns that contributions are told for: float64, finite, dense or CSR."""
        X = rows_of(X)
        if not self.opaque:
            self._require_names(X)
        with refusals_in_words(self.of, X):
            for step in self.opaque:
                X = step.transform(X)
        rows = as_rows(X, of=self.of)
        if rows.shape[1] != self.n_columns:
            raise ShapeError(
                f"{self.of}: X has {rows.shape[1]} columns and the model was fitted on {self.n_columns}; "
                "the same columns would be right."
            )
        return rows

    def _require_names(self, X: Any) -> None:
        """Refuse a frame whose columns are not those of the fit, in their order."""
        if self.names is not None:
            check_names([str(name) for name in getattr(X, "columns", ())], self.names.tolist(), of=self.of, name="X")

    def features(self, columns: Rows, /) -> Rows:
        """Take columns to what the scores read: float64, finite, dense or CSR."""
        if not columns.shape[0]:  # scikit-learn's steps refuse to take no rows
            return np.zeros((0, self.coef.shape[1]))
        with refusals_in_words(self.of, columns):
            for step in self.affine:
                columns = step.transform(columns)
        return as_rows(columns, of=self.of)

    def logits(self, features: Rows, /) -> F64:
        """Scores of features, (N, K), float64."""
        scores: Any = features @ self.coef.T
        return np.asarray(scores) + self.intercept

    def training_mean(self) -> F64 | None:
        """Mean of the training rows in the columns, (D,), where the model knows it."""
        return training_mean(self.affine)

    def baseline(self, baseline: ArrayLike | None, *, is_sparse: bool) -> tuple[F64, bool]:
        """The row (D,) that contributions start from, and whether the caller named it."""
        if baseline is None:
            mean = None if is_sparse else self.training_mean()
            return (np.zeros(self.n_columns) if mean is None else mean), False
        try:
            point = np.asarray(baseline, dtype=np.float64)
        except (TypeError, ValueError):
            raise DtypeError(
                f"{self.of}: baseline is {baseline!r}; a number, or one for each column, would be right."
            ) from None
        if point.ndim == 2 and point.shape[0] == 1:
            point = point[0]
        if point.shape not in {(), (self.n_columns,)}:
            raise ShapeError(
                f"{self.of}: baseline has shape {point.shape}; one number, or one for each of the {self.n_columns} "
                "columns, would be right."
            )
        if not np.isfinite(point).all():
            raise RangeError(
                f"{self.of}: baseline holds {point[~np.isfinite(point)].flat[0]}; finite numbers are right."
            )
        return np.broadcast_to(point, (self.n_columns,)).copy(), True

    def class_index(self, labels: Any, n_rows: int, *, name: str) -> Index:
        """Index of a label, or of one for each row, as (N,)."""
        given = np.asarray(labels)
        if given.ndim > 1 or (given.ndim == 1 and len(given) != n_rows):
            raise ShapeError(
                f"{self.of}: {name} has shape {given.shape}; one class, or one for each of the {n_rows} rows, is right."
            )
        order = {label: number for number, label in enumerate(self.classes.tolist())}
        found = [order.get(label, -1) for label in np.atleast_1d(given).tolist()]
        if -1 in found:
            unknown = np.atleast_1d(given).tolist()[found.index(-1)]
            known = ", ".join(map(repr, self.classes.tolist()[:10])) + (", ..." if len(self.classes) > 10 else "")
            raise RangeError(f"{self.of}: {name} is {unknown!r}, which is no class of the model; it knows {known}.")
        return np.broadcast_to(np.asarray(found, dtype=np.intp), (n_rows,)).copy()


def base_of(model: Any, /) -> Any:
    """What a `TrustedClassifier` was made around; any other model as it is."""
    return model.estimator_ if hasattr(model, "adjusters_") else model


def rows_of(X: Any, /) -> Any:
    """Rows of a block of a source, or what came instead of one."""
    return X.features if type(X).__module__ == "normexp.tables.source" else X  # not imported: it needs polars


def _require_coefficients(last: Any, of: str) -> None:
    """Say what a model lacks."""
    name = type(last).__name__
    if not hasattr(last, "fit"):
        raise DtypeError(f"{of}: a {name} came as the model; a fitted linear classifier would be right.")
    check_is_fitted(last)
    if not (hasattr(last, "coef_") and hasattr(last, "intercept_") and hasattr(last, "classes_")):
        raise DtypeError(
            f"{of}: a {name} came, which has no coef_, intercept_ and classes_ to read; a linear classifier such as "
            "SoftmaxClassifier would be right. For others, explain.importance works with predict_proba alone."
        )


def _scores(last: Any) -> tuple[F64, F64]:
    """Coefficients and intercepts with one row for each class."""
    coef = np.atleast_2d(np.asarray(as_dense(last.coef_), dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(last.intercept_, dtype=np.float64), (len(coef),))
    if len(coef) == 1:
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.r_[0.0, intercept]
    return coef, intercept.copy()


def _nameless(step: Any) -> Any:
    """Copy of a step that reads arrays without complaint, although it was fitted on named columns."""
    bare = copy(step)
    vars(bare).pop("feature_names_in_", None)
    return bare


def _names(opaque: tuple[Any, ...], rest: tuple[Any, ...], width: int) -> NDArray[Any] | None:
    """Names of the columns from whichever step knows them."""
    found: Any = getattr(rest[0], "feature_names_in_", None)
    if found is None and opaque:
        try:
            found = opaque[-1].get_feature_names_out()
        except (AttributeError, ValueError):
            return None
    return None if found is None or len(found) != width else np.asarray(found, dtype=str)
