"""One affine map fitted outside each fold, for the strength of its penalty that promises most.

All folds are solved from the optimum of all rows and with its second derivatives, less the fold's own: what five
separate fits would cost five times is then shared.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from normexp.calibration.affine import AffineMap, AffineProblem, minimum
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.ops import log_softmax

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
LEFT: Final = 1e-2  # nats in the sum over all rows that a fold's fit may leave: hundredths of what chance makes
BELIEVED: Final = 0.25  # of the gain: how far from it a promise may be


class Promise(NamedTuple):
    """What a strength promises, told from the derivatives at the identity alone.

    Parameters
    ----------
    gain : float
        Held-out gain over the temperature, nats in the sum over all rows.
    chance : float
        Standard error of such a gain were the tempered probabilities right.
    """

    gain: float
    chance: float


class FoldViews:
    """Rows, folds and the log-probabilities that affine maps read: at the temperature of all rows, and of each fold's.

    Parameters
    ----------
    rows : CalibrationRows
    folds : list of (kept, held out)
    trains : sequence of CalibrationRows
        The rows kept in each fold.
    """

    def __init__(self, rows: CalibrationRows, folds: list[Fold], trains: Sequence[CalibrationRows]) -> None:
        self.rows, self.folds = rows, folds
        self.temperature, _ = fit_temperature(rows, 1.0)
        self.temperatures = [fit_temperature(train, 1.0)[0] for train in trains]

    @cached_property
    def _logits(self) -> Floats:
        return self.rows.dense()

    @cached_property
    def bottom(self) -> float:
        """What stands for the logarithm of 0."""
        return float(np.min(self.whole, where=np.isfinite(self.whole), initial=0.0))

    @cached_property
    def whole(self) -> Floats:
        """Log-probabilities of all rows at their temperature, (N, K)."""
        return np.asarray(log_softmax(self._logits, temperature=self.temperature))

    def of_fold(self, number: int, chosen: NDArray[np.intp]) -> Floats:
        """Those of some rows at a fold's temperature."""
        u = np.asarray(log_softmax(self._logits[chosen], temperature=self.temperatures[number]))
        u[np.isneginf(u)] = self.bottom
        return u


class AffineFolds:
    """Fits of one kind of map on all rows and outside each fold.

    Parameters
    ----------
    views : FoldViews
    full : bool
        Whether the map has entries off its diagonal.
    """

    def __init__(self, views: FoldViews, *, full: bool) -> None:
        self.views, self.full, self.n_classes = views, full, views.rows.n_classes
        rows = views.rows
        u = np.where(np.isneginf(views.whole), views.bottom, views.whole)
        self.problem = AffineProblem(u, rows.target, rows.weight, *self._ridges(1.0))
        self.theta = self.problem.start(None)
        self.apart = [np.zeros(self.theta.size) for _ in views.folds]  # each fold's optimum less that of all rows
        self.parts = self._parts(self.theta) if self.problem.newton else []

    def promises(self, strengths: Sequence[float]) -> list[Promise]:
        r"""What each strength promises: five fits and their held-out gains, all in the quadratic model at the identity.

        With gradient and Hessian :math:`g_k, H_k` of fold k's rows and their sums g, H the fit outside fold k is
        :math:`\theta_k = -(H - H_k + R)^{-1}(g - g_k)`, and its gain on the fold
        :math:`-g_k'\theta_k - \tfrac12\theta_k'H_k\theta_k`. No row is read but for g and H.
        """
        held = [held for _, held in self.views.folds]
        slopes = self.problem.slopes(np.zeros(self.theta.size), held)
        slope, curvature = np.sum(slopes, axis=0), np.sum(self.parts, axis=0)
        found = []
        for strength in strengths:
            self.problem.penalise(*self._ridges(strength))
            gain = spread = 0.0
            for own_slope, own in zip(slopes, self.parts, strict=True):
                rest = curvature - own
                np.einsum("ii->i", rest)[:] += self.problem.penalty
                theta = -cho_solve(cho_factor(rest, overwrite_a=True, check_finite=False), slope - own_slope)
                square = float(theta @ own @ theta)
                gain -= float(own_slope @ theta) + 0.5 * square
                spread += square
            found.append(Promise(gain, float(np.sqrt(max(spread, 0.0)))))
        return found

    def fit(self, strength: float) -> tuple[AffineMap, list[AffineMap]]:
        """The map on all rows and those outside each fold."""
        problem = self.problem
        problem.penalise(*self._ridges(strength))
        curvature = np.sum(self.parts, axis=0) if problem.newton else None
        self.theta = minimum(problem, self.theta, curvature, tolerance=LEFT, renew=self._renewed)
        return problem.map_of(self.theta), [self._outside(f, strength) for f in range(len(self.views.folds))]

    def _outside(self, number: int, strength: float) -> AffineMap:
        """The map on the rows outside a fold."""
        kept, _ = self.views.folds[number]
        rows = self.views.rows
        u = self.views.of_fold(number, kept)
        problem = AffineProblem(u, rows.target[kept], rows.weight[kept], *self._ridges(strength))
        curvature = np.sum(self.parts, axis=0) - self.parts[number] if problem.newton else None
        theta = minimum(problem, self.theta + self.apart[number], curvature, tolerance=LEFT)
        self.apart[number] = theta - self.theta
        return problem.map_of(theta)

    def _parts(self, theta: Floats) -> list[Floats]:
        """Second derivatives of the loss over each fold's own rows."""
        return [self.problem.curvature(theta, held) for _, held in self.views.folds]

    def _renewed(self, theta: Floats) -> Floats:
        """Second derivatives of the loss over all rows; the folds share them."""
        self.parts = self._parts(theta)
        return np.asarray(np.sum(self.parts, axis=0))

    def _ridges(self, strength: float) -> tuple[float, float | None]:
        ridge = 2.0 * strength * self.n_classes
        return ridge, ridge * (self.n_classes - 1) if self.full else None


def search(strengths: Sequence[float], promises: Sequence[Promise], gain_of: Callable[[int], float], /) -> int:
    """Place of the strength with the largest held-out gain, as far as need be tried.

    Parameters
    ----------
    strengths : sequence of float
        Sorted.
    promises : sequence of Promise
        One for each; empty where there are none.
    gain_of : callable
        The held-out gain over the temperature of the strength at a place, nats in the sum over all rows.

    Notes
    -----
    The most promising strength is tried first, without promises the middle one. Where its gain is within a quarter of
    its promise the promises are believed, and nothing else is tried; else neighbours are, until the gain has turned.
    """
    place = int(np.argmax([one.gain for one in promises])) if promises else len(strengths) // 2
    gains = {place: gain_of(place)}
    if promises and abs(gains[place] - promises[place].gain) <= BELIEVED * abs(gains[place]):
        return place
    while True:
        best = max(gains, key=lambda at: gains[at])
        open_places = [at for at in (best + 1, best - 1) if 0 <= at < len(strengths) and at not in gains]
        if not open_places:
            return best
        gains[open_places[0]] = gain_of(open_places[0])
