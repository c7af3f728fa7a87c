"""Certificates hold against the worst moves that can be found, and are not idle."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.special import softmax as reference_softmax
from sklearn.datasets import load_digits, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, RangeError
from normexp.explain.certificates import logit_radius, operator_norm, sureness

X, Y = load_wine(return_X_y=True)
NORMS = [1, 2, np.inf]


@pytest.fixture(scope="module", params=["wine", "digits", "two classes"])
def case(request):
    if request.param == "digits":
        rows, y = load_digits(return_X_y=True)
        return nx.SoftmaxClassifier(C=0.01).fit(rows, y), rows[:150]
    y = np.minimum(Y, 1) if request.param == "two classes" else Y
    return make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(X, y), X


def scores(model):
    """(coef, intercept) on the columns of X, by finite differences of the scores: they are linear."""
    n = model.n_features_in_
    zero = np.zeros((1, n))

    def logits(rows):
        z = model.decision_function(rows)
        return np.column_stack([np.zeros_like(z), z]) if z.ndim == 1 else z

    base = logits(zero)[0]
    return np.array([logits(zero + np.eye(n)[[j]])[0] - base for j in range(n)]).T


def moves(model, rows, norm, rng):
    """Directions of length 1 in which probabilities move much: random ones, gradients, singular vectors."""
    coef = scores(model)
    prob = model.predict_proba(rows)
    found = [*rng.normal(size=(10, *rows.shape))]
    right = np.linalg.svd(coef - coef.mean(axis=0))[2]
    found += [sign * np.broadcast_to(right[0], rows.shape) for sign in (-1, 1)]
    for k in range(len(coef)):
        gradient = prob[:, [k]] * (coef[k] - prob @ coef)
        found += [gradient, -gradient]
    for direction in found:
        if norm == 1:
            direction = direction * (np.abs(direction) == np.abs(direction).max(axis=1, keepdims=True))  # noqa: PLW2901
        elif norm == np.inf:
            direction = np.sign(direction)  # noqa: PLW2901
        length = np.linalg.norm(direction, ord=norm, axis=1, keepdims=True)
        yield np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)


def furthest(model, rows, radius, norm, rng):
    """Largest move of the probabilities of each row within its radius that could be found."""
    prob = model.predict_proba(rows)
    worst = np.zeros(len(rows))
    for unit in moves(model, rows, norm, rng):
        for share in (0.5, 1.0):
            moved = model.predict_proba(rows + share * radius[:, None] * unit)
            worst = np.maximum(worst, np.linalg.norm(moved - prob, axis=1))
    return worst


@pytest.mark.parametrize("eps", [0.01, 0.3])
@pytest.mark.parametrize("norm", NORMS)
def test_no_move_within_the_radius_moves_the_probabilities_by_more_than_eps(case, norm, eps, rng):
    model, rows = case
    told = explain.stability(model, rows, eps=eps, norm=norm)
    assert (furthest(model, rows, told.radius, norm, rng) <= eps * (1 + 1e-9)).all()
    assert (told.radius >= eps / told.lipschitz * (1 - 1e-12)).all()


def test_the_certificate_is_not_idle(case, rng):
    """Sure predictions have a far larger radius than the constant alone gives, and twice the radius is too much."""
    model, rows = case
    told = explain.stability(model, rows, eps=0.1)
    assert np.median(told.radius) > 2 * 0.1 / told.lipschitz
    assert (furthest(model, rows, 2 * told.radius, 2, rng) > 0.1).mean() > 0.05


def test_a_constant_of_a_quarter_would_be_noticed(rng):
    """1/4, the slope of the logistic function, is the constant of one probability, not of all of them."""
    model = LogisticRegression()
    model.coef_, model.intercept_ = np.array([[2.0]]), np.array([0.0])
    model.classes_, model.n_features_in_ = np.array([0, 1]), 1
    told = explain.stability(model, [[0.0]], eps=0.01)
    assert furthest(model, np.zeros((1, 1)), told.radius, 2, rng)[0] == pytest.approx(0.01, rel=1e-3)  # it is tight
    assert furthest(model, np.zeros((1, 1)), 2 * told.radius, 2, rng)[0] > 0.01


def test_a_sureness_that_did_not_fade_would_be_noticed():
    """Integrating the Jacobian at the row, instead of the largest on the way, is no bound."""
    way = np.array([1.0, -1.0]) / np.sqrt(2)
    start = np.array([[0.0, 6.0]])
    eps = 0.5
    radius = logit_radius(sureness(start), eps)[0]
    frozen = eps / (2 * expit(6.0) * expit(-6.0))
    prob = reference_softmax(start[0])
    assert np.linalg.norm(reference_softmax(start[0] + radius * way) - prob) == pytest.approx(eps, rel=1e-9)
    assert np.linalg.norm(reference_softmax(start[0] + frozen * way) - prob) > 2 * eps


@pytest.mark.parametrize("sure", [0.0, 0.3, 4.0, 30.0])
@pytest.mark.parametrize("eps", [1e-6, 0.05, 0.6, 1.3])
def test_the_radius_inverts_the_integral(sure, eps):
    radius = logit_radius(np.array([sure]), eps)[0]

    def slope(s):
        odds = max(0.0, sure - np.sqrt(2) * s)
        return 2 * expit(odds) * expit(-odds)

    kink = min(radius, sure / np.sqrt(2))
    told = quad(slope, 0, kink, epsabs=1e-13)[0] + 0.5 * (radius - kink)
    assert told == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_operator_norm_is_that_of_the_worst_direction(norm, rng):
    matrix = rng.normal(size=(4, 6))
    corners = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T.astype(float)
    directions = {1: np.eye(6), 2: np.linalg.svd(matrix)[2][:1], np.inf: corners}[norm]
    worst = np.linalg.norm(directions @ matrix.T, axis=1).max()
    told = operator_norm(matrix, norm)
    assert worst <= told * (1 + 1e-12)
    assert told == pytest.approx(worst, rel=1e-12) if norm != np.inf else told < 2 * worst


def test_the_label_radius_is_that_of_the_contrast_and_eps_has_its_limits():
    model = nx.SoftmaxClassifier().fit(X, Y)
    told = explain.stability(model, X, scale=X.std(axis=0))
    np.testing.assert_array_equal(told.label_radius, explain.contrast(model, X, scale=X.std(axis=0)).radius)
    assert np.isinf(explain.stability(model, X, eps=1.5).radius).all()  # nothing moves so far
    for eps in (0.0, -1.0, np.nan):
        with pytest.raises(RangeError, match="stability: eps"):
            explain.stability(model, X, eps=eps)
    with pytest.raises(RangeError, match="norm is 3"):
        explain.stability(model, X, norm=3)
    texts = make_pipeline(TfidfVectorizer(), nx.SoftmaxClassifier()).fit(["aa bb", "bb cc"], [0, 1])
    with pytest.raises(DtypeError, match="not affine"):
        explain.stability(texts, ["aa"])
