"""The objective's derivatives and its dual bound, against finite differences and a fine optimum."""

import numpy as np
import pytest
from scipy import sparse

from normexp import SoftmaxClassifier
from normexp.backends import curvature
from normexp.rows import row_blocks
from normexp.solvers.fit import column_map
from normexp.solvers.metric import Metric
from normexp.solvers.objective import SoftmaxObjective


def make(n_classes, *, thin=False, intercept=True, ridge=0.3):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 4)) * [1.0, 10.0, 0.1, 3.0] + [0.0, 5.0, 1.0, -2.0]
    target = rng.integers(0, n_classes, size=60).astype(np.intp)
    weight = rng.uniform(0.1, 2.0, size=60)
    rows = row_blocks(sparse.csr_matrix(X) if thin else X, 1 if n_classes == 2 else n_classes)
    centre, scale = column_map(rows, weight, centred=intercept)
    objective = SoftmaxObjective(
        rows.seen_through(centre, scale),
        target,
        weight,
        n_classes=n_classes,
        ridge=ridge / scale**2,
        fit_intercept=intercept,
    )
    coef = rng.normal(size=(4, objective.n_scores)) * 0.2
    return objective, coef, rng.normal(size=objective.n_scores) * intercept


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_gradient_is_the_slope_of_the_value(n_classes, thin, intercept):
    objective, coef, shift = make(n_classes, thin=thin, intercept=intercept)
    point = objective.at(coef, shift)
    step = 1e-6
    for j in range(4):
        for k in range(objective.n_scores):
            moved = coef.copy()
            moved[j, k] += step
            back = coef.copy()
            back[j, k] -= step
            slope = (objective.at(moved, shift).value - objective.at(back, shift).value) / (2 * step)
            assert slope == pytest.approx(point.grad_coef[j, k], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_hessian_product_is_the_slope_of_the_gradient(n_classes):
    objective, coef, shift = make(n_classes)
    rng = np.random.default_rng(0)
    along, turn = rng.normal(size=coef.shape), rng.normal(size=shift.shape)
    step = 1e-6
    ahead = objective.at(coef + step * along, shift + step * turn)
    behind = objective.at(coef - step * along, shift - step * turn)
    objective.at(coef, shift)
    bent, turned = objective.curvature_along(along, turn)
    np.testing.assert_allclose(bent, (ahead.grad_coef - behind.grad_coef) / (2 * step), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(turned, (ahead.grad_shift - behind.grad_shift) / (2 * step), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_dual_bound_never_exceeds_the_minimum(n_classes, intercept):
    objective, coef, shift = make(n_classes, intercept=intercept)
    from normexp.solvers.coefficient_space import CoefficientSpace
    from normexp.solvers.truncated_newton import minimise

    problem = CoefficientSpace(objective, coef * 0, shift * 0, np.random.default_rng(0))
    best = minimise(problem, tol=1e-13, max_iter=200).value
    rng = np.random.default_rng(1)
    for size in (0.0, 1e-3, 0.1, 1.0, 10.0):
        point = objective.at(coef * size, rng.normal(size=shift.shape) * size * intercept)
        assert objective.dual_bound(point) <= best * (1 + 1e-12)


def test_the_value_itself_would_not_pass_as_a_bound():
    objective, coef, shift = make(4)
    assert objective.at(coef, shift).value > objective.dual_bound(objective.at(coef, shift))


def test_values_along_a_line_are_the_values_at_its_points():
    objective, coef, shift = make(3)
    point = objective.at(coef, shift)
    lengths = np.array([0.0, 0.5, 2.0])
    found = objective.values_along(point, coef, shift, lengths)
    expected = [objective.at(coef * (1 + t), shift * (1 + t)).value for t in lengths]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_whole_hessian_is_inverted_exactly(n_classes):
    """On a small problem the preconditioner is the Hessian itself, so one solve undoes one product."""
    objective, coef, shift = make(n_classes)
    objective.at(coef, shift)
    rng = np.random.default_rng(5)
    along, turn = rng.normal(size=coef.shape), rng.normal(size=shift.shape)
    if n_classes > 2:
        along -= along.mean(axis=1, keepdims=True)
        turn -= turn.mean()
    solved, turned = Metric(objective, rng).fit().solve(*objective.curvature_along(along, turn))
    np.testing.assert_allclose(solved, along, atol=1e-8)
    np.testing.assert_allclose(turned, turn, atol=1e-8)


def hessian_by_rows(table, weight, prob, *, fit_intercept):
    """The definition, row by row: x x' (x) (diag(p) - p p'), whose diagonal is p_k times the others' sum."""
    total = 0.0
    constant = np.full((len(table), 1), float(fit_intercept))
    for x, w, p in zip(np.hstack([table, constant]), weight, prob, strict=True):
        others = np.ones((len(p), len(p))) - np.eye(len(p))
        covariance = -np.outer(p, p)
        np.fill_diagonal(covariance, p * (1.0 - p if len(p) == 1 else others @ p))
        total = total + w * np.kron(np.outer(x, x), covariance)
    return total


def sure_rows(n_classes, rng, n_rows=700):
    """Rows of two features, and probabilities of which one is near 1 in each row."""
    logits = rng.normal(size=(n_rows, n_classes))
    logits[np.arange(n_rows), rng.integers(0, n_classes, n_rows)] += 30.0
    others = np.exp(logits - logits.max(axis=1, keepdims=True))
    return rng.normal(size=(n_rows, 2)), rng.uniform(size=n_rows), others / others.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_classes", [1, 3, 200])
def test_the_moments_of_sure_rows_keep_their_digits(n_classes, fit_intercept):
    """200 classes are spread in two parts; a row that is sure has p (1 - p) of 1e-13, which 1 - p would lose."""
    table, weight, prob = sure_rows(max(2, n_classes), np.random.default_rng(2))
    prob = prob[:, :1] * 0.9 if n_classes == 1 else prob
    if n_classes == 200:
        table, weight, prob = table[:600], weight[:600], prob[:600]
    found = curvature.class_moments(table, weight, prob, fit_intercept=fit_intercept)
    wanted = hessian_by_rows(table, weight, prob, fit_intercept=fit_intercept)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13 * np.abs(wanted).max())


def test_moments_by_one_minus_p_would_lose_them():
    table, weight, prob = sure_rows(3, np.random.default_rng(2))
    wanted = hessian_by_rows(table, weight, prob, fit_intercept=True)
    own = np.einsum("i,i,i->", weight * table[:, 0], prob[:, 0] * (1 - prob[:, 0]), table[:, 0])
    assert abs(own - wanted[0, 0]) > 1e-6 * wanted[0, 0]


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_products_of_a_kept_hessian_are_those_of_a_pass(n_classes, intercept, damping):
    objective, coef, shift = make(n_classes, intercept=intercept)
    objective.damping = damping
    objective.at(coef, shift)
    rng = np.random.default_rng(5)
    along, turn = rng.normal(size=coef.shape), rng.normal(size=shift.shape) * intercept
    by_pass = objective.curvature_along(along, turn)
    objective.keep_hessian(objective.hessian())
    passes = objective.n_passes
    kept = objective.curvature_along(along, turn)
    assert objective.n_passes == passes
    for ours, theirs in zip(kept, by_pass, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    objective.at(coef * 2, shift)  # a new point: the Hessian of the old one is not used any more
    objective.curvature_along(along, turn)
    assert objective.n_passes == passes + 2


def test_a_sample_that_misses_rare_levels_gives_way_to_all_rows(rng):
    """Levels of two groups in units of their own, some of a few rows: a Hessian of a sample took 185 passes."""
    n_rows = 30_000
    soil, area = np.minimum(rng.geometric(0.15, size=n_rows), 40) - 1, rng.integers(0, 4, size=n_rows)
    X = np.column_stack([rng.normal(size=(n_rows, 10)), np.eye(4)[area], np.eye(40)[soil]])
    y = (X @ rng.normal(size=(54, 7)) + rng.gumbel(size=(n_rows, 7))).argmax(axis=1)
    X = (X + X.std(axis=0) * rng.uniform(-10, 10, size=54)) * 10.0 ** rng.uniform(-3, 3, size=54)
    model = SoftmaxClassifier().fit(X, y)
    assert model.suboptimality_ <= 1e-6
    assert model.solution_.n_passes <= 100
