"""How a fit ended, in words, and what it cost."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Outcome(Enum):
    """The ways in which a solver may end; each value is the sentence that a person reads."""

    CERTIFIED = "The optimum is reached: a dual bound proves that the objective is within tol of its minimum."
    FLAT = (
        "The optimum is reached to rounding: the objective cannot be decreased any further in this precision, "
        "though the dual bound is not yet within tol."
    )
    GRADIENT = "The optimum is reached: the largest entry of the gradient is at most tol times its start."
    SEPARABLE = (
        "The classes are separable by a linear rule and there is no penalty, so no finite optimum exists: the "
        "coefficients grew without end and were stopped. Give a penalty (a finite C) to get one."
    )
    QUASI_SEPARABLE = (
        "A linear program proves that a linear rule tells some rows from other classes and puts no row on its wrong "
        "side (quasi-complete separation), and there is no penalty, so no finite optimum exists: some coefficients "
        "grew without end and were stopped. Give a penalty (a finite C) to get one."
    )
    STUCK = (
        "No step decreases the objective any more, and yet the dual bound is far from it: the coefficients are not "
        "known to be an optimum. Rescale the columns, or take a stronger penalty."
    )
    GROWING = (
        "There is no penalty, and the coefficients still grow where the gradient has all but vanished, or max_iter "
        "steps have passed: most probably a linear rule separates some rows from the others without error, so that "
        "they grow without end; the table is too large, or read in blocks, so that no linear program decides it. Give "
        "a penalty (a finite C) to get an optimum."
    )
    MAX_ITER = "max_iter steps were not enough to reach the optimum within tol; raise max_iter."
    RUNNING = (
        "The optimum of the running objective is reached: recent rows count exactly, earlier ones by the quadratic "
        "expansion of their loss."
    )
    AWAITING = (
        "No row of at least one declared class has come yet, so nothing is known of it and its probabilities mean "
        "nothing; take in rows of it (class_count_ says of which classes none came)."
    )
    ELSEWHERE = "The coefficients were fitted elsewhere: nothing is known of their optimum."
    NOT_STARTED = "max_iter is 0: the coefficients are the starting point."

    def __reduce__(self) -> tuple[type["Outcome"], tuple[str]]:
        """Say how to rebuild it: model files call the class with the value."""
        return type(self), (self.value,)

    @property
    def converged(self) -> bool:
        """Whether the coefficients are an optimum within the asked tolerance (or within rounding)."""
        return self in {Outcome.CERTIFIED, Outcome.FLAT, Outcome.GRADIENT, Outcome.RUNNING}


@dataclass(frozen=True)
class Solution:
    """How a fit ended, and what it cost.

    Attributes
    ----------
    outcome : Outcome
        How the fit ended; ``outcome.value`` is a sentence.
    objective : float
        sum_i w_i loss_i + penalty at the solution.
    suboptimality : float
        Certified upper bound on (f - f*) / f*; infinity when no bound is known: without a penalty, in
        a stream, or where rounding hides the penalty.
    n_iter : int
        Newton steps.
    n_passes : int
        Passes over the rows (a gradient or a Hessian product is one).
    seconds : dict
        Time of each part of the fit.
    """

    outcome: Outcome
    objective: float
    suboptimality: float
    n_iter: int
    n_passes: int
    seconds: dict[str, float]

    @property
    def converged(self) -> bool:
        """Whether the outcome is an optimum."""
        return self.outcome.converged


class Fitted(NamedTuple):
    """Coefficients on the scale of the table, and how they were found.

    coef is (D, S) and intercept (S,): one column for each score, S = 1 for two classes and K for more.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    solution: Solution
