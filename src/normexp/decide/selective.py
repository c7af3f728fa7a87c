"""Answer only where the error rate can be guaranteed."""

import warnings
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import NormexpWarning
from normexp.decide.door import Floats, read_prediction, read_share
from normexp.metrics.door import decided, log_confidence, read_rows

STEPS: Final = 100  # thresholds tried
STARTS: Final = 5  # sequences of tests, each with a fifth of the error probability


class SelectiveClassifier(BaseEstimator):
    r"""Accept the rows whose confidence is high enough for a stated error rate, with a guarantee.

    Parameters
    ----------
    target_risk : float
        Error rate among accepted rows that must not be exceeded; within (0, 1).
    confidence : float, default 0.95
        Probability, over calibration rows, that it is not.

    Attributes
    ----------
    threshold_ : float
        Log-probability of the decided class above which a row is accepted; infinite when nothing can be guaranteed.
    coverage_ : float
        Share of the calibration rows that are accepted.
    risk_ : float
        Error rate among them.
    risk_bound_ : float
        Upper confidence bound of that rate, for the chosen threshold alone.

    Notes
    -----
    Learn-then-Test: for thresholds from strict to lax the hypothesis "more errors than `target_risk`" is tested with
    the binomial tail :math:`P(\mathrm{Bin}(m, r) \le e)` for e errors among the m rows above the threshold. Given
    the threshold, which is the confidence of another row, these are independent. Five sequences start
    at different strictness, each with a fifth of 1 - confidence, and stop at the first test that does not reject.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan & Lei (2021), "Learn then test", arXiv 2110.01052, section 2.3;
    Geifman & El-Yaniv (2017), "Selective classification for deep neural networks", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.decide import SelectiveClassifier
    >>> rng = np.random.default_rng(0)
    >>> logits = 3.0 * rng.normal(size=(4000, 3))
    >>> y = (logits + rng.gumbel(size=(4000, 3))).argmax(axis=1)
    >>> model = SelectiveClassifier(0.05).fit(logits[:2000], y[:2000])
    >>> accepted = model.predict(logits[2000:])
    >>> wrong = logits[2000:].argmax(axis=1) != y[2000:]
    >>> bool(wrong.mean() > 0.15), bool(wrong[accepted].mean() < 0.05), bool(accepted.mean() > 0.2)
    (True, True, True)
    """

    def __init__(self, target_risk: float, confidence: float = 0.95) -> None:
        self.target_risk = target_risk
        self.confidence = confidence

    def fit(self, logits: ArrayLike, y: ArrayLike, *, from_logits: bool = True) -> Self:
        """Find the threshold on rows that the model was not trained on.

        Parameters
        ----------
        logits : array-like, shape (N, K)
            Logits, or probabilities.
        y : array-like of int, shape (N,)
            Class indices.
        from_logits : bool, default True
            Whether `logits` holds logits; kept for `predict`.

        Returns
        -------
        SelectiveClassifier
            The same object, fitted.

        Warns
        -----
        NormexpWarning
            If no threshold keeps the promise; then no row is accepted.
        """
        of = "SelectiveClassifier.fit"
        risk = read_share(self.target_risk, of=of, name="target_risk", example="0.05")
        error = 1.0 - read_share(self.confidence, of=of, name="confidence", example="0.95")
        rows = read_rows(y, logits, of=of, from_logits=from_logits, sample_weight=None)
        self.n_classes_, self.from_logits_ = rows.n_classes, bool(from_logits)
        decision = decided(rows)
        level = log_confidence(rows, decision)
        order = np.argsort(-level, kind="stable")
        level, wrong = level[order], np.cumsum((decision != rows.target)[order])
        accepted = _most_accepted(level, wrong, risk, error)
        self.threshold_ = float(level[accepted]) if accepted else np.inf
        self.coverage_ = accepted / rows.n_rows
        errors = int(wrong[accepted - 1]) if accepted else 0
        self.risk_ = errors / accepted if accepted else 0.0
        self.risk_bound_ = float(beta.ppf(1.0 - error, errors + 1, accepted - errors)) if accepted else 0.0
        if not accepted:
            warnings.warn(
                f"{of}: no threshold keeps {rows.n_rows} rows below an error rate of {risk:g} with confidence "
                f"{1 - error:g}, so no row will be accepted. Allow more risk, or give more rows "
                f"({_fewest(risk, error / STARTS)} without an error are the least that can show it).",
                NormexpWarning,
                stacklevel=2,
            )
        return self

    def predict(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row is accepted, (N,)."""
        check_is_fitted(self, "threshold_")
        rows = read_prediction(
            logits, of="SelectiveClassifier.predict", from_logits=self.from_logits_, n_classes=self.n_classes_
        )
        if rows.n_rows == 0:
            return np.zeros(0, dtype=bool)
        return np.asarray(log_confidence(rows, decided(rows)) > self.threshold_)


def _fewest(risk: float, error: float) -> int:
    """The fewest rows without an error that reject: (1 - risk)^m <= error."""
    return int(np.ceil(np.log(error) / np.log1p(-risk)))


def _most_accepted(level: Floats, wrong: NDArray[np.intp], risk: float, error: float) -> int:
    """How many of the sorted rows can be accepted; 0 when none. The row after them gives the threshold."""
    fewest, most = _fewest(risk, error / STARTS), level.size - 1
    if fewest > most:
        return 0
    grid = np.unique(np.geomspace(fewest, most, STEPS).round().astype(int))
    # Only rows strictly above the threshold are accepted: of equal ones, none or all.
    grid = np.unique(np.searchsorted(-level, -level[grid], side="left"))
    grid = grid[grid >= fewest]
    if not grid.size:
        return 0
    rejects = np.asarray(binom.cdf(wrong[grid - 1], grid, risk)) <= error / STARTS
    best = 0
    for start in np.unique(np.linspace(0, grid.size - 1, STARTS + 1).astype(int)[:STARTS]):
        for place in range(int(start), grid.size):
            if not rejects[place]:
                break
            best = max(best, int(grid[place]))
    return best
