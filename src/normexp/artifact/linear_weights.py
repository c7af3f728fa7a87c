"""What files of weights need of a linear head: one row for each score, labels, names; and a head from them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import ArtifactError, DtypeError


class LinearWeights(NamedTuple):
    """coef (S, D), intercept (S,), classes (K,), names of the features (D,) or None; S = 1 for K = 2, else K."""

    coef: NDArray[Any]
    intercept: NDArray[Any]
    classes: NDArray[Any]
    names: list[str] | None


def weights_of(model: Any, of: str) -> LinearWeights:
    """Read the weights of a fitted linear head; ``of`` is the function that asks."""
    name = type(model).__name__
    if not type(model).__module__.startswith("normexp.linear_model."):
        raise DtypeError(
            f"{of}: a {name} came; the linear classifiers of normexp.linear_model have weights to write (turn others "
            "into one with SoftmaxClassifier.from_sklearn, or write the model_ of a TableClassifier)."
        )
    if not hasattr(model, "coef_"):
        raise ArtifactError(f"{of}: this {name} is not fitted; call fit first.")
    coef = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    names = getattr(model, "feature_names_in_", None)
    return LinearWeights(
        np.ascontiguousarray(coef),
        np.ascontiguousarray(model.intercept_),
        np.asarray(model.classes_),
        None if names is None else [str(one) for one in names],
    )


def head_of(weights: LinearWeights) -> Any:
    """Build a SoftmaxClassifier that predicts with these weights."""
    from normexp.linear_model import SoftmaxClassifier  # noqa: PLC0415  (loads scikit-learn)
    from normexp.solvers import Outcome, Solution  # noqa: PLC0415  (loads scikit-learn)

    model = SoftmaxClassifier(fit_intercept=bool(weights.intercept.any()))
    model.coef_, model.intercept_, model.classes_ = weights.coef, weights.intercept, weights.classes
    model.n_features_in_ = weights.coef.shape[1]
    if weights.names is not None:
        model.feature_names_in_ = np.array(weights.names, dtype=object)
    model.n_iter_ = np.zeros(1, np.int32)
    model.suboptimality_ = np.inf
    model.solution_ = Solution(Outcome.ELSEWHERE, np.nan, np.inf, 0, 0, {})
    return model
