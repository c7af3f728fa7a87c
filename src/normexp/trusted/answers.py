"""What a fitted `TrustedClassifier` answers."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from normexp.base.errors import ShapeError
from normexp.base.in_words import refusals_in_words
from normexp.base.plain_arrays import plain_array
from normexp.calibration.rows import read_logits
from normexp.decide import ConformalClassifier, SelectiveClassifier
from normexp.explain import contributions
from normexp.ops import log_softmax, softmax
from normexp.trusted.adjusting import adjusted, class_shift
from normexp.trusted.balanced_fit import BalancedFit
from normexp.trusted.base_logits import logits_of
from normexp.trusted.options import UNKNOWN, read_rule
from normexp.trusted.strangers import StrangerDetector

# Fitting the base alone would leave it without its calibration.
_KEPT_BACK: Final = ("fit", "partial_fit", "set_", "get_")


class Answers(ClassifierMixin, BaseEstimator):
    """Abstract: everything that is asked of a fitted model; what is not found here is asked of ``estimator_``."""

    classes_: NDArray[Any]
    prior_: NDArray[np.float64]
    estimator_: Any
    source_: str
    adjusters_: list[Any]
    conformal_: ConformalClassifier
    detector_: StrangerDetector
    selective_: SelectiveClassifier | None
    balanced_: BalancedFit | None = None  # of those in model files from before it was there
    objective: str | None
    reject: float | None
    reject_label: Any

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Honest logits: (N,), the log-odds of ``classes_[1]``, for two classes, else (N, K)."""
        z = self.logits(X)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def logits(self, X: Any) -> NDArray[Any]:
        """Honest logits of all classes, (N, K), two classes too."""
        check_is_fitted(self, "adjusters_")
        return adjusted(self.adjusters_, self.base_logits(X))

    def base_logits(self, X: Any) -> NDArray[Any]:
        """Logits as the base gives them, (N, K)."""
        check_is_fitted(self, "adjusters_")
        with refusals_in_words("TrustedClassifier", X):
            if len(getattr(X, "shape", "NK")) > 1:  # of a single row the base says how to reshape it
                validate_data(self, X, reset=False, skip_check_array=True)
            return logits_of(self.estimator_, X, self.source_, self.classes_, of="TrustedClassifier")

    @property
    def class_shift_(self) -> NDArray[np.float64] | None:
        """What matching the shares adds to the base's logits, (K,); None where calibration itself changes decisions.

        `normexp.explain` adds it to the intercepts, so that reasons and changes are those of the decisions.
        """
        check_is_fitted(self, "adjusters_")
        return class_shift(self.adjusters_, len(self.classes_))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Calibrated probabilities, (N, K), for the shares of the training rows."""
        return np.asarray(softmax(self.logits(X)))

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of the probabilities, (N, K), accurate also where one is nearly 1."""
        return np.asarray(log_softmax(self.logits(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide for a class of each row, (N,), under the costs, prior, objective and thresholds that were given."""
        decided = self._decided(self.logits(X), X, of="TrustedClassifier.predict")
        return np.asarray(self.classes_[decided])

    def decide(self, logits: ArrayLike, /, X: Any = None) -> NDArray[np.intp]:
        """Index of the decided class, (N,), from honest logits (N, K).

        With ``objective="balanced"`` a second fit decides, which needs the rows X too; without them the decision
        is that of ``adjustment=1``.
        """
        of = "TrustedClassifier.decide"
        logits = plain_array(logits, of=of, name="logits")
        if (shape := logits.shape)[1:] != (k := len(self.classes_),):
            raise ShapeError(
                f"{of}: logits have shape {shape}; (N, {k}), as logits(X) gives them, would be right. From rows X "
                "predict(X) decides."
            )
        return self._decided(read_logits(logits, of=of), X, of=of)

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Whether each class is in the set of each row, (N, K); sets hold the truth with probability `coverage`."""
        z = self.logits(X)
        return self.conformal_.predict_set(z)

    def unknown_score(self, X: Any) -> NDArray[np.float64]:
        """How little each row looks like any known class, (N,); larger is stranger."""
        return self.score_unknown(X, self.logits(X))

    def score_unknown(self, X: Any, logits: NDArray[Any], /) -> NDArray[np.float64]:
        """The same where the honest logits (N, K) of the rows are known already."""
        return self.detector_.unknown_score(logits, X)

    def predict_or_reject(self, X: Any) -> NDArray[Any]:
        """Decided class, or `reject_label` for rows that are refused, (N,).

        A row is refused when its unknown score is above the threshold for `reject`, when its confidence does not keep
        the error rate below `target_risk`, or when refusing costs less than any decision.
        """
        z = self.logits(X)
        refused = self.refuses(z, self.score_unknown(X, z), X)
        label = self._reject_label()
        decided = self.classes_[self._decided(z, X, of="TrustedClassifier.predict_or_reject")]
        out = decided.astype(np.result_type(decided, np.asarray(label)) if _alike(decided, label) else object)
        out[refused] = label
        return np.asarray(out)

    def refuses(self, logits: NDArray[Any], unknown_score: NDArray[np.float64], /, X: Any = None) -> NDArray[np.bool_]:
        """Whether rows are refused, (N,), from their honest logits (N, K), unknown scores (N,) and, as `decide`, X."""
        rule = read_rule(self, self.prior_, of="TrustedClassifier.predict_or_reject")
        refused = rule.refuses(self._decisive(logits, X))
        if self.reject:
            refused |= unknown_score > self.detector_.threshold_
        if self.selective_ is not None:
            refused |= ~self.selective_.predict(logits)
        return refused

    def explain(self, X: Any) -> Any:
        """Contribution of each column to the log-odds of the most probable class against its runner-up.

        Parameters
        ----------
        X : rows, length N
            As the base takes them.

        Returns
        -------
        ndarray or csr_matrix, shape (N, D)
            In nats; each row sums to the log-odds as the base gives them, before calibration, of the two classes that
            are most probable after it. See `normexp.explain.contributions`, which this calls.

        Raises
        ------
        DtypeError
            If the base has no coefficients; `normexp.explain.importance` works for any classifier.
        """
        own, rival = first_two(self.logits(X))
        return contributions(self.estimator_, X, of=self.classes_[own], against=self.classes_[rival])

    def report(self, X: Any, y: ArrayLike, path: str | Path) -> None:
        """Write one HTML page on how far this model can be trusted on rows with known classes.

        Parameters
        ----------
        X : rows, length N
            Rows that it was not fitted on.
        y : array-like, shape (N,)
            Their classes.
        path : str or path-like
            The page to write.
        """
        from normexp.trusted.reporting import write_report  # noqa: PLC0415  (the page needs optional packages)

        write_report(self, X, y, path)

    def _decided(self, logits: NDArray[Any], X: Any, *, of: str) -> NDArray[np.intp]:
        """Index of the decided class, (N,)."""
        return read_rule(self, self.prior_, of=of).decide(self._decisive(logits, X))

    def _decisive(self, logits: NDArray[Any], X: Any) -> NDArray[Any]:
        """Logits to decide by, (N, K): the honest ones, or those of the balanced fit at the same shares."""
        if self.balanced_ is None or self.objective != "balanced" or X is None:
            return logits
        return self.balanced_.decisive(logits, X)

    def _reject_label(self) -> Any:
        if self.reject_label is not None:
            return self.reject_label
        return -1 if self.classes_.dtype.kind in "iuf" else UNKNOWN

    def __getattr__(self, name: str) -> Any:
        fitted = vars(self).get("estimator_")
        if name.startswith(("_", *_KEPT_BACK)) or fitted is None or not hasattr(fitted, name):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
                + ("" if fitted is not None else "; it is not fitted, and what its estimator learns is not there yet")
            )
        return getattr(fitted, name)


def first_two(logits: NDArray[Any], /) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The most probable class of each row, and the one after it."""
    row = np.arange(len(logits))
    own = logits.argmax(axis=1)
    rest = logits.copy()
    rest[row, own] = -np.inf
    return own, rest.argmax(axis=1)


def _alike(labels: NDArray[Any], label: Any) -> bool:
    """Whether a label is of the kind of the others: text among text, a number among numbers."""
    kind = np.asarray(label).dtype.kind
    return kind == labels.dtype.kind or (kind in "iuf" and labels.dtype.kind in "iuf")
