"""Sparse rows of many classes: the diagonal is the Hessian's own, and it serves as well as what it replaces."""

import numpy as np
import pytest
from scipy import sparse

from normexp.rows import row_blocks
from normexp.solvers import metric
from normexp.solvers.class_diagonals import ClassDiagonals, fit_class_diagonals
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.kronecker import KroneckerFactor
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.truncated_newton import minimise


def texts(*, n_rows=600, n_features=900, n_classes=110):
    """Short texts: a few words of the class's own and a few of everybody's, in length one."""
    rng = np.random.default_rng(5)
    target = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes)]).astype(np.intp)
    own = rng.integers(0, n_features, size=(n_classes, 6))
    words = np.hstack([own[target[:, None], rng.integers(0, 6, (n_rows, 3))], rng.zipf(1.4, (n_rows, 5)) % n_features])
    row = np.repeat(np.arange(n_rows), words.shape[1])
    X = sparse.csr_matrix((np.ones(words.size), (row, words.ravel())), shape=(n_rows, n_features))
    X = sparse.csr_matrix(X.multiply(1 / np.sqrt(X.multiply(X).sum(axis=1))))
    return SoftmaxObjective(
        row_blocks(X, n_classes),
        target,
        rng.uniform(0.5, 1.5, n_rows),
        n_classes=n_classes,
        ridge=np.full(n_features, 0.1),
        fit_intercept=True,
    )


def fitted(objective):
    zeros = np.zeros((objective.rows.n_features, objective.n_scores)), np.zeros(objective.n_scores)
    space = CoefficientSpace(objective, *zeros, np.random.default_rng(0))
    return minimise(space, tol=1e-6, max_iter=100)


def test_it_is_the_hessians_diagonal(rng):
    objective = texts(n_rows=200, n_features=30, n_classes=12)
    objective.at(rng.normal(size=(30, 12)), rng.normal(size=12))
    found = fit_class_diagonals(objective)
    for j, k in [(0, 0), (3, 7), (29, 11)]:
        unit = np.zeros((30, 12))
        unit[j, k] = 1.0
        assert 1.0 / found.coef[j, k] == pytest.approx(objective.curvature_along(unit, np.zeros(12))[0][j, k], rel=1e-6)
    unit = np.zeros(12)
    unit[4] = 1.0
    along = objective.curvature_along(np.zeros((30, 12)), unit)[1]
    assert 1.0 / found.shift[4] == pytest.approx(along[4], rel=1e-12)


def test_centred_columns_have_the_same_squares_sparse_and_dense(rng):
    X = sparse.random(50, 8, density=0.4, format="csr", random_state=0)
    weights = rng.uniform(size=(50, 3))
    centre, scale = rng.normal(size=8), rng.uniform(0.5, 2.0, size=8)
    squares = [
        rows.seen_through(centre, scale).sum(lambda block: (block.column_squares(weights[block.rows]),))[0]
        for rows in (row_blocks(X, 3), row_blocks(X.toarray(), 3))
    ]
    right = np.square((X.toarray() - centre) / scale).T @ weights
    np.testing.assert_allclose(squares[0], right, rtol=1e-10)
    np.testing.assert_allclose(squares[1], right, rtol=1e-12)


def test_it_needs_no_more_passes_than_the_kronecker_product(monkeypatch):
    monkeypatch.setattr(metric, "_MAX_DENSE_FEATURES", 100)
    with_diagonals, without = texts(), texts()
    first = fitted(with_diagonals)
    assert isinstance(metric.Metric(with_diagonals, np.random.default_rng(0)).fit(), ClassDiagonals)
    monkeypatch.setattr(metric, "_MANY_CLASSES", 10**6)
    second = fitted(without)
    assert isinstance(metric.Metric(without, np.random.default_rng(0)).fit(), KroneckerFactor)
    assert first.outcome is second.outcome is Outcome.CERTIFIED
    assert first.value == pytest.approx(second.value, rel=2e-6)
    assert with_diagonals.n_passes <= 1.1 * without.n_passes
