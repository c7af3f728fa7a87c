"""A second fit, with every class as heavy as any other, that decides where no class may be neglected."""

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from normexp.calibration import TemperatureScaling
from normexp.calibration.menu import Identity
from normexp.ops import log_softmax
from normexp.rows import StoredRows
from normexp.trusted.adjusting import raised_zeros, silent_about_rows
from normexp.trusted.base_logits import LOOKED_AT, choose_source, logits_of
from normexp.trusted.cross_fit import OutOfFold, accepts_weight, cross_fit
from normexp.trusted.folds import Split
from normexp.trusted.portions import first_rows

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the first fit in the pool that decides
MARGIN: Final = 2.0  # standard errors by which a pool must beat the second fit alone

Floats = NDArray[np.float64]


class BalancedFit(BaseEstimator):
    r"""The logits by which `TrustedClassifier(objective="balanced")` decides: those of a fit with balanced classes.

    Moving the decision of an ordinary fit costs no second one, but it moves a boundary that was found for the common
    classes. Where the logits are not linear in truth, a fit in which all classes weigh the same finds another boundary.

    Attributes
    ----------
    estimator_ : classifier
        The base, fitted on all rows with balanced weights.
    source_ : str
        Which of its methods gives the logits.
    share_ : float
        Of the first fit in the pool.
    recall_ : ndarray of float64, shape (5,)
        Mean recall over the classes on held-out rows for each share in 0, 1/4, 1/2, 3/4, 1.
    scaling_ : TemperatureScaling
        Of the pool, by the balanced log loss; costs need probabilities, and no decision without them moves.
    prior_ : ndarray of float64, shape (K,)
        Shares of the classes among the training rows.
    n_fits_ : int
        Fits of the base that it took.

    Notes
    -----
    The pool is log-linear, :math:`t\,(\log p - \log\pi) + (1 - t) \log q`, with p the probabilities of the first fit, q
    those of the second and :math:`\pi` the shares. Its t is 0 unless the mean recall of another t on held-out rows is
    larger by more than two standard errors: the recall of a class with ten rows is a rough number, and the best of five
    is flattered. Forests, whose leaves hold single classes, hardly move with weights: there t is 1 or near it.

    References
    ----------
    Menon et al. (2021), "Long-tail learning via logit adjustment", ICLR, section 3; Heskes (1998), "Selecting weighting
    factors in logarithmic opinion pools", NIPS, eq. 2.
    """

    def fit_pool(self, held: NDArray[Any], second: OutOfFold, target: NDArray[np.intp], weight: Floats, /) -> Self:
        """Choose the share on held-out rows, and scale the pool.

        Parameters
        ----------
        held : ndarray, shape (M, K)
            Honest logits of the first fit.
        second : OutOfFold
            Logits of the second for the same rows.
        target : ndarray of intp, shape (M,)
            Their classes.
        weight : ndarray of float64, shape (M,)
            Their weights.
        """
        logits = second.logits
        self.floor_: Identity | None = None
        if np.isneginf(logits).any():
            self.floor_ = raised_zeros(logits, target, weight)
        heavy = weight * balancing(target, weight, len(self.prior_))
        recalls, right = [], []
        for share in SHARES:
            right.append(self._pool(held, logits, share).argmax(axis=1) == target)
            recalls.append(float(heavy @ right[-1] / heavy.sum()))
        self.recall_ = np.array(recalls)
        self.share_, best = 0.0, 0.0
        for share, ours in zip(SHARES[1:], right[1:], strict=True):
            gain = heavy * (ours.astype(np.float64) - right[0]) / heavy.sum()
            beyond = float(gain.sum()) - MARGIN * float(np.sqrt(np.square(gain).sum()))
            if beyond > best:
                self.share_, best = share, beyond
        with silent_about_rows():
            pool = self._pool(held, logits, self.share_)
            self.scaling_ = TemperatureScaling().fit(pool, target, sample_weight=heavy)
        return self

    def decisive(self, logits: NDArray[Any], X: Any, /) -> NDArray[Any]:
        """Logits to decide by, at the shares of the training rows, (N, K).

        Parameters
        ----------
        logits : ndarray, shape (N, K)
            Honest logits of the first fit.
        X : rows, length N
            The rows, for the second.
        """
        if self.share_ < 1.0 and len(logits):
            second = logits_of(self.estimator_, X, self.source_, np.arange(len(self.prior_)), of="TrustedClassifier")
        else:
            second = logits
        pool = self._pool(logits, second, self.share_)
        return np.asarray(self.scaling_.transform(pool) + np.log(self.prior_))

    def _pool(self, first: NDArray[Any], second: NDArray[Any], share: float) -> NDArray[Any]:
        """Logits as if all classes came equally often."""
        moved = np.asarray(log_softmax(first - np.log(self.prior_)), dtype=np.float64)
        if share == 1.0:
            return moved
        z = second if self.floor_ is None else self.floor_.transform(second)
        weighted = np.asarray(log_softmax(z), dtype=np.float64)
        if share == 0.0:  # and not 0 times -inf
            return weighted
        return np.asarray(share * moved + (1.0 - share) * weighted)


def fit_balanced(
    base: Any, X: Any, target: NDArray[np.intp], weight: Floats, share: Floats, splits: list[Split], /,
    *, held: NDArray[Any], rows: NDArray[np.intp], fit_params: dict[str, Any], seed: int, of: str,
) -> BalancedFit | None:  # fmt: skip
    """Fit the base once more on all rows and on those outside each fold, with balanced classes.

    Parameters
    ----------
    base : classifier
        Not fitted.
    X : rows, length N
        All rows.
    target, weight : ndarray, shape (N,)
        Their class indices and weights.
    share : ndarray of float64, shape (K,)
        Shares of the classes.
    splits : list of Split
        Those of the first fits.
    held : ndarray, shape (M, K)
        Honest logits of held-out rows by the first fits.
    rows : ndarray of intp, shape (M,)
        Which rows these are.
    fit_params : dict
        Passed to each fit.
    seed : int
        Draws the rows where there are more than enough.
    of : str
        Who asks, for sentences.

    Returns
    -------
    BalancedFit or None
        None where the base takes neither weights of rows nor of classes, and for rows on disk: there the decision of
        the first fit is moved.
    """
    if isinstance(X, StoredRows):
        return None
    weighted = clone(base)
    if accepts_weight(base):
        heavy = weight * balancing(target, weight, len(share))
        fit_params = {**fit_params, "sample_weight": heavy}
    else:
        names = [name for name in base.get_params(deep=True) if name.split("__")[-1] == "class_weight"]
        if not names:
            return None
        weighted.set_params(**dict.fromkeys(names, "balanced"))
    found = BalancedFit()
    found.prior_ = share
    found.estimator_ = clone(weighted).fit(X, target, **fit_params)
    found.source_ = choose_source(found.estimator_, first_rows(X, LOOKED_AT, len(target)), of=of)
    classes = np.arange(len(share))
    second = cross_fit(
        weighted, found.estimator_, X, target, classes, splits,
        source=found.source_, fit_params=fit_params, seed=seed, of=of,
    )  # fmt: skip
    found.n_fits_ = second.n_fits + 1
    return found.fit_pool(held, second, target[rows], weight[rows])


def balancing(target: NDArray[np.intp], weight: Floats, n_classes: int, /) -> Floats:
    """Factors of the rows' weights, (N,), that give each class with rows the same weight and leave the sum."""
    count = np.bincount(target, weight, minlength=n_classes)
    present = count > 0
    factor = np.zeros(n_classes)
    factor[present] = count.sum() / (np.count_nonzero(present) * count[present])
    return np.asarray(factor[target])
