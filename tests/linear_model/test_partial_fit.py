"""partial_fit: the whole fit while the window holds all rows, near it afterwards, and words for what does not fit."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import normexp as nx
from normexp import NormexpError, SoftmaxClassifier
from normexp.solvers import running


def streamed(model, X, y, n_batches=20):
    """The model after so many batches in the order of the rows."""
    for rows in np.array_split(np.arange(len(y)), n_batches):
        model.partial_fit(X[rows], y[rows], classes=np.unique(y))
    return model


def parts(load):
    X, y = load(return_X_y=True)
    spread = X.std(axis=0)
    X = X / np.where(spread > 0, spread, 1.0)
    return train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


@pytest.mark.parametrize("penalty", ["l2", "l1", "group_lasso"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_while_all_rows_are_in_the_window_it_is_the_whole_fit(load, penalty):
    X, fresh, y, _ = parts(load)
    whole = SoftmaxClassifier(penalty=penalty, C=0.5).fit(X, y)
    model = streamed(SoftmaxClassifier(penalty=penalty, C=0.5, tol=1e-9), X, y)
    np.testing.assert_allclose(model.predict_proba(fresh), whole.predict_proba(fresh), atol=5e-3)


def test_twenty_batches_of_digits_come_near_the_whole_fit(monkeypatch):
    C = 0.1
    X, fresh, y, truth = parts(load_digits)
    whole = log_loss(truth, SoftmaxClassifier(C=C).fit(X, y).predict_proba(fresh))
    assert log_loss(truth, streamed(SoftmaxClassifier(C=C), X, y).predict_proba(fresh)) <= 1.03 * whole
    # and with a window of two batches, which lets eighteen go
    monkeypatch.setattr(running, "_ROWS", 130)
    monkeypatch.setattr(running, "_ROWS_PER_UNKNOWN", 0)
    model = streamed(SoftmaxClassifier(C=C), X, y)
    assert len(model._running.batches) == 2
    assert log_loss(truth, model.predict_proba(fresh)) <= 1.25 * whole


def test_batches_of_a_real_table_come_near_the_whole_fit(shared_data):
    import pandas as pd

    frame = pd.read_csv(shared_data / "dry-bean" / "data.csv.gz")
    X, y = frame.drop(columns="label").to_numpy(float), frame["label"].to_numpy()
    X = X / X.std(axis=0)
    X, fresh, y, truth = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    whole = SoftmaxClassifier().fit(X, y)
    model = streamed(SoftmaxClassifier(), X, y)
    assert sum(len(batch[1]) for batch in model._running.batches) < len(y) / 2  # most rows are gone
    labels = whole.classes_
    ours = log_loss(truth, model.predict_proba(fresh), labels=labels)
    assert ours <= 1.03 * log_loss(truth, whole.predict_proba(fresh), labels=labels)
    # the test of the test: the last batches alone would not do
    last = SoftmaxClassifier().fit(X[-470:], y[-470:])
    assert log_loss(truth, last.predict_proba(fresh), labels=labels) > 1.03 * ours


def test_many_coefficients_are_kept_track_of_by_their_diagonal(monkeypatch):
    X, fresh, y, truth = parts(load_digits)
    whole = log_loss(truth, SoftmaxClassifier(C=0.1).fit(X, y).predict_proba(fresh))
    monkeypatch.setattr(running, "MAX_UNKNOWNS", 100)
    exact = streamed(SoftmaxClassifier(C=0.1), sparse.csr_matrix(X), y)
    assert exact._running.information.ndim == 1
    assert log_loss(truth, exact.predict_proba(sparse.csr_matrix(fresh))) <= 1.03 * whole
    monkeypatch.setattr(running, "_ROWS", 300)
    monkeypatch.setattr(running, "_ROWS_PER_UNKNOWN", 0)
    rough = log_loss(truth, streamed(SoftmaxClassifier(C=0.1), X, y).predict_proba(fresh))
    assert rough <= 2.0 * whole
    assert rough < log_loss(truth, SoftmaxClassifier(C=0.1).fit(X[-300:], y[-300:]).predict_proba(fresh))


def test_rows_sorted_by_class_are_learned_though_batches_lack_classes(monkeypatch):
    monkeypatch.setattr(running, "_ROWS", 60)
    monkeypatch.setattr(running, "_ROWS_PER_UNKNOWN", 0)
    X, fresh, y, truth = parts(load_wine)
    order = np.argsort(y, kind="stable")
    model = streamed(SoftmaxClassifier(), X[order], y[order], n_batches=6)
    assert np.all(np.isfinite(model.coef_))
    assert model.score(fresh, truth) > 0.9


def test_a_copy_of_a_stream_goes_on_and_holds_no_row(tmp_path):
    X, fresh, y, truth = parts(load_wine)
    model = SoftmaxClassifier().partial_fit(X[:60], y[:60], classes=[0, 1, 2])
    again = pickle.loads(pickle.dumps(model))
    assert model._running.batches
    assert not again._running.batches
    np.testing.assert_array_equal(again.predict_proba(fresh), model.predict_proba(fresh))
    again.partial_fit(X[60:], y[60:])
    assert again.score(fresh, truth) > 0.9
    assert not hasattr(clone(again), "coef_")
    nx.save(model, tmp_path / "model.nx")
    loaded = nx.load(tmp_path / "model.nx")
    np.testing.assert_array_equal(loaded.predict_proba(fresh), model.predict_proba(fresh))
    loaded.partial_fit(X[60:], y[60:])
    np.testing.assert_allclose(loaded.predict_proba(fresh), again.predict_proba(fresh), atol=1e-12)


def test_fit_forgets_the_stream():
    X, _, y, _ = parts(load_wine)
    model = SoftmaxClassifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    np.testing.assert_array_equal(model.fit(X, y).coef_, SoftmaxClassifier().fit(X, y).coef_)
    with pytest.warns(nx.NormexpWarning, match="start anew"):
        model.partial_fit(X[:70], y[:70])
    np.testing.assert_allclose(model.coef_, SoftmaxClassifier().partial_fit(X[:70], y[:70], [0, 1, 2]).coef_)


def test_weights_count_as_repeated_rows():
    X, fresh, y, _ = parts(load_wine)
    weight = np.random.default_rng(0).integers(1, 3, size=len(y))
    weighted, repeated = SoftmaxClassifier(tol=1e-10), SoftmaxClassifier(tol=1e-10)
    for rows in np.array_split(np.arange(len(y)), 3):
        weighted.partial_fit(X[rows], y[rows], classes=[0, 1, 2], sample_weight=weight[rows])
        twice = np.repeat(rows, weight[rows])
        repeated.partial_fit(X[twice], y[twice], classes=[0, 1, 2])
    np.testing.assert_allclose(weighted.predict_proba(fresh), repeated.predict_proba(fresh), atol=1e-6)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([{}], "classes must be passed on the first call"),
        ([{"classes": [0, 1, 2]}, {"classes": [0, 1]}], "not the same as on the first call"),
        ([{"classes": [0, 1]}], "is 2, which is not among the classes"),
        ([{"classes": [0]}], "one class only"),
    ],
)
def test_classes_that_do_not_fit_are_refused_in_a_sentence(calls, words):
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier()
    with pytest.raises(ValueError, match=words) as caught:
        for call in calls:
            model.partial_fit(X, y, **call)
    assert isinstance(caught.value, NormexpError)


def test_a_balanced_weight_and_another_width_are_refused():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(NormexpError, match="needs the whole of y"):
        SoftmaxClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    model = SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="expecting 13 features"):
        model.partial_fit(X[:, :5], y)


def test_a_declared_class_that_never_came_is_said():
    X, _, y, _ = parts(load_wine)
    few = y < 2
    model = SoftmaxClassifier().partial_fit(X[few], y[few], classes=[0, 1, 2])
    assert not model.solution_.converged
    assert "declared class" in model.solution_.outcome.value
    assert model.class_count_.tolist() == [np.sum(y == 0), np.sum(y == 1), 0]
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.partial_fit(X[~few], y[~few])
        assert one.solution_.converged
        assert one.class_count_.tolist() == np.bincount(y).tolist()
    # rows of no weight do not come
    assert not SoftmaxClassifier().partial_fit(X, y, [0, 1, 2], sample_weight=y < 2).solution_.converged
    assert not hasattr(model.fit(X, y), "class_count_")
