"""Vector and structured matrix scaling: a temperature, then a ridge-penalised affine map of the log-probabilities."""

import copy
from typing import Final, Self

import numpy as np

from normexp.base.blas_threads import one_blas_thread
from normexp.base.checks import check_number
from normexp.calibration.affine import AffineMap, fit_affine
from normexp.calibration.affine_folds import AffineFolds, FoldViews, search
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.folds import check_cv, split_folds
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.ops import cross_entropy, log_softmax

STRENGTHS: Final = (16.0, 4.0, 1.0, 0.25, 0.0625)
"""Multiples of the published penalty, from strong to weak; few rows want the first, many the last."""


class _StructuredScaling(Calibrator):
    """Abstract: whether the map has entries off its diagonal is all that the two methods differ in."""

    _full: bool

    def __init__(self, *, strength: float | None = None, cv: int = 5) -> None:
        self.strength = strength
        self.cv = cv

    def of_map(self, strength: float, temperature: float, bottom: float, affine: AffineMap, /) -> Self:
        """A copy that is fitted: a temperature and what comes after it."""
        one = copy.copy(self)
        one.strength, one.n_classes_, one.floor_ = strength, affine.bias.size, None
        one.temperature_, one.bottom_ = temperature, bottom
        one.keep(strength, affine)
        return one

    def fit_near(self, rows: CalibrationRows, strength: float, start: AffineMap, /) -> Self:
        """A copy fitted with one strength, from a map that is near."""
        one = copy.copy(self)
        one.strength = strength
        u = one.prepare(rows)
        one.keep(strength, _fitted(u, rows, strength, full=self._full, start=start))
        return one

    def _fit(self, rows: CalibrationRows) -> None:
        of = type(self).__name__
        if self.strength is not None:
            check_number(self.strength, of=of, name="strength", low=1e-9)
        n_folds = check_cv(self.cv, of=of)
        u = self.prepare(rows)
        if self.strength is not None:
            self.keep(float(self.strength), _fitted(u, rows, float(self.strength), full=self._full))
            return
        with one_blas_thread():
            strength, start = _chosen(rows, n_folds, full=self._full)
        self.keep(strength, _fitted(u, rows, strength, full=self._full, start=start))

    def prepare(self, rows: CalibrationRows) -> Floats:
        """Fit the temperature and return the log-probabilities that the affine map reads."""
        self.n_classes_, self.floor_ = rows.n_classes, getattr(self, "floor_", None)
        self.temperature_, _ = fit_temperature(rows, 1.0)
        u = np.asarray(log_softmax(rows.dense(), temperature=self.temperature_))
        finite = np.isfinite(u)
        self.bottom_ = float(u[finite].min())
        u[~finite] = self.bottom_
        return u

    def keep(self, strength: float, affine: AffineMap) -> None:
        """Set the fitted attributes of the map."""
        self.strength_ = strength
        self.bias_, self.scale_ = affine.bias, affine.scale
        self.matrix_ = np.diag(affine.scale) if affine.matrix is None else affine.matrix.T + np.diag(affine.scale)

    def _map(self, z: Floats) -> Floats:
        impossible = np.isneginf(z)
        u = np.asarray(log_softmax(z, temperature=self.temperature_))
        if impossible.any():
            u[impossible] = self.bottom_
        out = u @ self.matrix_.T if self._full else u * self.scale_
        out += self.bias_
        out[impossible] = -np.inf
        return np.asarray(out)


class VectorScaling(_StructuredScaling):
    r"""A temperature, then a scale and a bias for each class, held near 1 and 0 by a ridge.

    Parameters
    ----------
    strength : float, optional
        Multiple of the penalty of the Notes; by default one of 16, 4, 1, 1/4, 1/16, chosen by cross-validation.
    cv : int, default 5
        Folds of that cross-validation.

    Attributes
    ----------
    temperature_ : float
    scale_ : ndarray, shape (K,)
    bias_ : ndarray, shape (K,)
    strength_ : float

    Notes
    -----
    With :math:`u = \log\mathrm{softmax}(z/T)` the logits are :math:`a \odot u + b`, where a and b minimise

    .. math:: \sum_i w_i\,\mathrm{nll}_i + sK\left(\|a - 1\|^2 + \|b\|^2\right).

    Cost: some tens of passes over an N x K array; few strengths are tried (see `StructuredMatrixScaling`).

    References
    ----------
    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", ICML, section 4.2;
    Berta, Holzmüller, Jordan & Bach (2025), "Structured matrix scaling for multi-class calibration".

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import VectorScaling
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(2000, 3))
    >>> y = (logits + [0.0, 0.0, 1.0] + rng.gumbel(size=(2000, 3))).argmax(axis=1)  # class 2 is under-rated
    >>> prob = VectorScaling().fit(logits, y).predict_proba([[0.0, 0.0, 0.0]])
    >>> np.abs(prob - np.array([1.0, 1.0, np.e]) / (2.0 + np.e)).max() < 0.05
    np.True_
    """

    _full = False


class StructuredMatrixScaling(_StructuredScaling):
    r"""A temperature, then a matrix and a bias, with the matrix held near the identity, its off-diagonals hardest.

    Parameters
    ----------
    strength : float, optional
        Multiple of the penalty of the Notes; by default one of 16, 4, 1, 1/4, 1/16, chosen by cross-validation.
    cv : int, default 5
        Folds of that cross-validation.

    Attributes
    ----------
    temperature_ : float
    matrix_ : ndarray, shape (K, K)
    bias_ : ndarray, shape (K,)
    strength_ : float

    Notes
    -----
    With :math:`u = \log\mathrm{softmax}(z/T)` the logits are :math:`Mu + b`, where M and b minimise

    .. math:: \sum_i w_i\,\mathrm{nll}_i
       + sK\left(\|\mathrm{diag}M - 1\|^2 + \|b\|^2 + (K - 1)\|M - \mathrm{diag} M\|^2\right).

    The data's part grows with the rows and the penalty does not, so many rows may use the whole matrix and few get
    little more than a temperature. The published method has s = 1; the best strength depends on the problem.

    Cost: up to K = 32 one Hessian, N K^2 (K + 1)^2 multiplications, tells by its parts in the folds what each strength
    promises; the best one, and others only where the promise was wrong, is then fitted from the optimum of all rows in
    some passes for each fold. Beyond, some tens of products of N x K with K x K for each strength that is tried and
    each fold; up to K of some hundred.

    References
    ----------
    Berta, Holzmüller, Jordan & Bach (2025), "Structured matrix scaling for multi-class calibration".

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import StructuredMatrixScaling
    >>> from normexp.metrics import log_loss
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(4000, 3))
    >>> mixed = logits @ [[1, 0.7, 0], [0, 1, 0], [0, 0, 1]]  # whatever speaks for class 0 speaks for class 1 too
    >>> y = (logits + rng.gumbel(size=(4000, 3))).argmax(axis=1)
    >>> model = StructuredMatrixScaling().fit(mixed[:2000], y[:2000])
    >>> gain = log_loss(y[2000:], mixed[2000:]) - log_loss(y[2000:], model.transform(mixed[2000:]))
    >>> bool(gain > 0.05)
    True
    """

    _full = True


def _fitted(
    u: Floats, rows: CalibrationRows, strength: float, *, full: bool, start: AffineMap | None = None
) -> AffineMap:
    """The map for one strength."""
    ridge = 2.0 * strength * rows.n_classes
    off = ridge * (rows.n_classes - 1) if full else None
    return fit_affine(u, rows.target, rows.weight, ridge=ridge, ridge_off=off, start=start)


def _chosen(rows: CalibrationRows, n_folds: int, *, full: bool) -> tuple[float, AffineMap]:
    """The strength with the least cross-validated log loss, and its map on all rows."""
    folds = split_folds(rows.target, n_folds)
    views = FoldViews(rows, folds, [rows.take(kept) for kept, _ in folds])
    fits = AffineFolds(views, full=full)
    held = [views.of_fold(f, out) for f, (_, out) in enumerate(folds)]
    maps: dict[int, AffineMap] = {}

    def loss(f: int, logits: Floats) -> float:
        nll = np.asarray(cross_entropy(logits, rows.target[folds[f][1]], reduction="none"))
        return float(rows.weight[folds[f][1]] @ nll)

    tempered = sum(loss(f, u) for f, u in enumerate(held))

    def gain_of(place: int) -> float:
        maps[place], outside = fits.fit(STRENGTHS[place])
        return tempered - sum(loss(f, one.apply(u)) for f, (one, u) in enumerate(zip(outside, held, strict=True)))

    best = search(STRENGTHS, fits.promises(STRENGTHS) if fits.problem.newton else [], gain_of)
    return STRENGTHS[best], maps[best]
