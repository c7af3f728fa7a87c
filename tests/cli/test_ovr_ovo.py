"""The comparison of one softmax, one-vs-rest and one-vs-one, and the coupling of pairwise probabilities."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

import normexp as nx
from normexp.base.errors import InputError, ShapeError
from normexp.trusted.ovr_ovo import compare_schemes, couple_pairwise, split_digits


def pairwise_of(prob):
    """What perfect binary classifiers would say: r_ij = p_i / (p_i + p_j)."""
    return prob[:, :, None] / (prob[:, :, None] + prob[:, None, :])


def noisy(rng, n_rows, n_classes):
    """Pairwise probabilities that no distribution explains."""
    r = rng.uniform(0.02, 0.98, (n_rows, n_classes, n_classes))
    upper = np.triu(np.ones((n_classes, n_classes), bool), 1)
    return np.where(upper, r, 1 - np.swapaxes(r, 1, 2))


@pytest.mark.parametrize("n_classes", [2, 3, 7, 30])
def test_consistent_pairs_give_back_the_distribution(rng, n_classes):
    prob = rng.dirichlet(np.ones(n_classes), 50)
    prob = (prob + 1e-3) / (prob + 1e-3).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(couple_pairwise(pairwise_of(prob)), prob, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [3, 5])
def test_the_coupling_minimises_what_the_paper_minimises(rng, n_classes):
    """Against a general minimiser on the simplex: sum_i sum_j (r_ji p_i - r_ij p_j)^2."""
    for r in noisy(rng, 6, n_classes):

        def objective(p, r=r):
            gaps = (r.T * p[:, None] - r * p[None, :]) ** 2
            return float(gaps.sum() - np.trace(gaps))

        found = couple_pairwise(r[None])[0]
        best = minimize(
            objective,
            np.full(n_classes, 1 / n_classes),
            bounds=[(0, 1)] * n_classes,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 500},
        )
        np.testing.assert_allclose(found, best.x, atol=1e-5)
        assert objective(found) <= objective(best.x) + 1e-12
        votes = r.sum(axis=1) - np.diag(r)
        assert objective(found) < objective(votes / votes.sum()), "voting is another answer, and a worse one here"


def test_coupled_rows_are_distributions_even_where_pairs_are_certain(rng):
    r = noisy(rng, 200, 6).round()  # 0 and 1 only: cycles, and systems that would be singular
    prob = couple_pairwise(r)
    assert np.isfinite(prob).all()
    assert (prob >= 0).all()
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-12)


def test_rows_are_coupled_alike_in_pieces(rng, monkeypatch):
    r = noisy(rng, 23, 4)
    whole = couple_pairwise(r)
    monkeypatch.setattr("normexp.trusted.ovr_ovo.ROWS_AT_ONCE", 100)  # four rows at once
    assert couple_pairwise(r).tobytes() == whole.tobytes()


def test_no_rows_are_coupled_to_no_rows():
    assert couple_pairwise(np.zeros((0, 3, 3))).shape == (0, 3)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4)])
def test_pairs_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match="couple_pairwise"):
        couple_pairwise(np.zeros(shape))


def test_digits_are_compared_on_one_split():
    split = split_digits(held_out=0.25, seed=0)
    scores = {score.scheme: score for score in compare_schemes(*split[:4], estimator=nx.SoftmaxClassifier(C=0.02))}
    assert {name: score.n_fits for name, score in scores.items()} == {
        "multinomial": 1,
        "one-vs-rest": 10,
        "one-vs-one": 45,
    }
    assert all(score.accuracy >= 0.95 for score in scores.values())
    assert all(score.log_loss < 0.3 for score in scores.values())


def test_two_classes_give_one_answer_three_times(rng):
    """With two classes all three schemes ask the same question."""
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] + rng.normal(size=300) > 0, "yes", "no")
    scores = compare_schemes(X[:200], y[:200], X[200:], y[200:], estimator=nx.SoftmaxClassifier(tol=1e-10))
    assert [score.n_fits for score in scores] == [1, 1, 1]
    assert scores[1].log_loss == pytest.approx(scores[0].log_loss, rel=1e-4)
    assert scores[2].log_loss == pytest.approx(scores[0].log_loss, rel=1e-4)


def test_another_estimator_gives_the_same_comparison(rng):
    """scikit-learn's logistic regression has the same optimum, so the same probabilities."""
    X = rng.normal(size=(300, 4))
    y = np.argmax(X[:, :3] + rng.normal(size=(300, 3)), axis=1)
    ours = compare_schemes(X[:200], y[:200], X[200:], y[200:], estimator=nx.SoftmaxClassifier(tol=1e-10))
    theirs = compare_schemes(X[:200], y[:200], X[200:], y[200:], estimator=LogisticRegression(tol=1e-8, max_iter=1000))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.log_loss == pytest.approx(other.log_loss, rel=1e-5)
        assert mine.accuracy == other.accuracy


def test_the_split_keeps_the_classes_in_proportion_and_loses_no_row():
    split = split_digits(held_out=0.25, seed=3)
    assert len(split.y_train) + len(split.y_test) == 1797
    assert np.abs(np.bincount(split.y_test) / 450 - np.bincount(split.y_train) / 1347).max() < 0.002
    rows = {row.tobytes() for row in split.X_train}
    assert sum(row.tobytes() in rows for row in split.X_test) == 0


def test_a_held_out_class_without_training_rows_is_refused():
    X = np.arange(8.0)[:, None]
    with pytest.raises(InputError, match="row 1 has the class"):
        compare_schemes(X[:4], np.array([0, 0, 1, 1]), X[4:6], np.array([0, 2]), estimator=nx.SoftmaxClassifier())
