"""Standard errors and Wald intervals of the coefficients, from the observed information."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import NormexpWarning, RangeError
from normexp.linear_model.door import read_labelled
from normexp.linear_model.head import LinearHead, dense
from normexp.linear_model.parameters import check_row_weights, class_factors, is_number
from normexp.linear_model.penalties import penalty_of
from normexp.solvers import Outcome, Solution, covariance
from normexp.solvers.information import MAX_UNKNOWNS

F64 = NDArray[np.float64]

_WITHOUT_OPTIMUM = (Outcome.SEPARABLE, Outcome.QUASI_SEPARABLE, Outcome.GROWING, Outcome.NOT_STARTED)


class CoefIntervals(NamedTuple):
    """Coefficients with their uncertainty: arrays of shape (S, D + 1), the intercept in the last column.

    Without an intercept (S, D). With a reference class all K classes have a row, that of the reference zeros.
    """

    estimate: F64
    standard_error: F64
    low: F64
    high: F64


class WithIntervals(LinearHead):
    """Abstract: a head fitted by maximum (penalised) likelihood."""

    fit_intercept: bool
    class_weight: Any
    solution_: Solution

    def coef_intervals(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        level: float = 0.95,
        reference: Any = None,
    ) -> CoefIntervals:
        """Standard errors and Wald intervals of the coefficients.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)
            The rows of the fit.
        y : array-like (N,)
            Their labels.
        sample_weight : array-like (N,), optional
            The weights of the fit; one of 2 counts as the row twice.
        level : float
            Coverage of each interval.
        reference : label, optional
            Give the coefficients of each class against this one, as statsmodels does. By default they are those of
            ``coef_``: for more than two classes each feature's sum to zero.

        Returns
        -------
        CoefIntervals
            estimate, standard_error, low, high: (S, D + 1) each, or (K, D + 1) with a reference.

        Raises
        ------
        RangeError
            For penalties with corners, for fits that had no optimum or did not start, and where rows and labels
            do not determine the coefficients: collinear columns or separable classes without a penalty; the sentence
            names columns.

        Warns
        -----
        NormexpWarning
            When the fit stopped before its optimum.

        Notes
        -----
        The covariance is the inverse of the observed information, the Hessian of the minimised objective. Without a
        penalty that is the textbook's (Agresti 2013, section 8.1.5); with L2 it contains the penalty, so the intervals
        are those of a Gaussian posterior around its mode and say nothing about the shrinkage. Cost: N (D S)^2 / 2 +
        (D S)^3, at most 20 000 coefficients.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from normexp import SoftmaxClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> X, y = X[50:, 2:], y[50:]  # two kinds of iris by their petals
        >>> found = SoftmaxClassifier(penalty=None).fit(X, y).coef_intervals(X, y)
        >>> found.estimate.round(2), found.standard_error.round(2)  # length, width, intercept
        (array([[  5.75,  10.45, -45.27]]), array([[ 2.31,  3.76, 13.61]]))
        """
        check_is_fitted(self)
        if not is_number(level) or not 0.0 < float(level) < 1.0:
            raise RangeError(f"coef_intervals: level is {level!r}; it must lie between 0 and 1, such as 0.95.")
        rows, labels = read_labelled(self, X, y, of="coef_intervals", reset=False)
        target, weight = self._counted(rows, labels, sample_weight)
        penalty = penalty_of(self, rows.shape[1])
        if penalty.has_corners:
            raise RangeError(
                "coef_intervals: coefficients under a penalty with corners have no Wald intervals; fit the features "
                "that it chose again, on other rows, with penalty=None."
            )
        self._refuse_what_is_no_optimum()
        coef, shift = dense(self.coef_).T.astype(np.float64), self.intercept_.astype(np.float64)
        if coef.size > MAX_UNKNOWNS:
            raise RangeError(
                f"coef_intervals: there are {coef.size} coefficients; {MAX_UNKNOWNS} are possible at most."
            )
        spread: Any = covariance(
            rows, target, weight, coef, shift, ridge=penalty.ridge, fit_intercept=bool(self.fit_intercept)
        )
        if np.issubdtype(spread.dtype, np.integer):
            raise RangeError(
                f"coef_intervals: the rows do not determine the coefficients of {self._named(spread)}: these columns "
                "depend on one another linearly, or separate the classes; leave one out, or give a penalty."
            )
        estimate = np.vstack([coef, shift])
        if reference is not None:
            estimate, spread = self._against(reference, estimate, spread)
        error = np.sqrt(np.maximum(np.einsum("jkjk->jk", spread), 0.0))
        reach = float(ndtri(0.5 + 0.5 * level)) * error
        kept = slice(None) if self.fit_intercept else slice(-1)
        return CoefIntervals(*(part[kept].T.copy() for part in (estimate, error, estimate - reach, estimate + reach)))

    def _refuse_what_is_no_optimum(self) -> None:
        """Refuse a fit that has no optimum or did not start; warn of one that stopped before it."""
        outcome = self.solution_.outcome
        if outcome in _WITHOUT_OPTIMUM:
            raise RangeError(
                f"coef_intervals: the coefficients are no optimum, and Wald intervals stand around one; of the fit: "
                f"{outcome.value}"
            )
        if not outcome.converged and outcome is not Outcome.ELSEWHERE:
            warnings.warn(
                "coef_intervals: the fit stopped before its optimum, so the intervals stand around other coefficients; "
                f"of the fit: {outcome.value}",
                NormexpWarning,
                stacklevel=3,
            )

    def _counted(
        self, rows: Any, labels: NDArray[Any], sample_weight: ArrayLike | None
    ) -> tuple[NDArray[np.intp], F64]:
        strange = np.flatnonzero(~np.isin(labels, self.classes_))
        if strange.size:
            raise RangeError(
                f"coef_intervals: y[{strange[0]}] is {labels[strange[0]]!r}, which is not among the classes of the "
                "fit; give the rows of the fit."
            )
        weight = check_row_weights(sample_weight, rows.shape[0])
        classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        of_class = class_factors(self.class_weight, classes, counts, of="coef_intervals")
        if of_class is not None:
            weight = weight * of_class[index]
        return np.searchsorted(self.classes_, labels).astype(np.intp), weight

    def _against(self, reference: Any, estimate: F64, spread: F64) -> tuple[F64, F64]:
        """Return estimates (D + 1, K) and covariance of the differences from the reference class."""
        at = np.flatnonzero(self.classes_ == reference)
        if not at.size:
            raise RangeError(
                f"coef_intervals: reference is {reference!r}; it must be one of {self.classes_.tolist()[:8]!r}."
            )
        count = len(self.classes_)
        turn = np.array([[0.0], [1.0]]) if count == 2 else np.eye(count)
        turn = turn - turn[at[0]]
        return estimate @ turn.T, np.einsum("ck,ikjl,dl->icjd", turn, spread, turn, optimize=True)

    def _named(self, index: NDArray[Any]) -> str:
        names = getattr(self, "feature_names_in_", None)
        width = self.n_features_in_
        words = [
            "the intercept" if j == width else repr(names[j]) if names is not None else f"column {j}" for j in index[:6]
        ]
        return ", ".join(words) + (" and others" if len(index) > 6 else "")
