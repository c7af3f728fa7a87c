"""One affine map fitted outside each fold, for the strength of its penalty that promises most.

All folds are solved from the optimum of all rows, with the second derivatives of all rows and what the steps there have
told: what five separate fits would cost five times is then shared.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.affine import FEW_UNKNOWNS, AffineMap, AffineProblem
from normexp.calibration.affine_steps import Metric, Secant, minimum
from normexp.calibration.columns import normalise
from normexp.calibration.fold_views import FoldViews
from normexp.calibration.rows import Floats

LEFT: Final = 1e-2  # nats in the sum over all rows that a fold's fit may leave: hundredths of what chance makes
BELIEVED: Final = 0.25  # of the gain: how far from it a promise may be
# Rows for each unknown that the Hessian of many unknowns is taken from; passes over all rows tell where steps end. On
# letter 10 promise what all rows promise within a twentieth, and 5 a quarter less.
ROWS_A_NUMBER: Final = 10
REFINEMENTS: Final = 2  # of promised maps: the Hessian outside one fold is near the share of all that it is solved with


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


class Fits(NamedTuple):
    """A kind of map in one strength.

    Parameters
    ----------
    whole : AffineMap
        On all rows.
    outside : list of AffineMap
        On the rows outside each fold.
    held_out : list of ndarray, each (K, n)
        Log-probabilities of each fold's rows by the map that has not seen them.
    """

    whole: AffineMap
    outside: list[AffineMap]
    held_out: list[NDArray[Any]]


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
        self.problem = AffineProblem(views.whole, rows.target, rows.weight, *self._ridges(1.0))
        self.theta = self.problem.start(None)
        self.apart = [np.zeros(self.theta.size) for _ in views.folds]  # each fold's optimum less that of all rows
        every = rows.n_rows // (ROWS_A_NUMBER * self.theta.size) if self.theta.size > FEW_UNKNOWNS else 1
        self.parts = (
            [self.problem.curvature(self.theta, held, max(1, every)) for held in views.folds]
            if self.problem.newton
            else []
        )
        self.curvature = np.sum(self.parts, axis=0) if self.parts else np.empty((0, 0))
        self.secants: list[Secant] = []
        self.share = 1.0 - 1.0 / len(views.folds)
        self._metrics: dict[tuple[float, float], Metric] = {}

    def promises(self, strengths: Sequence[float]) -> list[Promise]:
        r"""What each strength promises: five fits and their held-out gains, all in the quadratic model at the identity.

        With gradient and Hessian :math:`g_k, H_k` of fold k's rows and their sums g, H the fit outside fold k is
        :math:`\theta_k = -(H - H_k + R)^{-1}(g - g_k)`, and its gain on the fold
        :math:`-g_k'\theta_k - \tfrac12\theta_k'H_k\theta_k`. No row is read but for g and H. All are solved by one
        factor, of the share of H that is outside a fold, and conjugate gradients from there.
        """
        return [self.promise(strength) for strength in strengths]

    @cached_property
    def _slopes(self) -> Floats:
        """The gradient of each fold's rows at the identity."""
        start = self.problem.start(None)
        return np.array([self.problem.loss_and_slope(start, held)[1] for held in self.views.folds])

    def promise(self, strength: float) -> Promise:
        """What one strength promises."""
        slopes = self._slopes
        self.problem.penalise(*self._ridges(strength))
        metric = self._metric(strength, self.share)
        theta = np.zeros(slopes.shape)
        rest = slopes - slopes.sum(axis=0)  # what is left of the equation of each fold
        way, before = np.zeros(rest.shape), np.inf
        for _ in range(REFINEMENTS):
            turned = metric.solve(rest.T).T
            size = np.einsum("fp,fp->f", rest, turned)
            way = turned + (size / before)[:, None] * way
            bent = self._outside_times(way)
            length = size / np.maximum(np.einsum("fp,fp->f", way, bent), np.finfo(float).tiny)
            theta += length[:, None] * way
            rest, before = rest - length[:, None] * bent, np.maximum(size, np.finfo(float).tiny)
        squares = np.array([float(one @ (own @ one)) for one, own in zip(theta, self.parts, strict=True)])
        gain = -float(np.einsum("fp,fp->", slopes, theta)) - 0.5 * float(squares.sum())
        return Promise(gain, float(np.sqrt(max(float(squares.sum()), 0.0))))

    def _outside_times(self, theta: Floats) -> Floats:
        """Each fold's (H - H_k + R) times its own unknowns, (folds, P)."""
        narrow = theta.astype(self.curvature.dtype, copy=False)
        own = np.array([part @ one for part, one in zip(self.parts, narrow, strict=True)])
        return np.asarray(narrow @ self.curvature - own + self.problem.penalty * theta)

    def fit(self, strength: float) -> Fits:
        """The map on all rows and those outside each fold."""
        problem = self.problem
        problem.penalise(*self._ridges(strength))
        metric = self._metric(strength, 1.0, self.secants) if problem.newton else None
        self.theta = minimum(problem, self.theta, metric, tolerance=LEFT, told=self.secants)
        if metric is not None and not any(apart.any() for apart in self.apart):  # the fold's slope, 0 but for its rows
            near = self._metric(strength, self.share, self.secants)
            self.apart = [near.step(problem.loss_and_slope(self.theta, held)[1]) for held in self.views.folds]
        outside = [self._outside(number, strength) for number in range(len(self.views.folds))]
        return Fits(problem.map_of(self.theta), [one for one, _ in outside], [z for _, z in outside])

    def metric(self, strength: float, share: float) -> Metric | None:
        """Second derivatives near the optimum of so many times the rows; None where many unknowns have none."""
        return self._metric(strength, share, self.secants) if self.problem.newton else None

    def _outside(self, number: int, strength: float) -> tuple[AffineMap, NDArray[Any]]:
        """The map on the rows outside a fold, and what it makes of the fold."""
        rows, held = self.views.rows, self.views.folds[number]
        weight = rows.weight.copy()
        weight[held] = 0.0
        problem = AffineProblem(self.views.of_fold(number), rows.target, weight, *self._ridges(strength))
        metric = self._metric(strength, self.share, self.secants) if problem.newton else None
        theta = minimum(problem, self.theta + self.apart[number], metric, tolerance=LEFT)
        self.apart[number] = theta - self.theta
        return problem.map_of(theta), normalise(problem.logits(theta, held))

    def _metric(self, strength: float, share: float, secants: Sequence[Secant] = ()) -> Metric:
        """The factor is computed once for each strength and share."""
        if (strength, share) not in self._metrics:
            self.problem.penalise(*self._ridges(strength))
            self._metrics[strength, share] = Metric(self.curvature, self.problem.penalty, share)
        return self._metrics[strength, share].taught(secants)

    def _ridges(self, strength: float) -> tuple[float, float | None]:
        ridge = 2.0 * strength * self.n_classes
        return ridge, ridge * (self.n_classes - 1) if self.full else None


def climb(strengths: Sequence[float], promise_of: Callable[[float], Promise], /) -> list[Promise]:
    """Promises from the middle on, to the side where they grow and as far as they do; the others count as none.

    Examples
    --------
    >>> [one.gain for one in climb([4.0, 2.0, 1.0, 0.5, 0.25], lambda strength: Promise(strength, 1.0))]
    [4.0, 2.0, 1.0, 0.5, -inf]
    """
    found = [Promise(-np.inf, 0.0)] * len(strengths)
    place = len(strengths) // 2
    found[place] = promise_of(strengths[place])
    for way in (1, -1):
        while 0 <= (after := place + way) < len(strengths):
            found[after] = promise_of(strengths[after])
            if found[after].gain <= found[place].gain:
                break
            place = after
        if place != len(strengths) // 2:
            break
    return found


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
