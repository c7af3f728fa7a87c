"""Softmax regression whose penalty is chosen by cross-validation."""

from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.model_selection import KFold
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, MethodMapping, process_routing

from normexp.base.errors import DtypeError, RangeError
from normexp.linear_model.door import read_labelled
from normexp.linear_model.head import LinearHead
from normexp.linear_model.parameters import check_parameters, check_row_weights
from normexp.linear_model.penalties import penalty_of
from normexp.linear_model.penalty_path import fitted_path, strengths
from normexp.linear_model.scoring import (
    cut_to,
    held_out_log_loss,
    held_out_score,
    planned_folds,
    read_scorer,
    weights_of_scorer,
)
from normexp.linear_model.softmax_classifier import SoftmaxClassifier
from normexp.solvers import Forecast

# The folds are compared by their scores, which a finer optimum does not move.
_PATH_TOL = 1e-4


@final
class SoftmaxClassifierCV(LinearHead):
    """Softmax regression with the penalty of the best cross-validated score, fitted anew on all rows.

    Parameters
    ----------
    Cs : int or array-like of float
        So many values between 1e-4 and 1e4, evenly in the logarithm; or the values. Larger means less penalty.
    penalty : {"l2", "l1", "elasticnet", "group_lasso"}
        As in `SoftmaxClassifier`.
    l1_ratios : array-like of float or None
        Ratios to try, for "elasticnet" (needed) and "group_lasso".
    penalty_factor : array-like (D,) or None
        Multiplies the penalty of each feature.
    cv : int, splitter or iterable
        Folds, stratified by class when a number is given.
    scoring : str or callable
        A scorer of scikit-learn; larger is better. Scores of probabilities count all classes of a fold's training rows,
        though its held-out rows lack some.
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
    l1_ratio_ : float or None
        The chosen ratio; None where none were given.
    l1_ratios_ : ndarray (R,)
        The ratios tried, only where some were given.
    scores_ : ndarray (n_folds, M), or (n_folds, R, M) with ratios
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
    In each fold the values are taken from the strongest penalty to the weakest. Each fit begins where the path so far,
    and the paths of the folds before, say that it ends (``solvers/forecast.py``): a sixth to two thirds fewer passes
    over X. Optima are unique, so scores stay within what the ``tol`` of a path, 1e-4, leaves open: on wine, breast
    cancer, digits and letter less than a hundredth of the standard error of their mean at the chosen C. The last fit is
    that of ``SoftmaxClassifier(C=C_)``, to the bit. Of equal mean scores the stronger penalty is taken. Held-out rows
    of a class that a fold's training rows lack are not scored. The cost is (folds x R x M) such fits and one more;
    penalties with corners visit few features along the way (the sequential strong rule, checked).

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
        penalty: str | None = "l2",
        l1_ratios: ArrayLike | None = None,
        penalty_factor: ArrayLike | None = None,
        cv: Any = 5,
        scoring: Any = "neg_log_loss",
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        random_state: Any = None,
    ) -> None:
        self.Cs = Cs
        self.penalty = penalty
        self.l1_ratios = l1_ratios
        self.penalty_factor = penalty_factor
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    # Groups are the splitter's, not the estimator's own: under metadata routing none needs to ask for them here.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"groups": UNUSED}

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Choose C and fit the coefficients.

        Parameters
        ----------
        X : array-like or sparse matrix (N, D)
            Features.
        y : array-like (N,)
            Class labels.
        sample_weight : array-like (N,), optional
            Weights of the rows, in fits and scores. A function as scorer gets them where it has an argument of that
            name; else a warning says that its scores are unweighted.
        groups : array-like (N,), optional
            For the splitter, such as ``GroupKFold``.
        **params : dict
            Further arguments that splitter or scorer asked for, where metadata routing is enabled.

        Returns
        -------
        SoftmaxClassifierCV
            Itself.

        Raises
        ------
        NormexpError, ValueError
            When a parameter, X, y or the weights are not what they must be; the sentence says which and why.
        """
        grid, ratios = strengths(self.Cs, "SoftmaxClassifierCV.fit"), self._ratios()
        rows, labels = read_labelled(self, X, y, of="SoftmaxClassifierCV.fit")
        for ratio in ratios:
            check_parameters(self._model(1.0, ratio, self.tol), of="SoftmaxClassifierCV.fit")
        penalty_of(self._model(1.0, ratios[0], self.tol), rows.shape[1], of="SoftmaxClassifierCV.fit")
        weight = (
            None
            if sample_weight is None
            else check_row_weights(sample_weight, rows.shape[0], of="SoftmaxClassifierCV.fit")
        )
        counted = np.ones(len(labels), bool) if weight is None else weight > 0
        if len(np.unique(labels[counted])) < 2:
            raise RangeError(
                f"SoftmaxClassifierCV.fit: y holds one class only (among rows that count), {labels[counted][0]!r}; "
                "at least 2 classes are needed."
            )
        scorer = read_scorer(self.scoring, of="SoftmaxClassifierCV.fit")
        for_split, for_score = self._routed(weight, groups, params)
        folds = planned_folds(self.cv, rows, labels, for_split, of="SoftmaxClassifierCV.fit")
        folds = [(used[counted[used]], held[counted[held]]) for used, held in folds]
        told: list[dict[Any, Forecast]] = [{} for _ in ratios]  # by classes, for folds may lack some
        scores = [
            [
                self._path(grid, ratio, rows, labels, weight, used, held, scorer, for_score, forecasts)
                for ratio, forecasts in zip(ratios, told, strict=True)
            ]
            for used, held in folds
        ]
        self.Cs_, self.scores_ = grid, np.array(scores)
        best_ratio, best = self._best(self.scores_.mean(axis=0), ratios)
        self.C_, self.l1_ratio_ = float(grid[best]), ratios[best_ratio]
        if self.l1_ratios is None:
            self.scores_ = self.scores_[:, 0]
        else:
            self.l1_ratios_ = np.array(ratios)
        model = self._model(self.C_, self.l1_ratio_, self.tol).fit(rows, labels, sample_weight=weight)
        for name in ("coef_", "intercept_", "classes_", "n_iter_", "suboptimality_", "solution_"):
            setattr(self, name, getattr(model, name))
        return self

    def _path(
        self,
        grid: NDArray[np.float64],
        ratio: float | None,
        rows: Any,
        labels: NDArray[Any],
        weight: NDArray[np.float64] | None,
        used: NDArray[np.intp],
        held: NDArray[np.intp],
        scorer: Any,
        for_score: dict[str, Any],
        forecasts: dict[Any, Forecast],
    ) -> list[float]:
        """Score of one fold at each value; forecasts: what the folds before tell it, and it the next ones."""
        held = held[np.isin(labels[held], labels[used])]
        if not len(held) or len(np.unique(labels[used])) < 2:
            raise RangeError(
                "SoftmaxClassifierCV.fit: a fold holds one class only, or no row to score; fewer folds or more rows of "
                "each class are needed."
            )
        inner = None if weight is None else weight[used]
        template = self._model(1.0, ratio, max(self.tol, _PATH_TOL))
        outer = cut_to(for_score, held, len(labels))
        scored, answers = rows[held], labels[held]
        path = fitted_path(
            template, grid, rows, labels[used], inner, forecasts, only=used, of="SoftmaxClassifierCV.fit"
        )
        if isinstance(self.scoring, str) and self.scoring == "neg_log_loss" and outer.keys() <= {"sample_weight"}:
            return [held_out_log_loss(model, scored, answers, outer.get("sample_weight")) for model in path]
        return [held_out_score(scorer, model, scored, answers, outer, of="SoftmaxClassifierCV.fit") for model in path]

    def _routed(
        self, weight: NDArray[np.float64] | None, groups: ArrayLike | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the splitter and the scorer get."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=weight, groups=groups, **params)
            return dict(routed.splitter.split), dict(routed.scorer.score)
        if params:
            raise DtypeError(
                f"SoftmaxClassifierCV.fit: {', '.join(params)} came; sample_weight and groups are taken, and others "
                "only with sklearn.set_config(enable_metadata_routing=True)."
            )
        return {} if groups is None else {"groups": groups}, weights_of_scorer(
            self.scoring, weight, of="SoftmaxClassifierCV.fit"
        )

    def get_metadata_routing(self) -> MetadataRouter:
        """Where metadata go: weights to fits and scorer, groups to the splitter that asks for them.

        Returns
        -------
        MetadataRouter
            As scikit-learn's metadata routing reads it.
        """
        splitter = self.cv if hasattr(self.cv, "split") else KFold()
        scorer = read_scorer(self.scoring, of="SoftmaxClassifierCV.fit", asking=True)
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=splitter, method_mapping=MethodMapping().add(caller="fit", callee="split"))
            .add(scorer=scorer, method_mapping=MethodMapping().add(caller="fit", callee="score"))
        )

    def _model(self, C: float, ratio: float | None, tol: float) -> SoftmaxClassifier:
        return SoftmaxClassifier(
            C=C,
            penalty=self.penalty,
            l1_ratio=ratio,
            penalty_factor=self.penalty_factor,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            tol=tol,
            max_iter=self.max_iter,
            random_state=self.random_state,
        )

    def _ratios(self) -> list[float | None]:
        """Return the ratios to try; [None] when none are given."""
        if self.l1_ratios is None:
            if self.penalty == "elasticnet":
                raise RangeError(
                    "SoftmaxClassifierCV.fit: l1_ratios is None; with penalty='elasticnet' the ratios to try are "
                    "needed, such as [0.1, 0.5, 0.9]."
                )
            return [None]
        ratios = np.unique(np.asarray(self.l1_ratios, dtype=np.float64))
        if not len(ratios) or self.penalty not in {"elasticnet", "group_lasso"}:
            raise RangeError(
                f"SoftmaxClassifierCV.fit: l1_ratios is {self.l1_ratios!r} and penalty {self.penalty!r}; ratios "
                "between 0 and 1 go with 'elasticnet' and 'group_lasso'."
            )
        return [float(ratio) for ratio in ratios]

    @staticmethod
    def _best(mean: NDArray[np.float64], ratios: list[float | None]) -> tuple[int, int]:
        """Position of the best ratio and of the best C; of equal scores the stronger penalty, then the sparser one."""
        best = int(np.argmax(mean.max(axis=0)))
        return len(ratios) - 1 - int(np.argmax(mean[::-1, best])), best
