"""Models of how features arise in each class whose posterior is a softmax of linear scores, in closed form."""

from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import RangeError
from normexp.base.magnitude import LargeCellError, large_cell
from normexp.linear_model.door import read_labelled
from normexp.linear_model.head import LinearHead, LinearPosterior, dense
from normexp.linear_model.parameters import check_row_weights, is_number

F64 = NDArray[np.float64]


@final
class LinearDiscriminant(LinearHead):
    r"""Linear discriminant analysis: normal features with one covariance, whose posterior is a softmax.

    Parameters
    ----------
    shrinkage : float
        Share of the average variance in the covariance, between 0 (none) and 1 (a multiple of the identity).

    Attributes
    ----------
    coef_ : ndarray (S, D)
        S is 1 for two classes and K for more.
    intercept_ : ndarray (S,)
    classes_ : ndarray (K,)
    priors_ : ndarray (K,)
        Weighted class frequencies.

    Notes
    -----
    Class k has the score :math:`\mu_k' \Sigma^{-1} x - \mu_k' \Sigma^{-1} \mu_k / 2 + \log \pi_k` [1]_, with
    :math:`\Sigma` the pooled covariance of largest likelihood (divisor N); directions without variance (below 1e-12 of
    the largest, on standardised features) are left out. Without shrinkage the posterior is that of scikit-learn's
    ``LinearDiscriminantAnalysis()`` to 1e-10. Cost: N D^2 + D^3.

    References
    ----------
    .. [1] Hastie, Tibshirani and Friedman (2009), "The Elements of Statistical Learning", eq. 4.10.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> float(LinearDiscriminant().fit(X, y).score(X, y))
    1.0
    """

    def __init__(self, *, shrinkage: float = 0.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the class means and the common covariance.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)
            Features; a sparse matrix is made dense.
        y : array-like (N,)
            Class labels.
        sample_weight : array-like (N,), optional
            Weights of the rows; one of 2 counts as the row twice.

        Returns
        -------
        LinearDiscriminant
            Itself.
        """
        if not is_number(self.shrinkage) or not 0.0 <= float(self.shrinkage) <= 1.0:
            raise RangeError(
                f"LinearDiscriminant.fit: shrinkage is {self.shrinkage!r}; it must lie between 0 (none) and 1."
            )
        X, member, weight = _rows(self, X, y, sample_weight)
        rows = dense(X).astype(np.float64)
        counts = member.T @ weight
        means = (member * weight[:, None]).T @ rows / counts[:, None]
        within = rows - means[member.argmax(axis=1)]
        if not within.any():
            raise RangeError(
                "LinearDiscriminant.fit: the rows of each class are all alike, which leaves nothing to estimate a "
                "covariance from; rows that differ within their classes are needed."
            )
        spread = np.sqrt(weight @ np.square(within) / weight.sum())
        spread = np.where(spread > 0, spread, 1.0)
        # Singular values of the scaled rows, not a covariance: half the digits would be lost in squaring.
        _, singular, right = np.linalg.svd(
            np.sqrt(weight / weight.sum())[:, None] * (within / spread), full_matrices=False
        )
        values = np.square(singular)
        kept = values > 1e-12 * values.max(initial=0.0)
        average = values.sum() / rows.shape[1]
        values = (1 - self.shrinkage) * values[kept] + self.shrinkage * average
        centre = counts / counts.sum() @ means
        offset = (means - centre) / spread
        inward = offset @ right[kept].T
        coef = (inward / values) @ right[kept]
        if self.shrinkage > 0:  # directions without variance have the average alone
            coef += (offset - inward @ right[kept]) / (self.shrinkage * average)
        coef /= spread
        self.priors_ = counts / counts.sum()
        scores = np.log(self.priors_) - np.einsum("kj,kj->k", coef, 0.5 * (means + centre))
        _keep(self, coef, scores, X.dtype)
        return self


@final
class NaiveBayesSoftmax(LinearPosterior):
    r"""Multinomial or Bernoulli naive Bayes, whose posterior is a softmax of linear scores.

    Parameters
    ----------
    kind : {"multinomial", "bernoulli"}
        Counts (or weights such as TF-IDF), or features that are 0 or 1.
    alpha : float
        Rows' worth of each feature added to every class (Lidstone); above 0.

    Attributes
    ----------
    coef_ : ndarray (S, D)
        S is 1 for two classes and K for more.
    intercept_ : ndarray (S,)
    classes_ : ndarray (K,)
    priors_ : ndarray (K,)
        Weighted class frequencies.

    Notes
    -----
    Multinomial: the score of class k is :math:`\log \pi_k + \sum_j x_j \log \theta_{kj}`. Bernoulli:
    :math:`\log \pi_k + \sum_j \log(1 - \theta_{kj}) + x_j \log(\theta_{kj} / (1 - \theta_{kj}))`. The posterior is that
    of scikit-learn's ``MultinomialNB`` and ``BernoulliNB`` to 1e-10. Cost: one pass over X.

    References
    ----------
    .. [1] McCallum and Nigam (1998), "A comparison of event models for naive Bayes text classification", AAAI.

    Examples
    --------
    >>> model = NaiveBayesSoftmax().fit([[3, 0], [0, 2], [1, 0]], ["a", "b", "a"])
    >>> model.predict([[1, 0], [0, 1]])
    array(['a', 'b'], dtype='<U1')
    """

    def __init__(self, *, kind: str = "multinomial", alpha: float = 1.0) -> None:
        self.kind = kind
        self.alpha = alpha

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Count the features of each class.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)
            Not negative; for ``kind="bernoulli"`` 0 or 1.
        y : array-like (N,)
            Class labels.
        sample_weight : array-like (N,), optional
            Weights of the rows.

        Returns
        -------
        NaiveBayesSoftmax
            Itself.
        """
        if self.kind not in {"multinomial", "bernoulli"}:
            raise RangeError(f"NaiveBayesSoftmax.fit: kind is {self.kind!r}; 'multinomial' and 'bernoulli' are known.")
        if not is_number(self.alpha) or not 0.0 < float(self.alpha) < np.inf:
            raise RangeError(f"NaiveBayesSoftmax.fit: alpha is {self.alpha!r}; it must be a finite number above 0.")
        X, member, weight = _rows(self, X, y, sample_weight)
        entries = X.data if hasattr(X, "indptr") else X
        if entries.size and entries.min() < 0:
            raise RangeError(
                f"Negative values in data passed to NaiveBayesSoftmax.fit: X holds {entries.min()}; "
                "counts and weights are 0 or more."
            )
        counts = np.asarray(member.T @ weight)
        totals = np.asarray((X.T @ (member * weight[:, None])).T, dtype=np.float64) + self.alpha
        prior = np.log(counts / counts.sum())
        if self.kind == "multinomial":
            coef, scores = np.log(totals) - np.log(totals.sum(axis=1, keepdims=True)), prior
        else:
            if not np.isin(entries, (0, 1)).all():
                raise RangeError(
                    "NaiveBayesSoftmax.fit: X holds numbers other than 0 and 1, which kind='bernoulli' needs."
                )
            absent = counts[:, None] + 2 * self.alpha - totals
            coef = np.log(totals) - np.log(absent)
            scores = prior + (np.log(absent) - np.log(counts[:, None] + 2 * self.alpha)).sum(axis=1)
        self.priors_ = counts / counts.sum()
        _keep(self, coef, scores, X.dtype)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.classifier_tags.poor_score = True
        return tags


def _rows(model: Any, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Any, F64, F64]:
    """Check the rows; return them, their classes as (N, K) of 0 and 1, and their weights."""
    rows, y = read_labelled(model, X, y, of=f"{type(model).__name__}.fit")
    if (cell := large_cell(rows)) is not None:
        raise LargeCellError(cell, f"{type(model).__name__}.fit").named(getattr(model, "feature_names_in_", None))
    weight = check_row_weights(sample_weight, rows.shape[0], of=f"{type(model).__name__}.fit")
    model.classes_, index = np.unique(y, return_inverse=True)
    if len(model.classes_) < 2:
        raise RangeError(
            f"{type(model).__name__}.fit: y holds one class only, {model.classes_.tolist()[0]!r}; "
            "at least 2 classes are needed to tell them apart."
        )
    member = np.zeros((rows.shape[0], len(model.classes_)))
    member[np.arange(len(index)), index] = 1.0
    empty = np.flatnonzero(member.T @ weight == 0)
    if empty.size:
        raise RangeError(
            f"{type(model).__name__}.fit: every row of class {model.classes_.tolist()[empty[0]]!r} has weight 0; "
            "leave the class out or give it weight."
        )
    return rows, member, weight


def _keep(model: Any, coef: F64, scores: F64, dtype: Any) -> None:
    """Set coef_ and intercept_: one row for two classes, the difference."""
    if len(scores) == 2:
        coef, scores = coef[1:] - coef[:1], scores[1:] - scores[:1]
    model.coef_ = coef.astype(dtype)
    model.intercept_ = scores.astype(dtype)
