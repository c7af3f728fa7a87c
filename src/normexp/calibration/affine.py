"""Ridge-penalised affine maps of log-probabilities: the optimum that vector and matrix scaling share.

Few parameters are found by Newton's method, which keeps its Hessian while the steps fall fast; many by L-BFGS.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from normexp.backends.curvature import class_moments
from normexp.base.blas_threads import one_blas_thread
from normexp.calibration.rows import Floats
from normexp.ops import cross_entropy_with_grad, softmax

MOST_NEWTON_STEPS: Final = 50
MOST_LBFGS_STEPS: Final = 500
DECREMENT_TOLERANCE: Final = 1e-7  # nats in the sum over all rows that a Newton step can still gain
GRADIENT_TOLERANCE: Final = 1e-5  # of the mean loss: far below the noise of any calibration set
MOST_NEWTON_CLASSES: Final = 32  # K (K + 1) = 1056 unknowns with the full matrix
MOST_NEWTON_CLASSES_DIAGONAL: Final = 400
SLOW: Final = 0.1  # of what there was to gain: where a step leaves more, the Hessian is too old


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
    """sum w nll(u + [1, u] B) + 1/2 sum R B^2 over the entries of B, (K + 1, K), that are free."""

    def __init__(
        self, u: Floats, target: NDArray[np.intp], weight: Floats, ridge: float, ridge_off: float | None
    ) -> None:
        n_rows, k = u.shape
        self.u, self.target, self.weight, self.full = u, target, weight, ridge_off is not None
        self.newton = k <= (MOST_NEWTON_CLASSES if self.full else MOST_NEWTON_CLASSES_DIAGONAL)
        # Many unknowns come from products of long matrices, which float32 halves; Newton's few stay in float64. What
        # float32 rounds away, 1e-7 of a logit's size, is far below the noise of any calibration set.
        dtype = np.float32 if self.full and k > MOST_NEWTON_CLASSES else np.float64
        self.x = np.empty((n_rows, k + 1), dtype=dtype)
        self.x[:, 0], self.x[:, 1:] = 1.0, u
        self.identity = np.eye(k + 1, k, -1)
        free = np.ones((k + 1, k), dtype=bool)
        free[1:] = self.full or np.eye(k, dtype=bool)
        self.free = free
        self.weighted = bool((weight != 1.0).any())
        self.penalise(ridge, ridge_off)

    def penalise(self, ridge: float, ridge_off: float | None) -> None:
        """Set the strengths of the penalty."""
        k = self.u.shape[1]
        penalty = np.full((k + 1, k), ridge)
        penalty[1:] = np.where(np.eye(k, dtype=bool), ridge, ridge if ridge_off is None else ridge_off)
        self.penalty = penalty[self.free]

    def table(self, theta: Floats) -> Floats:
        """The free entries in their places, the others 0."""
        b = np.zeros(self.free.shape)
        b[self.free] = theta
        return b

    def logits(self, theta: Floats, rows: NDArray[np.intp] | slice = slice(None)) -> Floats:
        """Logits of some rows, all by default."""
        b = self.table(theta)
        if self.full:
            return np.asarray(self.x[rows] @ (b + self.identity).astype(self.x.dtype))
        return np.asarray(self.u[rows] * (1.0 + np.diagonal(b[1:])) + b[0])

    def value_and_slope(self, theta: Floats) -> tuple[float, Floats]:
        """The objective and its gradient."""
        loss, grad = cross_entropy_with_grad(self.logits(theta), self.target, reduction="none")
        if self.weighted:
            grad *= self.weight[:, None].astype(grad.dtype)
        value = float(self.weight @ loss) + 0.5 * float(self.penalty @ (theta * theta))
        return value, self._slope(self.x if self.full else self.u, grad) + self.penalty * theta

    def _slope(self, columns: Floats, grad: Floats) -> Floats:
        """Gradient of the loss in the free entries, from that in the logits."""
        if self.full:
            return np.asarray((columns.T @ grad)[self.free], dtype=np.float64)
        wide = np.zeros(self.free.shape)
        wide[0] = grad.sum(axis=0)
        np.fill_diagonal(wide[1:], np.einsum("nk,nk->k", columns, grad))
        return np.asarray(wide[self.free])

    def slopes(self, theta: Floats, parts: list[NDArray[np.intp]]) -> list[Floats]:
        """Gradients of the loss, without the penalty, over parts of the rows."""
        _, grad = cross_entropy_with_grad(self.logits(theta), self.target, reduction="none")
        if self.weighted:
            grad *= self.weight[:, None].astype(grad.dtype)
        return [self._slope(self.x[rows] if self.full else self.u[rows], grad[rows]) for rows in parts]

    def curvature(self, theta: Floats, rows: NDArray[np.intp] | slice = slice(None)) -> Floats:
        """Second derivatives of the loss over some rows, without the penalty."""
        u, weight = self.u[rows], self.weight[rows]
        prob = np.asarray(softmax(self.logits(theta, rows)))
        if not self.full:
            return _diagonal_curvature(u, weight, prob)
        k = u.shape[1]
        moments = class_moments(u, weight, prob.astype(np.float64, copy=False), fit_intercept=True)
        return np.asarray(np.roll(moments, (k, k), axis=(0, 1)))  # here the biases come first

    def start(self, affine: "AffineMap | None") -> Floats:
        """The free entries of a map; those of the identity by default."""
        first = np.zeros(self.free.shape)
        if affine is not None:
            first[0] = affine.bias
            first[1:] = np.diag(affine.scale - 1.0) + (0.0 if affine.matrix is None else affine.matrix)
        return np.asarray(first[self.free])

    def map_of(self, theta: Floats) -> "AffineMap":
        """The map with these free entries."""
        b = self.table(theta)
        scale = 1.0 + np.diagonal(b[1:])
        return AffineMap(b[0], scale, b[1:] - np.diag(scale - 1.0) if self.full else None)


def _diagonal_curvature(u: Floats, weight: Floats, prob: Floats) -> Floats:
    """Second derivatives with respect to K biases and K scales."""
    w = weight[:, None]
    q = prob * u
    wp = w * prob
    blocks: list[list[Any]] = [
        [np.diag(wp.sum(axis=0)) - prob.T @ wp, np.diag((wp * u).sum(axis=0)) - wp.T @ q],
        [None, np.diag((wp * u * u).sum(axis=0)) - q.T @ (w * q)],
    ]
    blocks[1][0] = blocks[0][1].T
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
) -> AffineMap:
    """The map that minimises sum w nll + ridge/2 (|bias|^2 + |scale - 1|^2) + ridge_off/2 |matrix|^2."""
    problem = AffineProblem(u, target, weight, ridge, ridge_off)
    with one_blas_thread():
        return problem.map_of(minimum(problem, problem.start(start)))


def minimum(
    problem: AffineProblem,
    theta: Floats,
    curvature: Floats | None = None,
    *,
    tolerance: float = DECREMENT_TOLERANCE,
    renew: Callable[[Floats], Floats] | None = None,
) -> Floats:
    """The best free entries, from theta on.

    Parameters
    ----------
    problem : AffineProblem
    theta : ndarray
        Where to begin.
    curvature : ndarray, optional
        Second derivatives somewhere near; computed at theta by default.
    tolerance : float
        Nats in the sum over all rows that a step may still gain at the end.
    renew : callable, optional
        Computes the second derivatives anew where the steps fall too slowly; `problem.curvature` by default.
    """
    if not problem.newton:
        return _lbfgs(problem, theta)
    renew = renew or problem.curvature
    fresh, before = curvature is None, np.inf
    factor = _factor(problem, renew(theta) if curvature is None else curvature)
    value, slope = problem.value_and_slope(theta)
    for _ in range(MOST_NEWTON_STEPS):
        step = cho_solve(factor, slope)
        decrement = float(slope @ step)
        if decrement <= tolerance:
            break
        if decrement > SLOW * before and not fresh:
            factor, fresh, before = _factor(problem, renew(theta)), True, np.inf
            continue
        length, found = 1.0, False
        while not found and length > 1e-8:
            following = theta - length * step
            new_value, new_slope = problem.value_and_slope(following)
            found = new_value <= value - 0.1 * length * decrement
            length *= 0.5
        if not found:
            if fresh:
                break  # rounding hides what is left to gain
            factor, fresh, before = _factor(problem, renew(theta)), True, np.inf
            continue
        theta, value, slope, before, fresh = following, new_value, new_slope, decrement, False
    return theta


def _factor(problem: AffineProblem, curvature: Floats) -> Any:
    """The Cholesky factor of the Hessian; the ridge makes every one positive definite."""
    hessian = curvature.copy()
    np.einsum("ii->i", hessian)[:] += problem.penalty
    return cho_factor(hessian, overwrite_a=True, check_finite=False)


def _lbfgs(problem: AffineProblem, theta: Floats) -> Floats:
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

    def __init__(self, problem: AffineProblem) -> None:
        total = float(problem.weight.sum())
        size = np.sqrt(np.einsum("n,nk,nk->k", problem.weight, problem.x, problem.x) / total) + 1e-3
        self.unit = np.broadcast_to(size[:, None], problem.free.shape)[problem.free]

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

    def __init__(self, problem: AffineProblem, theta: Floats) -> None:
        total = float(problem.weight.sum())
        gram = problem.x.T @ (problem.x * problem.weight[:, None].astype(problem.x.dtype)) / total
        values, self.basis = np.linalg.eigh(gram.astype(np.float64))
        prob = np.asarray(softmax(problem.logits(theta)))
        spread = np.einsum("n,nk,nk->k", problem.weight, prob, 1.0 - prob) / total
        curvature = np.maximum(values, 0.0)[:, None] * spread + float(problem.penalty.max()) / total
        self.root = np.sqrt(np.maximum(curvature, 1e-12))
        self.shape = problem.free.shape

    def there(self, theta: Floats) -> Floats:
        return np.asarray((self.basis.T @ theta.reshape(self.shape)) * self.root).ravel()

    def back(self, turned: Floats) -> Floats:
        return np.asarray(self.basis @ (turned.reshape(self.shape) / self.root)).ravel()

    def slope(self, slope: Floats) -> Floats:
        return np.asarray((self.basis.T @ slope.reshape(self.shape)) / self.root).ravel()
