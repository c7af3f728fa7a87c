"""What the outer Newton iteration asks of a problem, whatever the space in which its vectors live.

Two spaces: the coefficients themselves (``coefficient_space``), and one number for each row and class
(``row_space``), which is the smaller one when there are more features than rows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# The inner iterations stop at |r| <= forcing |g|; forcing falls from the first number to the second.
FORCING, EXACT = 0.1, 1e-3
MAX_INNER = 250
# What a step brings is the difference of two values while it is a larger share of them than this; below, their rounding
# (1e-13 of them where scores are large) would drown it, and it is taken from the slopes at both ends.
FAINT = 1e-8
TINY = float(np.finfo(float).tiny)
# Lengths of a step that are tried when the whole of it brings too little, in the order in which they are tried.
LENGTHS = tuple(2.0 ** -np.arange(first, first + 5.0, 0.5) for first in (0.0, 5.0, 10.0))


class Inner(NamedTuple):
    """A Newton step: what it is, what the quadratic model promises of it, and its conjugate-gradient iterations."""

    step: Any
    decrease: float
    iterations: int
    stalled: bool = False


class Fallback(NamedTuple):
    """A point in the coordinates of a space, and the objective there: where to begin if the first point is worse."""

    first: F64
    shift: F64
    value: float


class Located(Protocol):
    """A point of the space: the objective's value there."""

    @property
    def value(self) -> float:
        """The objective."""
        ...


P = TypeVar("P", bound=Located)


class Problem(ABC, Generic[P]):
    """A softmax regression in one space; P is what it knows of a point."""

    damping: float
    penalised: bool
    tol: float = 0.0  # certified relative suboptimality that is aimed at

    @abstractmethod
    def start(self) -> P:
        """Evaluate the starting point."""

    @abstractmethod
    def bound(self, point: P) -> float:
        """Return a lower bound on the minimum, from the probabilities at a point."""

    @abstractmethod
    def newton_step(self, point: P, *, refit: bool) -> Inner:
        """Solve the Newton system at the point evaluated last; refit: with a fresh preconditioner."""

    def sharpen(self, point: P) -> P | None:  # noqa: ARG002  (spaces that can sharpen evaluate it anew)
        """Compute more precisely from now on: the point evaluated anew, or None when that is not possible."""
        return None

    @abstractmethod
    def moved(self, point: P, inner: Inner) -> P:
        """Evaluate the point one step further."""

    def gain(self, point: P, trial: P, inner: Inner) -> float:  # noqa: ARG002  (spaces that see the slopes use them)
        """By how much the whole step lowered the objective."""
        return point.value - trial.value

    @abstractmethod
    def cut(self, point: P, inner: Inner) -> P:
        """Evaluate the best point among many lengths along the step."""

    @abstractmethod
    def settled(self, point: P) -> P:
        """Evaluate a point afresh, free of what rounding has gathered on the way."""

    @abstractmethod
    def gradient_size(self, point: P) -> float:
        """Return the largest entry of the gradient."""

    @abstractmethod
    def separates(self) -> bool:
        """Whether every row's class is strictly first at the point evaluated last."""

    @abstractmethod
    def solution(self, point: P) -> tuple[F64, F64]:
        """Return the coefficients (D, S) and shifts (S,) at a point."""


def forcing_at(value: float, gradient_square: float, loosest: float = FORCING) -> float:
    """How exactly to solve: half of g' M^-1 g is near f - f*, so the closer the optimum, the more exactly."""
    return min(max(math.sqrt(max(0.0, gradient_square) / max(abs(value), TINY)), EXACT), loosest)


def best_length(values_at: Callable[[F64], F64], value: float) -> float:
    """Return the length with the least value, 0 when none is below the present one.

    values_at gives the values of a convex function at some lengths: shorter ones are asked for only while the shortest
    so far is the best.
    """
    least, length = value, 0.0
    for lengths in LENGTHS:
        values = values_at(lengths)
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        if values[best] < least:
            least, length = float(values[best]), float(lengths[best])
        if length > lengths[-1]:
            break
    return length
