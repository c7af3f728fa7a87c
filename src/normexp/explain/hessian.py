"""A fitted softmax regression on its training rows: residuals, curvature, Hessian; what its own rows did to it."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.utils import compute_sample_weight

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.explain.affine import flatten
from normexp.explain.head import Head, base_of
from normexp.explain.rows import F64, Index, Rows, as_dense, is_sparse, row_slices
from normexp.metrics.door import read_weight
from normexp.ops import log_softmax, softmax

EXACT_UP_TO: Final = 4000  # coefficients: the Hessian is 128 MiB, and is factored in seconds
_NOT_THE_OPTIMUM: Final = 0.02  # share of the gradient's terms that is left over: a fit to 1e-4 leaves 0.005
_TOLERANCE: Final = 1e-10
Operator: Any = LinearOperator


class SoftmaxFit:
    """A fitted softmax regression on its training rows: S scores (1 for two classes), D features and an intercept."""

    def __init__(self, model: Any, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, *, of: str) -> None:
        self.of = of
        # What a TrustedClassifier adds to the scores of its base is no part of the fit.
        self.head = Head.read(base_of(model), of=of)
        if self.head.groups is not None:
            raise DtypeError(
                f"{of}: a table model came, which keeps no training rows; its estimator_ with rows that its encoder_ "
                "encoded would be right."
            )
        last = flatten(getattr(model, "best_estimator_", model))[-1]
        self.ridge, self.fit_intercept = _penalty(last, of)
        self.features = self.features_of(X)
        n_rows = self.features.shape[0]
        self.target = self.index_of(y, n_rows, "y")
        self.weight = _weights(last, y, sample_weight, n_rows, of)
        self.n_columns = int(self.features.shape[1]) + self.fit_intercept
        coef, intercept = self.head.coef, self.head.intercept
        two = len(coef) == 2
        stacked = np.column_stack([coef, intercept])[:, : self.n_columns]
        self.coef = stacked[1:] - stacked[:1] if two else stacked
        self.scores = self.linear(self.features, self.coef)
        self.prob = self.probabilities(self.features)
        self.residual = self.prob - self.members(self.target)
        self._require_optimum()

    def features_of(self, X: Any) -> Rows:
        """Rows as the last step reads them."""
        return self.head.features(self.head.columns(X))

    def index_of(self, y: ArrayLike, n_rows: int, name: str) -> Index:
        """Classes as numbers; one for each row."""
        given = plain_array(y, of=self.of, name=name)
        if given.shape != (n_rows,):
            raise ShapeError(
                f"{self.of}: {name} has shape {given.shape}; one class for each of {n_rows} rows is right."
            )
        return self.head.class_index(given, n_rows, name=name)

    def linear(self, rows: Rows, coef: F64) -> F64:
        """Products of rows (N, D), with a column of ones where there is an intercept, and coefficients (S, D')."""
        n_features = rows.shape[1]
        products = np.asarray(rows @ coef[:, :n_features].T)
        return np.asarray(products + coef[:, n_features:].sum(axis=1))

    def probabilities(self, rows: Rows) -> F64:
        """Of class 1 alone for two classes (N, 1), else of all (N, K)."""
        scores = self.linear(rows, self.coef)
        if scores.shape[1] > 1:
            return np.asarray(softmax(scores))
        return np.asarray(softmax(np.column_stack([np.zeros_like(scores), scores])))[:, 1:]

    def members(self, index: Index) -> F64:
        """Classes as columns of 0 and 1, like the probabilities."""
        return np.asarray(np.eye(max(len(self.coef), 2))[index][:, -len(self.coef) :])

    def curvature(self) -> F64:
        """Weighted covariance of the class of each row, (N, S, S)."""
        blocks = -self.prob[:, :, None] * self.prob[:, None, :]
        k = np.arange(self.prob.shape[1])
        blocks[:, k, k] += self.prob
        return np.asarray(self.weight[:, None, None] * blocks)

    def inverse_hessian(self) -> F64 | None:
        """Inverse of the Hessian (S D', S D'); None where there are too many coefficients."""
        n_scores, n_columns = self.coef.shape
        if n_scores * n_columns > EXACT_UP_TO:
            return None
        rows = self._with_ones(as_dense(self.features))
        hessian = np.empty((n_scores, n_columns, n_scores, n_columns))
        bend = self.curvature()
        for k in range(n_scores):
            for other in range(k + 1):
                block = rows.T @ (bend[:, k, other][:, None] * rows)
                hessian[k, :, other], hessian[other, :, k] = block, block.T
        square = hessian.reshape(n_scores * n_columns, -1)
        square[np.diag_indices(len(square))] += np.tile(self._ridge_of_columns(), n_scores)
        square += self._flat(n_scores, float(np.trace(square)) / len(square))
        try:
            return np.asarray(cho_solve(cho_factor(square), np.eye(len(square))))
        except LinAlgError:
            raise RangeError(
                f"{self.of}: the Hessian is singular, since some columns say the same and there is no penalty; "
                "fit with a finite C."
            ) from None

    def leverages(self, inverse: F64) -> F64:
        """Inverse Hessian seen from each row, (N, S, S)."""
        n_scores, n_columns = self.coef.shape
        blocks = inverse.reshape(n_scores, n_columns, n_scores, n_columns)
        seen = np.empty((self.features.shape[0], n_scores, n_scores))
        rows = self._with_ones(as_dense(self.features))
        for k in range(n_scores):
            for other in range(k + 1):
                seen[:, k, other] = seen[:, other, k] = np.einsum("nd,nd->n", rows @ blocks[k, :, other], rows)
        return seen

    def newton_steps(self, seen: F64) -> F64:
        """What a Newton step without the row multiplies the row's part of the inverse Hessian by, (N, S)."""
        pull = self.weight[:, None] * self.residual
        system = np.eye(pull.shape[1]) - self.curvature() @ seen
        return np.asarray(np.linalg.solve(system, pull[:, :, None])[:, :, 0])

    def changes(self, inverse: F64, watched: F64, labels: Index) -> F64:
        """Change of the mean loss on watched rows by the Newton step without each training row, (N,)."""
        steps, rows = self.newton_steps(self.leverages(inverse)), self._with_ones(as_dense(self.features))
        ahead = self._with_ones(watched)
        scores = self.linear(watched, self.coef)
        before = _losses(scores, labels).mean()
        change = np.empty(len(rows))
        for part in row_slices(len(rows), inverse.shape[0] + scores.size):
            pulls = (steps[part, :, None] * rows[part, None, :]).reshape(-1, inverse.shape[0])
            moves = (pulls @ inverse).reshape(len(pulls), *self.coef.shape)
            moved = scores + np.einsum("nkd,md->nmk", moves, ahead, optimize=True)
            after = _losses(moved.reshape(-1, scores.shape[1]), np.tile(labels, len(pulls)))
            change[part] = after.reshape(len(pulls), -1).mean(axis=1) - before
        return change

    def solve(self, gradient: F64) -> F64:
        """Hessian solved against a gradient (S, D') by conjugate gradients, preconditioned by its diagonal."""
        n_scores, n_columns = self.coef.shape
        ridge = self._ridge_of_columns()
        squares = self.features.multiply(self.features) if is_sparse(self.features) else np.square(self.features)
        bend = self.weight[:, None] * self.prob * (1.0 - self.prob)
        diagonal = np.column_stack([np.asarray(bend.T @ squares), bend.sum(axis=0)])[:, :n_columns] + ridge

        def product(flat: F64) -> F64:
            direction = flat.reshape(n_scores, n_columns)
            tangent = self.linear(self.features, direction)
            along = self.prob * tangent
            along -= self.prob * along.sum(axis=1, keepdims=True) if n_scores > 1 else self.prob * along
            along *= self.weight[:, None]
            pulled = np.column_stack([np.asarray(along.T @ self.features), along.sum(axis=0)])[:, :n_columns]
            return np.asarray((pulled + ridge * direction).ravel())

        size = n_scores * n_columns
        solved, failed = cg(
            Operator((size, size), matvec=product, dtype=np.float64),
            gradient.ravel(),
            rtol=_TOLERANCE,
            maxiter=10 * size,
            M=Operator((size, size), matvec=lambda flat: flat / diagonal.ravel(), dtype=np.float64),
        )
        if failed:
            raise RangeError(f"{self.of}: the Hessian is nearly singular; fit with a smaller C or scale the columns.")
        return np.asarray(solved.reshape(n_scores, n_columns))

    def _with_ones(self, rows: F64) -> F64:
        """Rows with the intercept's column, where there is one."""
        return np.column_stack([rows, np.ones(len(rows))]) if self.fit_intercept else rows

    def _ridge_of_columns(self) -> F64:
        """Penalty of each column; the intercept has none."""
        penalty = np.full(self.n_columns, self.ridge)
        if self.fit_intercept:
            penalty[-1] = 0.0
        return penalty

    def _flat(self, n_scores: int, size: float) -> F64:
        """Curvature along what all classes have in common, which changes no probability and no step has a part in."""
        if n_scores == 1:
            return np.zeros((self.n_columns, self.n_columns))
        free = (self._ridge_of_columns() == 0.0).astype(np.float64)
        return np.asarray(np.kron(np.full((n_scores, n_scores), size / n_scores), np.diag(free)))

    def _require_optimum(self) -> None:
        """Refuse rows on which the gradient does not vanish: they are not those of the fit."""
        pull = self.weight[:, None] * self.residual
        size = abs(self.features)
        gradient = np.column_stack([np.asarray(pull.T @ self.features), pull.sum(axis=0)])[:, : self.n_columns]
        terms = np.column_stack([np.asarray(np.abs(pull).T @ size), np.abs(pull).sum(axis=0)])[:, : self.n_columns]
        penalty = self._ridge_of_columns() * self.coef
        left = np.abs(gradient + penalty).max(initial=0.0)
        whole = (terms + np.abs(penalty)).max(initial=0.0)
        if left > _NOT_THE_OPTIMUM * whole:
            raise RangeError(
                f"{self.of}: the gradient of the objective does not vanish on these rows ({left / whole:.2g} of its "
                "terms is left over), so they, their weights or the penalty are not those of the fit, or it did not "
                "converge; the very training rows would be right."
            )


def _losses(scores: F64, index: Index) -> F64:
    """Log loss of rows, (N,), from their scores (N, S)."""
    logits = np.column_stack([np.zeros(len(scores)), scores]) if scores.shape[1] == 1 else scores
    return -np.asarray(log_softmax(logits))[np.arange(len(index)), index]


def _penalty(last: Any, of: str) -> tuple[float, bool]:
    """Strength of the L2 penalty, and whether there is an intercept."""
    if not hasattr(last, "C") and not hasattr(last, "C_"):
        raise DtypeError(
            f"{of}: a {type(last).__name__} came, which is no softmax regression with a penalty C; a "
            "SoftmaxClassifier or LogisticRegression would be right."
        )
    ratio = getattr(last, "l1_ratio", None)
    if getattr(last, "penalty", None) in {"l1", "elasticnet"} or ratio not in {None, 0}:
        raise DtypeError(f"{of}: the penalty has corners, where there is no Hessian; an L2 penalty would be right.")
    strength = float(np.ravel(getattr(last, "C_", getattr(last, "C", np.inf)))[0])
    if getattr(last, "penalty", "l2") is None:
        strength = np.inf
    return 1.0 / strength, bool(getattr(last, "fit_intercept", True))


def _weights(last: Any, y: ArrayLike, sample_weight: ArrayLike | None, n_rows: int, of: str) -> F64:
    """Weights of the rows in the fit."""
    weight = read_weight(sample_weight, of=of, n_rows=n_rows)
    by_class = getattr(last, "class_weight", None)
    if by_class is None:
        return weight
    return np.asarray(weight * compute_sample_weight(by_class, plain_array(y, of=of, name="y")))
