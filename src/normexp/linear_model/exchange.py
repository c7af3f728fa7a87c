"""Models from scikit-learn."""

from typing import Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import DtypeError, RangeError
from normexp.linear_model.head import LinearHead, dense
from normexp.solvers import Outcome, Solution

_KEPT = ("C", "fit_intercept", "class_weight", "max_iter", "warm_start", "verbose", "random_state")


class FromScikitLearn(LinearHead):
    """Abstract: a head with the constructor of SoftmaxClassifier."""

    @classmethod
    def from_sklearn(cls, model: LogisticRegression) -> Self:
        """Return a classifier with the coefficients, labels and penalty of a fitted ``LogisticRegression``.

        Parameters
        ----------
        model : sklearn.linear_model.LogisticRegression
            Fitted, as softmax or for two classes. ``tol`` is not taken over: it means something else here.

        Returns
        -------
        SoftmaxClassifier
            Its predictions are those of the model. ``suboptimality_`` is infinite: nothing is known of the fit;
            ``set_params(warm_start=True).fit(X, y)`` goes on from there to a certified optimum.

        Raises
        ------
        DtypeError
            For another class of model.
        RangeError
            For one classifier against the rest for each class, whose probabilities are no softmax.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from normexp import SoftmaxClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> theirs = LogisticRegression(max_iter=1000).fit(X, y)
        >>> ours = SoftmaxClassifier.from_sklearn(theirs)
        >>> bool(np.allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12))
        True
        """
        if not isinstance(model, LogisticRegression):
            raise DtypeError(
                f"from_sklearn: a {type(model).__name__} came; a fitted sklearn.linear_model.LogisticRegression is "
                "needed."
            )
        check_is_fitted(model)
        rest = getattr(model, "multi_class", None) == "ovr" or model.solver == "liblinear"
        if rest and len(model.classes_) > 2:
            raise RangeError(
                f"from_sklearn: this LogisticRegression (solver={model.solver!r}) fits each of its "
                f"{len(model.classes_)} classes against the rest, which is no softmax; fit it with "
                "solver='lbfgs', or SoftmaxClassifier."
            )
        penalty, ratio = _penalty(model)
        kept = {name: getattr(model, name) for name in _KEPT}
        one = cls(penalty=penalty, l1_ratio=ratio, **kept)
        one.coef_ = dense(model.coef_).copy()
        one.intercept_ = np.broadcast_to(model.intercept_, len(one.coef_)).astype(one.coef_.dtype)
        one.classes_ = model.classes_.copy()
        one.n_iter_ = np.array([np.max(model.n_iter_)], dtype=np.int32)
        one.n_features_in_ = model.n_features_in_
        if hasattr(model, "feature_names_in_"):
            one.feature_names_in_ = model.feature_names_in_.copy()
        one.suboptimality_ = np.inf
        one.solution_ = Solution(Outcome.ELSEWHERE, np.nan, np.inf, int(one.n_iter_[0]), 0, {})
        return one


def _penalty(model: LogisticRegression) -> tuple[str | None, float | None]:
    """Return the penalty in our words; before scikit-learn 1.8 ``penalty`` named it, later ``l1_ratio`` alone does."""
    name, ratio = getattr(model, "penalty", "deprecated"), getattr(model, "l1_ratio", None)
    if name in {"l1", "l2"}:
        return str(name), None
    if name is None or np.isinf(model.C):
        return None, None
    if name != "elasticnet" and not ratio:
        return "l2", None
    if name != "elasticnet" and ratio == 1:
        return "l1", None
    return "elasticnet", float(ratio or 0.0)
