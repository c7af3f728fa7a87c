"""Generative models in closed form: their posteriors are scikit-learn's, and they start the solver."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import BernoulliNB, MultinomialNB

from contract import checks_of
from normexp import NormexpError, SoftmaxClassifier
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of(LinearDiscriminant(), NaiveBayesSoftmax()),
)
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_discriminants_posterior_is_scikit_learns(load):
    X, y = load(return_X_y=True)
    ours, theirs = LinearDiscriminant().fit(X, y), LinearDiscriminantAnalysis().fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-10)


def test_a_fully_shrunk_covariance_is_a_multiple_of_the_identity():
    X, y = load_wine(return_X_y=True)
    model = LinearDiscriminant(shrinkage=1.0).fit(X, y)
    means = np.stack([X[y == k].mean(axis=0) for k in range(3)])
    within = X - means[y]
    spread = np.sqrt(np.mean(within**2, axis=0))
    average = np.sum((within / spread) ** 2) / X.size
    logits = -0.5 * np.sum(((X[:, None] - means) / spread) ** 2, axis=2) / average + np.log(np.bincount(y) / len(y))
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(X), prob / prob.sum(axis=1, keepdims=True), atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("thin", [False, True])
def test_naive_bayes_posteriors_are_scikit_learns(rng, weighted, thin):
    X, y = load_digits(return_X_y=True)
    weight = rng.uniform(0.5, 2.0, size=len(y)) if weighted else None
    given = sparse.csr_matrix(X) if thin else X
    ours = NaiveBayesSoftmax(alpha=0.5).fit(given, y, sample_weight=weight)
    theirs = MultinomialNB(alpha=0.5).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.predict_proba(given), theirs.predict_proba(X), rtol=0, atol=1e-10)
    present = (X > 8).astype(float)
    ours = NaiveBayesSoftmax(kind="bernoulli").fit(sparse.csr_matrix(present) if thin else present, y, weight)
    theirs = BernoulliNB().fit(present, y, sample_weight=weight)
    np.testing.assert_allclose(ours.predict_proba(present), theirs.predict_proba(present), rtol=0, atol=1e-10)


@pytest.mark.parametrize("init", ["lda", "naive_bayes"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_a_generative_start_ends_at_the_same_optimum(init, load):
    X, y = load(return_X_y=True)
    started, plain = SoftmaxClassifier(init=init, tol=1e-9).fit(X, y), SoftmaxClassifier(tol=1e-9).fit(X, y)
    assert started.solution_.objective == pytest.approx(plain.solution_.objective, rel=1e-8)
    untouched = SoftmaxClassifier(init=init, max_iter=0).fit(X, y)
    source = LinearDiscriminant() if init == "lda" else NaiveBayesSoftmax()
    np.testing.assert_allclose(untouched.predict_proba(X), source.fit(X, y).predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_model_turns_into_scikit_learns_with_the_same_predictions(load):
    X, y = load(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y)
    theirs = model.to_sklearn()
    np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), atol=1e-12)
    assert np.array_equal(theirs.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("model", "X", "words"),
    [
        (LinearDiscriminant(shrinkage=2.0), [[0.0], [1.0], [2.0]], "shrinkage"),
        (NaiveBayesSoftmax(kind="gaussian"), [[0.0], [1.0], [2.0]], "kind"),
        (NaiveBayesSoftmax(alpha=0.0), [[0.0], [1.0], [2.0]], "alpha"),
        (NaiveBayesSoftmax(), [[0.0], [-1.0], [2.0]], "0 or more"),
        (NaiveBayesSoftmax(kind="bernoulli"), [[0.0], [1.0], [2.0]], "other than 0 and 1"),
        (SoftmaxClassifier(init="zeros"), [[0.0], [1.0], [2.0]], "init"),
    ],
)
def test_wrong_parameters_are_refused_in_words(model, X, words):
    with pytest.raises(NormexpError, match=words):
        model.fit(X, [0, 1, 1])
