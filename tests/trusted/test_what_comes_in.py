"""What a trusted model is asked in another form than it was fitted in, and options of no meaning."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

import normexp as nx
from refusals import refused


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=240)
    x = 1.5 * rng.normal(size=(4, 5))[y] + rng.normal(size=(240, 5))
    return nx.TrustedClassifier(LogisticRegression()).fit(x, y), x, y


def test_sparse_rows_are_answered_by_a_model_of_dense_ones(fitted):
    model, x, _ = fitted
    thin = sparse.csr_matrix(x)
    assert model.detector_.reads_features_
    assert model.unknown_score(thin) == pytest.approx(model.unknown_score(x), rel=1e-9)
    assert (model.predict_or_reject(thin) == model.predict_or_reject(x)).all()


@pytest.mark.parametrize("size", [1e160, 1e200, 1e300])
def test_rows_of_any_size_are_strangers_without_a_warning_of_numpy(fitted, size):
    model, x, _ = fitted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = model.unknown_score(size * x[:5])
    assert np.isfinite(score).all()
    assert (score > model.detector_.threshold_).all()


def test_what_the_base_refuses_is_said_in_words_of_the_trusted_model(fitted):
    model, x, _ = fitted
    for ask in (model.predict, model.predict_set, model.unknown_score, model.predict_or_reject, model.explain):
        refused(ValueError, "TrustedClassifier: X has 2 features", ask, x[:, :2])
        refused(ValueError, "contains NaN, first in row 0", ask, x * np.nan)
    refused(ValueError, "unequal lengths", model.decide, [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("value", [["balanced"], 1, "fair"])
def test_an_objective_that_is_none_is_refused(fitted, value):
    _, x, y = fitted
    refused(ValueError, "objective is", nx.TrustedClassifier(objective=value).fit, x, y)


@pytest.mark.parametrize("model", [nx.SoftmaxClassifier(), nx.TrustedClassifier()])
def test_weights_that_are_no_numbers_are_refused(fitted, model):
    _, x, y = fitted
    refused(TypeError, "sample_weight has dtype", model.fit, x, y, sample_weight=["heavy"] * 240)


def test_tensors_that_ask_for_a_gradient_are_refused_in_a_sentence(fitted):
    torch = pytest.importorskip("torch")
    _, x, y = fitted
    rows = torch.tensor(x, requires_grad=True)
    weight = torch.ones(240, dtype=torch.float64, requires_grad=True)
    refused(TypeError, "tensor.detach()", nx.SoftmaxClassifier().fit, rows, y)
    refused(TypeError, "tensor.detach()", nx.TrustedClassifier().fit, rows, y)
    found = nx.SoftmaxClassifier().fit(x, y, sample_weight=weight)
    assert (found.coef_ == nx.SoftmaxClassifier().fit(x, y, sample_weight=np.ones(240)).coef_).all()


@pytest.mark.parametrize("estimator", ["x", 3, LogisticRegression])
def test_an_estimator_that_is_none_is_refused(fitted, estimator):
    _, x, y = fitted
    refused(TypeError, "TrustedClassifier.fit: estimator is ", nx.TrustedClassifier(estimator).fit, x, y)


def test_what_the_base_refuses_at_the_fit_is_said_in_words_of_the_trusted_model(fitted):
    _, x, y = fitted
    holed = x.copy()
    holed[7, 2] = np.nan
    refused(ValueError, "TrustedClassifier.fit: ", nx.TrustedClassifier(LogisticRegression()).fit, holed, y)
    refused(ValueError, "TrustedClassifier.fit: ", nx.TrustedClassifier(LogisticRegression()).fit, [["a"]] * 240, y)
    refused(ValueError, "TrustedClassifier.fit: ", nx.TrustedClassifier(LogisticRegression(C=-1.0)).fit, x, y)
