"""Sets of classes that hold the truth with a stated probability."""

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from normexp.base.checks import check_number
from normexp.base.errors import NormexpWarning, RangeError
from normexp.base.finite_samples import fewest_rows, finite_sample_rank
from normexp.decide.clusters import cluster_classes
from normexp.decide.door import Floats, read_prediction, read_share
from normexp.decide.set_scores import SCORES, set_scores
from normexp.metrics.door import NAMED_ROWS, read_rows

LEVEL = 0.95  # of the interval that goes with the coverage
DRAWS = 4000  # of the coverages of several groups, for the interval of all together


class CoverageInterval(NamedTuple):
    """Where the true coverage of a fitted predictor lies with probability 0.95.

    Parameters
    ----------
    low : float
        Lower end.
    high : float
        Upper end.

    Examples
    --------
    >>> CoverageInterval(0.88, 0.92).low
    0.88
    """

    low: float
    high: float


class ConformalClassifier(BaseEstimator):
    r"""Prediction sets by split conformal prediction: never empty, never random, with a finite-sample promise.

    Parameters
    ----------
    score : {"lac", "aps", "raps"}, default "lac"
        "lac" gives the smallest sets, "aps" and "raps" give sets that grow with a row's difficulty.
    coverage : float, default 0.9
        Probability that the set of a new row holds its class; within (0, 1).
    groups : {None, "class", "cluster"}, default None
        Keep the promise on average, for each true class, or for clusters of classes with like scores.
    penalty : float, default 0.01
        Of "raps": added to the score for each rank beyond `free_ranks`.
    free_ranks : int, default 5
        Of "raps".

    Attributes
    ----------
    threshold_ : ndarray, shape (K,)
        A class enters the set of a row when its score is at most this.
    group_ : ndarray of int, shape (K,)
        Group of each class; all 0 without groups.
    coverage_interval_ : CoverageInterval
        (low, high): given these calibration rows, the coverage on new rows lies within with probability 0.95.
    group_coverage_interval_ : ndarray, shape (G, 2)
        The same for each group.
    statement_ : str
        The promise as a sentence.

    Notes
    -----
    With n calibration rows in a group the threshold is the :math:`\lceil (n+1)c \rceil`-th smallest score of their true
    classes. If calibration and new rows are exchangeable, a new set holds the truth with probability at least c; over
    calibration sets the coverage is distributed as Beta(k, n + 1 - k) with k that rank [1]_ [2]_. A group with too few
    rows for its rank gets every class of it in every set, and a warning.

    The most probable class has the least score by decree, on the calibration rows too, so that it is always in the set
    and the coverage still exact; only where the model is right more often than c, so are the sets. The others have,
    "lac": :math:`-\log p_k`; "aps" [3]_: the mass of the more probable classes, kept as the mass that these leave, so
    that sure rows do not tie; "raps" [4]_: the same plus the penalty. "cluster" [5]_ uses three rows in ten to
    cluster the classes and the others to calibrate.

    References
    ----------
    .. [1] Vovk (2012), "Conditional validity of inductive conformal predictors", ACML.
    .. [2] Sadinle, Lei & Wasserman (2019), "Least ambiguous set-valued classifiers", JASA 114.
    .. [3] Romano, Sesia & Candès (2020), "Classification with valid and adaptive coverage", NeurIPS.
    .. [4] Angelopoulos, Bates, Malik & Jordan (2021), "Uncertainty sets for image classifiers", ICLR.
    .. [5] Ding, Angelopoulos, Bates, Jordan & Tibshirani (2023), "Class-conditional conformal prediction with many
       classes", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.decide import ConformalClassifier
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(999, 4))
    >>> y = (logits + rng.gumbel(size=(999, 4))).argmax(axis=1)
    >>> model = ConformalClassifier(coverage=0.9).fit(logits, y)
    >>> model.predict_set([[5.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.5, -9.0]])
    array([[ True, False, False, False],
           [ True,  True,  True, False]])
    >>> [round(end, 3) for end in model.coverage_interval_]
    [0.881, 0.918]
    """

    def __init__(
        self,
        score: str = "lac",
        coverage: float = 0.9,
        groups: str | None = None,
        *,
        penalty: float = 0.01,
        free_ranks: int = 5,
    ) -> None:
        self.score = score
        self.coverage = coverage
        self.groups = groups
        self.penalty = penalty
        self.free_ranks = free_ranks

    def fit(self, logits: ArrayLike, y: ArrayLike, *, from_logits: bool = True) -> Self:
        """Find the thresholds on rows that the model was not trained on.

        Parameters
        ----------
        logits : array-like, shape (N, K)
            Logits, or probabilities; calibrated or not.
        y : array-like of int, shape (N,)
            Class indices.
        from_logits : bool, default True
            Whether `logits` holds logits; kept for `predict_set`.

        Returns
        -------
        ConformalClassifier
            The same object, fitted.

        Raises
        ------
        ShapeError, RangeError, DtypeError
            If the arguments do not fit together, hold NaN, or name a class that is not there.

        Warns
        -----
        NormexpWarning
            If a group has too few rows for the promise.
        """
        of = "ConformalClassifier.fit"
        self._check(of)
        rows = read_rows(y, logits, of=of, from_logits=from_logits, sample_weight=None)
        self.n_classes_, self.from_logits_ = rows.n_classes, bool(from_logits)
        own = set_scores(rows, self.score, penalty=self.penalty, free_ranks=self.free_ranks)
        own_score = own[np.arange(rows.n_rows), rows.target]
        used = np.ones(rows.n_rows, dtype=bool)
        if self.groups == "cluster":
            self.group_, used = cluster_classes(own_score, rows.target, rows.n_classes)
        elif self.groups == "class":
            self.group_ = np.arange(rows.n_classes)
        else:
            self.group_ = np.zeros(rows.n_classes, dtype=np.intp)
        self._set_thresholds(own_score[used], self.group_[rows.target[used]], of)
        return self

    def predict_set(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each class is in the set of each row.

        Parameters
        ----------
        logits : array-like, shape (N, K)
            Logits or probabilities, as given to `fit`.

        Returns
        -------
        ndarray of bool, shape (N, K)
            At least one True in each row.
        """
        check_is_fitted(self, "threshold_")
        rows = read_prediction(
            logits, of="ConformalClassifier.predict_set", from_logits=self.from_logits_, n_classes=self.n_classes_
        )
        score = set_scores(rows, self.score, penalty=self.penalty, free_ranks=self.free_ranks)
        return np.asarray(score <= self.threshold_)

    def _check(self, of: str) -> None:
        """Refuse parameters without a meaning."""
        if not isinstance(self.score, str) or self.score not in SCORES:
            raise RangeError(f"{of}: score is {self.score!r}; 'lac', 'aps' or 'raps' would be right.")
        if self.groups is not None and (not isinstance(self.groups, str) or self.groups not in {"class", "cluster"}):
            raise RangeError(f"{of}: groups is {self.groups!r}; None, 'class' or 'cluster' would be right.")
        read_share(self.coverage, of=of, name="coverage", example="0.9")
        check_number(self.penalty, of=of, name="penalty", low=0.0)
        check_number(self.free_ranks, of=of, name="free_ranks", low=0.0)

    def _set_thresholds(self, score: Floats, group: NDArray[Any], of: str) -> None:
        """Threshold and interval of each group."""
        n_groups = int(self.group_.max()) + 1
        threshold = np.full(n_groups, np.inf)
        interval, few = np.ones((n_groups, 2)), np.zeros(n_groups, dtype=bool)
        count = np.bincount(group, minlength=n_groups)
        together = np.zeros(DRAWS)  # rows covered in all groups, summed group by group: no array of groups x draws
        rng = np.random.default_rng(0)  # the interval of several groups together is simulated, always alike
        for g in range(n_groups):
            rank = finite_sample_rank(int(count[g]), float(self.coverage))
            if rank > count[g]:
                together += count[g]
                few[g] = True
                continue
            threshold[g] = np.partition(score[group == g], rank - 1)[rank - 1]
            law = float(rank), float(count[g] + 1 - rank)
            interval[g] = betaincinv(*law, [0.5 - 0.5 * LEVEL, 0.5 + 0.5 * LEVEL])
            if n_groups > 1:
                together += count[g] * rng.beta(*law, size=DRAWS)
        self.threshold_ = threshold[self.group_]
        self.group_coverage_interval_ = interval
        if n_groups == 1:
            low, high = interval[0]
        else:
            low, high = np.quantile(together / count.sum(), [0.5 - 0.5 * LEVEL, 0.5 + 0.5 * LEVEL])
        self.coverage_interval_ = CoverageInterval(float(low), float(high))
        self.statement_ = (
            f"The sets of new rows hold the true class in {100 * float(self.coverage):g} % of the cases or more; with "
            f"these {score.size} calibration rows, in {100 * low:.1f} % to {100 * high:.1f} %."
        )
        self._warn_of_small_groups(np.flatnonzero(few), count, of)
        self._warn_of_impossible_classes(np.flatnonzero(~few & np.isposinf(threshold)), of)

    def _warn_of_small_groups(self, small: NDArray[Any], count: NDArray[Any], of: str) -> None:
        """Say which groups have too few rows for the promise."""
        if not small.size:
            return
        share = float(self.coverage)
        needed = fewest_rows(share)
        what = "calibration rows" if self.groups is None else f"rows of {self._named(small)}"
        warnings.warn(
            f"{of}: {count[small].min()} {what} are too few to promise a coverage of {share:g}, which "
            f"takes {needed}; the classes concerned are in every set. Give more rows, ask for less, or group "
            "otherwise.",
            NormexpWarning,
            stacklevel=4,
        )

    def _warn_of_impossible_classes(self, groups: NDArray[Any], of: str) -> None:
        """Say where true classes were said to be impossible, so that no threshold but infinity holds them."""
        if not groups.size:
            return
        which = "" if self.groups is None else f" of {self._named(groups)}"
        warnings.warn(
            f"{of}: the model gives the true class of more than {100 * (1 - float(self.coverage)):g} % of the "
            f"rows{which} the probability 0, so only sets of all classes{'' if self.groups is None else ' concerned'} "
            "keep the promise. Look at what masks these classes, or ask for less.",
            NormexpWarning,
            stacklevel=4,
        )

    def _named(self, groups: NDArray[Any]) -> str:
        """The first few groups, with what they are."""
        more = f" and {groups.size - NAMED_ROWS} more" if groups.size > NAMED_ROWS else ""
        return f"{self.groups} {', '.join(str(g) for g in groups[:NAMED_ROWS])}{more}"
