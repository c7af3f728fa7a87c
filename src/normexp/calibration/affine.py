"""Ridge-penalised affine maps of log-probabilities: the optimum that vector and matrix scaling share."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.calibration.affine_steps import DECREMENT_TOLERANCE, Metric, minimum
from normexp.calibration.columns import MANY, pieces, residuals
from normexp.calibration.rows import Floats

MOST_NEWTON_CLASSES: Final = 32  # K (K + 1) = 1056 unknowns with the full matrix
MOST_NEWTON_CLASSES_DIAGONAL: Final = 400
# A Hessian of many unknowns is the dearest of all passes, and float32 halves it. It steers the steps and tells
# promises; where the steps end is told by slopes in float64.
FEW_UNKNOWNS: Final = 200
LARGEST_SINGLE: Final = 1e4  # of log-probabilities: larger ones, summed over rows in float32, would drown the others
ROUGHLY: Final = 1e-2  # nats in the sum over all rows that those steps may leave
SPREAD_NUMBERS: Final = 1 << 19  # of the spread rows that are multiplied at a time: 2 MB of float32


class AffineMap(NamedTuple):
    """Logits ``u @ matrix + u * scale + bias``; `matrix` is None where the map is diagonal.

    Parameters
    ----------
    bias : ndarray, shape (K,)
    scale : ndarray, shape (K,)
    matrix : ndarray, shape (K, K), or None
        Its diagonal is 0.
    """

    bias: Floats
    scale: Floats
    matrix: Floats | None

    def apply(self, u: Floats) -> Floats:
        """Logits of rows of log-probabilities, (B, K)."""
        out = u * self.scale + self.bias
        return out if self.matrix is None else out + u @ self.matrix


class AffineProblem:
    """sum w nll(u + B' [1, u]) + 1/2 sum R B^2 over the entries of B, (K + 1, K), that are free.

    Parameters
    ----------
    x : ndarray, shape (K + 1, N)
        1 and the log-probabilities of each row, class by class, finite.
    target, weight : ndarray, shape (N,)
    ridge, ridge_off : float
        Penalties of biases and diagonal, and of the rest of the matrix; None is a map without that rest.
    """

    def __init__(
        self, x: NDArray[Any], target: NDArray[np.intp], weight: Floats, ridge: float, ridge_off: float | None
    ) -> None:
        k = len(x) - 1
        self.target, self.weight, self.full = target, weight, ridge_off is not None
        self.n_classes, self.every = k, slice(0, x.shape[1])
        self.newton = k <= (MOST_NEWTON_CLASSES if self.full else MOST_NEWTON_CLASSES_DIAGONAL)
        self.shape = (k + 1, k) if self.full else (2, k)
        # Many unknowns come from products of long matrices, which float32 halves; Newton's few stay in float64. What
        # float32 rounds away, 1e-7 of a logit's size, is far below the noise of any calibration set.
        self.x: NDArray[Any] = x.astype(np.float32) if self.full and not self.newton else x
        self.penalise(ridge, ridge_off)

    def penalise(self, ridge: float, ridge_off: float | None) -> None:
        """Set the strengths of the penalty."""
        penalty = np.full(self.shape, ridge)
        if ridge_off is not None:
            penalty[1:] = np.where(np.eye(self.n_classes, dtype=bool), ridge, ridge_off)
        self.penalty = penalty.ravel()

    def table(self, theta: Floats) -> Floats:
        """What x is multiplied with: 1 and the diagonal are there already."""
        b = theta.reshape(self.shape)
        return b + np.eye(*self.shape, -1) if self.full else b + np.array([[0.0], [1.0]])

    def logits(self, theta: Floats, rows: slice) -> NDArray[Any]:
        """Logits of some rows, (K, B), as a new array."""
        x = self.x[:, rows]
        b: NDArray[Any] = self.table(theta).astype(x.dtype, copy=False)
        if self.full:
            return np.asarray(b.T @ x)
        out: NDArray[Any] = x[1:] * b[1][:, None]
        out += b[0][:, None]
        return out

    def value_and_slope(self, theta: Floats) -> tuple[float, Floats]:
        """The objective and its gradient."""
        loss, slope = self.loss_and_slope(theta, self.every)
        return loss + 0.5 * float(self.penalty @ (theta * theta)), slope + self.penalty * theta

    def loss_and_slope(self, theta: Floats, rows: slice) -> tuple[float, Floats]:
        """The loss of some rows and its gradient, without the penalty."""
        loss, slope = 0.0, np.zeros(self.shape)
        for at in pieces(self.n_classes, rows):
            residual = self.logits(theta, at)
            loss += residuals(residual, self.target[at], self.weight[at])
            if self.full:
                slope += self.x[:, at] @ residual.T
            else:
                slope[0] += residual.sum(axis=1)
                slope[1] += np.einsum("kn,kn->k", self.x[1:, at], residual)
        return loss, slope.ravel()

    def curvature(self, theta: Floats, rows: slice, every: int = 1) -> NDArray[Any]:
        """Second derivatives of the loss over some rows, without the penalty; float32 where they are many.

        With `every` above 1 one row stands for so many.
        """
        many = theta.size > FEW_UNKNOWNS and float(np.abs(self.x[:, rows]).max(initial=0.0)) < LARGEST_SINGLE
        k = self.n_classes
        dtype: np.dtype[Any] = np.dtype(np.float32 if many else np.float64)
        found: NDArray[Any] = np.zeros((theta.size, theta.size), dtype)
        step = max(64, SPREAD_NUMBERS // theta.size) if self.full else rows.stop - rows.start
        for start in range(rows.start, rows.stop, max(1, step) * every):
            at = slice(start, min(start + step * every, rows.stop), every)
            prob: NDArray[Any] = self.logits(theta, at)
            prob -= prob.max(axis=0)
            np.exp(prob, out=prob)
            prob /= prob.sum(axis=0)
            if not self.full:
                found = found + _diagonal_curvature(self.x[1:, at].astype(np.float64), self.weight[at], prob)
                continue
            x: NDArray[Any] = self.x[:, at].astype(dtype, copy=False)
            rooted: NDArray[Any] = (prob * np.sqrt(self.weight[at])).astype(dtype)
            spread: NDArray[Any] = (x[:, None, :] * rooted).reshape(theta.size, -1)
            found -= spread @ spread.T
        if self.full:  # p_k (1 - p_k), between a class and itself, is minus the sum of the others, -p_k p_l each
            own = np.einsum("jklk->jkl", found.reshape(k + 1, k, k + 1, k))
            own[...] = 0.0
            own[...] = -found.reshape(-1, k).sum(axis=1).reshape(k + 1, k, k + 1)
        if every > 1:
            found *= float(self.weight[rows].sum()) / float(self.weight[rows][::every].sum())
        return found

    def start(self, affine: "AffineMap | None") -> Floats:
        """The free entries of a map; those of the identity by default."""
        first = np.zeros(self.shape)
        if affine is not None:
            first[0] = affine.bias
            first[1:] = affine.scale - 1.0 if affine.matrix is None else np.diag(affine.scale - 1.0) + affine.matrix
        return first.ravel()

    def map_of(self, theta: Floats) -> "AffineMap":
        """The map with these free entries."""
        b = theta.reshape(self.shape)
        if not self.full:
            return AffineMap(b[0].copy(), 1.0 + b[1], None)
        scale = 1.0 + np.diagonal(b[1:])
        return AffineMap(b[0].copy(), scale, b[1:] - np.diag(scale - 1.0))


def _diagonal_curvature(u: Floats, weight: Floats, prob: Floats) -> Floats:
    """Second derivatives with respect to K biases and K scales."""
    q = prob * u
    wp, wq = weight * prob, weight * q
    across = np.diag(wq.sum(axis=1)) - wp @ q.T
    blocks: list[list[Any]] = [
        [np.diag(wp.sum(axis=1)) - wp @ prob.T, across],
        [across.T, np.diag((wq * u).sum(axis=1)) - wq @ q.T],
    ]
    return np.asarray(np.block(blocks))


def fit_affine(
    u: Floats,
    target: NDArray[np.intp],
    weight: Floats,
    /,
    *,
    ridge: float,
    ridge_off: float | None,
    start: AffineMap | None = None,
    metric: Metric | None = None,
    tolerance: float = DECREMENT_TOLERANCE,
) -> AffineMap:
    """The map that minimises sum w nll + ridge/2 (|bias|^2 + |scale - 1|^2) + ridge_off/2 |matrix|^2.

    Parameters
    ----------
    u : ndarray, shape (K + 1, N)
        1 and the log-probabilities, class by class.
    target, weight : ndarray, shape (N,)
    ridge, ridge_off : float
        As in `AffineProblem`.
    start : AffineMap, optional
        A map that is near; the identity by default.
    metric : Metric, optional
        Second derivatives that are near, of this problem's penalty.
    tolerance : float
        As in `minimum`.
    """
    problem = AffineProblem(u, target, weight, ridge, ridge_off)
    first = problem.start(start)
    if metric is not None and problem.newton and u.size >= MANY and float(u.min()) > -LARGEST_SINGLE:
        rough = AffineProblem(u.astype(np.float32), target, weight, ridge, ridge_off)
        first = minimum(rough, first, metric, tolerance=ROUGHLY)
    return problem.map_of(minimum(problem, first, metric, tolerance=tolerance))
