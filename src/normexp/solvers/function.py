"""What every form of the objective shares: the point that a pass describes, and the bound that duality gives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.pieces import in_pieces
from normexp.rows import RowBlocks

F64 = NDArray[np.float64]

_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Point:
    """Coefficients, and what one pass over the rows tells of them."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    value: float
    entropy: float  # sum_i s_i H(p_i)
    pull: F64 = field(repr=False)  # gradient of the data part, sum_i x_i (p_i - y_i)' s_i
    grad_coef: F64 = field(repr=False)
    grad_shift: F64 = field(repr=False)


class Objective(ABC):
    """A softmax regression as a function of its coefficients, wherever its rows lie.

    Attributes
    ----------
    rows : RowBlocks
        The table, centred and scaled.
    ridge : ndarray (D,) float64
        Penalty on each feature's squared coefficients, on the scale of ``rows``.
    n_scores : int
    fit_intercept : bool
    total_weight : float
    class_weight : ndarray (K,)
        Weight of all rows of each class.
    n_passes : int
        Passes over the rows so far.
    damping : float
        How far the curvature is taken towards the labels, in [0, 1].
    """

    rows: RowBlocks
    ridge: F64
    n_scores: int
    fit_intercept: bool
    total_weight: float
    class_weight: F64
    n_passes: int
    damping: float
    _hessian: F64 | None = None

    @cached_property
    def penalised(self) -> bool:
        """Whether every feature bears a penalty, so that the dual bound is finite."""
        return bool(np.all(self.ridge > 0))

    @abstractmethod
    def at(self, coef: F64, shift: F64) -> Point:
        """Evaluate value, gradient and entropy; Hessian products are taken there from now on."""

    @abstractmethod
    def curvature_along(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        """Product of the Hessian at the last point with a direction (coef, shift)."""

    @abstractmethod
    def values_along(self, point: Point, coef: F64, shift: F64, lengths: F64) -> F64:
        """Values of f at point + length * (coef, shift) for many lengths, in one pass."""

    @abstractmethod
    def shift_covariance(self) -> F64:
        """Block of the Hessian at the last point that belongs to the shifts, sum_i s_i (diag(p_i) - p_i p_i')."""

    @property
    @abstractmethod
    def working(self) -> np.dtype[Any]:
        """Precision of the Hessian products."""

    @abstractmethod
    def sharpen(self) -> bool:
        """Take Hessian products in float64 from the next evaluation on; whether they were not before."""

    @abstractmethod
    def separates(self) -> bool:
        """Whether the scores at the last point put every row's class strictly first: then they separate the classes."""

    @abstractmethod
    def origin(self) -> tuple[F64, F64]:
        """Return sum_i s_i x_i and sum_i s_i x_i y_i', which one pass gives."""

    @property
    def kept_hessian(self) -> F64 | None:
        """What ``keep_hessian`` was given since the last evaluation."""
        return self._hessian

    def keep_hessian(self, hessian: F64) -> None:
        """Take Hessian products from that of the losses, without a pass, until the next evaluation.

        hessian ((D + 1) S, (D + 1) S) is that at the last point with the present damping, feature by feature, shifts
        last.
        """
        self._hessian = hessian

    def _product(self, hessian: F64, coef: F64, shift: F64) -> tuple[F64, F64]:
        """Product of a kept Hessian, and the ridge, with a direction."""
        product = (hessian @ np.concatenate([coef.ravel(), shift])).reshape(-1, self.n_scores)
        return product[:-1] + self.ridge[:, None] * coef, product[-1]

    def _point(self, coef: F64, shift: F64, sums: tuple[float, float, F64, F64]) -> Point:
        """Join what a pass summed, (loss, entropy, pull, gradient of the shifts), with the penalty."""
        loss, entropy, pull, grad_shift = sums
        grad_coef = np.empty(coef.shape)

        def part(rows: slice) -> float:
            penalised = self.ridge[rows, None] * coef[rows]
            np.add(pull[rows], penalised, out=grad_coef[rows])
            return float(np.vdot(penalised, coef[rows]))

        return Point(
            coef=coef,
            shift=shift,
            value=float(loss + 0.5 * sum(in_pieces(coef.shape, part))),
            entropy=float(entropy),
            pull=pull,
            grad_coef=grad_coef,
            grad_shift=grad_shift if self.fit_intercept else np.zeros_like(grad_shift),
        )

    def _values(self, losses: F64, point: Point, coef: F64, lengths: F64) -> F64:
        """Losses along a direction with the penalty there."""

        def part(rows: slice) -> tuple[float, float, float]:
            here, along = point.coef[rows], coef[rows]
            held, moved = self.ridge[rows, None] * here, self.ridge[rows, None] * along
            return float(np.vdot(held, here)), float(np.vdot(held, along)), float(np.vdot(moved, along))

        flat, cross, bend = np.sum(in_pieces(coef.shape, part), axis=0)
        return np.asarray(losses + 0.5 * (flat + 2 * lengths * cross + lengths**2 * bend))

    def dual_bound(self, point: Point) -> float:
        """Lower bound on the minimum of f, from the probabilities at a point (Fenchel duality).

        Any rows of probabilities q_i with sum_i s_i (q_i - y_i) = 0 (when there is an intercept) give

            f* >= sum_i s_i H(q_i) - 1/2 sum_jk ( [sum_i s_i x_i (q_i - y_i)']_jk )^2 / lambda_j .

        The probabilities p_i at the point miss the condition by the intercept's gradient e. The mixture
        q_i = (1 - t) p_i + t r with r = n / S - (1 - t) e / (t S) meets it (n: weight of each class, S: of all),
        with the smallest t for which r is not negative; H is concave, so the entropy needs no second pass.
        """
        if not self.penalised:
            return -np.inf
        share, mixed, entropy = self.mixture(point.grad_shift, point.entropy)
        column_sum, class_sum = self.origin() if share > 0.0 else (None, None)

        def part(rows: slice) -> float:
            pull = point.pull[rows]
            if column_sum is not None and class_sum is not None:
                pull = (1 - share) * pull + share * (column_sum[rows, None] * mixed - class_sum[rows])
            return float(np.vdot(pull, pull / self.ridge[rows, None]))

        return entropy - 0.5 * sum(in_pieces(point.pull.shape, part))

    def mixture(self, grad_shift: F64, entropy: float) -> tuple[float, F64, float]:
        """Return t, r (a column for each score) and the entropy of the mixture that ``dual_bound`` explains."""
        if not self.fit_intercept:
            return 0.0, np.zeros(self.n_scores), entropy
        error = np.array([-grad_shift[0], grad_shift[0]]) if self.n_scores == 1 else grad_shift
        share = float((error / np.maximum(self.class_weight + error, _TINY)).max(initial=0.0))
        if share <= 0.0:
            return 0.0, np.zeros(self.n_scores), entropy
        share = min(1.0, share * (1 + 1e-12))
        mixed = np.maximum(self.class_weight - (1 - share) / share * error, 0.0)
        mixed /= mixed.sum()
        positive = mixed[mixed > 0]
        mixed_entropy = -self.total_weight * float(positive @ np.log(positive))
        return share, mixed[-self.n_scores :], (1 - share) * entropy + share * mixed_entropy


def towards_labels(prob: NDArray[np.floating], target: NDArray[np.intp], damping: float) -> F64:
    """Probabilities whose covariance is the model's curvature: p (n, S), moved towards the label by the damping."""
    p: F64 = prob.astype(np.float64, copy=True)
    if damping > 0.0:
        member = np.zeros_like(p)
        if p.shape[1] == 1:
            member[:, 0] = target == 1
            wrong = np.abs(member - p)
        else:
            index = np.arange(len(p)), target
            member[index] = 1.0
            wrong = 1.0 - p[index][:, None]
        p += 0.5 * damping * wrong * (member - p)
    return p


def summed_covariance(prob: NDArray[np.floating], weight: F64) -> F64:
    """Return sum_i s_i (diag(p_i) - p_i p_i') for prob (n, S), (S, S); for two classes, of the one score."""
    if prob.shape[1] == 1:
        p = prob[:, 0].astype(np.float64, copy=False)
        return np.array([[float(weight @ (p * (1 - p)))]])
    weighted = prob * weight.astype(prob.dtype)[:, None]
    products: F64 = -(prob.T @ weighted).astype(np.float64, copy=False)
    np.einsum("kk->k", products)[...] = 0.0
    # p_k (1 - p_k) as p_k times the others: no digits are lost where p_k is near 1.
    np.einsum("kk->k", products)[...] = -products.sum(axis=1)
    return products


def weighted_labels(target: NDArray[np.intp], weight: F64, n_scores: int) -> F64:
    """Return the weighted labels w Y of some rows, (n, S)."""
    member = np.zeros((len(target), n_scores))
    if n_scores == 1:
        member[:, 0] = weight * (target == 1)
    else:
        member[np.arange(len(target)), target] = weight
    return member
