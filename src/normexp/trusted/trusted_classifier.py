"""A classifier whose probabilities, sets, refusals and decisions can be acted on, around any classifier."""

import warnings
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import column_or_1d, get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from normexp.base.errors import DtypeError, InputError, NormexpWarning, RangeError
from normexp.base.in_words import refusals_in_words
from normexp.calibration import AutoCalibrator
from normexp.decide import ConformalClassifier, SelectiveClassifier
from normexp.linear_model import SoftmaxClassifier
from normexp.linear_model.door import computed
from normexp.linear_model.parameters import check_row_weights
from normexp.metrics import log_loss
from normexp.rows import Labels, StoredRows, encode
from normexp.trusted.adjusting import fit_and_hold_out, moves_shares, read_calibrate
from normexp.trusted.answers import Answers
from normexp.trusted.balanced_fit import fit_balanced
from normexp.trusted.base_logits import LOOKED_AT, choose_source
from normexp.trusted.cross_fit import accepts_weight, affordable_folds, cross_fit
from normexp.trusted.folds import plan_folds
from normexp.trusted.options import check_shares_of_rows, read_rule
from normexp.trusted.portions import first_rows, some_rows
from normexp.trusted.strangers import StrangerDetector

_OF = "TrustedClassifier.fit"
_FALSE_ALARM = 0.05  # of the unknown score's threshold where nothing is refused


@final
class TrustedClassifier(Answers):
    """Any classifier, with calibrated probabilities, sets with a promise, an unknown score and decisions under costs.

    Parameters
    ----------
    estimator : classifier, optional
        With ``decision_function`` or ``predict_proba``; pipelines, imbalanced-learn's too. By default
        `SoftmaxClassifier()`.
    calibrate : str, calibrator or None, default "auto"
        "auto" chooses (see `normexp.calibration.AutoCalibrator`; leaving the logits as they are is one of the choices),
        or "temperature", "ensemble_temperature", "vector", "matrix", "beta", "quadratic", "isotonic", or an object of
        your own. Shares that held-out rows show to be missed are matched besides. None: neither.
    coverage : float, default 0.9
        Share of new rows whose set shall hold the true class.
    reject : float or None, default 0.05
        Share of rows of known classes that may be called unknown; None or 0: no row is.
    cost_matrix : array-like, shape (K, K) or (K, K + 1), or dict of dicts, optional
        ``cost_matrix[true, decided]``: `predict` decides for the least expected cost. One more column is what refusing
        costs in `predict_or_reject`. With names, ``cost_matrix[true][decided]``, it bears that of `reject_label`.
    prior : array-like, shape (K,), optional
        How often the classes will come where decisions are made, if otherwise than in training. It moves decisions;
        probabilities keep the shares of the training rows (`normexp.calibration.PriorShift` moves them).
    cv : int, splitter, iterable or "auto", default 5
        Folds whose held-out rows everything is set on; 1 holds out a fifth once. "auto" takes as many as the cost of
        the fit allows, told by the solver of `SoftmaxClassifier`.
    objective : {None, "balanced"}, default None
        "balanced" decides as if all classes came equally often, by a second set of fits with balanced classes where
        the base takes weights; this doubles the cost. ``adjustment=1`` costs nothing and only moves the decision.
    adjustment : float, optional
        Logit adjustment: 0 is none, 1 moves decisions to classes that come equally often.
    thresholds : array-like, shape (K,), optional
        How probable each class should be before it is named (see `normexp.decide.threshold_decision`).
    target_risk : float, optional
        Also refuse rows, so that the error rate among the others stays below this with confidence 0.95.
    reject_label : object, optional
        What `predict_or_reject` answers for refused rows; "unknown" by default, -1 for numbers.
    random_state : int, RandomState or None, default None
        Deals the rows to the folds; None is a fixed seed.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    prior_ : ndarray, shape (K,)
        Shares of the classes among the training rows, by weight.
    estimator_ : classifier
        Fitted on all rows.
    adjusters_ : list of Calibrator
        Maps from its logits to honest ones, in this order.
    conformal_ : ConformalClassifier
    detector_ : StrangerDetector
        Scores how strange rows are; its threshold is set for `reject`.
    selective_ : SelectiveClassifier or None
        With `target_risk` only.
    balanced_ : BalancedFit or None
        The second fit that decides for ``objective="balanced"``, where there is one; ``balanced_.n_fits_`` counts its
        own.
    n_fits_ : int
        Fits of the base, that on all rows included.
    n_held_out_ : int
        Rows that calibration and promises rest on.
    loss_before_, loss_after_ : float
        Log loss of the held-out rows as the base gives it, and after adjusters that were learned without each row.
    moved_ : bool
        Whether class weights or resampling moved the shares, which was undone.
    matched_ : bool
        Whether logits are shifted so that the mean probability of each class is its share: where `moved_`, and where
        held-out rows showed beyond doubt that a class is named too often or too rarely.
    n_features_in_ : int
        Where the rows have columns.
    feature_names_in_ : ndarray of str
        Where these have names.

    Notes
    -----
    The base is fitted on all rows and once on the rows outside each fold. The held-out logits teach the calibrator.
    Then, through calibrators learned without each row, they set the quantiles of the sets (split conformal), the
    threshold of the unknown score, and the threshold of confidence. The promises of sets and refusals are exact for
    the models of the folds; the one on all rows is as good or slightly better in practice.

    ``class_weight`` and resampling are undone: logits are shifted so that the mean probability of each class is its
    share among the held-out rows. They were chosen for rare classes, which hardly weigh in a log loss, so "auto" then
    chooses among calibrators that change no decision. The same shift mends whatever else made a class come out too
    large, such as a penalty that holds back the words of rare classes, where calibrated held-out probabilities miss
    the shares beyond doubt (`normexp.metrics.mean_calibration_test`, p < 0.01) and the shift has the smaller held-out
    log loss; decisions follow. A class with a single row is never held out; copies of a row stay on one side.

    The unknown score reads generalised entropy and, where X is a dense array of up to 256 columns, relative
    Mahalanobis distance and the distance from the middle of all rows. Cost: one fit for each fold and one more, and
    at most half as much again where these take a tenth of a second or more together
    (``bench/results/trusted_cost.md``); twice that with ``objective="balanced"`` around a base that takes weights and
    was given none.

    Whatever else the base can do (``coef_``, ``predict_top_k``, ...) is passed on to `estimator_`.

    References
    ----------
    Menon et al. (2021), "Long-tail learning via logit adjustment", ICLR; Elkan (2001), "The foundations of
    cost-sensitive learning", IJCAI; Vovk (2012), ACML; Saerens et al. (2002), Neural Computation 14.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from normexp import TrustedClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = TrustedClassifier().fit(X, y)
    >>> model.predict_proba(X[:1]).round(2), model.predict_set(X[:1]), model.n_fits_
    (array([[1., 0., 0.]]), array([[ True, False, False]]), 6)
    >>> model.predict_or_reject([X[0], 100 * X[0]])
    array([ 0, -1])
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        calibrate: Any = "auto",
        coverage: float = 0.9,
        reject: float | None = 0.05,
        cost_matrix: ArrayLike | Mapping[Any, Mapping[Any, float]] | None = None,
        prior: ArrayLike | None = None,
        cv: Any = 5,
        objective: str | None = None,
        adjustment: float | None = None,
        thresholds: ArrayLike | None = None,
        target_risk: float | None = None,
        reject_label: Any = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.calibrate = calibrate
        self.coverage = coverage
        self.reject = reject
        self.cost_matrix = cost_matrix
        self.prior = prior
        self.cv = cv
        self.objective = objective
        self.adjustment = adjustment
        self.thresholds = thresholds
        self.target_risk = target_risk
        self.reject_label = reject_label
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Fit the base on all rows and everything else on rows that its fits have not seen.

        Parameters
        ----------
        X : rows, length N
            Whatever the base takes; for a `SoftmaxClassifier` also rows of `normexp.rows` that stay on disk.
        y : array-like, shape (N,)
            Class labels of any kind. May be left out for stored rows that know their target.
        sample_weight : array-like, shape (N,), optional
            Weights of the rows, for the base and the calibration; rows of weight 0 promise nothing.
        groups : array-like, shape (N,), optional
            Rows of one group (of one patient, say) are never on both sides of a split.
        **fit_params : dict
            Passed to each fit of the base; what has length N is cut to its rows.

        Returns
        -------
        TrustedClassifier
            Itself.

        Raises
        ------
        NormexpError, ValueError
            If an option or the rows are not what they must be; the sentence says which and why.

        Warns
        -----
        NormexpWarning
            If classes have fewer rows than there are folds, rows are copies of others, promises cannot be kept with
            so few rows, or held-out rows look as if they had been trained on.
        """
        coverage, reject = check_shares_of_rows(self, of=_OF)
        calibrator = read_calibrate(self.calibrate, of=_OF)
        if self.estimator is not None and (not hasattr(self.estimator, "fit") or isinstance(self.estimator, type)):
            raise DtypeError(
                f"{_OF}: estimator is {self.estimator!r}; a classifier with fit, such as LogisticRegression(), or None "
                "for SoftmaxClassifier() would be right."
            )
        rows, labels = self._read(X, y)
        self.classes_, target = (
            (labels.classes, labels.index) if isinstance(labels, Labels) else np.unique(labels, return_inverse=True)
        )
        if isinstance(rows, StoredRows):
            labels = None  # the rows bring them
        weight = check_row_weights(sample_weight, len(target), of=_OF)
        self.prior_ = self._shares(target, weight)
        rule = read_rule(self, self.prior_, of=_OF)
        base = SoftmaxClassifier() if self.estimator is None else self.estimator
        if sample_weight is not None:
            if not accepts_weight(base):
                raise InputError(
                    f"{_OF}: sample_weight came, and fit of {type(base).__name__} takes none; give a pipeline's step "
                    "its weights by name, as logisticregression__sample_weight=..., or leave them out."
                )
            fit_params = {**fit_params, "sample_weight": weight}
        with refusals_in_words(_OF, rows, labels):
            self.estimator_ = clone(base).fit(rows, labels, **fit_params)
        self.source_ = choose_source(self.estimator_, first_rows(rows, LOOKED_AT, len(target)), of=_OF)
        self._look_at_classes(target, weight)
        seed = self._seed()
        cv = affordable_folds(self.estimator_, rows, len(self.classes_)) if self._automatic() else self.cv
        splits = plan_folds(rows, target, cv, groups=groups, counts=weight > 0, seed=seed, of=_OF)
        held = cross_fit(
            base, self.estimator_, rows, target if labels is None else labels, self.classes_, splits,
            source=self.source_, fit_params=fit_params, seed=seed, of=_OF,
        )  # fmt: skip
        self.n_fits_, self.n_held_out_ = held.n_fits + 1, len(held.rows)
        self.moved_ = moves_shares(base, self.estimator_)
        if self.moved_ and isinstance(calibrator, AutoCalibrator) and isinstance(self.calibrate, str):
            calibrator = AutoCalibrator(keep_decisions=True)
        truth, heft = target[held.rows], weight[held.rows]
        self._need_two_classes(truth)
        self.adjusters_, honest, self.matched_ = fit_and_hold_out(
            held.logits, truth, heft, calibrator, moved=self.moved_, counted=self.source_ != "decision_function"
        )
        self.loss_before_ = log_loss(truth, held.logits, sample_weight=heft)
        self.loss_after_ = log_loss(truth, honest, sample_weight=heft)
        self.conformal_ = ConformalClassifier(coverage=coverage).fit(honest, truth)
        self.detector_ = StrangerDetector(false_alarm=_FALSE_ALARM if reject is None else reject)
        self.detector_.fit(honest, truth, some_rows(rows, held.rows))
        self.selective_ = None if self.target_risk is None else SelectiveClassifier(self.target_risk).fit(honest, truth)
        self.balanced_ = None
        if self.objective == "balanced" and not self.moved_:
            self.balanced_ = fit_balanced(
                base, rows, target, weight, self.prior_, splits,
                held=honest, rows=held.rows, fit_params=fit_params, seed=seed, of=_OF,
            )  # fmt: skip
        del rule  # read for its complaints; `predict` reads it anew, so that options may change after the fit
        return self

    def check(self) -> Self:
        """Refuse options without a meaning before rows are there; those that depend on the classes wait for `fit`."""
        check_shares_of_rows(self, of=_OF)
        read_calibrate(self.calibrate, of=_OF)
        return self

    def _read(self, X: Any, y: ArrayLike | None) -> tuple[Any, Any]:
        """Rows that can be indexed, and labels (N,); stored rows that know theirs."""
        if isinstance(X, StoredRows):
            if self.estimator is not None and not isinstance(self.estimator, SoftmaxClassifier):
                raise InputError(
                    f"{_OF}: the rows in {X.where} stay on disk, and {type(self.estimator).__name__} needs them in "
                    "memory; SoftmaxClassifier reads them in blocks."
                )
            rows = X if y is None else X.labelled(encode(y, X.n_rows, of=_OF))
            if rows.labels is None:
                raise InputError(f"{_OF}: the rows in {X.where} know no classes and y is None; give the classes.")
            validate_data(self, rows, reset=True, skip_check_array=True)
            return rows, rows.labels
        X = computed(X, of=_OF)
        with refusals_in_words(_OF, X, y):
            rows, labels = indexable(X, y)
        if labels is None:
            raise InputError(f"{_OF} requires y to be passed, but the target y is None; give the classes of the rows.")
        with refusals_in_words(_OF, X, y):
            labels = column_or_1d(labels, warn=True)
            check_classification_targets(labels)
            validate_data(self, rows, reset=True, skip_check_array=True)
        if len(labels) == 0:
            raise InputError(f"{_OF}: there are no rows (n_samples = 0); rows of at least two classes are needed.")
        return rows, labels

    def _shares(self, target: NDArray[np.intp], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of the classes, all above 0."""
        count = np.bincount(target, weight, minlength=len(self.classes_))
        if np.count_nonzero(count) < 2:
            only = self.classes_.tolist()[int(count.argmax())]
            raise RangeError(
                f"{_OF}: all {len(target)} rows (those that count) are of one class, {only!r}; rows of at least two "
                "classes are needed to tell them apart."
            )
        count = np.where(count > 0, count, 0.5 * count[count > 0].min())
        return np.asarray(count / count.sum())

    def _look_at_classes(self, target: NDArray[np.intp], weight: NDArray[np.float64]) -> None:
        """Say which classes have fewer rows than there are folds."""
        folds = self.cv if isinstance(self.cv, (int, np.integer)) and not isinstance(self.cv, bool) else 5
        count = np.bincount(target[weight > 0], minlength=len(self.classes_))
        rare = np.flatnonzero(count < folds)
        if rare.size:
            names = ", ".join(repr(self.classes_.tolist()[k]) for k in rare[:3]) + (", ..." if rare.size > 3 else "")
            alone = int((count < 2).sum())
            without = f"; {alone} with a single row cannot be held out at all" if alone else ""
            warnings.warn(
                f"{_OF}: {rare.size} of the {count.size} classes ({names}) have fewer than {folds} rows{without}. What "
                "is promised rests on the other classes; more rows of these would mend that.",
                NormexpWarning,
                stacklevel=3,
            )

    def _need_two_classes(self, truth: NDArray[np.intp]) -> None:
        """Refuse to calibrate on one class."""
        if len(np.unique(truth)) < 2:
            raise RangeError(
                f"{_OF}: only rows of the class {self.classes_.tolist()[truth[0]]!r} can be held out, since the other "
                "classes have a single row each; two rows or more of at least two classes are needed to calibrate."
            )

    def _automatic(self) -> bool:
        return isinstance(self.cv, str) and self.cv == "auto"

    def _seed(self) -> int:
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31))
        if self.random_state is None:
            return 0
        if not isinstance(self.random_state, (int, np.integer)) or self.random_state < 0:
            raise DtypeError(
                f"{_OF}: random_state is {self.random_state!r}; a whole number of at least 0, a RandomState or None "
                "would be right."
            )
        return int(self.random_state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(SoftmaxClassifier() if self.estimator is None else self.estimator)
        tags.input_tags = inner.input_tags
        tags.non_deterministic = inner.non_deterministic
        return tags
