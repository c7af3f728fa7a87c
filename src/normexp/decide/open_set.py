"""Rows that belong to none of the known classes."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import InputError, NormexpWarning, RangeError, ShapeError
from normexp.base.finite_samples import fewest_rows, finite_sample_rank
from normexp.decide.door import Floats, names_of, read_features, read_prediction, read_share, require_names
from normexp.decide.feature_scores import (
    FOLDS,
    NEIGHBOURS_SEEN,
    Columns,
    FeatureScore,
    Neighbours,
    RelativeMahalanobis,
    VirtualLogit,
    folds_of,
    telling_columns,
)
from normexp.decide.logit_scores import LOGIT_SCORES, logit_score
from normexp.metrics.door import Rows, read_target

FEATURE_SCORES: Final = ("mahalanobis", "knn", "vim")
KINDS: Final[Mapping[str, Callable[[], FeatureScore]]] = MappingProxyType(
    {"mahalanobis": RelativeMahalanobis, "knn": Neighbours, "vim": VirtualLogit}
)
FEWEST_ROWS: Final = 10  # for a score that is fitted


class OpenSetDetector(BaseEstimator):
    r"""Tell rows of unknown classes, with a false-alarm rate that is set from known ones alone.

    Parameters
    ----------
    score : str, default "auto"
        From logits: "gen" (generalised entropy), "max_logit", "energy", "msp" (largest probability), "p_norm" (largest
        logit in units of the row's norm). From logits and features: "mahalanobis" (relative), "knn", "vim".
        "auto" is "gen", and with features the mean of "gen" and "mahalanobis" in units of their spread.
    false_alarm : float, default 0.05
        Share of rows of known classes that may be called unknown; within (0, 1).

    Attributes
    ----------
    threshold_ : float
        Rows with a larger score are called unknown.
    score_ : str
        What "auto" stood for ("gen", or "gen + mahalanobis").
    n_rows_ : int
        Rows that the threshold rests on.

    Notes
    -----
    The threshold is the :math:`\lceil (n+1)(1-\alpha) \rceil`-th smallest score of n rows of known classes, so that a
    new one is a false alarm with probability at most :math:`\alpha`; the rate on new rows, given these n, is a Beta
    variable. Scores that are fitted on features are fitted five times on four fifths of the rows, and each row is
    scored by the fit that has not seen it.

    Logits should come from rows that the model was not trained on, or the threshold is too low. Columns of
    features are standardised and rows brought to length 1, and covariances are shrunk by Ledoit and Wolf's rule, so
    neither units nor more columns than rows are an obstacle. Columns that are constant, in all rows or in those that
    one of the five fits sees (as where only a row or two differ), are left out.

    References
    ----------
    Liu, Lochman & Zach (2023), "GEN", CVPR; Müller & Hein (2025), "Mahalanobis++", ICML; Ren et al. (2021), "A simple
    fix to Mahalanobis distance", arXiv 2106.09022; Sun, Ming, Zhu & Li (2022), "Out-of-distribution detection with deep
    nearest neighbors", ICML; Wang, Li, Feng & Zhang (2022), "ViM", CVPR; Cattelan & Silva (2023), arXiv 2305.15508.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.decide import OpenSetDetector
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(4, size=1000)
    >>> known = 6.0 * np.eye(4)[y] + rng.normal(size=(1000, 4))
    >>> detector = OpenSetDetector(false_alarm=0.05).fit(known)
    >>> strangers = rng.normal(size=(1000, 4))
    >>> bool(detector.predict(strangers).mean() > 0.9)
    True
    """

    def __init__(self, score: str = "auto", false_alarm: float = 0.05) -> None:
        self.score = score
        self.false_alarm = false_alarm

    def fit(self, logits: ArrayLike, y: ArrayLike | None = None, features: ArrayLike | None = None) -> Self:
        """Fit the score and set the threshold on rows of known classes.

        Parameters
        ----------
        logits : array-like, shape (N, K)
            Logits of rows that the model was not trained on.
        y : array-like of int, shape (N,), optional
            Class indices; the decided classes by default. Used by "mahalanobis".
        features : array-like, shape (N, D), optional
            What the last layer reads.

        Returns
        -------
        OpenSetDetector
            The same object, fitted.

        Raises
        ------
        ShapeError, RangeError, DtypeError, InputError
            If the arguments do not fit together, hold NaN, or features are missing or constant (but for a few rows).

        Warns
        -----
        NormexpWarning
            If columns of features are left out, or rows are too few for the false-alarm rate.
        """
        of = "OpenSetDetector.fit"
        share = read_share(self.false_alarm, of=of, name="false_alarm", example="0.05")
        if not isinstance(self.score, str) or self.score not in {"auto", *LOGIT_SCORES, *FEATURE_SCORES}:
            known = ", ".join(repr(name) for name in ("auto", *LOGIT_SCORES, *FEATURE_SCORES))
            raise RangeError(f"{of}: score is {self.score!r}; one of {known} would be right.")
        rows = read_prediction(logits, of=of, from_logits=True)
        if rows.n_rows == 0:
            raise ShapeError(f"{of}: logits have no rows; rows of known classes are needed, some hundred if possible.")
        target = rows.prediction.argmax(axis=1) if y is None else read_target(
            y, of=of, n_rows=rows.n_rows, n_classes=rows.n_classes
        )  # fmt: skip
        self.n_classes_ = rows.n_classes
        self.parts_ = self._parts(features is not None, of)
        self.score_ = " + ".join(self.parts_)
        x = self._read_columns(features, rows, of)
        held_out = np.column_stack([self._held_out(part, rows, x, target) for part in self.parts_])
        self.models_ = {
            part: KINDS[part]().fit(self.columns_(x), target, rows.prediction)
            for part in self.parts_
            if part in FEATURE_SCORES and x is not None
        }
        self.centre_ = held_out.mean(axis=0) if len(self.parts_) > 1 else np.zeros(1)
        self.spread_ = held_out.std(axis=0) if len(self.parts_) > 1 else np.ones(1)
        self.spread_[self.spread_ == 0.0] = 1.0
        self._set_threshold(self._combined(held_out), share, of)
        return self

    def unknown_score(self, logits: ArrayLike, features: ArrayLike | None = None) -> Floats:
        """How strange each row is, (N,); larger is stranger.

        Parameters
        ----------
        logits : array-like, shape (N, K)
        features : array-like, shape (N, D), optional
            Needed when the score was fitted with features.

        Returns
        -------
        ndarray of float64, shape (N,)
        """
        check_is_fitted(self, "threshold_")
        of = "OpenSetDetector.unknown_score"
        rows = read_prediction(logits, of=of, from_logits=True, n_classes=self.n_classes_)
        x = None
        if self.models_:
            if features is None:
                raise InputError(f"{of}: the score {self.score_!r} was fitted with features; pass those of these rows.")
            require_names(features, getattr(self, "feature_names_", None), of=of, name="features")
            read = read_features(features, of=of, n_rows=rows.n_rows, n_features=self.n_features_)
            x = self.columns_(read)
        if rows.n_rows == 0:
            return np.zeros(0)
        parts = [
            self.models_[part].score(x, rows.prediction)
            if part in self.models_ and x is not None
            else logit_score(part, rows.prediction)
            for part in self.parts_
        ]
        return self._combined(np.column_stack(parts))

    def predict(self, logits: ArrayLike, features: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Whether each row is of no known class, (N,)."""
        return np.asarray(self.unknown_score(logits, features) > self.threshold_)

    def _parts(self, with_features: bool, of: str) -> tuple[str, ...]:
        """The scores that are combined."""
        if self.score == "auto":
            return ("gen", "mahalanobis") if with_features else ("gen",)
        if self.score in FEATURE_SCORES and not with_features:
            raise InputError(
                f"{of}: the score {self.score!r} needs features; pass features=, or take 'gen', which needs none."
            )
        return (self.score,)

    def _read_columns(self, features: ArrayLike | None, rows: Rows, of: str) -> Floats | None:
        """Features of the rows when a part needs them; sets how columns are standardised."""
        if features is None or not set(self.parts_) & set(FEATURE_SCORES):
            return None
        self.feature_names_ = names_of(features)
        x = read_features(features, of=of, n_rows=rows.n_rows)
        if rows.n_rows < FEWEST_ROWS:
            raise InputError(f"{of}: {rows.n_rows} rows are too few to fit the score {self.score_!r}; 10 is the least.")
        self.n_features_ = x.shape[1]
        self.columns_ = Columns(x)
        self.columns_.kept &= telling_columns(x)
        constant = np.flatnonzero(~self.columns_.kept)
        if constant.size == x.shape[1]:
            raise InputError(
                f"{of}: every column of the features is constant, or nearly (a fit on four fifths of the {rows.n_rows} "
                "rows sees one value only); they cannot tell rows apart. Give columns that vary, or take 'gen' without "
                "features."
            )
        if constant.size:
            shown = ", ".join(str(c) for c in constant[:5]) + (", ..." if constant.size > 5 else "")
            warnings.warn(
                f"{of}: {constant.size} of the {x.shape[1]} columns of the features ({shown}) are constant and are "
                "left out.",
                NormexpWarning,
                stacklevel=3,
            )
        return x

    def _held_out(self, part: str, rows: Rows, x: Floats | None, target: NDArray[np.intp]) -> Floats:
        """Score of each row, by a fit that has not seen it where there is a fit."""
        if part in LOGIT_SCORES or x is None:
            return logit_score(part, rows.prediction)
        fold = folds_of(rows.n_rows)
        out = np.empty(rows.n_rows)
        for f in range(FOLDS):
            seen, unseen = fold != f, fold == f
            known = x[seen]
            columns = Columns(known)
            columns.kept &= self.columns_.kept
            kind = partial(Neighbours, NEIGHBOURS_SEEN) if part == "knn" else KINDS[part]
            model = kind().fit(columns(known), target[seen], rows.prediction[seen])
            out[unseen] = model.score(columns(x[unseen]), rows.prediction[unseen])
        return out

    def _combined(self, parts: Floats) -> Floats:
        """Mean of the parts in units of their spread; a single part as it is."""
        return np.asarray(((parts - self.centre_) / self.spread_).mean(axis=1))

    def _set_threshold(self, score: Floats, share: float, of: str) -> None:
        """The finite-sample quantile, and a word when there is none."""
        self.n_rows_ = score.size
        rank = finite_sample_rank(score.size, 1.0 - share)
        if rank > score.size:
            self.threshold_ = np.inf
            warnings.warn(
                f"{of}: {score.size} rows are too few for a false-alarm rate of {share:g}, which takes "
                f"{fewest_rows(1.0 - share)}; no row will be called unknown.",
                NormexpWarning,
                stacklevel=3,
            )
            return
        self.threshold_ = float(np.partition(score, rank - 1)[rank - 1])
        if score.size > 1 and np.ptp(score) <= 1e-9 * max(1.0, float(np.abs(score).max())):
            warnings.warn(
                f"{of}: the score {self.score_!r} is the same for all rows, so it tells nothing; with logarithms of "
                "probabilities for logits that is so for 'energy'. Take 'gen' or 'msp', or pass the logits themselves.",
                NormexpWarning,
                stacklevel=3,
            )
