"""A linear head whose scores go through softmax: what every such classifier answers once it is fitted."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from normexp.base.errors import RangeError
from normexp.linear_model.over_rows import over_rows
from normexp.ops import log_softmax, softmax

FLOATS = [np.float64, np.float32]

Floats = NDArray[np.floating]


class LinearPosterior(ClassifierMixin, BaseEstimator):
    """Abstract: ``coef_`` (S, D), ``intercept_`` (S,), ``classes_`` (K,); S is 1 for two classes and K for more."""

    coef_: Any
    intercept_: NDArray[Any]
    classes_: NDArray[Any]

    @over_rows
    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable class of each row, (N,)."""
        scores = self._scores(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[best])

    @over_rows
    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class, (N, K), in the order of ``classes_``."""
        return np.asarray(softmax(self._logits(X)))

    @over_rows
    def predict_log_proba(self, X: Any) -> Floats:
        """Logarithm of each class's probability, (N, K), accurate also where a probability is nearly 1."""
        return np.asarray(log_softmax(self._logits(X)))

    @over_rows
    def predict_top_k(self, X: Any, k: int) -> tuple[NDArray[Any], Floats]:
        """Return the k most probable classes of each row, (N, k), and their probabilities, (N, k), largest first."""
        prob = self.predict_proba(X)  # whose very bits are promised: ops.top_k may differ in the last
        if not 1 <= k <= prob.shape[1]:
            raise RangeError(
                f"{type(self).__name__}.predict_top_k: k is {k}; it must lie between 1 and the {prob.shape[1]} classes."
            )
        order = np.argsort(-prob, axis=1, kind="stable")[:, :k]
        return self.classes_[order], np.take_along_axis(prob, order, axis=1)

    def to_sklearn(self) -> LogisticRegression:
        """Return a fitted ``sklearn.linear_model.LogisticRegression`` with the same coefficients and predictions."""
        check_is_fitted(self)
        model = LogisticRegression(C=getattr(self, "C", np.inf))
        model.coef_ = dense(self.coef_).copy()
        model.intercept_ = self.intercept_.copy()
        model.classes_ = self.classes_.copy()
        model.n_iter_ = np.array(getattr(self, "n_iter_", [0]), dtype=np.int32)
        model.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            model.feature_names_in_ = self.feature_names_in_.copy()
        return model

    def _scores(self, X: Any) -> Floats:
        """(N,) for two classes, else (N, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        scores: Any = X @ self.coef_.T + self.intercept_
        logits: Floats = np.asarray(dense(scores))
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def _logits(self, X: Any) -> Floats:
        scores = self._scores(X)
        return scores if scores.ndim > 1 else np.column_stack([np.zeros_like(scores), scores])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class LinearHead(LinearPosterior):
    """Abstract: the same with its logits public."""

    @over_rows
    def decision_function(self, X: Any) -> Floats:
        """Logits of each row.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)

        Returns
        -------
        ndarray (N,) for two classes, the log-odds of ``classes_[1]``, else (N, K)
        """
        return self._scores(X)

    def sparsify(self) -> Self:
        """Turn ``coef_`` into a CSR matrix."""
        check_is_fitted(self)
        self.coef_ = sparse.csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Turn ``coef_`` back into an array."""
        check_is_fitted(self)
        self.coef_ = dense(self.coef_)
        return self


def dense(matrix: Any) -> NDArray[Any]:
    """The matrix as an array."""
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
