"""Influence and leave-one-out against true refits without each row."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.explain.hessian import SoftmaxFit


def cases():
    wine = load_wine(return_X_y=True)
    cancer = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(0)
    for name, (X, y), options in (
        ("three classes", wine, {"C": 0.5}),
        ("two classes", (cancer[0][:160, :8], cancer[1][:160]), {"C": 1.0}),
        ("no intercept", wine, {"C": 0.2, "fit_intercept": False}),
        ("weights", wine, {"C": 0.5, "class_weight": {0: 3.0, 1: 1.0, 2: 1.0}}),
    ):
        order = rng.permutation(len(X))
        rows = StandardScaler().fit_transform(X)[order]
        yield name, rows[:110], y[order][:110], rows[110:150], y[order][110:150], options


CASES = {name: rest for name, *rest in cases()}


def loss(model, X, y):
    return -model.predict_log_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]


def too_many_to_factor(monkeypatch):
    """Take the other way, as with more coefficients."""
    fit = explain.influence.__globals__["SoftmaxFit"]
    monkeypatch.setitem(fit.inverse_hessian.__globals__, "EXACT_UP_TO", 0)


@pytest.fixture(scope="module", params=CASES)
def refits(request):
    """The fit, and what the fits without each row say of the watched rows and of the row itself."""
    X, y, watched, labels, options = CASES[request.param]
    model = nx.SoftmaxClassifier(tol=1e-12, **options).fit(X, y)
    change, own = [], []
    for row in range(len(X)):
        without = nx.SoftmaxClassifier(tol=1e-12, **options).fit(np.delete(X, row, 0), np.delete(y, row))
        change.append(loss(without, watched, labels).mean() - loss(model, watched, labels).mean())
        own.append(loss(without, X[[row]], y[[row]])[0])
    return model, (X, y, watched, labels), np.array(change), np.array(own)


def test_influence_is_what_leaving_the_row_out_does(refits):
    model, rows, change, _ = refits
    told = explain.influence(model, *rows)
    assert np.corrcoef(told, change)[0, 1] > 0.985
    assert np.abs(told - change).max() < 0.2 * np.abs(change).max()
    assert np.linalg.norm(told - change) < 0.15 * np.linalg.norm(change)


def test_leaving_leverage_out_would_be_noticed(refits, monkeypatch):
    """The plain influence function understates rows of large leverage."""
    model, rows, change, _ = refits
    told = explain.influence(model, *rows)
    too_many_to_factor(monkeypatch)
    plain = explain.influence(model, *rows)
    assert np.linalg.norm(plain - change) > 2 * np.linalg.norm(told - change)
    assert np.corrcoef(plain, change)[0, 1] > 0.75  # that is what there is above 4 000 coefficients


def test_the_loss_without_each_row_is_that_of_the_refits(refits):
    model, (X, y, _, _), _, own = refits
    told = explain.leave_one_out(model, X, y)
    assert np.corrcoef(told.loss, own)[0, 1] > 0.998
    np.testing.assert_allclose(told.loss.mean(), own.mean(), rtol=0.02)
    assert abs(loss(model, X, y).mean() - own.mean()) > 5 * abs(told.loss.mean() - own.mean())
    assert told.log_prob.shape == (len(X), len(model.classes_))
    np.testing.assert_allclose(np.exp(told.log_prob).sum(axis=1), 1.0, rtol=1e-12)
    assert (told.leverage > 0).all()


def test_conjugate_gradients_solve_the_hessian(monkeypatch):
    """Both ways without the row's own curvature: the factorisation against the iteration, dense and sparse."""
    X, y, watched, labels, options = CASES["three classes"]
    model = nx.SoftmaxClassifier(tol=1e-12, **options).fit(X, y)
    fit = SoftmaxFit(model, X, y, None, of="test")
    gradient = np.random.default_rng(0).normal(size=fit.coef.shape)
    gradient -= gradient.mean(axis=0)  # as every gradient of a softmax is
    solved = (fit.inverse_hessian() @ gradient.ravel()).reshape(gradient.shape)
    told = fit.solve(gradient)
    told[:, -1] += solved[:, -1].mean() - told[:, -1].mean()  # what all classes have in common is anybody's choice
    np.testing.assert_allclose(told, solved, atol=1e-7 * np.abs(solved).max())
    too_many_to_factor(monkeypatch)
    dense = explain.influence(model, X, y, watched, labels)
    thin = explain.influence(model, sparse.csr_matrix(X), y, sparse.csr_matrix(watched), labels)
    np.testing.assert_allclose(thin, dense, rtol=1e-6, atol=1e-12)


def test_more_coefficients_than_are_factored_still_find_wrong_labels():
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X, X**2 / 16, np.roll(X, 1, axis=1) * X / 16, np.sqrt(X), X > 8, X > 4, X > 12])  # 448 columns
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(X))
    train, test = chosen[:500], chosen[500:1000]
    labels = y[train].copy()
    bad = rng.choice(500, 25, replace=False)
    labels[bad] = (labels[bad] + rng.integers(1, 10, 25)) % 10
    model = nx.SoftmaxClassifier(C=1e-4).fit(X[train], labels)
    harm = explain.influence(model, X[train], labels, X[test], y[test])
    assert np.isin(np.argsort(harm)[:25], bad).mean() > 0.6  # by chance: 0.05
    with pytest.raises(RangeError, match="4490 coefficients; at most 4000"):
        explain.leave_one_out(model, X[train], labels)


def test_pipelines_and_scikit_learn_have_the_same_influence():
    X, y = load_wine(return_X_y=True)
    ours = make_pipeline(StandardScaler(), nx.SoftmaxClassifier(tol=1e-12)).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=5000)).fit(X, y)
    a, b = (explain.influence(model, X, y, X[::3], y[::3]) for model in (ours, theirs))
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())


def test_without_a_penalty_the_fit_is_explained_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(400, 3))).argmax(axis=1)
    model = nx.SoftmaxClassifier(C=np.inf).fit(X, y)
    told = explain.leave_one_out(model, X, y)
    np.testing.assert_allclose(told.leverage.sum(), 8.0, rtol=1e-4)  # free parameters: 2 classes by 3 columns and 1
    with pytest.raises(RangeError, match="singular"):
        twice = np.column_stack([X, X[:, 0]])
        explain.leave_one_out(nx.SoftmaxClassifier(C=np.inf).fit(twice, y), twice, y)


W, Z = load_wine(return_X_y=True)
BAD = {
    "other rows": (lambda m: (m, W[::2], Z[::2], W, Z), RangeError, "does not vanish on these rows"),
    "no penalty": (lambda m: (RandomForestClassifier(2).fit(W, Z), W, Z, W, Z), DtypeError, "no coef_"),
    "corners": (
        lambda m: (LogisticRegression(l1_ratio=1.0, solver="saga", tol=0.1).fit(W / W.max(axis=0), Z), W, Z, W, Z),
        DtypeError,
        "has corners",
    ),
    "nothing watched": (lambda m: (m, W, Z, W[:0], Z[:0]), ShapeError, "no rows"),
    "short classes": (lambda m: (m, W, Z[1:], W, Z), ShapeError, "177"),
    "strangers": (lambda m: (m, W, Z, W, Z + 5), RangeError, "y_new is 5, which is no class"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_a_sentence(name):
    arguments, error, words = BAD[name]
    with pytest.raises(error, match=words):
        explain.influence(*arguments(nx.SoftmaxClassifier().fit(W, Z)))


def test_bad_weights_and_tables_are_refused(table_models):
    model = nx.SoftmaxClassifier().fit(W, Z)
    with pytest.raises(ShapeError, match=r"sample_weight has shape \(1,\); \(178,\)"):
        explain.leave_one_out(model, W, Z, sample_weight=[1.0])
    table, block = table_models["columns"]
    with pytest.raises(DtypeError, match="keeps no training rows"):
        explain.leave_one_out(table, block, np.zeros(60))
