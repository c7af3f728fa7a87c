"""Penalties with corners: their dual norms, where they are least among equal scores, and what a bound may claim."""

import numpy as np
import pytest
from scipy import optimize, sparse

from normexp.rows import row_blocks
from normexp.solvers import CornerProblem, Penalty
from normexp.solvers.dual_point import dual_point, survivors
from normexp.solvers.objective import SoftmaxObjective

KINDS = [("l1", 1.0), ("l1", 0.4), ("group", 1.0), ("group", 0.4)]


def table(n_classes, n_rows=80, n_features=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features))
    scores = X[:, : max(2, n_classes)] @ np.eye(max(2, n_classes), n_classes) + rng.gumbel(size=(n_rows, n_classes))
    target = scores.argmax(axis=1).astype(np.intp)
    target[:n_classes] = np.arange(n_classes)
    return X, target, rng.uniform(0.5, 2.0, size=n_rows)


def penalty_of(kind, ratio, strength, n_features, factor=1.0):
    factor = np.broadcast_to(factor, n_features) * strength
    return Penalty(factor * ratio, factor * (1 - ratio), kind == "group")


@pytest.mark.parametrize("grouped", [False, True])
def test_the_dual_norm_is_the_largest_product_with_a_unit_row(grouped, rng):
    penalty = Penalty(np.ones(4), np.zeros(4), grouped)
    pull = rng.normal(size=(4, 5))
    rows = rng.normal(size=(2000, 4, 5))
    size = np.stack([penalty.size(row) for row in rows])
    products = np.einsum("ijk,jk->ij", rows, pull) / size
    assert np.all(products.max(axis=0) <= penalty.dual_size(pull) * (1 + 1e-12))
    best = pull if grouped else np.sign(pull) * (np.abs(pull) == np.abs(pull).max(axis=1, keepdims=True))
    np.testing.assert_allclose(np.sum(best * pull, axis=1) / penalty.size(best), penalty.dual_size(pull))


@pytest.mark.parametrize(("kind", "ratio"), KINDS)
@pytest.mark.parametrize("scores", [3, 4])
def test_equal_scores_are_taken_where_the_penalty_is_least(kind, ratio, scores, rng):
    penalty = penalty_of(kind, ratio, 0.7, 5)
    coef = rng.normal(size=(5, scores))

    def cost(of):
        return penalty.corner * penalty.size(of) + 0.5 * penalty.ridge * np.sum(np.square(of), axis=1)

    found = penalty.recentred(coef)
    np.testing.assert_allclose(found - coef, (found - coef)[:, :1] * np.ones(scores), atol=1e-12)
    for j in range(5):

        def at(shift, j=j):
            return cost(coef - shift)[j]

        best = optimize.minimize_scalar(at, bracket=(-1, 1), tol=1e-12).fun
        assert cost(found)[j] <= best * (1 + 1e-9)


def test_a_median_that_is_zero_moves_nothing():
    coef = np.array([[0.0, 0.0, 0.0, 3.0]])
    assert np.array_equal(Penalty(np.ones(1), np.zeros(1)).recentred(coef), coef)


@pytest.mark.parametrize(("kind", "ratio"), KINDS)
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_the_bound_never_exceeds_the_minimum_and_meets_it(kind, ratio, n_classes, intercept, free, rng):
    X, target, weight = table(n_classes)
    factor = np.array([0.0, 1.0, 1.0, 2.0, 1.0, 0.5]) if free else 1.0
    penalty = penalty_of(kind, ratio, 3.0, 6, factor)
    problem = CornerProblem(X, target, weight, n_classes=n_classes, fit_intercept=intercept)
    fitted = problem.solve(penalty, tol=1e-12)
    best = fitted.solution.objective
    assert fitted.solution.suboptimality <= 1e-9
    objective = SoftmaxObjective(
        row_blocks(X, 1 if n_classes == 2 else n_classes), target, weight, n_classes=n_classes, ridge=penalty.ridge,
        fit_intercept=intercept,
    )  # fmt: skip
    bounds = []
    for size in (1e-6, 1e-3, 0.03, 0.3):
        away = rng.normal(size=fitted.coef.shape) * size
        point = objective.at(
            fitted.coef + away, fitted.intercept + intercept * rng.normal(size=fitted.intercept.shape) * size
        )
        bounds.append(dual_point(objective, point, penalty).bound)
    assert all(bound <= best * (1 + 1e-10) for bound in bounds)
    assert bounds[0] >= best * (1 - 1e-3)
    # the test of the test: the value at the point itself is no bound
    assert point.value + penalty.corner_value(point.coef) > best * (1 + 1e-10)


def test_what_is_screened_away_is_zero_at_the_optimum(rng):
    X, target, weight = table(3, n_features=40)
    for kind, ratio in KINDS:
        penalty = penalty_of(kind, ratio, 12.0, 40)
        fitted = CornerProblem(X, target, weight, n_classes=3).solve(penalty, tol=1e-11)
        objective = SoftmaxObjective(
            row_blocks(X, 3), target, weight, n_classes=3, ridge=penalty.ridge, fit_intercept=True
        )
        squares = weight @ np.square(X)
        point = objective.at(fitted.coef + 1e-7 * rng.normal(size=fitted.coef.shape), fitted.intercept)
        dual = dual_point(objective, point, penalty)
        gap = point.value + penalty.corner_value(point.coef) - dual.bound
        kept = survivors(objective, penalty, dual, gap, squares)
        zero = ~fitted.coef.any(axis=1)
        assert np.all(zero[~kept])
        assert np.sum(~kept) > 5
        # with no gap to allow for, features on the edge would be thrown out: the allowance is needed
        far = objective.at(np.zeros_like(fitted.coef), fitted.intercept)
        wide = dual_point(objective, far, penalty)
        assert np.all(survivors(objective, penalty, wide, far.value - wide.bound, squares)[~zero])


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_working_sets_and_all_features_at_once_end_in_the_same_place(thin, grouped, monkeypatch):
    from normexp.solvers import quadratic_model, working_set

    X, target, weight = table(3, n_rows=120, n_features=60)
    X[np.abs(X) < 0.8] = 0.0
    rows = sparse.csr_matrix(X) if thin else X
    penalty = Penalty(np.full(60, 8.0), np.zeros(60), grouped)
    whole = CornerProblem(rows, target, weight, n_classes=3).solve(penalty, tol=1e-11)
    monkeypatch.setattr(working_set, "_FIRST", 4)
    monkeypatch.setattr(working_set, "_FIRST_SPARSE", 4)
    monkeypatch.setattr(working_set, "_FEW_UNKNOWNS", 0)
    monkeypatch.setattr(working_set, "_OPERATIONS", 0)
    monkeypatch.setattr(quadratic_model, "_SWEEPS_FEATURES", 3)
    faces = []
    real = quadratic_model.along_face
    monkeypatch.setattr(quadratic_model, "along_face", lambda *given: faces.append(real(*given)) or faces[-1])
    parts = CornerProblem(rows, target, weight, n_classes=3).solve(penalty, tol=1e-11)
    assert any(face is not None for face in faces)  # the branch was taken
    assert parts.solution.objective == pytest.approx(whole.solution.objective, rel=1e-10)
    np.testing.assert_allclose(parts.coef, whole.coef, atol=1e-5)
    assert 0 < np.sum(whole.coef.any(axis=1)) < 40


def test_the_strongest_penalty_is_the_least_that_leaves_nothing():
    X, target, weight = table(3, n_features=8)
    factor = np.array([0.0, 1.0, 1.0, 2.0, 1.0, 0.5, 1.0, 1.0])
    for kind, ratio in KINDS:
        penalty = penalty_of(kind, ratio, 1.0, 8, factor)
        problem = CornerProblem(X, target, weight, n_classes=3)
        strongest = problem.strongest(penalty)
        above = problem.solve(penalty_of(kind, ratio, strongest * 1.0001, 8, factor), tol=1e-10)
        below = problem.solve(penalty_of(kind, ratio, strongest * 0.99, 8, factor), tol=1e-10)
        assert above.coef[0].any()
        assert not above.coef[1:].any()
        assert below.coef[1:].any()
