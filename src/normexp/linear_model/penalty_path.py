"""The path of penalties: where it begins, and the models along it, each begun where those before point to."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from normexp.base.errors import RangeError
from normexp.base.magnitude import naming_columns
from normexp.linear_model.door import read_labelled
from normexp.linear_model.parameters import (
    check_parameters,
    check_row_weights,
    check_weighted_classes,
    class_factors,
    generator_of,
)
from normexp.linear_model.penalties import penalty_of
from normexp.linear_model.softmax_classifier import SoftmaxClassifier
from normexp.solvers import CornerProblem, Forecast, RidgeProblem

F64 = NDArray[np.float64]

# Without values given, the path ends at this multiple of the C at which the first coefficient appears (glmnet's
# lambda.min.ratio for fewer rows than features is 0.01, for more 0.0001).
_SPAN = 1e3


class SoftmaxPath(NamedTuple):
    """Models along a path, strongest penalty first; M of them.

    Cs (M,); coefs (M, S, D); intercepts (M, S); suboptimality (M,), each certified; n_features (M,) with a coefficient
    that is not zero; n_iter (M,).
    """

    Cs: F64
    coefs: NDArray[Any]
    intercepts: NDArray[Any]
    suboptimality: F64
    n_features: NDArray[np.intp]
    n_iter: NDArray[np.intp]


def alpha_max(
    X: Any,
    y: ArrayLike,
    *,
    penalty: str = "l1",
    l1_ratio: float | None = None,
    penalty_factor: ArrayLike | None = None,
    fit_intercept: bool = True,
    class_weight: dict[Any, float] | str | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Smallest alpha = 1 / C at which all coefficients that bear a penalty with corners are zero.

    Parameters
    ----------
    X : array-like or sparse matrix (N, D)
        Features.
    y : array-like (N,)
        Class labels.
    penalty : {"l1", "elasticnet", "group_lasso"}
        As in `SoftmaxClassifier`.
    l1_ratio : float, optional
        Share of the part with corners; above 0.
    penalty_factor : array-like (D,), optional
        Multiplies the penalty of each feature; features with 0 are in the model throughout.
    fit_intercept : bool
        Whether there is an unpenalised intercept.
    class_weight : dict, "balanced" or None
        Multiplies the weight of each row.
    sample_weight : array-like (N,), optional
        Weights of the rows.

    Returns
    -------
    float
        The largest dual norm, over its factor and ratio, of a feature's pull in the model without them.

    Raises
    ------
    RangeError
        For a penalty without corners.

    Notes
    -----
    Exact for the intercept alone; with free features the model of these is solved to a gradient of 1e-10 of its first.
    glmnet's largest lambda is this over the sum of the weights. Cost: two passes over X.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> strongest = alpha_max(X, y)
    >>> bool(SoftmaxClassifier(penalty="l1", C=0.999 / strongest).fit(X, y).coef_.any())
    False
    >>> bool(SoftmaxClassifier(penalty="l1", C=1.01 / strongest).fit(X, y).coef_.any())
    True
    """
    model = SoftmaxClassifier(
        penalty=penalty, l1_ratio=l1_ratio, penalty_factor=penalty_factor, fit_intercept=fit_intercept,
        class_weight=class_weight,
    )  # fmt: skip
    check_parameters(model, of="alpha_max")
    rows, labels = read_labelled(model, X, y, of="alpha_max")
    wanted = penalty_of(model, rows.shape[1], of="alpha_max")
    if not wanted.has_corners:
        raise RangeError(
            f"alpha_max: penalty is {penalty!r} with l1_ratio={l1_ratio!r}, which has no corners: no finite strength "
            "makes its coefficients zero; 'l1', 'elasticnet' with a ratio above 0 and 'group_lasso' have."
        )
    problem = _problem(model, rows, labels, sample_weight, of="alpha_max")
    return problem.strongest(wanted)


def softmax_path(
    X: Any,
    y: ArrayLike,
    *,
    penalty: str = "l1",
    l1_ratio: float | None = None,
    Cs: int | ArrayLike = 30,
    penalty_factor: ArrayLike | None = None,
    fit_intercept: bool = True,
    class_weight: dict[Any, float] | str | None = None,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
) -> SoftmaxPath:
    """Softmax regressions under penalties from the strongest to the weakest, each begun where those before point to.

    Parameters
    ----------
    X : array-like or sparse matrix (N, D)
        Features.
    y : array-like (N,)
        Class labels.
    penalty : {"l1", "elasticnet", "group_lasso", "l2"}
        As in `SoftmaxClassifier`.
    l1_ratio : float, optional
        Share of the part with corners.
    Cs : int or array-like of float
        So many values from 1 / `alpha_max` to 1 000 times that, evenly in the logarithm (for "l2" from 1e-4 to 1e4);
        or the values.
    penalty_factor : array-like (D,), optional
        Multiplies the penalty of each feature.
    fit_intercept : bool
        Whether there is an unpenalised intercept.
    class_weight : dict, "balanced" or None
        Multiplies the weight of each row.
    sample_weight : array-like (N,), optional
        Weights of the rows.
    tol : float
        Certified relative suboptimality of each.
    max_iter : int
        Newton steps of each at most.

    Returns
    -------
    SoftmaxPath
        Cs, coefs, intercepts and what is certified of them.

    Notes
    -----
    Features that the sequential strong rule leaves out are checked against the optimality conditions afterwards
    (Tibshirani et al. 2012, section 7), so the rule saves time and changes no result.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> path = softmax_path(X, y, penalty="group_lasso", Cs=5)
    >>> path.n_features.tolist(), bool(path.suboptimality.max() <= 1e-6)
    ([0, 1, 1, 1, 6], True)
    """
    model = SoftmaxClassifier(
        penalty=penalty, l1_ratio=l1_ratio, penalty_factor=penalty_factor, fit_intercept=fit_intercept,
        class_weight=class_weight, tol=tol, max_iter=max_iter,
    )  # fmt: skip
    check_parameters(model, of="softmax_path")
    rows, labels = read_labelled(model, X, y, of="softmax_path")
    wanted = penalty_of(model, rows.shape[1], of="softmax_path")
    if isinstance(Cs, (int, np.integer)) and wanted.has_corners:
        problem = _problem(model, rows, labels, sample_weight, of="softmax_path")
        first = 1.0 / max(problem.strongest(wanted), np.finfo(float).tiny)
        Cs = np.geomspace(first, _SPAN * first, count_of(Cs, "softmax_path"))
    grid = strengths(Cs, "softmax_path")
    models = list(fitted_path(model, grid, rows, labels, sample_weight, of="softmax_path"))
    return SoftmaxPath(
        grid,
        np.stack([one.coef_ for one in models]),
        np.stack([one.intercept_ for one in models]),
        np.array([one.suboptimality_ for one in models]),
        np.array([int(np.any(one.coef_ != 0, axis=0).sum()) for one in models]),
        np.array([int(one.n_iter_[0]) for one in models]),
    )


def fitted_path(
    model: SoftmaxClassifier,
    grid: F64,
    rows: Any,
    labels: NDArray[Any],
    sample_weight: ArrayLike | None,
    forecasts: dict[Any, Forecast] | None = None,
    only: NDArray[np.intp] | None = None,
    *,
    of: str,
) -> Iterator[SoftmaxClassifier]:
    """Yield a fitted copy of the model for each C of the ascending grid; rows and labels are checked already.

    ``forecasts``: what the paths before told, by their classes, of the same model, grid and features on other rows;
    this path begins its fits by it, and adds to it. ``only``: the rows that are fitted, whose labels and weights these
    are; they are not copied out of an array.
    """
    check_parameters(model, of=of)
    target, weight, classes = _weighed(model, labels, sample_weight, of=of)
    smooth = model.penalty in {"l2", None} and model.penalty_factor is None
    kind: type[RidgeProblem | CornerProblem] = RidgeProblem if smooth else CornerProblem
    with naming_columns(None, of=of):
        problem = kind(rows, target, weight, n_classes=len(classes), fit_intercept=bool(model.fit_intercept), only=only)
    forecast = Forecast(np.log(grid))
    if forecasts is not None and not (isinstance(problem, RidgeProblem) and problem.by_rows):
        forecast = forecasts.setdefault(tuple(classes.tolist()), forecast)
    forecast.begin(problem.place_scale)
    before: float | None = None
    for C in grid:
        one = clone(model).set_params(C=float(C))
        place, penalty = forecast.start(), penalty_of(one, rows.shape[1])
        tol, max_iter = float(model.tol), int(model.max_iter)
        if isinstance(problem, RidgeProblem):
            if model.penalty is None and before is not None:  # all fits are one
                place = problem.place
            rng = generator_of(one.random_state)
            fitted = problem.solve(penalty.ridge, tol=tol, max_iter=max_iter, place=place, rng=rng)
        else:
            start = None if place is None else (place[:-1].copy(), place[-1].copy())
            ratio = None if before is None else float(C) / before
            fitted = problem.solve(penalty, tol=tol, max_iter=max_iter, start=start, ratio=ratio)
        forecast.reached(problem.place)
        before = float(C)
        one.classes_, one.n_features_in_ = classes, rows.shape[1]
        yield one._take(fitted, rows.dtype)  # noqa: SLF001  (of the same folder; no public door for half-fitted models)
    forecast.finish()


def strengths(Cs: int | ArrayLike, name: str) -> F64:
    """Return the values of C, ascending: between 1e-4 and 1e4 for a number of them, as in scikit-learn."""
    if isinstance(Cs, (int, np.integer)):
        return np.logspace(-4, 4, count_of(Cs, name))
    try:
        grid = np.unique(np.asarray(Cs, dtype=np.float64))
    except (TypeError, ValueError):
        grid = np.array([])
    if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)):
        raise RangeError(f"{name}: Cs is {Cs!r}; how many values, or finite values above 0, are needed.")
    return grid


def count_of(Cs: Any, name: str) -> int:
    """Return the number of values asked for."""
    if isinstance(Cs, bool) or Cs < 1:
        raise RangeError(f"{name}: Cs is {Cs}; at least 1 value is needed.")
    return int(Cs)


def _weighed(
    model: SoftmaxClassifier, labels: NDArray[Any], sample_weight: ArrayLike | None, *, of: str
) -> tuple[NDArray[np.intp], F64, NDArray[Any]]:
    """Class indices (N,), weights (N,) and the classes (K,)."""
    classes, target = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise RangeError(
            f"{of}: y holds one class only, {classes.tolist()[0]!r}; at least 2 classes are needed to tell them apart."
        )
    weight = check_row_weights(sample_weight, len(target), of=of)
    of_class = class_factors(model.class_weight, classes, np.bincount(target), of=of)
    if of_class is not None:
        weight = weight * of_class[target]
    check_weighted_classes(classes, np.bincount(target, weight), of=of)
    return target.astype(np.intp, copy=False), weight, classes


def _problem(
    model: SoftmaxClassifier, rows: Any, labels: NDArray[Any], sample_weight: ArrayLike | None, *, of: str
) -> CornerProblem:
    target, weight, classes = _weighed(model, labels, sample_weight, of=of)
    with naming_columns(None, of=of):
        return CornerProblem(rows, target, weight, n_classes=len(classes), fit_intercept=bool(model.fit_intercept))
