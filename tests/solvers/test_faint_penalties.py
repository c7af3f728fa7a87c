"""A penalty however faint, in any units: the optimum is reached and proven, or its absence is told in words."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine

from normexp import SoftmaxClassifier
from normexp.backends import curvature
from normexp.solvers import fit, metric, separation
from normexp.solvers.function import summed_covariance
from normexp.solvers.outcome import Outcome


def in_units(X):
    """Columns in units of 10^U(-3, 3)."""
    return X * 10.0 ** np.random.default_rng(0).uniform(-3, 3, size=X.shape[1])


def fitted(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SoftmaxClassifier(**options).fit(X, y)


@pytest.mark.parametrize("C", [1e5, 1e7, 1e10, 1e16])
@pytest.mark.parametrize("units", [np.asarray, in_units])
@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_the_default_fit_ends_at_its_proof_without_a_warning(load, units, C):
    """Wine ended at its 1 000 steps from C = 1e7 on, with a gap of 1e-6 to 0.4."""
    X, y = load(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SoftmaxClassifier(C=C).fit(units(X), y)
    assert model.solution_.outcome is Outcome.CERTIFIED
    assert model.suboptimality_ <= 1e-6
    assert model.solution_.n_iter < 120


@pytest.mark.parametrize("units", [np.asarray, in_units])
@pytest.mark.parametrize("load", [load_wine, load_digits])
def test_two_classes_apart_end_at_their_proof(load, units):
    X, y = load(return_X_y=True)
    assert fitted(units(X[y < 2]), y[y < 2], C=1e10).solution_.outcome is Outcome.CERTIFIED


def test_the_value_of_a_fit_that_is_all_but_certain_has_its_digits():
    """Wine at C = 1e10: the objective, 2e-7, against long double at the same coefficients."""
    X, y = load_wine(return_X_y=True)
    model = fitted(X, y, C=1e10)
    scores = X.astype(np.longdouble) @ model.coef_.T.astype(np.longdouble) + model.intercept_
    gap = scores - scores[np.arange(len(y)), y][:, None]
    others = np.where(np.arange(3) == y[:, None], 0, np.exp(gap)).sum(axis=1)
    right = np.log1p(others).sum() + np.square(model.coef_.astype(np.longdouble)).sum() / 2e10
    assert model.solution_.objective == pytest.approx(float(right), rel=1e-10, abs=0)


@pytest.mark.parametrize("n_classes", [3, 20, 300])
def test_a_loss_beside_certainty_keeps_its_digits(n_classes):
    rng = np.random.default_rng(0)
    target = rng.integers(0, n_classes, 50).astype(np.intp)
    scores = rng.normal(size=(50, n_classes))
    scores[np.arange(50), target] += 45.0
    wide = scores.astype(np.longdouble)
    wide -= wide[np.arange(50), target][:, None]
    mass = np.where(np.arange(n_classes) == target[:, None], 0, np.exp(wide))
    losses = np.log1p(mass.sum(axis=1))
    entropy = float(np.sum(losses - (mass * wide).sum(axis=1) / (1 + mass.sum(axis=1))))
    prob, weight = np.empty_like(scores), np.ones(50)
    found, found_entropy = curvature.residual(scores.copy(), target, weight, prob)
    along = curvature.losses_along(scores, np.zeros_like(scores), target, weight, np.ones(1))
    assert 0.0 < losses.sum() < 1e-12
    assert found == pytest.approx(float(losses.sum()), rel=1e-13, abs=0)
    assert along[0] == pytest.approx(float(losses.sum()), rel=1e-13, abs=0)
    assert found_entropy == pytest.approx(entropy, rel=1e-13, abs=0)
    top = scores.max(axis=1, keepdims=True)
    textbook = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0] - scores[np.arange(50), target]
    assert textbook.sum() != pytest.approx(float(losses.sum()), rel=1e-3, abs=0)


def test_curvature_beside_certainty_keeps_its_digits():
    """p_y (t_y - sum p t) and p_y (1 - p_y), where p_y is 1 to the last digit."""
    target, weight = np.zeros(1, np.intp), np.ones(1)
    prob = np.array([[1.0, 3e-18, 2e-17]])
    tangent = np.array([[1.7, 0.3, -0.9]])
    found = tangent.copy()
    curvature.tangent_product(found, prob, target, weight, 0.0)
    step = tangent[0] - tangent[0, 0]
    np.testing.assert_allclose(found[0], [-(prob[0, 1:] @ step[1:]), *(prob[0, 1:] * step[1:])], rtol=1e-14)
    textbook = prob[0] * (tangent[0] - prob[0] @ tangent[0])
    assert textbook[0] != pytest.approx(found[0, 0], rel=0.5, abs=0)
    others = prob[0, 1:].sum()
    assert summed_covariance(prob, weight)[0, 0] == pytest.approx(others, rel=1e-14, abs=0)
    assert prob[0, 0] - prob[0, 0] ** 2 != pytest.approx(others, rel=0.5, abs=0)


@pytest.fixture(scope="module")
def covertype(request):
    """3 000 rows of covertype: indicators that add up to 1, some of them 1 in a few rows alone."""
    frame = pd.read_csv(request.getfixturevalue("shared_data") / "covertype" / "data.csv.gz")
    frame = frame.iloc[np.random.default_rng(0).choice(len(frame), 3000, replace=False)]
    return frame.drop(columns="label").to_numpy(float), frame["label"].to_numpy()


@pytest.mark.parametrize(("units", "C"), [(np.asarray, 1e10), (in_units, 1e7)])
def test_columns_that_add_up_beside_a_faint_penalty(covertype, units, C):
    """They ended FLAT after 370 and 206 steps, without any bound."""
    X, y = covertype
    model = fitted(units(X), y, C=C)
    assert model.solution_.outcome is Outcome.CERTIFIED
    assert model.solution_.n_iter < 80


def test_without_the_hessian_of_all_rows_they_do_not_end(covertype, monkeypatch):
    X, y = covertype
    monkeypatch.setattr(metric, "_FORMING_PATIENCE", 10**9)
    assert fitted(X, y, C=1e10, max_iter=60).solution_.outcome is Outcome.MAX_ITER


def rare_indicator():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(300, 3)), np.arange(300) % 3
    return np.column_stack([X, (y == 1) & (np.arange(300) < 40)]).astype(float), y


def test_coefficients_that_still_grow_are_no_optimum_where_no_program_decides(monkeypatch):
    """The gradient of a rare indicator falls below any tolerance: covertype's was called an optimum."""
    monkeypatch.setattr(separation, "_MOST_ENTRIES", 10)
    X, y = rare_indicator()
    model = fitted(X, y, penalty=None)
    assert model.solution_.outcome is Outcome.GROWING
    assert not model.solution_.converged
    monkeypatch.setattr(fit, "_AHEAD", np.inf)  # the test of the test: what it was called before
    assert fitted(X, y, penalty=None).solution_.outcome is Outcome.GRADIENT


def test_an_optimum_with_sure_rows_is_one_where_no_program_decides(monkeypatch):
    monkeypatch.setattr(separation, "_MOST_ENTRIES", 10)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    y = (3.0 * X[:, 0] + rng.logistic(size=500) > 0).astype(int)
    assert fitted(X, y, penalty=None).solution_.outcome is Outcome.GRADIENT
    assert fitted(np.column_stack([X, X @ [1.0, 1.0]]), y, penalty=None).solution_.converged


def test_a_penalty_below_rounding_ends_soon():
    """Iris at C = 1e30: no length of a step lowers the value, and the same step is not tried 1 000 times."""
    model = fitted(*load_iris(return_X_y=True), C=1e30)
    assert model.solution_.outcome is Outcome.FLAT
    assert model.solution_.n_iter < 100
