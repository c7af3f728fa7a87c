"""Contributions to the probability: complete to 1e-9, equal to the integral, for wild and tame logits alike."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse
from scipy.integrate import quad
from scipy.special import expit
from scipy.special import softmax as reference_softmax
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError
from normexp.explain.probability import integrated_pull

X, Y = load_wine(return_X_y=True)


def pull_by_quadrature(start, way, of, k):
    """One integral by SciPy, with the places that matter given."""

    def pull(t):
        prob = reference_softmax(start + t * way)
        return prob[of] * ((of == k) - prob[k])

    points = np.unique(np.r_[np.linspace(0, 1, 60), np.clip(-(start - start[of]) / (way - way[of] + 1e-300), 0, 1)])
    return sum(quad(pull, a, b, epsabs=1e-13, limit=200)[0] for a, b in pairwise(points))


@pytest.mark.parametrize("size", [0.1, 3.0, 50.0, 1000.0])
def test_each_integral_is_the_one_that_scipy_finds(rng, size):
    start, way = rng.normal(size=(4, 5)), size * rng.normal(size=(4, 5))
    of = np.array([0, 1, 4, 4])
    told = integrated_pull(start, way, of)
    wanted = [[pull_by_quadrature(start[i], way[i], of[i], k) for k in range(5)] for i in range(4)]
    np.testing.assert_allclose(told, wanted, atol=2e-11)


def test_two_classes_have_the_closed_form(rng):
    start, way = rng.normal(size=50), rng.normal(size=50) * 10.0 ** rng.uniform(-2, 4, 50)
    zero = np.zeros(50)
    told = integrated_pull(np.column_stack([zero, start]), np.column_stack([zero, way]), np.ones(50, dtype=np.intp))
    wanted = (expit(start + way) - expit(start)) / way
    np.testing.assert_allclose(told[:, 1], wanted, atol=1e-11)
    np.testing.assert_allclose(told[:, 0], -wanted, atol=1e-11)


def incompleteness(pull, start, way, of):
    """Largest distance of the sums to the change of the probability."""
    here = np.arange(len(of))
    change = reference_softmax(start + way, axis=1)[here, of] - reference_softmax(start, axis=1)[here, of]
    return np.abs(np.einsum("nk,nk->n", pull, way) - change).max()


def wild(rng, n_rows=400, n_classes=6):
    """Ways on which classes come and go within a millionth of their length."""
    way = rng.normal(size=(n_rows, n_classes)) * 10.0 ** rng.uniform(-2, 4.5, (n_rows, 1))
    return rng.normal(size=(n_rows, n_classes)) * 10.0 ** rng.uniform(-1, 3, (n_rows, 1)), way


def test_it_is_complete_to_1e_9_for_wild_logits(rng):
    start, way = wild(rng)
    of = rng.integers(0, 6, len(way))
    assert incompleteness(integrated_pull(start, way, of), start, way, of) <= 1e-9


def test_a_class_that_wins_for_a_moment_only_is_not_missed():
    """Between two others that are far ahead at either end, the class is on top for a ten-thousandth of the way."""
    t = 0.3123
    way = 1e5 * np.array([[-1.0, 1.0, 0.0]])
    start = np.array([[1e5 * t, -1e5 * t, 10.0]])
    of = np.array([2])
    told = integrated_pull(start, way, of)
    wanted = pull_by_quadrature(start[0], way[0], 2, 1)
    assert abs(wanted) > 9e-6
    np.testing.assert_allclose(told[0, 1], wanted, rtol=1e-6)


def test_the_bound_rejects_fifty_equal_steps(rng):
    """What is usual for networks: the mean gradient at 50 points."""
    start, way = wild(rng)
    of = rng.integers(0, 6, len(way))
    here, pull = np.arange(len(of)), np.zeros_like(way)
    for t in (np.arange(50) + 0.5) / 50:
        prob = reference_softmax(start + t * way, axis=1)
        pull += prob[here, of][:, None] * (np.eye(6)[of] - prob) / 50
    assert incompleteness(pull, start, way, of) > 1e-3


@pytest.mark.parametrize("model", [nx.SoftmaxClassifier(), make_pipeline(StandardScaler(), LogisticRegression())])
def test_rows_sum_to_what_the_probability_exceeds_the_baseline_by(model):
    model.fit(X, Y)
    mean = X.mean(axis=0)
    phi = explain.probability_contributions(model, X, baseline=mean)
    prob, base = model.predict_proba(X), model.predict_proba(mean[None])[0]
    first = prob.argmax(axis=1)
    assert np.abs(phi.sum(axis=1) - (prob.max(axis=1) - base[first])).max() <= 1e-9
    one = explain.probability_contributions(model, X, of=1, baseline=mean)
    assert np.abs(one.sum(axis=1) - (prob[:, 1] - base[1])).max() <= 1e-9


def test_a_column_without_weight_has_no_part():
    model = nx.SoftmaxClassifier().fit(np.column_stack([X[:, :3], np.zeros(len(X))]), Y)
    rows = np.column_stack([X[:, :3], np.ones(len(X))])
    phi = explain.probability_contributions(model, rows)
    assert np.abs(phi[:, 3]).max() <= 1e-12 < np.abs(phi[:, :3]).max()


@pytest.mark.parametrize("baseline", [None, 2.0])
def test_sparse_rows_have_the_contributions_of_dense_ones(baseline):
    digits, y = load_digits(return_X_y=True)
    model = nx.SoftmaxClassifier(C=0.01).fit(digits, y)
    told = explain.probability_contributions(model, sparse.csr_matrix(digits[:50]), baseline=baseline)
    wanted = explain.probability_contributions(model, digits[:50], baseline=baseline)
    assert sparse.issparse(told)
    np.testing.assert_allclose(told.toarray(), wanted, atol=1e-13)
    prob = model.predict_proba(digits[:50])
    base = model.predict_proba(np.full((1, 64), baseline or 0.0))[0]
    assert np.abs(wanted.sum(axis=1) - (prob.max(axis=1) - base[prob.argmax(axis=1)])).max() <= 1e-9


def test_columns_of_a_table_sum_to_the_probability(table_models):
    model, block = table_models["columns"]
    phi = explain.probability_contributions(model, block, of="ham")
    logits = model.decision_function(model.encoder_.transform(block.features))
    prob = reference_softmax(logits, axis=1)[:, list(model.classes_).index("ham")]
    base = prob - phi.sum(axis=1)  # one number: the probability at the baseline
    np.testing.assert_allclose(base, base[0], atol=1e-5)  # the encoder is float32
    assert 0 < base[0] < 1
    with pytest.raises(DtypeError, match="no common scale"):
        explain.probability_contributions(model, block, baseline=0.0)


def test_no_rows_give_no_contributions():
    model = nx.SoftmaxClassifier().fit(X, Y)
    assert explain.probability_contributions(model, X[:0]).shape == (0, 13)
