"""Importance: what a column is worth, within intervals that hold the truth."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.tables import Block, open_source
from normexp.trusted import TableClassifier


def rows(rng, n):
    """Three classes; column 0 says much, 1 a little, 2 nothing, 3 is column 0 again."""
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 4))
    X[:, 0] += 2.0 * y
    X[:, 1] += 0.5 * (y == 1)
    X[:, 3] = X[:, 0]
    return X, y


@pytest.fixture(scope="module")
def fitted():
    return nx.SoftmaxClassifier().fit(*rows(np.random.default_rng(1), 2000))


def test_the_intervals_hold_what_many_rows_show(fitted, rng):
    """A fall of the log score, on 25 samples of 200 rows, against one of 100 000 rows."""
    X, y = rows(rng, 100_000)
    truth = permutation_importance(fitted, X, y, scoring="neg_log_loss", n_repeats=1, random_state=0).importances_mean
    held = np.zeros(4)
    for _ in range(25):
        sample, labels = rows(rng, 200)
        found = explain.importance(fitted, sample, labels, n_repeats=2, n_resamples=12, rng=int(rng.integers(1000)))
        held += (found.low <= truth) & (truth <= found.high)
    assert (held >= 20).all()  # of 25 at 95 %: fewer has probability 1e-3 for a column


def test_the_spread_over_shuffles_alone_would_not_hold_it(fitted, rng):
    X, y = rows(rng, 100_000)
    truth = permutation_importance(fitted, X, y, scoring="neg_log_loss", n_repeats=1, random_state=0).importances_mean
    held = 0
    for seed in range(20):
        sample, labels = rows(rng, 200)
        found = permutation_importance(
            fitted, sample, labels, scoring="neg_log_loss", n_repeats=12, random_state=seed
        ).importances
        half = 2.2 * found.std(axis=1, ddof=1) / np.sqrt(12)
        held += abs(found.mean(axis=1)[0] - truth[0]) <= half[0]
    assert held < 16


def test_it_is_the_rise_of_the_log_loss_and_names_its_columns():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[::2], y[::2])
    found = explain.importance(model, frame[1::2], y[1::2], n_resamples=2)
    assert found.names.tolist() == list(frame.columns)
    base = log_loss(y[1::2], model.predict_proba(frame[1::2]))
    shuffled, rng, told = frame[1::2].copy(), np.random.default_rng(0), []
    for _ in range(50):
        shuffled.iloc[:, 2] = rng.permutation(frame.iloc[1::2, 2].to_numpy())
        told.append(log_loss(y[1::2], model.predict_proba(shuffled)) - base)
    assert abs(found.value[2] - np.mean(told)) < 4 * np.std(told) / np.sqrt(5)
    accuracy = explain.importance(model, frame[1::2], y[1::2], scoring="accuracy", n_resamples=2)
    assert 0 <= accuracy.value[2] <= 1


def test_any_classifier_will_do_and_seeds_repeat():
    X, y = load_wine(return_X_y=True)
    forest = RandomForestClassifier(20, max_depth=4, min_samples_leaf=5, random_state=0).fit(X, y)
    score = {"scoring": "balanced_accuracy", "n_resamples": 3}
    a, b = (explain.importance(forest, X, y, rng=7, **score) for _ in range(2))
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_array_equal(a.high, b.high)
    assert (explain.importance(forest, X, y, rng=8, **score).value != a.value).any()


def test_columns_of_a_table_are_shuffled_whatever_they_hold(mail_csv):
    source = open_source(mail_csv, target="kind", text="body", features=("links", "folder", "known", "body"))
    model = TableClassifier().fit(source)
    block = source.read(model.schema_, with_target=True)
    found = explain.importance(model, block, block.target, n_repeats=2, n_resamples=3)
    assert found.names.tolist() == list(model.schema_.names)
    told = dict(zip(found.names, found.value, strict=True))
    assert told["body"] == max(found.value) > 0.1
    assert told["body"] > 5 * abs(told["links"])


def test_arrays_of_a_table_model_too(tmp_path):
    X, y = load_wine(return_X_y=True)
    np.savez(tmp_path / "wine.npz", X=X, y=y)
    source = open_source(tmp_path / "wine.npz")
    model = TableClassifier().fit(source)
    found = explain.importance(model, Block(X, None, 0), y, n_repeats=1, n_resamples=2)
    assert found.value.shape == (13,)
    assert found.value.max() > 0


# ---------------------------------------------------------------- coefficients


def test_the_bootstrap_interval_holds_the_coefficients_of_many_rows(rng):
    X, y = rows(rng, 50_000)
    truth = explain.coefficient_importance(nx.SoftmaxClassifier(C=1e3).fit(X, y), X, standard_error=np.zeros((3, 4)))
    held = np.zeros((3, 4))
    for seed in range(20):
        sample, labels = rows(rng, 400)
        model = nx.SoftmaxClassifier(C=1e3, tol=1e-4).fit(sample, labels)
        found = explain.coefficient_importance(model, sample, labels, n_resamples=15, rng=seed)
        held += (found.low <= truth.value) & (truth.value <= found.high)
    assert (held >= 14).all()  # of 20 at 95 %
    assert found.low[2, 0] > 0  # and they are not idle


def test_values_are_scores_for_one_standard_deviation():
    X, y = load_wine(return_X_y=True)
    inner = make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(X, y)
    found = explain.coefficient_importance(inner, X, standard_error=np.ones((3, 13)), level=0.9)
    coef = inner[-1].coef_
    np.testing.assert_allclose(found.value, coef - coef.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.high - found.value, 1.6448536 * np.ones((3, 1)) * X.std(axis=0), rtol=1e-6)
    two = nx.SoftmaxClassifier().fit(X, y > 0)
    found = explain.coefficient_importance(two, X, standard_error=np.zeros((1, 13)))
    np.testing.assert_allclose(found.value, two.coef_ * X.std(axis=0), rtol=1e-12)


W, Z = load_wine(return_X_y=True)
BAD = {
    "no probabilities": (lambda m: explain.importance(Ridge().fit(W, Z), W, Z), DtypeError, "no predict_proba"),
    "no model": (lambda m: explain.importance(3, W, Z), DtypeError, "a int came"),
    "classes": (lambda m: explain.importance(m, W, Z[:5]), ShapeError, "178 rows"),
    "strangers": (lambda m: explain.importance(m, W, Z + 1), RangeError, "3, which is no class"),
    "resamples": (lambda m: explain.importance(m, W, Z, n_resamples=1), RangeError, "n_resamples is 1"),
    "level": (lambda m: explain.importance(m, W, Z, level=95), RangeError, "level is 95"),
    "nothing": (lambda m: explain.coefficient_importance(m, W), RangeError, "neither y nor standard_error"),
    "errors": (lambda m: explain.coefficient_importance(m, W, standard_error=[1.0]), ShapeError, r"\(3, 13\)"),
    "refits": (lambda m: explain.coefficient_importance(m, W, Z, n_resamples=1), RangeError, "n_resamples is 1"),
    "short y": (lambda m: explain.coefficient_importance(m, W, Z[1:]), ShapeError, "178 rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_a_sentence(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call(nx.SoftmaxClassifier().fit(W, Z))


def test_a_certain_error_is_said_and_not_hidden_as_nan():
    forest = RandomForestClassifier(3, random_state=0).fit(W[::2], Z[::2])
    with pytest.raises(RangeError, match="probability 0"):
        explain.importance(forest, W[1::2], Z[1::2], n_repeats=1, n_resamples=2)


def test_a_table_has_no_one_coefficient(table_models):
    model, block = table_models["columns"]
    with pytest.raises(DtypeError, match="no one coefficient"):
        explain.coefficient_importance(model, block, np.zeros(60))
