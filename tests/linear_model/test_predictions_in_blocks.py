"""Predictions of many rows for many classes: the same to the bit whoever asks, in memory that is bounded."""

import tracemalloc

import numpy as np
import pytest

import normexp as nx
from normexp import NormexpError, SoftmaxClassifier
from normexp.linear_model import head

N_CLASSES = 300


def model_of(n_classes, n_features=4, dtype=np.float64):
    """A model with drawn coefficients, as a fit of so many classes would leave it."""
    rng = np.random.default_rng(0)
    model = SoftmaxClassifier()
    scores = 1 if n_classes == 2 else n_classes
    model.coef_ = rng.normal(size=(scores, n_features)).astype(dtype)
    model.intercept_, model.classes_ = np.zeros(scores, dtype), np.array([f"c{k:04}" for k in range(n_classes)])
    model.n_features_in_ = n_features
    return model


def peak(function, *given):
    """Bytes that a call takes at most, besides what was there, and its answer."""
    function(*given)  # compiled and loaded before it is measured
    tracemalloc.start()
    answer = function(*given)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, answer


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 7])
def test_blocks_give_the_answers_of_single_rows(monkeypatch, n_classes, dtype, rng):
    model = model_of(n_classes, dtype=dtype)
    X = rng.normal(size=(53, 4)).astype(dtype)
    whole = [getattr(model, name)(X) for name in ("predict_proba", "predict_log_proba", "decision_function")]
    labels = model.predict(X)
    monkeypatch.setattr(head, "_BLOCK", 10 * n_classes)  # blocks of 10 rows, the last of 3
    assert sum(1 for _ in head.score_blocks(model, X)) == 6
    cut = [getattr(model, name)(X) for name in ("predict_proba", "predict_log_proba", "decision_function")]
    for one, other in zip(cut, whole, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(model.predict(X), labels)
    best, prob = model.predict_top_k(X, 2)
    np.testing.assert_array_equal(best[:, 0], labels)
    order = np.argsort(-cut[0], axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(best, model.classes_[order])
    np.testing.assert_array_equal(prob, np.take_along_axis(cut[0], order, axis=1))  # to the bit


def test_memory_is_that_of_the_answer_and_of_a_block(rng):
    model, X = model_of(N_CLASSES), rng.normal(size=(60_000, 4))
    whole = 8 * len(X) * N_CLASSES  # 144 MB
    block = 8 * head._BLOCK
    most, (labels, prob) = peak(model.predict_top_k, X, 5)
    assert labels.shape == prob.shape == (60_000, 5)
    assert most < 5 * block + 4 * (labels.nbytes + prob.nbytes) < 0.7 * whole
    most, labels = peak(model.predict, X)
    assert most < 4 * block + 4 * labels.nbytes < 0.4 * whole
    most, prob = peak(model.predict_proba, X)
    assert prob.nbytes == whole
    assert most < whole + 6 * block < 1.4 * whole
    # the test of the test: the textbook's way, all at once
    most, _ = peak(lambda: np.argsort(-np.asarray(nx.softmax(X @ model.coef_.T)), axis=1, kind="stable")[:, :5])
    assert most > 2 * whole


@pytest.mark.parametrize(("k", "words"), [(0, "k is 0"), (4, "k is 4"), (1.5, "k is 1.5"), (True, "k is True")])
def test_a_wrong_k_is_refused_in_words(k, words):
    with pytest.raises(NormexpError, match=f"predict_top_k: {words}"):
        model_of(3).predict_top_k(np.zeros((2, 4)), k)
