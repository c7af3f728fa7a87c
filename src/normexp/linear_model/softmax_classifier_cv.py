"""Softmax regression whose penalty is chosen by cross-validation."""

from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from normexp.base.errors import RangeError
from normexp.linear_model.head import FLOATS, LinearHead, dense
from normexp.linear_model.parameters import check_row_weights
from normexp.linear_model.softmax_classifier import SoftmaxClassifier
from normexp.solvers import prefers_rows

# The folds are compared by their scores, which a finer optimum does not move.
_PATH_TOL = 1e-4


@final
class SoftmaxClassifierCV(LinearHead):
    """Softmax regression with the penalty of the best cross-validated score, fitted anew on all rows.

    Parameters
    ----------
    Cs : int or array-like of float
        So many values between 1e-4 and 1e4, evenly in the logarithm; or the values. Larger means less penalty.
    cv : int, splitter or iterable
        Folds, stratified by class when a number is given.
    scoring : str or callable
        A scorer of scikit-learn; larger is better.
    fit_intercept : bool
        Whether there are unpenalised intercepts.
    class_weight : dict, "balanced" or None
        Weights of the classes, as in `SoftmaxClassifier`.
    tol : float
        Certified relative suboptimality of the last fit; along the path 1e-4 is enough.
    max_iter : int
        Newton steps of each fit at most.
    random_state : int, RandomState or None
        Draws the rows of preconditioners.

    Attributes
    ----------
    C_ : float
        The chosen value.
    Cs_ : ndarray (M,)
        The values tried, ascending.
    scores_ : ndarray (n_folds, M)
        Score of each fold at each value.
    coef_ : ndarray (S, D)
        S is 1 for two classes and K for more.
    intercept_ : ndarray (S,)
    classes_ : ndarray (K,)
    n_iter_ : ndarray (1,) of int
    suboptimality_ : float
    solution_ : Solution
        Of the last fit, as in `SoftmaxClassifier`.

    Notes
    -----
    In each fold the values are taken from the strongest penalty to the weakest, each fit started at the one before.
    Of equal mean scores the stronger penalty is taken. Held-out rows of a class that a fold's training rows lack are
    not scored. The cost is (folds x M) warm-started fits and one more.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxClassifierCV(Cs=[0.01, 1.0, 100.0], cv=3).fit(X, y)
    >>> model.scores_.shape, model.C_ in model.Cs_, model.suboptimality_ < 1e-6
    ((3, 3), True, True)
    """

    def __init__(
        self,
        *,
        Cs: int | ArrayLike = 10,
        cv: Any = 5,
        scoring: Any = "neg_log_loss",
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        random_state: Any = None,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose C and fit the coefficients.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)
            Features.
        y : array-like (N,)
            Class labels.
        sample_weight : array-like (N,), optional
            Weights of the rows, in fits and scores.

        Returns
        -------
        SoftmaxClassifierCV
            Itself.
        """
        grid = self._grid()
        rows: Any
        rows, labels = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, accept_large_sparse=False)
        check_classification_targets(labels)
        weight = None if sample_weight is None else check_row_weights(sample_weight, rows.shape[0])
        counted = np.ones(len(labels), bool) if weight is None else weight > 0
        if len(np.unique(labels[counted])) < 2:
            raise RangeError(
                f"SoftmaxClassifierCV.fit: y holds one class only (among rows that count), {labels[counted][0]!r}; "
                "at least 2 classes are needed."
            )
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        folds = check_cv(self.cv, labels, classifier=True).split(rows, labels)
        scores = [
            self._path(grid, rows, labels, weight, used[counted[used]], held[counted[held]], scorer)
            for used, held in folds
        ]
        self.Cs_, self.scores_ = grid, np.array(scores)
        mean = self.scores_.mean(axis=0)
        self.C_ = float(grid[int(np.argmax(mean))])
        model = self._model(self.C_, self.tol).fit(rows, labels, sample_weight=weight)
        for name in ("coef_", "intercept_", "classes_", "n_iter_", "suboptimality_", "solution_"):
            setattr(self, name, getattr(model, name))
        return self

    def _path(
        self,
        grid: NDArray[np.float64],
        rows: Any,
        labels: NDArray[Any],
        weight: NDArray[np.float64] | None,
        used: NDArray[np.intp],
        held: NDArray[np.intp],
        scorer: Any,
    ) -> list[float]:
        """Score of one fold at each value."""
        held = held[np.isin(labels[held], labels[used])]
        if not len(held) or len(np.unique(labels[used])) < 2:
            raise RangeError(
                "SoftmaxClassifierCV.fit: a fold holds one class only, or no row to score; fewer folds or more rows of "
                "each class are needed."
            )
        table, inner = rows[used], None if weight is None else weight[used]
        outer = {} if weight is None else {"sample_weight": weight[held]}
        starts = not prefers_rows(len(used), rows.shape[1])
        model: SoftmaxClassifier | None = None
        scores = []
        for C in grid:
            start = None
            if model is not None and starts:
                start = dense(model.coef_)
                start = np.column_stack([start, model.intercept_]) if self.fit_intercept else start
            model = self._model(float(C), max(self.tol, _PATH_TOL), init=start)
            model.fit(table, labels[used], sample_weight=inner)
            scores.append(float(scorer(model, rows[held], labels[held], **outer)))
        return scores

    def _model(self, C: float, tol: float, init: Any = None) -> SoftmaxClassifier:
        return SoftmaxClassifier(
            C=C,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            tol=tol,
            max_iter=self.max_iter,
            init=init,
            random_state=self.random_state,
        )

    def _grid(self) -> NDArray[np.float64]:
        """The values of C, ascending."""
        if isinstance(self.Cs, (int, np.integer)) and not isinstance(self.Cs, bool):
            if self.Cs < 1:
                raise RangeError(f"SoftmaxClassifierCV.fit: Cs is {self.Cs}; at least 1 value is needed.")
            return np.logspace(-4, 4, int(self.Cs))
        grid = np.unique(np.asarray(self.Cs, dtype=np.float64))
        if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)):
            raise RangeError(
                f"SoftmaxClassifierCV.fit: Cs is {self.Cs!r}; how many values, or finite values above 0, are needed."
            )
        return grid
