"""Vector and structured matrix scaling: a temperature, then a ridge-penalised affine map of the log-probabilities."""

import copy
from typing import Final, Self

import numpy as np

from normexp.base.checks import check_number
from normexp.calibration.affine import AffineMap, fit_affine
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

    def fit_path(self, rows: CalibrationRows, strengths: tuple[float, ...], /) -> list[Self]:
        """One fitted copy for each strength, each started from the one before."""
        u = self._prepare(rows)
        maps = _path(u, rows, strengths, full=self._full)
        found = []
        for strength, affine in zip(strengths, maps, strict=True):
            one = copy.copy(self)
            one.keep(strength, affine)
            found.append(one)
        return found

    def _fit(self, rows: CalibrationRows) -> None:
        of = type(self).__name__
        if self.strength is not None:
            check_number(self.strength, of=of, name="strength", low=1e-9)
        folds = check_cv(self.cv, of=of)
        u = self._prepare(rows)
        if self.strength is not None:
            chosen: tuple[float, ...] = (float(self.strength),)
        else:
            losses = _held_out(u, rows, folds, full=self._full)
            chosen = STRENGTHS[: 1 + int(np.argmin(losses))]
        self.keep(chosen[-1], _path(u, rows, chosen, full=self._full)[-1])

    def _prepare(self, rows: CalibrationRows) -> Floats:
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

    Cost: some tens of passes over an N x K array for each strength and fold.

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
    little more than a temperature. The published method has s = 1; the best strength depends on the problem and is
    cheap to find, since each fit starts from its stronger neighbour.

    Cost: some tens of products of N x K with K x K for each strength and fold; up to K of some hundred.

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


def _path(u: Floats, rows: CalibrationRows, strengths: tuple[float, ...], *, full: bool) -> list[AffineMap]:
    """The map for each strength in turn, each started from the one before."""
    n_classes = rows.n_classes
    found: list[AffineMap] = []
    for strength in strengths:
        ridge = 2.0 * strength * n_classes
        found.append(
            fit_affine(
                u, rows.target, rows.weight, ridge=ridge, ridge_off=ridge * (n_classes - 1) if full else None,
                start=found[-1] if found else None,
            )
        )  # fmt: skip
    return found


def _held_out(u: Floats, rows: CalibrationRows, n_folds: int, *, full: bool) -> Floats:
    """Cross-validated log loss of each strength."""
    loss = np.zeros(len(STRENGTHS))
    for kept, held in split_folds(rows.target, n_folds):
        maps = _path(u[kept], rows.take(kept), STRENGTHS, full=full)
        for i, affine in enumerate(maps):
            nll = np.asarray(cross_entropy(affine.apply(u[held]), rows.target[held], reduction="none"))
            loss[i] += float(rows.weight[held] @ nll)
    return loss
