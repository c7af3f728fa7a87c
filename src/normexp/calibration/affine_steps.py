"""Steps to the optimum of a penalised affine map: few unknowns by one Hessian that the steps mend, many by L-BFGS.

One Hessian of the full matrix costs as much as fifty passes. It is computed once, and each step after it teaches what
the curvature was along its way, as in L-BFGS (Nocedal & Wright (2006), "Numerical optimization", algorithm 7.4), whose
first matrix it is.
"""

import copy
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from normexp.calibration.rows import Floats

MOST_STEPS: Final = 200
FEW_STEPS: Final = 25  # after which the Hessian is computed anew: it was taken too far from here
MOST_LBFGS_STEPS: Final = 500
MOST_SECANTS: Final = 20
DECREMENT_TOLERANCE: Final = 1e-7  # nats in the sum over all rows that a Newton step can still gain
ROUNDING: Final = 10.0  # units in which a sum of losses may be off
GRADIENT_TOLERANCE: Final = 1e-5  # of the mean loss: far below the noise of any calibration set


class Problem(Protocol):
    """What is minimised: a loss of rows and a penalty of each unknown."""

    newton: bool
    full: bool
    x: NDArray[Any]
    weight: Floats
    penalty: Floats
    shape: tuple[int, int]
    every: slice

    def value_and_slope(self, theta: Floats) -> tuple[float, Floats]:
        """The objective and its gradient."""

    def logits(self, theta: Floats, rows: slice) -> NDArray[Any]:
        """Logits of some rows, (K, B)."""

    def curvature(self, theta: Floats, rows: slice) -> NDArray[Any]:
        """Second derivatives of the loss over some rows."""


class Secant(NamedTuple):
    """A step, and by how much the gradient of the loss, without the penalty, changed along it."""

    step: Floats
    change: Floats


class Metric:
    """The inverse of share * curvature + penalty, mended by what steps have told.

    Parameters
    ----------
    curvature : ndarray, shape (P, P)
        Second derivatives of a loss near here, without the penalty.
    penalty : ndarray, shape (P,)
    share : float
        The loss at hand in units of that one: a half where half of its rows are there.
    secants : sequence of Secant
        Of the loss that `curvature` is of.
    """

    def __init__(
        self, curvature: NDArray[Any], penalty: Floats, share: float = 1.0, secants: Sequence[Secant] = ()
    ) -> None:
        self.penalty, self.share = penalty, share
        self.factor = _factor(curvature, penalty, share)
        self.secants = [self._seen(one) for one in secants]

    def taught(self, secants: Sequence[Secant]) -> "Metric":
        """The same, with other steps to learn from."""
        one = copy.copy(self)
        one.secants = [self._seen(secant) for secant in secants][-MOST_SECANTS:]
        return one

    def solve(self, slope: Floats) -> Floats:
        """The inverse without what steps have told, times one or more columns."""
        dtype = self.factor[0].dtype
        return cho_solve(self.factor, slope.astype(dtype, copy=False), check_finite=False).astype(np.float64)

    def step(self, slope: Floats) -> Floats:
        """The inverse times a gradient."""
        rest, shares = slope.copy(), []
        for moved, change, product in reversed(self.secants):
            shares.append(along := float(moved @ rest) / product)
            rest -= along * change
        out = self.solve(rest)
        for (moved, change, product), along in zip(self.secants, reversed(shares), strict=True):
            out += (along - float(change @ out) / product) * moved
        return out

    def learn(self, moved: Floats, change: Floats) -> Secant | None:
        """Take in a step and the change of the whole gradient along it; returned for others to begin with."""
        product = float(moved @ change)
        if product <= 0.0:  # rounding: the objective is strictly convex
            return None
        self.secants = [*self.secants, (moved, change, product)][-MOST_SECANTS:]
        return Secant(moved, (change - self.penalty * moved) / self.share)

    def _seen(self, one: Secant) -> tuple[Floats, Floats, float]:
        change = self.share * one.change + self.penalty * one.step
        return one.step, change, float(one.step @ change)


def _factor(curvature: NDArray[Any], penalty: Floats, share: float) -> Any:
    """The Cholesky factor of the Hessian; the ridge makes every one positive definite, up to rounding."""
    for ridge in (1.0, 1e2, 1e4, 1e6):
        hessian = share * curvature
        np.einsum("ii->i", hessian)[:] += ridge * penalty
        try:
            return cho_factor(hessian, overwrite_a=True, check_finite=False)
        except LinAlgError:  # float32 rounds more than the ridge: a larger one makes shorter steps, no other optimum
            continue
    size = np.nan_to_num(np.abs(np.einsum("ii->i", curvature).astype(np.float64)), nan=0.0)
    return cho_factor(np.diag(share * size + penalty), check_finite=False)  # logits of 1e60 leave no digit of the rest


def minimum(
    problem: Problem,
    theta: Floats,
    metric: Metric | None = None,
    *,
    tolerance: float = DECREMENT_TOLERANCE,
    told: list[Secant] | None = None,
) -> Floats:
    """The best unknowns, from theta on.

    Parameters
    ----------
    problem : Problem
    theta : ndarray, shape (P,)
        Where to begin.
    metric : Metric, optional
        Second derivatives somewhere near; computed at theta by default.
    tolerance : float
        Nats in the sum over all rows that a step may still gain at the end.
    told : list of Secant, optional
        Gets what the steps told.
    """
    if not problem.newton:
        return _lbfgs(problem, theta)
    fresh = metric is None
    metric = metric or Metric(problem.curvature(theta, problem.every), problem.penalty)
    value, slope = problem.value_and_slope(theta)
    for number in range(1, MOST_STEPS):
        step = metric.step(slope)
        decrement = float(slope @ step)
        if 0.5 * decrement <= tolerance:
            break
        length, found = 1.0, False
        while not found and length > 1e-8:
            following = theta - length * step
            new_value, new_slope = problem.value_and_slope(following)
            found = new_value <= value - 0.1 * length * decrement
            length *= 0.5
        if not found and (fresh or decrement <= ROUNDING * np.finfo(problem.x.dtype).eps * abs(value)):
            break  # rounding hides what is left to gain
        fresh = False
        if found:
            secant = metric.learn(following - theta, new_slope - slope)
            if told is not None and secant is not None:
                told.append(secant)
            theta, value, slope = following, new_value, new_slope
        if not found or number % FEW_STEPS == 0:
            metric, fresh = Metric(problem.curvature(theta, problem.every), problem.penalty), True
    return theta


def _lbfgs(problem: Problem, theta: Floats) -> Floats:
    """L-BFGS in unknowns of which all curvatures are of one size, so that it takes tens of steps and not hundreds."""
    total = float(problem.weight.sum())
    turn = _Whitening(problem, theta) if problem.full else _Scaling(problem)

    def objective(turned: Floats) -> tuple[float, Floats]:
        value, slope = problem.value_and_slope(turn.back(turned))
        return value / total, turn.slope(slope) / total

    options: Any = {"maxiter": MOST_LBFGS_STEPS, "gtol": GRADIENT_TOLERANCE, "ftol": 1e-9, "maxcor": 20}
    found = minimize(objective, turn.there(theta), jac=True, method="L-BFGS-B", options=options)
    return turn.back(np.asarray(found.x))


class _Scaling:
    """Each unknown in the root mean square of its column."""

    def __init__(self, problem: Problem) -> None:
        total = float(problem.weight.sum())
        size = np.sqrt(np.einsum("n,kn,kn->k", problem.weight, problem.x, problem.x) / total) + 1e-3
        self.unit = np.concatenate([np.full(problem.shape[1], size[0]), size[1:]])

    def there(self, theta: Floats) -> Floats:
        return np.asarray(theta * self.unit)

    def back(self, turned: Floats) -> Floats:
        return np.asarray(turned / self.unit)

    def slope(self, slope: Floats) -> Floats:
        return np.asarray(slope / self.unit)


class _Whitening:
    """The unknowns of class k in the eigenbasis of the columns, each in its curvature c_k lambda + ridge.

    The Hessian of class k is sum w p_k (1 - p_k) x x' + ridge. With the mean of p_k (1 - p_k) in the place of each
    row's one eigenbasis serves all classes. (The ridge on the diagonal of the matrix is K - 1 times weaker, which
    concerns one unknown in K and is passed over.)
    """

    def __init__(self, problem: Problem, theta: Floats) -> None:
        total = float(problem.weight.sum())
        gram = (problem.x * problem.weight.astype(problem.x.dtype)) @ problem.x.T / total
        values, self.basis = np.linalg.eigh(gram.astype(np.float64))
        prob = problem.logits(theta, problem.every)
        prob -= prob.max(axis=0)
        np.exp(prob, out=prob)
        prob /= prob.sum(axis=0)
        spread = np.einsum("n,kn,kn->k", problem.weight, prob, 1.0 - prob) / total
        curvature = np.maximum(values, 0.0)[:, None] * spread + float(problem.penalty.max()) / total
        self.root = np.sqrt(np.maximum(curvature, 1e-12))
        self.shape = problem.shape

    def there(self, theta: Floats) -> Floats:
        return np.asarray((self.basis.T @ theta.reshape(self.shape)) * self.root).ravel()

    def back(self, turned: Floats) -> Floats:
        return np.asarray(self.basis @ (turned.reshape(self.shape) / self.root)).ravel()

    def slope(self, slope: Floats) -> Floats:
        return np.asarray((self.basis.T @ slope.reshape(self.shape)) / self.root).ravel()
