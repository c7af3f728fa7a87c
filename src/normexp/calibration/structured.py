"""Vector and structured matrix scaling: a temperature, then a ridge-penalised affine map of the log-probabilities."""

import copy
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from normexp.base.checks import check_number
from normexp.calibration.affine import AffineMap, fit_affine
from normexp.calibration.affine_folds import AffineFolds, climb, search
from normexp.calibration.affine_steps import DECREMENT_TOLERANCE, Metric
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.fold_views import FoldViews, at_temperature
from normexp.calibration.folds import check_cv, side_by_side
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.ops import log_softmax

STRENGTHS: Final = (16.0, 4.0, 1.0, 0.25, 0.0625)
"""Multiples of the published penalty, from strong to weak; few rows want the first, many the last."""
NEARLY: Final = 1e-6  # nats in the sum over all rows that the fit of a chosen method may leave


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

    def fit_near(
        self, rows: CalibrationRows, strength: float, start: AffineMap, metric: Metric | None = None, /
    ) -> Self:
        """A copy fitted with one strength, from a map that is near, with second derivatives that are near."""
        one = copy.copy(self)
        one.strength = strength
        x = one.prepare(rows)
        one.keep(strength, _fitted(x, rows, strength, full=self._full, start=start, metric=metric, tolerance=NEARLY))
        return one

    def _fit(self, rows: CalibrationRows) -> None:
        of = type(self).__name__
        if self.strength is not None:
            check_number(self.strength, of=of, name="strength", low=1e-9)
        n_folds = check_cv(self.cv, of=of)
        x = self.prepare(rows)
        if self.strength is not None:
            self.keep(float(self.strength), _fitted(x, rows, float(self.strength), full=self._full))
            return
        strength, start = _chosen(rows, n_folds, full=self._full)
        self.keep(strength, _fitted(x, rows, strength, full=self._full, start=start))

    def prepare(self, rows: CalibrationRows) -> Floats:
        """Fit the temperature and return what the affine map reads: 1 and log-probabilities, (K + 1, N)."""
        self.n_classes_, self.floor_ = rows.n_classes, getattr(self, "floor_", None)
        self.temperature_, _ = fit_temperature(rows, 1.0)
        x = at_temperature(np.concatenate([z for _, z in rows.column_blocks()], axis=1), self.temperature_)
        self.bottom_ = float(x.min())
        if not np.isfinite(self.bottom_):
            finite = np.isfinite(x)
            self.bottom_ = float(x[finite].min())
            x[~finite] = self.bottom_
        return x

    def keep(self, strength: float, affine: AffineMap) -> None:
        """Set the fitted attributes of the map."""
        self.strength_ = strength
        self.bias_, self.scale_ = affine.bias, affine.scale
        self.matrix_ = np.diag(affine.scale) if affine.matrix is None else affine.matrix.T + np.diag(affine.scale)

    def _map(self, z: Floats) -> Floats:
        return self.of_tempered(np.asarray(log_softmax(z / self.temperature_)))

    def of_tempered(self, u: Floats, /) -> Floats:
        """Logits of rows of log-probabilities at the temperature, (B, K)."""
        impossible = np.isneginf(u)
        some = bool(impossible.any())
        if some:
            u = np.where(impossible, self.bottom_, u)
        out = u @ self.matrix_.T if self._full else u * self.scale_
        out += self.bias_
        if some:
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

    Cost: up to K = 32 one Hessian, N K^2 (K + 1)^2 multiplications for N rows, thinned out where they are more than
    twenty for each unknown, tells by its parts in the folds what each strength promises; the best one, and others only
    where the promise was wrong, is then fitted from the optimum of all rows in some passes for each fold. Beyond, some
    tens of products of N x K with K x K for each strength that is tried and each fold; up to K of some hundred.

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
    x: Floats,
    rows: CalibrationRows,
    strength: float,
    *,
    full: bool,
    start: AffineMap | None = None,
    metric: Metric | None = None,
    tolerance: float = DECREMENT_TOLERANCE,
) -> AffineMap:
    """The map for one strength."""
    ridge = 2.0 * strength * rows.n_classes
    off = ridge * (rows.n_classes - 1) if full else None
    return fit_affine(
        x, rows.target, rows.weight, ridge=ridge, ridge_off=off, start=start, metric=metric, tolerance=tolerance
    )


def _chosen(rows: CalibrationRows, n_folds: int, *, full: bool) -> tuple[float, AffineMap]:
    """The strength with the least cross-validated log loss, and its map on all rows."""
    order, folds = side_by_side(rows.target, n_folds)
    sorted_rows = rows.take(order)
    views = FoldViews(sorted_rows, folds)
    fits = AffineFolds(views, full=full)
    truths = [(sorted_rows.target[held], sorted_rows.weight[held]) for held in folds]
    tempered = [views.of_fold(f)[1:, held] for f, held in enumerate(folds)]
    maps: dict[int, AffineMap] = {}

    def loss(log_prob: Sequence[NDArray[Any]]) -> float:
        return -sum(
            float(weight @ one[target, np.arange(target.size)])
            for one, (target, weight) in zip(log_prob, truths, strict=True)
        )

    before = loss(tempered)

    def gain_of(place: int) -> float:
        found = fits.fit(STRENGTHS[place])
        maps[place] = found.whole
        return before - loss(found.held_out)

    best = search(STRENGTHS, climb(STRENGTHS, fits.promise) if fits.problem.newton else [], gain_of)
    return STRENGTHS[best], maps[best]
