"""How strange a row is, from its logits and, for dense rows, from where it lies among the training rows."""

import warnings
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator

from normexp.base.blas_threads import one_blas_thread
from normexp.base.errors import DtypeError, NormexpWarning
from normexp.base.plain_arrays import plain_array
from normexp.decide import OpenSetDetector
from normexp.decide.feature_scores import MOST, telling_columns
from normexp.rows import StoredRows

MOST_FEATURES: Final = 256  # the distance takes D x D numbers and D^3 operations
ROWS_A_FEATURE: Final = 2  # fewer rows do not fix a covariance
ROWS_FOR_A_COVARIANCE: Final = 50  # for each column, where that is more
MOST_ROWS: Final = 5000  # that the scores are fitted on; they fix 5 % of false alarms within 0.3 points

Floats = NDArray[np.float64]


class StrangerDetector(BaseEstimator):
    r"""An `OpenSetDetector` that also sees rows farther from the middle of all rows than any row was.

    The scores of features compare directions, so a row of a hundred times the usual size looks like any other to them,
    and to the logits more certain than any. Its distance tells.

    Parameters
    ----------
    false_alarm : float, default 0.05
        Share of rows of known classes that may be called unknown; within (0, 1).

    Attributes
    ----------
    threshold_ : float
        Rows with a larger score are called unknown.
    detector_ : OpenSetDetector
        From logits, and features where there are some.
    reads_features_ : bool
        Whether the rows are read beside their logits: dense numbers, at most 256 columns, two rows for each at least,
        not all columns constant but for a row or two.

    Notes
    -----
    The score is the detector's in units of its spread (distance of the quartiles over the rows given to `fit`), and to
    it is added by how much the distance :math:`\tfrac12\log(1 + \sum_j (x_j - m_j)^2 / s_j^2)` exceeds the largest of
    those rows', in units of its own spread; m and s are means and standard deviations of the columns. The threshold is
    the detector's: the :math:`\lceil (n+1)(1-\alpha) \rceil`-th smallest score of the n rows, each by a fit that has
    not seen it, since a row looks familiar to the means and covariances that it took part in. A new row is farther than
    all of them with probability 1 / (n + 1), by which the false alarms may exceed :math:`\alpha`. Of more than 5 000
    rows, and more than 50 for each column, that many are drawn for the detector and the threshold; all set the
    distances.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> z = 3 * X
    >>> model = StrangerDetector().fit(z, z.argmax(axis=1), X)
    >>> (model.unknown_score(100 * z[:3], 100 * X[:3]) > model.threshold_).tolist()
    [True, True, True]
    """

    def __init__(self, false_alarm: float = 0.05) -> None:
        self.false_alarm = false_alarm

    def fit(self, logits: NDArray[Any], y: NDArray[np.intp], X: Any) -> Self:
        """Set the threshold on rows that the model was not trained on: logits (M, K), class indices (M,), rows."""
        with one_blas_thread():
            self._fit(logits, y, as_features(X))
        return self

    def _fit(self, logits: NDArray[Any], y: NDArray[np.intp], table: Floats | None) -> None:
        """The same on the rows as a table."""
        whole = table
        if len(logits) > (most := max(MOST_ROWS, ROWS_FOR_A_COVARIANCE * (1 if table is None else table.shape[1]))):
            drawn = np.sort(np.random.default_rng(0).permutation(len(logits))[:most])
            logits, y, table = logits[drawn], y[drawn], None if table is None else table[drawn]
        self.reads_features_ = (
            table is not None
            and table.shape[0] >= max(20, ROWS_A_FEATURE * table.shape[1])
            and bool(np.isfinite(table).all())
            and bool(telling_columns(table).any())
        )
        features = table if self.reads_features_ else None
        self.detector_ = OpenSetDetector(false_alarm=self.false_alarm)
        with warnings.catch_warnings():  # a constant column in a table is nobody's mistake
            warnings.filterwarnings("ignore", message=".* constant and are left out", category=NormexpWarning)
            self.detector_.fit(logits, y, features=features)
        if features is None:
            self.threshold_ = self.detector_.threshold_
            return
        everything = features if whole is None else whole
        self.middle_, spread = everything.mean(axis=0), everything.std(axis=0)
        self.width_ = np.where(spread > 0, spread, np.inf)  # a constant column tells nothing about size
        score, distance = self.detector_.unknown_score(logits, features), self._distance(everything)
        self.farthest_ = float(distance.max())
        self.units_ = (_spread(score), _spread(distance))
        self.threshold_ = self.detector_.threshold_ / self.units_[0]  # of scores by fits that had not seen their rows

    def unknown_score(self, logits: NDArray[Any], X: Any) -> Floats:
        """How strange each row is, (N,), from its logits (N, K) and the row itself; larger is stranger."""
        if not self.reads_features_:
            return self.detector_.unknown_score(logits)
        # Fitted on dense rows, which sparse ones can become.
        features = as_features(X.toarray() if hasattr(X, "toarray") else X)
        if features is None:
            raise DtypeError(
                f"TrustedClassifier.unknown_score: the rows are a {type(X).__name__} that cannot be read as a dense "
                "table of numbers, and the score was fitted on such; give them as they were given to fit."
            )
        if not len(features):
            return np.zeros(0)
        beyond = np.maximum(self._distance(features) - self.farthest_, 0.0)
        score = self.detector_.unknown_score(logits, features)
        return np.asarray(score / self.units_[0] + beyond / self.units_[1])

    def predict(self, logits: NDArray[Any], X: Any) -> NDArray[np.bool_]:
        """Whether each row is of no known class, (N,)."""
        return np.asarray(self.unknown_score(logits, X) > self.threshold_)

    def _distance(self, features: Floats) -> Floats:
        """How far each row is from the middle, (N,)."""
        with np.errstate(over="ignore"):
            steps = np.clip((features - self.middle_) / self.width_, -MOST, MOST)
        return np.asarray(0.5 * np.log1p(np.square(steps).sum(axis=1)))


def _spread(score: Floats) -> float:
    """Distance of the quartiles; 1 where they agree."""
    low, high = np.quantile(score, [0.25, 0.75])
    return float(high - low) or 1.0


def as_features(X: Any, /) -> Floats | None:
    """The rows as float64 where they are a dense table of numbers that is not too wide; else None."""
    if isinstance(X, StoredRows):
        if X.is_sparse or not 1 < X.n_features <= MOST_FEATURES:
            return None
        X = np.concatenate([np.empty((0, X.n_features), X.dtype), *X.batches()])
    if sparse.issparse(X):
        return None
    table = plain_array(X, of="TrustedClassifier", name="X")
    if table.dtype.kind not in "biuf" or table.ndim != 2 or not 1 < table.shape[1] <= MOST_FEATURES:
        return None
    return table.astype(np.float64, copy=False)
