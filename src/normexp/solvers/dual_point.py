"""A lower bound on the minimum of a softmax regression whose penalty has corners, from one point (Fenchel duality).

For any rows of probabilities q_i, with u = sum_i s_i x_i (q_i - y_i)' and sum_i s_i (q_i - y_i) = 0 (intercept),

    f* >= sum_i s_i H(q_i) - sum_j conjugate_j(u_j),
    conjugate_j(u) = |u beyond its corner|^2 / (2 ridge_j),  and 0 or infinity where ridge_j = 0: |u|_dual <= corner_j.

The probabilities p_i at a point miss these conditions a little. Three repairs, in this order:

1. features without any penalty need u_j = 0: q_i = p_i - C_i X_i d with the covariance C_i = diag(p_i) - p_i p_i' and d
   from the Newton system of these features and the intercept, which makes u exactly 0 there. It needs q >= 0, which
   holds near the optimum; further away there is no bound;
2. the intercept: q <- (1 - t) q + t r, one row r for all (``SoftmaxObjective.mixture``);
3. the corners: q <- (1 - a) y + a q, with the largest a <= 1 that the dual balls allow; then u <- a u.

The entropy of the third needs one number of each row, because q log q sums over the other classes to what is known:

    H((1-a) y + a q) = a H(q) - a (1 - q_y) log a + a q_y log q_y - (1 - a (1 - q_y)) log(1 - a (1 - q_y)).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from normexp.backends.curvature import class_moments
from normexp.rows import Block
from normexp.solvers.function import Point
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.penalty import Penalty
from normexp.solvers.preconditioner import cholesky_solve, regularised_cholesky

F64 = NDArray[np.float64]

# Features without any penalty are freed of their pull by a dense factor of so many unknowns at most.
_MAX_FREE_UNKNOWNS = 2000


@dataclass(frozen=True)
class DualPoint:
    """A bound, and the pull (D, S) of the repaired probabilities that gives it."""

    bound: float
    pull: F64 = field(repr=False)


@dataclass(frozen=True)
class _Probabilities:
    """What the bound needs of q: pull (D, S), its sum (S,), entropy, and each row's own probability and the rest."""

    pull: F64
    grad_shift: F64
    entropy: float
    own: F64
    others: F64


def dual_point(objective: SoftmaxObjective, point: Point, penalty: Penalty) -> DualPoint:
    """Return the best bound that the point evaluated last gives; its ``bound`` is -inf where there is none."""
    here = _as_they_are(objective, point)
    if np.any(penalty.free):
        freed = _freed(objective, here, penalty.free)
        if freed is None:
            return DualPoint(-np.inf, point.pull)
        here = freed
    share, mixed, mixed_entropy = objective.mixture(here.grad_shift, 0.0)
    pull = here.pull
    if share > 0.0:
        column_sum, class_sum = objective.origin()
        pull = (1 - share) * pull + share * (np.outer(column_sum, mixed) - class_sum)
    if np.any(penalty.free):
        pull[penalty.free] = 0.0  # but for rounding
    corner = penalty.corner > 0
    need = np.zeros(len(pull))
    need[corner] = penalty.dual_size(pull)[corner] / penalty.corner[corner]
    best = DualPoint(-np.inf, pull)
    for held in (penalty.ridge == 0, np.ones(len(pull), bool)):  # a ridge softens its corner: two lengths to try
        reach = float(np.max(need[held], initial=0.0))
        length = 1.0 if reach <= 1.0 else (1.0 - 1e-12) / reach
        inner = length * (1 - share) / (1 - length * share) if share < 1.0 else 0.0
        entropy = (1 - length * share) * _entropy_towards_labels(objective, here, inner) + length * mixed_entropy
        beyond, soft = penalty.beyond(length * pull), penalty.ridge > 0
        held_by_ridge = float(np.sum(np.square(beyond[soft]) / penalty.ridge[soft, None]))
        bound = entropy - 0.5 * held_by_ridge
        if bound > best.bound:
            best = DualPoint(bound, length * pull)
    return best


def survivors(
    objective: SoftmaxObjective, penalty: Penalty, dual: DualPoint, gap: float, squares: F64
) -> NDArray[np.bool_]:
    """Features that may be different from zero at the optimum, (D,): the others are proven to be zero there.

    The loss of a row has second derivatives of at most 1/2 (1/4 for one score), so the entropy is strongly concave and
    sum_i s_i |q_i - q*_i|^2 <= gap (half of it for one score); the pull of feature j at the optimum is within
    |x_j|_s times the root of that from the present one (Ndiaye, Fercoq, Gramfort & Salmon 2017, theorem 2).
    gap is the value at the point less the bound of this dual point; squares (D,) are |x_j|_s^2.
    """
    radius = np.sqrt(max(gap, 0.0) * (0.5 if objective.n_scores == 1 else 1.0))
    reach = penalty.dual_size(dual.pull) + np.sqrt(squares) * radius
    return np.asarray((reach >= penalty.corner * (1 - 1e-9)) | (penalty.corner == 0))


def _as_they_are(objective: SoftmaxObjective, point: Point) -> _Probabilities:
    prob, target = objective.prob, objective.target
    if prob.shape[1] == 1:
        one = prob[:, 0].astype(np.float64)
        own = np.where(target == 1, one, 1 - one)
    else:
        own = prob[np.arange(len(target)), target].astype(np.float64)
    return _Probabilities(point.pull, point.grad_shift, point.entropy, own, 1 - own)


def _entropy_towards_labels(objective: SoftmaxObjective, here: _Probabilities, length: float) -> float:
    """sum_i s_i H((1 - a) y_i + a q_i) for a = length; see the module."""
    if length >= 1.0:
        return here.entropy
    own, others = here.own, here.others
    extra = length * xlogy(own, own) - xlog1py(1 - length * others, -length * others) - others * xlogy(length, length)
    return length * here.entropy + float(objective.weight @ extra)


def _freed(objective: SoftmaxObjective, here: _Probabilities, free: NDArray[np.bool_]) -> _Probabilities | None:
    """Probabilities that have no pull on the free features; None where that needs negative ones."""
    scores, index = objective.n_scores, np.flatnonzero(free)
    size = len(index) + 1
    if size * scores > _MAX_FREE_UNKNOWNS:
        return None

    def form(block: Block) -> tuple[F64]:
        table, prob = _design(objective, block, index)[:, :-1], _rows(objective, block)
        weight, fit_intercept = objective.weight[block.rows], objective.fit_intercept
        return (class_moments(table, weight, prob, fit_intercept=fit_intercept),)

    (matrix,) = objective.rows.sum(form)
    if not objective.fit_intercept:
        np.einsum("jj->j", matrix)[-scores:] += 1.0
    wanted = np.vstack([here.pull[index], here.grad_shift]).ravel()
    factor = regularised_cholesky(matrix.copy())
    solved = cholesky_solve(factor, wanted)
    solved += cholesky_solve(factor, wanted - matrix @ solved)
    move = solved.reshape(size, scores)

    def part(block: Block) -> tuple[F64, F64, float, F64, bool]:
        rows = block.rows
        p = _rows(objective, block)
        z = _design(objective, block, index) @ move
        q = p * (1 - (z - np.einsum("ik,ik->i", p, z)[:, None]))
        least = float(min(q.min(initial=1.0), (1 - q.sum(axis=1)).min(initial=1.0) if scores == 1 else 1.0))
        weight = objective.weight[rows]
        residual = weight[:, None] * q - objective.members(rows)
        terms = xlogy(q, q).sum(axis=1) + (xlogy(1 - q, 1 - q)[:, 0] if scores == 1 else 0.0)
        target = objective.target[rows]
        own = np.where(target == 1, q[:, 0], 1 - q[:, 0]) if scores == 1 else q[np.arange(len(q)), target]
        kept_own[rows] = own
        return block.adjoint(residual), residual.sum(axis=0), -float(weight @ terms), np.array([least < 0]), True

    kept_own = np.empty(len(objective.target))
    with np.errstate(invalid="ignore"):
        pull, grad_shift, entropy, negative, _ = objective.rows.sum(part)
    objective.n_passes += 2
    if np.any(negative) or not np.isfinite(entropy):
        return None
    shift = grad_shift if objective.fit_intercept else np.zeros(scores)
    return _Probabilities(pull, shift, entropy, kept_own, 1 - kept_own)


def _design(objective: SoftmaxObjective, block: Block, index: NDArray[np.intp]) -> F64:
    """The features at index and, if there is one, the intercept's column of ones: (n, features + 1)."""
    columns = block.features(index)
    dense = columns.toarray() if hasattr(columns, "toarray") else columns
    last = np.full((1, dense.shape[1]), 1.0 if objective.fit_intercept else 0.0)
    return np.ascontiguousarray(np.vstack([dense, last]).T, dtype=np.float64)


def _rows(objective: SoftmaxObjective, block: Block) -> F64:
    """Probabilities of a block in float64, summing to one."""
    p = objective.prob[block.rows].astype(np.float64)
    return p if p.shape[1] == 1 else p / p.sum(axis=1, keepdims=True)
