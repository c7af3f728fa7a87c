"""SoftmaxClassifier with penalties that have corners: scikit-learn's and glmnet's objectives at their optimum."""

import warnings

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from contract import checks_of
from normexp import NormexpError, SoftmaxClassifier

MODELS = [
    SoftmaxClassifier(penalty="l1"),
    SoftmaxClassifier(penalty="elasticnet", l1_ratio=0.5),
    SoftmaxClassifier(penalty="group_lasso", C=2.0),
]


def standardised(load):
    X, y = load(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def objective(model, X, y, ratio, *, grouped=False, factor=1.0):
    """sum of losses + penalty, from the estimator's public answers alone."""
    losses = -model.predict_log_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    coef = model.coef_
    size = np.sqrt(np.square(coef).sum(axis=0)) if grouped else np.abs(coef).sum(axis=0)
    penalty = factor * (ratio * size + (1 - ratio) / 2 * np.square(coef).sum(axis=0))
    return losses.sum() + penalty.sum() / model.C


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of(*MODELS),
)
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_coefficients_agree_with_the_best_of_scikit_learn(load, ratio):
    X, y = standardised(load)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = LogisticRegression(C=0.3, l1_ratio=ratio, solver="saga", tol=1e-10, max_iter=20_000).fit(X, y)
    name = "l1" if ratio == 1.0 else "elasticnet"
    ours = SoftmaxClassifier(C=0.3, penalty=name, l1_ratio=ratio, tol=1e-11).fit(X, y)
    assert objective(ours, X, y, ratio) <= objective(theirs, X, y, ratio) * (1 + 1e-12)
    assert ours.solution_.objective == pytest.approx(objective(ours, X, y, ratio), rel=1e-11)
    # which of equal scores carries a coefficient is free under L1: predictions are unique, coefficients under both are
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    if ratio < 1.0 or len(ours.classes_) == 2:
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_the_row_group_lasso_meets_its_optimality_conditions():
    """Against the definition: at the optimum X'(p - y) is the corner times the unit row, or shorter where that is 0."""
    X, y = standardised(load_wine)
    C = 0.2
    model = SoftmaxClassifier(penalty="group_lasso", C=C, tol=1e-12).fit(X, y)
    pull = X.T @ (model.predict_proba(X) - np.eye(3)[y])
    coef = model.coef_.T
    out = ~coef.any(axis=1)
    assert 0 < out.sum() < X.shape[1]
    assert np.all(coef[~out] != 0)  # in for all classes
    assert np.all(np.linalg.norm(pull[out], axis=1) < 1 / C)
    unit = coef[~out] / np.linalg.norm(coef[~out], axis=1, keepdims=True)
    np.testing.assert_allclose(pull[~out], -unit / C, atol=1e-4)
    np.testing.assert_allclose(coef.sum(axis=1), 0.0, atol=1e-10)  # glmnet's grouped multinomial: classes sum to zero


def test_the_plain_l1_fit_would_fail_those_conditions():
    X, y = standardised(load_wine)
    model = SoftmaxClassifier(penalty="l1", C=0.2, tol=1e-12).fit(X, y)
    assert np.any((model.coef_ == 0).any(axis=0) & (model.coef_ != 0).any(axis=0))


@pytest.mark.parametrize("penalty", ["l1", "elasticnet", "group_lasso"])
def test_glmnets_parametrisation_is_one_over_c_and_the_sum_of_weights(penalty, rng):
    """glmnet minimises mean loss + lambda (alpha |W| + (1 - alpha)/2 |W|^2): a general solver on a small table."""
    X, y, weight = rng.normal(size=(40, 2)), rng.integers(0, 2, size=40), rng.uniform(0.5, 2, size=40)
    y[:20] = X[:20, 0] > 0
    alpha = {"l1": 1.0, "elasticnet": 0.3, "group_lasso": 0.6}[penalty]
    lam = 0.05

    def loss(parts):
        positive, negative, shift = parts[:2], parts[2:4], parts[4]
        coef = positive - negative
        scores = X @ coef + shift
        mean = weight @ (np.logaddexp(0, scores) - y * scores) / weight.sum()
        return mean + lam * (alpha * np.sum(positive + negative) + (1 - alpha) / 2 * coef @ coef)

    best = optimize.minimize(loss, np.zeros(5), bounds=[(0, None)] * 4 + [(None, None)], tol=1e-14)
    ratio = None if penalty == "l1" else alpha
    model = SoftmaxClassifier(penalty=penalty, l1_ratio=ratio, C=1 / (lam * weight.sum()), tol=1e-12)
    model.fit(X, y, sample_weight=weight)
    assert model.solution_.objective / weight.sum() == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(model.coef_[0], best.x[:2] - best.x[2:4], atol=1e-4)


def test_two_classes_are_one_group_of_one():
    X, y = standardised(load_breast_cancer)
    single = SoftmaxClassifier(penalty="l1", C=0.1, tol=1e-11).fit(X, y)
    group = SoftmaxClassifier(penalty="group_lasso", C=0.1, tol=1e-11).fit(X, y)
    np.testing.assert_allclose(group.coef_, single.coef_, atol=1e-6)


@pytest.mark.parametrize("penalty", ["l1", "group_lasso", "l2"])
def test_a_factor_on_a_feature_is_its_inverse_on_the_units(penalty, rng):
    X, y = standardised(load_iris)
    factor = np.array([0.5, 1.0, 2.0, 4.0])
    unit = np.sqrt(factor) if penalty == "l2" else factor
    factored = SoftmaxClassifier(penalty=penalty, C=0.3, penalty_factor=factor, tol=1e-11).fit(X, y)
    scaled = SoftmaxClassifier(penalty=penalty, C=0.3, tol=1e-11).fit(X / unit, y)
    np.testing.assert_allclose(factored.predict_proba(X), scaled.predict_proba(X / unit), atol=1e-6)
    np.testing.assert_allclose(factored.coef_, scaled.coef_ / unit, atol=1e-4)


@pytest.mark.parametrize("penalty", ["l1", "group_lasso", "l2"])
def test_a_feature_with_factor_zero_is_free_and_the_fit_is_certified(penalty):
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(penalty=penalty, C=0.02, penalty_factor=[0.0, 1.0, 1.0, 1.0], tol=1e-11).fit(X, y)
    assert model.suboptimality_ <= 1e-9
    residual = model.predict_proba(X) - np.eye(3)[y]
    assert np.abs(X[:, 0] @ residual).max() < 1e-3  # nothing holds it back
    assert np.abs(X[:, 2] @ residual).max() > 0.1


def test_free_features_that_separate_the_classes_are_found_out_and_said():
    X = np.column_stack([[0.0, 1.0, 2.0, 3.0], [1.0, -1.0, 1.0, -1.0]])
    with pytest.warns(ConvergenceWarning, match="separable"):
        SoftmaxClassifier(penalty="l1", penalty_factor=[0.0, 1.0]).fit(X, [0, 0, 1, 1])
    # separable through a feature that bears the penalty: an optimum exists
    model = SoftmaxClassifier(penalty="l1", penalty_factor=[1.0, 0.0]).fit(X, [0, 0, 1, 1])
    assert model.solution_.converged


@pytest.mark.parametrize("penalty", ["l1", "group_lasso"])
def test_sparse_and_dense_rows_give_the_same_fit(penalty):
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    dense = SoftmaxClassifier(penalty=penalty, C=0.1, tol=1e-8).fit(X, y)
    thin = SoftmaxClassifier(penalty=penalty, C=0.1, tol=1e-8).fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(thin.predict_proba(sparse.csr_matrix(X)), dense.predict_proba(X), atol=1e-4)
    assert thin.solution_.objective == pytest.approx(dense.solution_.objective, rel=1e-7)


def test_a_feature_of_sure_rows_alone_comes_back_from_where_it_went(rng):
    """A feature of one row starts with a huge coefficient: that row has no curvature left, the corner alone pulls."""
    X = sparse.random(60, 400, density=0.05, random_state=2, format="lil")
    X[7, :] = 0.0
    X[:, 399] = 0.0
    X[7, 399] = 0.3
    y = rng.integers(0, 2, size=60)
    y[7] = 1
    for rows in (X.tocsr(), X.toarray()):
        best = SoftmaxClassifier(penalty="l1", C=10.0, tol=1e-8).fit(rows, y)
        start = np.column_stack([best.coef_, best.intercept_])
        start[0, 399] = 2000.0
        model = SoftmaxClassifier(penalty="l1", C=10.0, tol=1e-8, init=start).fit(rows, y)
        assert model.suboptimality_ <= 1e-8
        assert model.solution_.objective == pytest.approx(best.solution_.objective, rel=2e-8)


def test_float32_is_kept_and_certified():
    X, y = load_wine(return_X_y=True)
    wide = SoftmaxClassifier(penalty="l1").fit(X, y)
    narrow = SoftmaxClassifier(penalty="l1").fit(X.astype(np.float32), y)
    assert narrow.coef_.dtype == np.float32
    assert narrow.suboptimality_ <= 1e-6
    assert narrow.solution_.objective == pytest.approx(wide.solution_.objective, rel=1e-5)


def test_weights_count_as_repeated_rows_under_l1():
    X, y = load_wine(return_X_y=True)
    weight = np.random.default_rng(0).integers(0, 4, size=len(y))
    weighted = SoftmaxClassifier(penalty="l1", tol=1e-11).fit(X, y, sample_weight=weight)
    repeated = SoftmaxClassifier(penalty="l1", tol=1e-11).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)


def test_the_certificate_bounds_the_true_distance_from_the_minimum():
    X, y = standardised(load_wine)
    best = SoftmaxClassifier(penalty="l1", tol=1e-12).fit(X, y).solution_.objective
    for tol in (0.3, 1e-2, 1e-4):
        rough = SoftmaxClassifier(penalty="l1", tol=tol).fit(X, y)
        assert (rough.solution_.objective - best) / best <= rough.suboptimality_ <= tol


def test_a_warm_start_needs_no_step_at_the_optimum():
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier(penalty="l1", warm_start=True).fit(X, y)
    assert model.n_iter_[0] > 1
    assert model.fit(X, y).n_iter_[0] <= 1


def test_too_few_steps_are_said():
    X, y = load_wine(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        SoftmaxClassifier(penalty="l1", max_iter=2).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"penalty": "elasticnet"}, "l1_ratio is None; with penalty='elasticnet' it must lie between 0"),
        ({"penalty": "elasticnet", "l1_ratio": 1.5}, "l1_ratio is 1.5"),
        ({"penalty": "group_lasso", "l1_ratio": 0.0}, "share of the lengths"),
        ({"penalty": "l2", "l1_ratio": 0.5}, "a mixture is penalty='elasticnet'"),
        ({"penalty": "l1", "solver": "newton"}, "solver='proximal_newton' or 'auto' does it"),
        ({"penalty": None, "solver": "proximal_newton"}, "solver='newton' or 'auto' does it"),
        ({"penalty_factor": [1.0]}, "penalty_factor has shape"),
        ({"penalty_factor": [1.0, -1.0, 1.0, 1.0]}, "penalty_factor of feature 1 is -1.0"),
        ({"penalty_factor": [1.0, 1.0, 0.0, 1.0], "solver": "newton"}, "is 0 for feature 2"),
    ],
)
def test_a_parameter_without_meaning_is_refused_in_a_sentence(parameters, sentence):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=sentence) as caught:
        SoftmaxClassifier(**parameters).fit(X, y)
    assert isinstance(caught.value, NormexpError)
