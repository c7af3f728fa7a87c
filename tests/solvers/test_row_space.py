"""The space of the rows reaches the optimum that the space of the coefficients reaches."""

import numpy as np
import pytest
from scipy import sparse

from normexp.rows import row_blocks
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import column_map
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.row_space import RowSpace
from normexp.solvers.truncated_newton import minimise


def make(n_classes, *, thin, intercept, n_rows=70, n_features=300):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.1) + 0.2
    target = rng.integers(0, n_classes, size=n_rows).astype(np.intp)
    weight = rng.uniform(0.0, 2.0, size=n_rows)
    weight[:3] = 0.0
    rows = row_blocks(sparse.csr_matrix(X) if thin else X, 1 if n_classes == 2 else n_classes)
    centre, scale = column_map(rows, weight, centred=intercept)
    ridge = np.full(n_features, 0.5) / scale**2
    return SoftmaxObjective(
        rows.seen_through(centre, scale), target, weight, n_classes=n_classes, ridge=ridge, fit_intercept=intercept
    )


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_both_spaces_end_at_one_optimum(n_classes, thin, intercept):
    first, second = (make(n_classes, thin=thin, intercept=intercept) for _ in range(2))
    zeros = np.zeros((300, first.n_scores)), np.zeros(first.n_scores)
    by_coefficients = minimise(CoefficientSpace(first, *zeros, np.random.default_rng(0)), tol=1e-12, max_iter=100)
    by_rows = minimise(RowSpace(second), tol=1e-12, max_iter=100)
    assert by_rows.value == pytest.approx(by_coefficients.value, rel=1e-11)
    np.testing.assert_allclose(by_rows.coef, by_coefficients.coef, atol=1e-5)
    np.testing.assert_allclose(
        by_rows.shift - by_rows.shift.mean(), by_coefficients.shift - by_coefficients.shift.mean(), atol=1e-5
    )
    assert first.at(by_rows.coef, by_rows.shift).value == pytest.approx(by_rows.value, rel=1e-12)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_bound_is_that_of_the_coefficients_and_lies_below_the_minimum(n_classes, intercept):
    objective = make(n_classes, thin=True, intercept=intercept)
    problem = RowSpace(objective)
    least = minimise(RowSpace(make(n_classes, thin=True, intercept=intercept)), tol=1e-12, max_iter=100).value
    point = problem.start()
    for _ in range(5):
        bound = problem.bound(point)
        assert bound <= least * (1 + 1e-12)
        coef, shift = problem.solution(point)
        plain = make(n_classes, thin=True, intercept=intercept)
        assert plain.dual_bound(plain.at(coef, shift)) == pytest.approx(bound, rel=1e-9, abs=1e-9)
        point = problem.moved(point, problem.newton_step(point, refit=True))


def test_more_rows_than_the_kernel_matrix_allows_give_the_same_optimum(monkeypatch):
    from normexp.solvers import row_space

    formed = minimise(RowSpace(make(4, thin=True, intercept=True)), tol=1e-12, max_iter=100)
    monkeypatch.setattr(row_space, "_GRAM_ROWS", 0)
    passed = minimise(RowSpace(make(4, thin=True, intercept=True)), tol=1e-12, max_iter=100)
    assert passed.value == pytest.approx(formed.value, rel=1e-12)
    np.testing.assert_allclose(passed.coef, formed.coef, atol=1e-7)


def test_too_few_steps_are_told():
    assert minimise(RowSpace(make(4, thin=True, intercept=True)), tol=1e-12, max_iter=1).outcome is Outcome.MAX_ITER


def test_the_product_of_sparse_rows_is_that_of_dense_rows_and_does_not_depend_on_threads(monkeypatch):
    from normexp.rows import memory

    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 1500)) * (rng.random((900, 1500)) < 0.1)
    coordinates, ridge = rng.normal(size=(900, 3)), rng.uniform(0.5, 2.0, size=1500)
    threaded = row_blocks(sparse.csr_matrix(X), 3).gram_product(coordinates, ridge)
    np.testing.assert_allclose(threaded, X @ ((X.T @ coordinates) / ridge[:, None]), rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(row_blocks(X, 3).gram_product(coordinates, ridge), threaded, rtol=1e-11, atol=1e-9)
    monkeypatch.setattr(memory, "get_num_threads", lambda: 1)
    assert np.array_equal(row_blocks(sparse.csr_matrix(X), 3).gram_product(coordinates, ridge), threaded)
