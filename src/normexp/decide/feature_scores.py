"""How strange a row looks from its features: relative Mahalanobis distance, nearest neighbours, residual of a subspace.

Columns are standardised and rows brought to length 1 first, so that neither the unit of a column nor the length of a
row matters. Each model is fitted on rows of known classes and has one method, `score`; larger is stranger.
"""

from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from sklearn.neighbors import NearestNeighbors

from normexp.decide.door import Floats
from normexp.ops import logsumexp

FOLDS: Final = 5
MOST: Final = 1e150  # standard deviations: its square is finite
SURELY: Final = 1e-5  # of the largest entry: a column that reaches so far is not constant, for up to 1e9 rows
FLOOR: Final = 1e-6  # of the mean variance: keeps a covariance that shrinkage left singular apart from 0
NEIGHBOURS_SEEN: Final = 8  # of a fit on four fifths of the rows: in these the tenth lies farther than in all
NEIGHBOURS: Final = 10  # Sun et al. (2022) take 50 of 50 000 rows and find 1 to 50 alike


class FeatureScore(Protocol):
    """A score of features (and logits)."""

    def fit(self, x: Floats, target: NDArray[np.intp], logits: NDArray[np.floating]) -> Self:
        """Learn what rows of known classes look like."""

    def score(self, x: Floats, logits: NDArray[np.floating]) -> Floats:
        """Strangeness of each row, (N,)."""


class Columns:
    """Standardises columns, leaves out constant ones, and brings rows to length 1."""

    def __init__(self, x: Floats) -> None:
        size = np.abs(x).max(axis=0)
        # Two passes in units of the largest entry: columns of 1e200 do not overflow, nor do those of 1e-200 vanish.
        unit = np.where(size > 0.0, size, 1.0)
        apart = x / unit
        middle = apart.mean(axis=0)
        apart -= middle
        deviation = np.sqrt(np.einsum("nd,nd->d", apart, apart) / len(x))
        self.centre = middle * unit
        self.kept = deviation > 1e-10
        self.scale = unit * np.where(self.kept, deviation, 1.0)

    def __call__(self, x: Floats) -> Floats:
        centre, scale = self.centre[self.kept], self.scale[self.kept]
        half = np.where(scale > 1.0, 0.5, 1.0)  # the difference of two numbers may be beyond the largest one
        with np.errstate(over="ignore"):
            standard = np.clip((x[:, self.kept] * half - centre * half) / (scale * half), -MOST, MOST)
        length = np.sqrt(np.einsum("nd,nd->n", standard, standard))
        return np.asarray(standard / np.where(length > 0.0, length, 1.0)[:, None])


def folds_of(n_rows: int, /) -> NDArray[np.intp]:
    """The fold of each row, always the same."""
    return np.random.default_rng(0).permutation(n_rows) % FOLDS


def telling_columns(x: Floats, /) -> NDArray[np.bool_]:
    """Columns (D,) of x (N, D) that are constant neither in all rows nor in those that a fold is fitted on."""
    fold = folds_of(x.shape[0])
    n_folds = min(FOLDS, x.shape[0])
    # Of n numbers in [-1, 1] that reach from a to b the spread is (b - a) / sqrt(2 n) at least: where that is far from
    # constant outside each fold nothing else need be looked at.
    low, high = (np.array([of(x[fold == f], axis=0) for f in range(n_folds)]) for of in (np.min, np.max))
    size = np.maximum(np.abs(low), np.abs(high)).max(axis=0)
    others = [np.delete(np.arange(n_folds), f) for f in range(n_folds)] if n_folds > 1 else []
    with np.errstate(over="ignore"):
        reach = [high[rest].max(axis=0) / 2.0 - low[rest].min(axis=0) / 2.0 for rest in others]
    told = np.array(reach).min(axis=0) > size * SURELY if reach else np.zeros(x.shape[1], dtype=bool)
    doubtful = np.flatnonzero(~told)
    if doubtful.size:
        part = x[:, doubtful]
        kept = Columns(part).kept
        for f in range(n_folds):
            if kept.any():
                kept &= Columns(part[fold != f]).kept
        told[doubtful] = kept
    return told


class RelativeMahalanobis:
    """Distance to the nearest class mean minus the distance to the mean of all, each under its own covariance."""

    def fit(self, x: Floats, target: NDArray[np.intp], logits: NDArray[np.floating]) -> Self:
        """Means and shrunk covariances."""
        del logits
        _, place = np.unique(target, return_inverse=True)
        count = np.bincount(place)
        order = np.argsort(place, kind="stable")
        self.means = np.add.reduceat(x[order], np.cumsum(count) - count, axis=0) / count[:, None]
        self.within = _factor(x - self.means[place])
        self.centre = x.mean(axis=0)
        self.overall = _factor(x - self.centre)
        self.white_means = solve_triangular(self.within, self.means.T, lower=True).T
        return self

    def score(self, x: Floats, logits: NDArray[np.floating]) -> Floats:
        """The smallest squared distance to a class, less the one to all."""
        del logits
        white = solve_triangular(self.within, x.T, lower=True).T
        square = (white**2).sum(axis=1)[:, None] + (self.white_means**2).sum(axis=1) - 2.0 * white @ self.white_means.T
        background = solve_triangular(self.overall, (x - self.centre).T, lower=True)
        return np.asarray(square.min(axis=1) - (background**2).sum(axis=0))


class Neighbours:
    """Distance to the tenth nearest row, or to the eighth of four fifths of the rows, which is about as far."""

    def __init__(self, n_neighbours: int = NEIGHBOURS) -> None:
        self.n_neighbours = n_neighbours

    def fit(self, x: Floats, target: NDArray[np.intp], logits: NDArray[np.floating]) -> Self:
        """Keep the rows, and no index of them: it takes less time to make than to ask, and a model file holds none."""
        del target, logits
        self.rows = x
        return self

    def score(self, x: Floats, logits: NDArray[np.floating]) -> Floats:
        """The distance."""
        del logits
        index = NearestNeighbors(n_neighbors=min(self.n_neighbours, self.rows.shape[0])).fit(self.rows)
        return np.asarray(index.kneighbors(x)[0][:, -1])


class VirtualLogit:
    """Length of the part of the features outside their main subspace, as one more logit (ViM)."""

    def fit(self, x: Floats, target: NDArray[np.intp], logits: NDArray[np.floating]) -> Self:
        """The subspace, and the factor that brings residuals to the size of the largest logits."""
        del target
        self.centre = x.mean(axis=0)
        _, _, axes = np.linalg.svd(x - self.centre, full_matrices=True) if x.shape[0] < x.shape[1] else _axes(x)
        main = max(1, min(x.shape[1] // 2, x.shape[0] - 1))
        self.rest = axes[main:].T
        residual = self._residual(x)
        self.factor = float(logits.max(axis=1).mean()) / float(residual.mean() or 1.0)
        return self

    def score(self, x: Floats, logits: NDArray[np.floating]) -> Floats:
        """Virtual logit less the logsumexp of the others."""
        return np.asarray(abs(self.factor) * self._residual(x) - logsumexp(logits.astype(np.float64)))

    def _residual(self, x: Floats) -> Floats:
        if not self.rest.shape[1]:
            return np.zeros(x.shape[0])
        outside = (x - self.centre) @ self.rest
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", outside, outside)))


def _axes(x: Floats) -> tuple[None, None, Floats]:
    """Principal axes as rows, the largest first, from the D x D covariance."""
    _, vectors = np.linalg.eigh(np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1]))
    return None, None, np.asarray(vectors[:, ::-1].T)


def _factor(centred: Floats) -> Floats:
    """Cholesky factor of the covariance, shrunk towards a multiple of the identity as far as the rows demand."""
    n_rows, width = centred.shape
    if n_rows < 2:
        covariance = np.eye(width)
    elif width == 1:
        covariance = np.array([[float((centred**2).mean())]])
    else:
        covariance = ledoit_wolf(centred)
    mean = float(np.trace(covariance)) / width
    covariance = covariance + np.eye(width) * (FLOOR * mean if mean > 0.0 else 1.0)
    return np.asarray(np.linalg.cholesky(covariance))


def ledoit_wolf(centred: Floats, /) -> Floats:
    r"""The covariance (D, D) of rows (N, D) of mean 0, shrunk towards a multiple of the identity.

    With :math:`S = X'X/N` and :math:`\mu = \operatorname{tr}S/D` it is :math:`(1-\rho)S + \rho\mu I`, where

    .. math:: \rho = \min\Bigl(1, \frac{\sum_i\|x_i\|^4/N - \|S\|^2}{N(\|S\|^2 - D\mu^2)}\Bigr).

    scikit-learn's function takes three products of the size of S where this takes one, and checks its rows four times:
    for the small tables here that is most of the work. Ledoit & Wolf (2004), J. Multivariate Analysis 88, section 3.3.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(10, 3))
    >>> ledoit_wolf(x - x.mean(axis=0)).shape
    (3, 3)
    """
    n_rows, width = centred.shape
    covariance = centred.T @ centred / n_rows
    mean = float(np.trace(covariance)) / width
    square = float(np.einsum("jk,jk->", covariance, covariance))
    length = np.einsum("nd,nd->n", centred, centred)
    noise, apart = (float(length @ length) / n_rows - square) / n_rows, square - width * mean * mean
    shrinkage = 1.0 if noise >= apart else max(noise, 0.0) / apart
    covariance *= 1.0 - shrinkage
    np.einsum("ii->i", covariance)[:] += shrinkage * mean
    return np.asarray(covariance)
