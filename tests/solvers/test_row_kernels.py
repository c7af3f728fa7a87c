"""The row functions of a fit against NumPy in long double, whatever the number of classes, in one piece or in many."""

import numpy as np
import pytest

import normexp as nx
from normexp.backends import curvature, pieces

CLASSES = [2, 3, 7, 15, 16, 17, 24, 100, 1100]


def rows(n_classes, *, spread=8.0, seed=1):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(70, n_classes)) * spread
    target = rng.integers(0, n_classes, 70).astype(np.intp)
    return scores, target, rng.uniform(0.1, 2.0, 70), rng


def right(scores, target, weight):
    """Residuals, probabilities, loss and entropy in long double."""
    wide = scores.astype(np.longdouble)
    wide -= wide.max(axis=1, keepdims=True)
    mass = np.exp(wide)
    total = mass.sum(axis=1, keepdims=True)
    prob = mass / total
    residual = prob.copy()
    at = np.arange(len(target)), target
    others = mass.copy()
    others[at] = 0
    residual[at] = -others.sum(axis=1) / total[:, 0]
    log_total = np.log(total[:, 0])
    loss = np.sum(weight * (log_total - wide[at]))
    entropy = np.sum(weight * (log_total - (mass * wide).sum(axis=1) / total[:, 0]))
    return residual * weight[:, None], prob, float(loss), float(entropy)


@pytest.fixture(params=["one piece", "many pieces"])
def cut(request, monkeypatch):
    if request.param == "many pieces":
        monkeypatch.setattr(pieces, "LARGE", 1)
        monkeypatch.setattr(pieces, "PIECE", 200)


@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("spread", [1.0, 30.0, 400.0])
def test_residuals_loss_and_entropy(n_classes, spread, cut):
    scores, target, weight, _ = rows(n_classes, spread=spread)
    residual, prob, loss, entropy = right(scores, target, weight)
    found, found_prob = scores.copy(), np.empty_like(scores)
    found_loss, found_entropy = curvature.residual(found, target, weight, found_prob)
    # A score less the largest is rounded, so its exponential has |difference| / 2 units of error, and a few of its own;
    # subnormal numbers have fewer digits.
    gap = scores.max(axis=1, keepdims=True) - scores
    allowed = (0.5 * gap + 8) * np.finfo(float).eps
    assert np.all(np.abs(found_prob - prob) <= allowed * prob + 1e-300)
    allowed[np.arange(70), target] = allowed.max(axis=1)  # minus the sum of the others
    assert np.all(np.abs(found - residual) <= allowed * np.abs(residual) + 1e-300)
    assert found_loss == pytest.approx(loss, rel=1e-13)
    assert found_entropy == pytest.approx(entropy, rel=1e-13)


def test_a_residual_of_p_minus_one_would_fail():
    """The textbook's p_y - 1 has no digit left where the class is certain."""
    scores = np.array([[50.0] + 19 * [0.0]])
    residual, prob, *_ = right(scores, np.zeros(1, np.intp), np.ones(1))
    found = scores.copy()
    curvature.residual(found, np.zeros(1, np.intp), np.ones(1), np.empty_like(scores))
    assert found[0, 0] == pytest.approx(float(residual[0, 0]), rel=1e-14)
    assert float(prob[0, 0]) - 1.0 == 0.0


@pytest.mark.parametrize("n_classes", [1, *CLASSES])
@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_covariance_products(n_classes, damping, cut):
    scores, target, weight, rng = rows(n_classes)
    prob = rng.dirichlet(np.ones(n_classes), size=70) if n_classes > 1 else rng.uniform(size=(70, 1))
    target = target if n_classes > 1 else rng.integers(0, 2, 70).astype(np.intp)
    member = np.eye(max(n_classes, 2))[target][:, -n_classes:]
    own = (prob * member).sum(axis=1) if n_classes > 1 else np.where(target == 1, prob[:, 0], 1 - prob[:, 0])
    a = (0.5 * damping * (1 - own))[:, None]
    q = (1 - a) * prob + a * member
    expected = q * scores * (1 - q) if n_classes == 1 else q * (scores - (q * scores).sum(axis=1, keepdims=True))
    curvature.tangent_product(scores, prob, target, weight, damping)
    np.testing.assert_allclose(scores, expected * weight[:, None], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("n_classes", [1, *CLASSES])
def test_losses_along_a_line(n_classes, cut):
    scores, target, weight, rng = rows(n_classes)
    tangent = rng.normal(size=scores.shape) * 50
    target = target if n_classes > 1 else rng.integers(0, 2, 70).astype(np.intp)
    lengths = np.array([0.0, 0.25, 1.0, 8.0])
    found = curvature.losses_along(scores, tangent, target, weight, lengths)
    for length, loss in zip(lengths, found, strict=True):
        moved = scores + length * tangent
        both = moved if n_classes > 1 else np.hstack([np.zeros_like(moved), moved])
        assert loss == pytest.approx(right(both, target, weight)[2], rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(bad):
    scores, target, weight, _ = rows(20)
    scores[11, 3] = bad
    assert np.isnan(curvature.losses_along(scores, np.zeros_like(scores), target, weight, np.ones(1))).all()
    assert np.isnan(curvature.residual(scores, target, weight, np.empty_like(scores))[0])


def test_no_bit_depends_on_the_threads(monkeypatch):
    monkeypatch.setattr(pieces, "LARGE", 1)
    monkeypatch.setattr(pieces, "PIECE", 256)
    results = []
    for threads in (1, 2, 7):
        scores, target, weight, rng = rows(37)
        tangent, prob = rng.normal(size=scores.shape), np.empty_like(scores)
        with nx.set_num_threads(threads):
            along = curvature.losses_along(scores, tangent, target, weight, np.ones(3))
            sums = curvature.residual(scores, target, weight, prob)
            curvature.tangent_product(tangent, prob, target, weight, 0.5)
        results.append([part.tobytes() for part in (along, np.array(sums), scores, prob, tangent)])
    assert results[0] == results[1] == results[2]


def test_pieces_cover_every_row_once(monkeypatch):
    monkeypatch.setattr(pieces, "LARGE", 10)
    monkeypatch.setattr(pieces, "PIECE", 12)
    found = pieces.in_pieces((17, 5), lambda rows: list(range(17))[rows])
    assert found == [list(range(first, min(first + 2, 17))) for first in range(0, 17, 2)]
    assert pieces.in_pieces((1, 9), lambda rows: rows) == [slice(0, 1)]
    assert pieces.in_pieces((0, 5), lambda rows: rows) == [slice(0, 0)]
