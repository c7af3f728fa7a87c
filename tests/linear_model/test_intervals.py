"""Standard errors against statsmodels, coverage by repetition, and models from scikit-learn."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from normexp import NormexpError, NormexpWarning, SoftmaxClassifier


def table(n_classes, n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3)) * [1.0, 50.0, 0.01] + [0.0, 100.0, 1.0]
    scores = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=(3, n_classes)) + rng.gumbel(
        size=(n_rows, n_classes)
    )
    return X, scores.argmax(axis=1)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("intercept", [True, False])
def test_standard_errors_are_those_of_statsmodels(n_classes, intercept):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("statsmodels.api")
    X, y = table(n_classes)
    if not intercept:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    design = np.column_stack([X, np.ones(len(X))]) if intercept else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = api.MNLogit(y, design).fit(method="newton", maxiter=100, disp=0)
    model = SoftmaxClassifier(penalty=None, tol=1e-10, fit_intercept=intercept).fit(X, y)
    ours = model.coef_intervals(X, y, reference=0, level=0.9)
    np.testing.assert_allclose(ours.estimate[1:], theirs.params.T, rtol=1e-4)
    np.testing.assert_allclose(ours.standard_error[1:], theirs.bse.T, rtol=1e-4)
    low_high = theirs.conf_int(0.1)
    np.testing.assert_allclose(np.stack([ours.low[1:], ours.high[1:]], axis=-1), low_high, rtol=1e-3, atol=1e-3)
    assert not ours.standard_error[0].any()
    thin = model.coef_intervals(sparse.csr_matrix(X), y, reference=0)
    np.testing.assert_allclose(thin.standard_error, ours.standard_error, rtol=1e-6)


def test_the_errors_of_unscaled_information_would_not_pass():
    """The diagonal of the information, inverted number by number, is the classic mistake."""
    X, y = table(3)
    model = SoftmaxClassifier(penalty=None).fit(X, y)
    p = model.predict_proba(X)
    naive = 1 / np.sqrt(np.einsum("ij,ik->kj", np.square(X), p * (1 - p)))
    assert not np.allclose(naive, model.coef_intervals(X, y).standard_error[:, :-1], rtol=0.1)


def test_estimates_are_the_coefficients_and_two_classes_have_one_row():
    X, y = load_breast_cancer(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y)
    found = model.coef_intervals(X, y)
    np.testing.assert_allclose(found.estimate, np.column_stack([model.coef_, model.intercept_]))
    assert np.all((found.low < found.estimate) & (found.estimate < found.high))
    turned = model.coef_intervals(X, y, reference=1)
    np.testing.assert_allclose(turned.estimate[0], -found.estimate[0])
    np.testing.assert_allclose(turned.standard_error[0], found.standard_error[0])


def test_a_penalty_is_information():
    X, y = table(3)
    free = SoftmaxClassifier(penalty=None).fit(X, y).coef_intervals(X, y)
    held = SoftmaxClassifier(C=1e-3).fit(X, y).coef_intervals(X, y)
    assert np.all(held.standard_error[:, :2] < free.standard_error[:, :2])


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(500, 2))
    truth = np.array([[0.8, -0.3], [0.0, 0.5], [-0.8, -0.2]])
    truth -= truth.mean(axis=0)
    held = []
    for _ in range(60):
        y = (X @ truth.T + rng.gumbel(size=(500, 3))).argmax(axis=1)
        found = SoftmaxClassifier(penalty=None).fit(X, y).coef_intervals(X, y)
        held.append((found.low[:, :2] <= truth) & (truth <= found.high[:, :2]))
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y: (np.column_stack([X, 2 * X[:, 0]]), y, {"penalty": None}, {}), "column 0, column 3"),
        (lambda X, y: (X, y, {"penalty": "l1"}, {}), "no Wald intervals"),
        (lambda X, y: (X, y, {}, {"level": 95}), "level is 95"),
        (lambda X, y: (X, y, {}, {"reference": "z"}), "reference is 'z'"),
    ],
)
def test_what_has_no_interval_is_said(change, words):
    X, y, parameters, options = change(*table(3))
    with pytest.raises(NormexpError, match=words):
        SoftmaxClassifier(**parameters).fit(X, y).coef_intervals(X, y, **options)


# ---------------------------------------------------------------- from scikit-learn


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_without_a_penalty_have_no_intervals(classes):
    rng = np.random.default_rng(0)
    y = np.arange(60) % classes
    x = (y + 0.1 * rng.normal(size=60))[:, None]
    with pytest.warns(ConvergenceWarning, match="separable"):
        model = SoftmaxClassifier(penalty=None).fit(x, y)
    with pytest.raises(NormexpError, match=r"coef_intervals: the coefficients are no optimum.*separable"):
        model.coef_intervals(x, y)
    assert np.isfinite(SoftmaxClassifier().fit(x, y).coef_intervals(x, y).low).all()


def test_a_fit_that_did_not_start_has_no_intervals_and_one_that_stopped_early_warns():
    X, y = table(3)
    with pytest.raises(NormexpError, match="max_iter is 0"):
        SoftmaxClassifier(max_iter=0).fit(X, y).coef_intervals(X, y)
    with pytest.warns(ConvergenceWarning):
        model = SoftmaxClassifier(C=100.0, max_iter=1, tol=1e-12).fit(X, y)
    with pytest.warns(NormexpWarning, match="the fit stopped before its optimum"):
        model.coef_intervals(X, y)


def objective(model, X, y):
    """sum of losses + penalty of a LogisticRegression."""
    losses = -model.predict_log_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    ratio = model.l1_ratio or 0.0
    penalty = ratio * np.abs(model.coef_).sum() + (1 - ratio) / 2 * np.square(model.coef_).sum()
    return losses.sum() + penalty / model.C


@pytest.mark.parametrize(
    "theirs",
    [
        LogisticRegression(C=0.5, max_iter=1000),
        LogisticRegression(C=np.inf, max_iter=1000),
        LogisticRegression(solver="saga", l1_ratio=1.0, max_iter=5000),
        LogisticRegression(solver="saga", l1_ratio=0.3, max_iter=5000, fit_intercept=False),
    ],
)
@pytest.mark.parametrize("two", [True, False])
def test_a_model_of_scikit_learn_keeps_its_predictions_and_its_objective(theirs, two):
    X, y = load_iris(return_X_y=True, as_frame=True)
    y = np.array(["setosa", "versicolor", "virginica"])[y]
    rows = y != "setosa" if two else np.ones(len(y), bool)
    X, y = X[rows], y[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(X, y)
    ours = SoftmaxClassifier.from_sklearn(theirs)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-10, atol=1e-14)
    assert list(ours.feature_names_in_) == list(X.columns)
    assert not ours.solution_.converged
    if np.isfinite(theirs.C):
        again = ours.set_params(warm_start=True, tol=1e-8).fit(X, y)
        assert again.suboptimality_ <= 1e-8
        assert again.solution_.objective <= objective(theirs, X, y) * (1 + 1e-9)
        assert again.solution_.objective >= objective(theirs, X, y) * (1 - 0.05)
    back = SoftmaxClassifier.from_sklearn(ours.to_sklearn())
    np.testing.assert_array_equal(back.predict_proba(X), ours.predict_proba(X))


def test_models_that_are_no_softmax_are_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(NormexpError, match="a RidgeClassifier came"):
        SoftmaxClassifier.from_sklearn(RidgeClassifier().fit(X, y))
    fitted = LogisticRegression(max_iter=1000).fit(X, y)
    fitted.solver = "liblinear"
    with pytest.raises(NormexpError, match="against the rest"):
        SoftmaxClassifier.from_sklearn(fitted)
