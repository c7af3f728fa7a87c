"""Passes over rows that lie class by class: what `normexp.ops` says of them, and Newton's optimum in fewer passes."""

import numpy as np
import pytest
from scipy.linalg import cho_solve

from normexp.calibration import affine, affine_steps
from normexp.calibration.affine import AffineProblem
from normexp.calibration.affine_steps import Metric, minimum
from normexp.calibration.columns import normalise, pieces, residuals, turned
from normexp.calibration.folds import outside, side_by_side
from normexp.calibration.rows import CalibrationRows
from normexp.calibration.temperature import fit_temperature, fold_temperatures
from normexp.ops import cross_entropy_with_grad, log_softmax


def drawn(n, k, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    z = spread * rng.normal(size=(n, k))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.intp)


def problem_of(n, k, *, full, strength=1.0, seed=0):
    z, y = drawn(n, k, seed)
    u = np.asarray(log_softmax(1.4 * z + 0.3 * np.arange(k) / k))
    weight = np.random.default_rng(seed).uniform(0.2, 2.0, n)
    ridge = 2.0 * strength * k
    return AffineProblem(np.vstack([np.ones(n), u.T]), y, weight, ridge, ridge * (k - 1) if full else None)


@pytest.mark.parametrize("k", [2, 7, 300])
def test_columns_say_what_the_row_functions_say(k):
    z, y = drawn(1000, k)
    weight = np.random.default_rng(1).uniform(0.0, 2.0, 1000)
    assert len(list(pieces(k, slice(0, 1000)))) == (2 if k == 300 else 1)
    np.testing.assert_allclose(normalise(turned(z)).T, log_softmax(z), atol=1e-13)
    loss, grad = cross_entropy_with_grad(z, y, reduction="none")
    columns = turned(z)
    assert residuals(columns, y, weight) == pytest.approx(float(weight @ loss), rel=1e-13)
    np.testing.assert_allclose(columns.T, weight[:, None] * grad, atol=1e-14)


def test_impossible_classes_stay_impossible():
    z = np.array([[0.0, 1.0], [-np.inf, 2.0]])
    np.testing.assert_array_equal(normalise(z)[:, 0], [0.0, -np.inf])


@pytest.mark.parametrize("full", [True, False])
def test_slopes_and_curvatures_are_differences(full):
    problem = problem_of(300, 4, full=full)
    rng = np.random.default_rng(2)
    theta, way = 0.1 * rng.normal(size=problem.penalty.size), rng.normal(size=problem.penalty.size)
    rows, h = slice(40, 210), 1e-5
    (above, up), (below, down) = (problem.loss_and_slope(theta + s * h * way, rows) for s in (1.0, -1.0))
    _, slope = problem.loss_and_slope(theta, rows)
    assert slope @ way == pytest.approx((above - below) / (2 * h), rel=1e-6)
    np.testing.assert_allclose(problem.curvature(theta, rows) @ way, (up - down) / (2 * h), rtol=1e-5, atol=1e-4)


def test_a_hessian_in_single_precision_is_that_in_double(monkeypatch):
    problem = problem_of(500, 15, full=True)
    theta = np.zeros(problem.penalty.size)
    single = problem.curvature(theta, problem.every)
    monkeypatch.setattr(affine, "FEW_UNKNOWNS", 10_000)
    double = problem.curvature(theta, problem.every)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert np.abs(single - double).max() < 1e-5 * np.abs(double).max()
    problem.x[3] *= 1e20  # whose squares float32 has not
    monkeypatch.setattr(affine, "FEW_UNKNOWNS", 10)
    assert problem.curvature(theta, problem.every).dtype == np.float64


def test_one_hessian_and_what_steps_tell_lead_to_newtons_optimum():
    """With a Hessian of other rows, far from the optimum, and not one more."""
    problem, other = problem_of(800, 6, full=True, strength=0.01), problem_of(800, 6, full=True, seed=5)
    start = np.zeros(problem.penalty.size)
    value, slope = problem.value_and_slope(start)
    newton, theta = value, start
    for _ in range(8):
        _, slope = problem.value_and_slope(theta)
        hessian = problem.curvature(theta, problem.every) + np.diag(problem.penalty)
        theta = theta - np.linalg.solve(hessian, slope)
        newton = problem.value_and_slope(theta)[0]
    calls, plain = [], problem.curvature
    problem.curvature = lambda *given: calls.append(given) or plain(*given)
    metric = Metric(0.5 * other.curvature(start, other.every), problem.penalty, 2.0)
    told = []
    found = minimum(problem, start, metric, told=told)
    assert problem.value_and_slope(found)[0] - newton < 1e-6
    assert value - newton > 1.0
    assert not calls
    assert 2 < len(told) < 25
    nothing = Metric(np.zeros((start.size, start.size)), problem.penalty, 1.0, told)
    near = minimum(problem, found + 1e-3, nothing)
    assert problem.value_and_slope(near)[0] - newton < 1e-6  # a Hessian of 0 is mended, or computed anew


def test_a_hessian_that_rounding_made_indefinite_is_not_refused():
    spoilt = np.diag(np.array([1.0, -0.5, 2.0], dtype=np.float32))
    metric = Metric(spoilt, np.full(3, 1e-2))
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(spoilt + 1e-2 * np.eye(3))
    assert (cho_solve(metric.factor, np.ones(3)) > 0.0).all()


@pytest.mark.parametrize("n", [60, 3000])
def test_the_temperatures_of_folds_are_those_of_fits_without_the_fold(n, monkeypatch):
    z, y = drawn(n, 4)
    order, folds = side_by_side(y, 5)
    rows = CalibrationRows(1.7 * z[order], np.arange(n), y[order], np.ones(n))
    found = fold_temperatures(rows, folds, 1.0)
    apart = [fit_temperature(rows.take(outside(fold, n)), 1.0)[0] for fold in folds]
    whole = fit_temperature(rows, 1.0)[0]
    assert np.abs(np.log(found) - np.log(apart)).max() < 0.2 * np.abs(np.log(apart) - np.log(whole)).max()
    monkeypatch.setattr("normexp.calibration.temperature.LEFT", 0.0)
    np.testing.assert_allclose(fold_temperatures(rows, folds, 1.0), apart, rtol=1e-8)


def test_the_passes_are_not_the_textbooks_gradient_descent():
    """The test above can fail: as many steps without second derivatives are far from the optimum."""
    problem = problem_of(800, 6, full=True, strength=0.01)
    start = np.zeros(problem.penalty.size)
    best = problem.value_and_slope(minimum(problem, start))[0]
    theta, size = start, 1.0 / np.linalg.norm(problem.curvature(start, problem.every) + np.diag(problem.penalty), 2)
    for _ in range(25):
        theta = theta - size * problem.value_and_slope(theta)[1]
    assert problem.value_and_slope(theta)[0] - best > 1e-2
    assert affine_steps.MOST_STEPS > 25
