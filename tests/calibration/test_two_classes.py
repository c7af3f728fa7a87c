"""The three numbers of beta and quadratic scaling are the optimum, also where a bound holds one of them."""

import numpy as np
import pytest
from scipy.optimize import minimize

from normexp.calibration.rows import CalibrationRows
from normexp.calibration.two_classes import _ridge_logistic


def problem(seed, bend):
    rng = np.random.default_rng(seed)
    s = 2.0 * rng.normal(size=300)
    y = (rng.random(300) < 1.0 / (1.0 + np.exp(-bend * s))).astype(np.intp)
    weight = rng.uniform(0.5, 2.0, 300)
    features = np.stack([-np.logaddexp(0.0, -s), np.logaddexp(0.0, s), np.ones_like(s)])
    return features, s, CalibrationRows(np.c_[0 * s, s], np.arange(300), y, weight)


def value(theta, features, s, rows, strength):
    margin = np.where(rows.target == 1, 1.0, -1.0) * (s + theta @ features)
    return float(rows.weight @ np.logaddexp(0.0, -margin)) + 0.5 * strength * float(theta @ theta)


@pytest.mark.parametrize(("bend", "held"), [(1.5, 0), (0.3, 0), (-1.0, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_newtons_steps_end_where_bounded_quasi_newton_steps_do(seed, bend, held):
    features, s, rows = problem(seed, bend)
    low = np.array([-1.0, -1.0, -np.inf])
    found = _ridge_logistic(features, s, rows, strength=1.0, low=low)
    given = {"method": "L-BFGS-B", "bounds": [(-1.0, None), (-1.0, None), (None, None)], "options": {"ftol": 1e-14}}
    least = minimize(value, np.zeros(3), args=(features, s, rows, 1.0), **given)
    assert int((found == low).sum()) == held  # where the classes are the wrong way round, both scales stand at 0
    assert value(found, features, s, rows, 1.0) <= least.fun + 1e-6
    assert value(np.zeros(3), features, s, rows, 1.0) > least.fun + 0.1
