"""The last steps are solved as exactly as the certificate asks for: shifts settled, no iteration too many."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from normexp.rows import row_blocks
from normexp.solvers import coefficient_space, kronecker, metric
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import column_map
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.truncated_newton import minimise


def make(n_rows=1500, n_features=40, n_classes=40, noise=0.5, ridge=1.0):
    """Clusters with few rows each, as embeddings of many classes have them."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, n_classes, size=n_rows).astype(np.intp)
    X = rng.normal(size=(n_rows, n_features)) + noise * rng.normal(size=(n_classes, n_features))[target]
    rows, weight = row_blocks(X, n_classes), np.ones(n_rows)
    centre, scale = column_map(rows, weight, centred=True)
    seen = rows.seen_through(centre, scale)
    return SoftmaxObjective(seen, target, weight, n_classes=n_classes, ridge=ridge / scale**2, fit_intercept=True)


def fitted(objective, tol=1e-6):
    zeros = np.zeros((objective.rows.n_features, objective.n_scores)), np.zeros(objective.n_scores)
    with threadpool_limits(1):
        return minimise(CoefficientSpace(objective, *zeros, np.random.default_rng(0)), tol=tol, max_iter=100)


def test_settled_shifts_save_passes_and_certify_the_same_optimum(monkeypatch):
    monkeypatch.setattr(metric, "_MAX_UNKNOWNS", 0)
    settled, plain = make(), make()
    first = fitted(settled)
    monkeypatch.setattr(coefficient_space, "_CLOSE", 0.0)
    second = fitted(plain)
    assert first.outcome is second.outcome is Outcome.CERTIFIED
    assert first.value == pytest.approx(second.value, rel=1e-6)
    assert settled.n_passes < plain.n_passes


def test_after_the_move_of_the_shifts_their_gradient_is_gone_to_first_order():
    objective = make()
    rng = np.random.default_rng(1)
    coef, shift = rng.normal(size=(40, 40)) * 0.01, rng.normal(size=40) * 1e-5
    shift -= shift.mean()
    point = objective.at(coef, np.zeros(40))
    rest = -objective.curvature_along(np.zeros((40, 40)), shift)[1]  # as if a step had left this residual
    np.testing.assert_allclose(coefficient_space._settled_shifts(objective, rest), -shift, atol=1e-15)
    assert np.abs(point.grad_shift).max() > 1e-3


def test_the_covariance_of_the_shifts_is_the_hessian_of_the_shifts():
    for n_classes in (2, 5):
        rng = np.random.default_rng(2)
        target = rng.integers(0, n_classes, size=300).astype(np.intp)
        rows = row_blocks(rng.normal(size=(300, 3)), n_classes)
        objective = SoftmaxObjective(
            rows, target, rng.uniform(size=300), n_classes=n_classes, ridge=np.ones(3), fit_intercept=True
        )
        size = objective.n_scores
        objective.at(rng.normal(size=(3, size)), rng.normal(size=size))
        covariance = objective.shift_covariance()
        for k in range(size):
            _, along = objective.curvature_along(np.zeros((3, size)), np.eye(size)[k])
            np.testing.assert_allclose(covariance[:, k], along, atol=1e-12)


def test_the_joint_factor_inverts_what_the_groups_invert(monkeypatch):
    """With a factor for each eigenvalue, both are the inverse of T (x) G + I (x) L; with groups they are not."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(50, 6))
    moments, ridge = table.T @ table, rng.uniform(0.1, 10.0, size=6)
    prob = rng.dirichlet(np.ones(5) * 0.2, size=50)
    covariance = np.diag(prob.sum(axis=0)) - prob.T @ prob
    coef, shift = rng.normal(size=(6, 5)), np.zeros(5)

    def solved():
        return kronecker.from_moments(moments.copy(), covariance, 20.0, ridge).solve(coef, shift)[0]

    whole = np.kron(covariance / 20.0, moments) + np.kron(np.eye(5), np.diag(ridge))
    exact = np.linalg.solve(whole, coef.T.ravel()).reshape(5, 6).T
    monkeypatch.setattr(kronecker, "_MANY_GROUPS", 0)
    np.testing.assert_allclose(solved(), exact, atol=1e-9)
    monkeypatch.setattr(kronecker, "_MANY_GROUPS", 99)
    monkeypatch.setattr(kronecker, "_EIGENVALUE_RATIO", 1.0 + 1e-9)
    np.testing.assert_allclose(solved(), exact, atol=1e-7)
    monkeypatch.setattr(kronecker, "_EIGENVALUE_RATIO", 1e9)
    assert np.abs(solved() - exact).max() > 1e-3
