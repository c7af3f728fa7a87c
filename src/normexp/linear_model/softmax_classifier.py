"""Softmax (multinomial logistic) regression with scikit-learn's contract."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from normexp.base.errors import RangeError
from normexp.base.magnitude import naming_columns
from normexp.linear_model.batches import InBatches
from normexp.linear_model.door import read_labelled
from normexp.linear_model.exchange import FromScikitLearn
from normexp.linear_model.generative import LinearDiscriminant, NaiveBayesSoftmax
from normexp.linear_model.head import dense
from normexp.linear_model.intervals import WithIntervals
from normexp.linear_model.over_rows import is_streamed
from normexp.linear_model.parameters import (
    check_labels,
    check_parameters,
    check_row_weights,
    check_weighted_classes,
    checked_start,
    class_factors,
    generator_of,
)
from normexp.linear_model.penalties import penalty_of
from normexp.linear_model.streamed import fit_rows
from normexp.rows import ArrayRows
from normexp.solvers import Fitted, Outcome, Progress, Step, fit_penalised

_LOGGER = logging.getLogger("normexp")


@final
class SoftmaxClassifier(InBatches, WithIntervals, FromScikitLearn):
    """Softmax regression that ends at its optimum and says how close it came.

    A drop-in for ``sklearn.linear_model.LogisticRegression``: the same objective, attributes and shapes.
    The columns of X need not be scaled, and the fit stops on a proof, not on a guess.

    Parameters
    ----------
    C : float, default 1.0
        Inverse of the penalty's strength, as in scikit-learn; ``numpy.inf`` for no penalty.
    penalty : {"l2", "l1", "elasticnet", "group_lasso", None}, default "l2"
        "l1" makes single coefficients zero, "group_lasso" all coefficients of a feature together: it is in or out for
        all classes. ``None`` is the same as ``C=numpy.inf``.
    l1_ratio : float or None, default None
        Share of the part with corners, for "elasticnet" (0 to 1) and "group_lasso" (None: 1); the rest is L2.
    penalty_factor : array-like (D,) or None, default None
        Multiplies the penalty of each feature; 0 leaves it free. Taken as given, not rescaled to average 1.
    fit_intercept : bool, default True
        The intercept is not penalised.
    class_weight : dict, "balanced" or None, default None
        Multiplies the weight of each row, as in scikit-learn; it moves the probabilities too.
    solver : {"auto", "newton", "proximal_newton"}, default "auto"
        "newton" does "l2" and no penalty, "proximal_newton" all but no penalty; "auto" takes the one that suits.
    tol : float, default 1e-6
        The fit stops when a dual bound proves (f - f*) / f* <= tol.
    max_iter : int, default 1000
        Newton steps at most.
    init : ndarray, "lda", "naive_bayes" or None, default None
        Starting coefficients, finite, (S, D + 1) with the intercepts in the last column, or (S, D) without intercept;
        or those of `LinearDiscriminant` or `NaiveBayesSoftmax` for the same rows and weights; None: zeros.
    warm_start : bool, default False
        Start from the coefficients of the fit before.
    verbose : int, default 0
        Above 0, each Newton step is logged at level INFO to the logger ``normexp``.
    random_state : int, RandomState or None, default None
        Draws the rows from which the preconditioner is estimated; the optimum does not depend on it. ``None``
        is a fixed seed.

    Attributes
    ----------
    coef_ : ndarray (S, D)
        S is 1 for two classes (the log-odds of ``classes_[1]``) and K for more.
    intercept_ : ndarray (S,)
    classes_ : ndarray (K,)
    n_iter_ : ndarray (1,) of int
    n_features_in_ : int
    feature_names_in_ : ndarray (D,) of str
        Only when X has column names.
    suboptimality_ : float
        Certified upper bound on (f - f*) / f*; infinity when no bound is known: without a penalty, after
        `partial_fit`, and where rounding hides the penalty, as beside cells of 1e20 (``solution_`` then says FLAT).
    solution_ : Solution
        The outcome as a sentence, the objective, passes over the rows, seconds for each part.

    Notes
    -----
    Minimises C * sum_i w_i loss_i + r |W| + (1 - r)/2 |W|_2^2, with w_i the product of sample and class weight, r the
    ``l1_ratio`` (0 for "l2", 1 for "l1") and |W| the sum of magnitudes, or for "group_lasso" of the lengths of the
    features' columns in ``coef_`` (D of them, S entries each). glmnet's lambda is 1 / (C sum_i w_i), its alpha is r, on
    columns as they come (``standardize=FALSE``); its penalty factors are rescaled to average 1, ours are not.

    A Newton step reads X some tens of times (``solution_.n_passes``); memory beyond X is one array of N x S
    probabilities and the blocks at work. CSR matrices stay sparse; float32 stays float32 in memory, sums are float64.
    Without a penalty there may be no finite optimum; where rows look so, a linear program decides it for tables of up
    to 500 000 numbers times classes, and ``solution_`` says whether the separation is complete or quasi-complete [4]_.
    Penalties with corners hold the features that may be different from zero in a float64 copy (sparse ones sparse),
    found by working sets and gap-safe screening [3]_, and two arrays of N x S more.

    References
    ----------
    .. [1] Böhning (1992), "Multinomial logistic regression algorithm", Ann. Inst. Stat. Math. 44, eq. 2.3.
    .. [2] Galli & Lin (2021), "A study on truncated Newton methods for linear classification", IEEE TNNLS.
    .. [3] Ndiaye, Fercoq, Gramfort & Salmon (2017), "Gap safe screening rules", JMLR 18, theorem 2.
    .. [4] Albert & Anderson (1984), "On the existence of maximum likelihood estimates", Biometrika 71.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from normexp import SoftmaxClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxClassifier().fit(X, y)
    >>> round(model.solution_.objective, 3)
    11.078
    >>> model.suboptimality_ < 1e-6
    True
    >>> print(model.solution_.outcome.value)
    The optimum is reached: a dual bound proves that the objective is within tol of its minimum.

    Which measurements tell the wines apart, for all classes together?

    >>> few = SoftmaxClassifier(penalty="group_lasso", C=0.1).fit(X, y)
    >>> int((few.coef_ != 0).any(axis=0).sum()), few.suboptimality_ < 1e-6
    (6, True)
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        penalty: str | None = "l2",
        l1_ratio: float | None = None,
        penalty_factor: ArrayLike | None = None,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 1000,
        init: ArrayLike | str | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.C = C
        self.penalty = penalty
        self.l1_ratio = l1_ratio
        self.penalty_factor = penalty_factor
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.init = init
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D), or rows of ``normexp.rows``
            Features, float32 or float64 (others become float64), finite, up to 1e150 in magnitude. Rows from
            ``normexp.rows.from_parquet``, ``from_npy`` or ``from_csr_shards`` stay on disk and are read in each pass;
            of a Dask array or dataframe the blocks stay with the workers.
        y : array-like (N,)
            Class labels of any kind. May be left out for rows that know their target.
        sample_weight : array-like (N,), optional
            Weights of the rows, not negative.
        checkpoint : path, optional
            A file that takes the state of the fit after each step, in one piece. When it exists, and belongs to the
            same problem, the fit goes on from it.
        progress : callable, optional
            Called with a ``normexp.solvers.Progress`` (rows read, rows a second, certified gap) after each chunk.

        Returns
        -------
        SoftmaxClassifier
            The same object, fitted.

        Raises
        ------
        ValueError
            When a parameter, X, y or the weights are not what they must be; the sentence says which and why.

        Warns
        -----
        ConvergenceWarning
            When no optimum was reached; the sentence says why and what to do.
        """
        check_parameters(self)
        if self._running is not None:
            self._running = None
            self.__dict__.pop("class_count_", None)
        log = log_step if self.verbose else None
        if is_streamed(X):
            return fit_rows(self, X, y, sample_weight, checkpoint=checkpoint, progress=progress, log=log)
        X, y = read_labelled(self, X, y, of="SoftmaxClassifier.fit", look_at_labels=False)
        check_labels(y)
        if checkpoint is not None or progress is not None:
            return fit_rows(self, ArrayRows(X), y, sample_weight, checkpoint=checkpoint, progress=progress, log=log)
        earlier = self._earlier_coefficients() if self.warm_start else None
        earlier_classes = getattr(self, "classes_", np.array([]))
        self.classes_, target = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise RangeError(
                f"SoftmaxClassifier.fit: y holds one class only, {self.classes_.tolist()[0]!r}; "
                "at least 2 classes are needed to tell them apart."
            )
        weight = check_row_weights(sample_weight, X.shape[0])
        of_class = class_factors(self.class_weight, self.classes_, np.bincount(target), of="SoftmaxClassifier.fit")
        if of_class is not None:
            weight = weight * of_class[target]
        check_weighted_classes(self.classes_, np.bincount(target, weight), of="SoftmaxClassifier.fit")
        n_scores = 1 if n_classes == 2 else n_classes
        if earlier is not None and (
            earlier[0].shape != (X.shape[1], n_scores) or not np.array_equal(earlier_classes, self.classes_)
        ):
            earlier = None
        with naming_columns(getattr(self, "feature_names_in_", None)):
            fitted = fit_penalised(
                X,
                target.astype(np.intp, copy=False),
                weight,
                n_classes=n_classes,
                penalty=penalty_of(self, X.shape[1]),
                cornered=self.solver == "proximal_newton",
                fit_intercept=bool(self.fit_intercept),
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                start=earlier if earlier is not None else self._given_start(X, y, weight, n_scores),
                rng=generator_of(self.random_state),
                callback=log,
            )
        return self._take(fitted, X.dtype)

    def _take(self, fitted: Fitted, dtype: Any) -> Self:
        self.coef_: Any = np.ascontiguousarray(fitted.coef.T, dtype=dtype)
        self.intercept_ = fitted.intercept.astype(dtype)
        self.solution_ = fitted.solution
        self.suboptimality_ = fitted.solution.suboptimality
        self.n_iter_ = np.array([fitted.solution.n_iter], dtype=np.int32)
        quiet = fitted.solution.outcome is Outcome.AWAITING  # any early batch may lack classes
        if self.max_iter > 0 and not fitted.solution.converged and not quiet:
            warnings.warn(f"SoftmaxClassifier.fit: {fitted.solution.outcome.value}", ConvergenceWarning, stacklevel=3)
        return self

    def _earlier_coefficients(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        if not hasattr(self, "coef_"):
            return None
        return dense(self.coef_).T.astype(np.float64), self.intercept_.astype(np.float64)

    def _given_start(
        self, X: Any, y: ArrayLike, weight: NDArray[np.float64], n_scores: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        if self.init is None:
            return None
        if isinstance(self.init, str):
            model = LinearDiscriminant() if self.init == "lda" else NaiveBayesSoftmax()
            model.fit(X, y, sample_weight=weight)
            start = np.asarray(model.coef_, dtype=np.float64)
            if self.fit_intercept:
                start = np.column_stack([start, model.intercept_])
        else:
            start = checked_start(self.init, n_scores, X.shape[1], intercept=bool(self.fit_intercept))
        if not self.fit_intercept:
            return start.T.copy(), np.zeros(n_scores)
        return start[:, :-1].T.copy(), start[:, -1].copy()


def log_step(step: Step) -> None:
    """Tell the log of a Newton step."""
    _LOGGER.info(
        "step %d: objective %.10g, certified within %.3g, %d inner iterations",
        step.iteration, step.value, step.suboptimality, step.inner,
    )  # fmt: skip
