"""A linear head whose scores go through softmax: what every such classifier answers once it is fitted."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from normexp.base.checks import check_whole
from normexp.base.errors import RangeError
from normexp.linear_model.door import read_rows
from normexp.linear_model.over_rows import over_rows
from normexp.ops import log_softmax, softmax, top_k

Floats = NDArray[np.floating]

# Logits that are in memory at a time besides the answer: 8 MB of float64, 546 rows of 1 918 classes. Every method cuts
# the rows alike, so that their answers agree to the bit.
_BLOCK = 1 << 20


class LinearPosterior(ClassifierMixin, BaseEstimator):
    """Abstract: ``coef_`` (S, D), ``intercept_`` (S,), ``classes_`` (K,); S is 1 for two classes and K for more."""

    coef_: Any
    intercept_: NDArray[Any]
    classes_: NDArray[Any]

    @over_rows
    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable class of each row, (N,)."""
        best = self._joined(X, "predict", _best)
        return np.asarray(self.classes_[best])

    @over_rows
    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class, (N, K), in the order of ``classes_``."""
        return self._joined(X, "predict_proba", lambda scores: softmax(two_columns(scores)))

    @over_rows
    def predict_log_proba(self, X: Any) -> Floats:
        """Logarithm of each class's probability, (N, K), accurate also where a probability is nearly 1."""
        return self._joined(X, "predict_log_proba", lambda scores: log_softmax(two_columns(scores)))

    @over_rows
    def predict_top_k(self, X: Any, k: int) -> tuple[NDArray[Any], Floats]:
        """Return the k most probable classes of each row, (N, k), and their probabilities, (N, k), largest first.

        Of equal logits the earlier class comes first. The rows are taken in blocks: beside the answer, memory holds
        the logits and probabilities of at most a million pairs of row and class.
        """
        check_is_fitted(self)
        name, count = f"{type(self).__name__}.predict_top_k", len(self.classes_)
        k = check_whole(k, of=name, name="k", right=f"a whole number from 1 to the {count} classes")
        if not 1 <= k <= count:
            raise RangeError(f"{name}: k is {k}; it must lie between 1 and the {count} classes.")
        index, prob = [], []
        for scores in score_blocks(self, self._read(X, "predict_top_k")):
            logits = two_columns(scores)
            index.append(top_k(logits, k).index)
            # the very bits of predict_proba, from which those of ops.top_k may differ in the last
            prob.append(np.take_along_axis(np.asarray(softmax(logits)), index[-1], axis=1))
        return self.classes_[np.concatenate(index)], np.concatenate(prob)

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

    def _read(self, X: Any, asked: str) -> Any:
        check_is_fitted(self)
        return read_rows(self, X, of=f"{type(self).__name__}.{asked}")

    def _joined(self, X: Any, asked: str, answer: Callable[[Floats], Any]) -> NDArray[Any]:
        """The answers of all blocks as one array, which is filled as they come."""
        rows = self._read(X, asked)
        found: NDArray[Any] | None = None
        filled = 0
        for scores in score_blocks(self, rows):
            part = np.asarray(answer(scores))
            if len(part) == rows.shape[0]:
                return part
            if found is None:
                found = np.empty((rows.shape[0], *part.shape[1:]), part.dtype)
            found[filled : filled + len(part)] = part
            filled += len(part)
        return np.asarray(found)

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
        return self._joined(X, "decision_function", lambda scores: scores)

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


def _best(scores: Floats) -> NDArray[np.intp]:
    """Position of the largest logit of each row."""
    return (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)


def score_blocks(head: LinearPosterior, rows: Any) -> Iterator[Floats]:
    """Scores of rows that are checked, block by block: (n,) for two classes, else (n, K)."""
    size = max(1, _BLOCK // len(head.classes_))
    for first in range(0, rows.shape[0], size):
        part = rows if rows.shape[0] <= size else rows[first : first + size]
        scores: Floats = dense(part @ head.coef_.T)
        scores = scores + head.intercept_
        yield scores[:, 0] if scores.shape[1] == 1 else scores


def two_columns(scores: Floats) -> Floats:
    """Logits (n, K), of two classes too."""
    return scores if scores.ndim > 1 else np.column_stack([np.zeros_like(scores), scores])


def dense(matrix: Any) -> NDArray[Any]:
    """The matrix as an array."""
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
