"""The same optimum as glmnet's published package, and the same whichever way a problem is written down.

``glmnet_values.json`` is what glmnet 4.1-6 under R 4.2.2 prints for ``glmnet_values.R``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from normexp import SoftmaxClassifier

GLMNET = json.loads(Path(__file__).with_name("glmnet_values.json").read_text(encoding="utf-8"))
PICKED = np.array([1, 60, 71, 84, 107, 150]) - 1
R_IRIS = {34: [4.9, 3.1, 1.5, 0.2], 37: [4.9, 3.6, 1.4, 0.1]}  # where R's table differs from scikit-learn's


def iris_of_r():
    X, y = load_iris(return_X_y=True)
    X[34], X[37] = R_IRIS[34], R_IRIS[37]
    return X, y


def ours(case, weight_sum, **options):
    """The estimator for glmnet's mean loss + lambda (alpha |W| + (1 - alpha)/2 |W|^2)."""
    kind = {0: "l2", 1: "l1"}.get(case["alpha"], "elasticnet")
    if case.get("type") == "grouped":
        kind = "group_lasso"
    ratio = case["alpha"] if kind in {"elasticnet", "group_lasso"} else None
    return SoftmaxClassifier(penalty=kind, l1_ratio=ratio, C=1 / (case["lambda"] * weight_sum), tol=1e-13, **options)


def name(case):
    return f"{case.get('type', 'binomial')}-{case['alpha']}-{case['lambda']}"


@pytest.mark.parametrize("case", GLMNET["multinomial"], ids=name)
def test_multinomial_fits_are_those_of_glmnet(case):
    X, y = iris_of_r()
    weight = np.tile([1.0, 2.0, 0.5], 50) if case["weighted"] else np.ones(150)
    model = ours(case, weight.sum()).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.predict_proba(X[PICKED]), case["prob"], atol=5e-6)
    np.testing.assert_allclose(model.coef_, case["coef"], atol=1e-4)
    if case["alpha"] == 1:
        assert np.array_equal(model.coef_ != 0, np.array(case["coef"]) != 0)


@pytest.mark.parametrize("case", GLMNET["binomial"], ids=name)
def test_binomial_fits_are_those_of_glmnet(case):
    X, y = iris_of_r()
    model = ours(case, 150).fit(X, y == 2)
    np.testing.assert_allclose(model.coef_[0], case["coef"], atol=1e-5)
    np.testing.assert_allclose(model.intercept_, [case["intercept"]], atol=1e-4)


def test_another_lambda_would_not_pass():
    X, y = iris_of_r()
    case = {**GLMNET["multinomial"][2], "lambda": 1.002 * GLMNET["multinomial"][2]["lambda"]}
    assert not np.allclose(ours(case, 150).fit(X, y).predict_proba(X[PICKED]), case["prob"], atol=5e-6)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_units_change_nothing_where_the_penalty_is_told_of_them(load):
    """Columns in units of 1e-6 to 1e6, and shifted: the penalty on (w unit)^2 is that on w^2 before."""
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(0)
    unit = 10.0 ** rng.uniform(-6, 6, size=X.shape[1])
    unit[:2] = 1e-6, 1e6
    shifted = (X + rng.normal(size=X.shape[1])) * unit
    plain = SoftmaxClassifier(tol=1e-15).fit(X, y)
    scaled = SoftmaxClassifier(penalty_factor=np.square(unit), tol=1e-15).fit(shifted, y)
    np.testing.assert_allclose(scaled.predict_proba(shifted), plain.predict_proba(X), rtol=0, atol=1e-9)


def test_a_solver_that_sees_the_units_would_not_pass():
    X, y = load_wine(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    unit = 10.0 ** np.random.default_rng(0).uniform(-6, 6, size=X.shape[1])
    with pytest.warns(UserWarning, match="lbfgs"):
        one = LogisticRegression(C=np.inf, max_iter=200).fit(X * unit, y)
    other = SoftmaxClassifier().fit(X, y)
    assert np.abs(one.predict_proba(X * unit) - other.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("tol", [1e-6, 1e-9, 1e-14])
@pytest.mark.parametrize("seed", [0, 2, 4, 5])
def test_a_dropped_level_changes_no_unpenalised_probability(seed, tol):
    """Levels of two groups add up to the same constant; what rounding leaves along these sums once grew to 1e11."""
    rng = np.random.default_rng(seed)
    kind, place = rng.integers(0, 4, size=600), rng.integers(0, 3, size=600)
    y = (rng.normal(size=(4, 3))[kind] + 0.5 * place[:, None] * [0.0, 1.0, 2.0] + rng.gumbel(size=(600, 3))).argmax(1)
    words = np.column_stack([kind, place]).astype(str)
    found = []
    for drop in (None, "first"):
        columns = OneHotEncoder(drop=drop, sparse_output=False).fit_transform(words)
        model = SoftmaxClassifier(penalty=None, tol=tol).fit(columns, y)
        assert np.abs(model.coef_).max() < 10
        found.append(model.predict_proba(columns))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)


def test_two_classes_are_the_binary_logistic():
    """A softmax of two columns penalises w/2 and -w/2, half of what the binary logistic of w does: half the C."""
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = SoftmaxClassifier(C=0.7, tol=1e-14).fit(X, y)
    theirs = LogisticRegression(C=0.7, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-5)
    third = np.r_[y, [2]]
    rare = np.r_[np.ones(len(y)), [0.0]]
    three = SoftmaxClassifier(C=0.35, tol=1e-14).fit(np.r_[X, X[:1]], third, sample_weight=rare)
    gap = three.coef_[1] - three.coef_[0]
    np.testing.assert_allclose(gap, model.coef_[0], atol=1e-5)
