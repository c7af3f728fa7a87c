"""Logits, features, costs and labels as people have them: of other libraries, in other units, or of no meaning."""

import re
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import normexp as nx
from normexp import decide
from refusals import refused

SETS = [
    partial(decide.ConformalClassifier, score, groups=groups)
    for score in ("lac", "aps")
    for groups in (None, "cluster")
]
DETECTORS = [partial(decide.OpenSetDetector, score) for score in ("auto", "gen", "p_norm", "knn", "vim")]


def rows(n_rows=200, n_classes=4, n_features=6):
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_rows)
    logits = 2.0 * rng.normal(size=(n_rows, n_classes)) + 2.0 * np.eye(n_classes)[y]
    return logits, y, rng.normal(size=(n_rows, n_features)) + 2.0 * np.eye(n_classes, n_features)[y]


def head(n_classes=5, names=None):
    """A linear model of the first classes, and rows of two classes more."""
    rng = np.random.default_rng(1)
    centre = 4.0 * rng.normal(size=(n_classes + 2, 5))
    y = rng.integers(n_classes + 2, size=400)
    x = centre[y] + rng.normal(size=(400, 5))
    if names:
        x = pytest.importorskip("pandas").DataFrame(x, columns=list(names))
    known = y < n_classes
    return nx.SoftmaxClassifier().fit(x[known], y[known]), x, y


@pytest.mark.parametrize("kind", ["float64", "bfloat16"])
def test_tensors_that_ask_for_a_gradient_are_taken_as_their_values(kind):
    torch = pytest.importorskip("torch")
    z, y, x = rows()
    logits = torch.tensor(z, dtype=getattr(torch, kind))
    z = logits.numpy() if kind == "float64" else logits.float().numpy()
    logits.requires_grad_()
    features = torch.tensor(x, requires_grad=True)
    for make in SETS:
        assert (make().fit(logits, torch.tensor(y)).predict_set(logits) == make().fit(z, y).predict_set(z)).all()
    for make in DETECTORS:
        assert (
            make().fit(logits, torch.tensor(y), features).unknown_score(logits, features)
            == make().fit(z, y, x).unknown_score(z, x)
        ).all()
    selective = decide.SelectiveClassifier(0.3).fit(logits, torch.tensor(y))
    assert selective.threshold_ == decide.SelectiveClassifier(0.3).fit(z, y).threshold_
    prob = torch.softmax(torch.tensor(z, requires_grad=True), 1)
    cost = torch.tensor(1.0 - np.eye(4), requires_grad=True)
    assert (decide.cost_decision(prob, cost) == z.argmax(axis=1)).all()
    assert (decide.threshold_decision(prob, torch.full((4,), 0.5)) == z.argmax(axis=1)).all()
    assert (decide.propose_classes(features, n_classes=3) == decide.propose_classes(x, n_classes=3)).all()


@pytest.mark.parametrize("make", [*SETS, *DETECTORS, partial(decide.SelectiveClassifier, 0.3)])
def test_hidden_entries_are_refused_and_not_laid_bare(make):
    z, y, x = rows()
    refused(ValueError, "hidden entries", make().fit, np.ma.masked_greater(z, 3.0), y)
    if "OpenSet" in str(make) and make.args[0] in {"auto", "knn", "vim"}:
        refused(ValueError, "hidden entries", make().fit, z, y, np.ma.masked_greater(x, 3.0))
        refused(ValueError, "unequal lengths", make().fit, z, y, [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("value", ["0.9", ["class"], True])
def test_options_of_another_kind_are_refused_in_a_sentence(value):
    z, y, _ = rows()
    refused((TypeError, ValueError), "coverage is", decide.ConformalClassifier(coverage=value).fit, z, y)
    refused(ValueError, "groups is", decide.ConformalClassifier(groups=value).fit, z, y)
    refused(ValueError, "score is", decide.ConformalClassifier(score=value).fit, z, y)
    refused(ValueError, "score is", decide.OpenSetDetector(value).fit, z)
    refused((TypeError, ValueError), "target_risk is", decide.SelectiveClassifier(value).fit, z, y)


def test_a_detector_is_fitted_on_rows():
    refused(ValueError, "no rows", decide.OpenSetDetector().fit, np.zeros((0, 4)))


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_clusters_of_classes_that_are_all_decided_rightly_are_one_cluster_without_a_word_of_scikit_learn(score):
    y = np.repeat(np.arange(20), 40)
    logits = 9.0 * np.eye(20)[y]
    wrong = np.arange(y.size) == 3  # an error hardly moves the quantiles of its class
    logits[wrong] = np.roll(logits[wrong], 1, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = decide.ConformalClassifier(score, groups="cluster").fit(logits, y)
    assert model.group_.max() == 0
    with pytest.warns(ConvergenceWarning):  # what used to reach the caller
        KMeans(2, n_init=1, random_state=0).fit(np.zeros((20, 5)))


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_clusters_do_not_depend_on_the_unit_of_the_logits(unit):
    z, y, _ = rows(600, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = decide.ConformalClassifier("lac", groups="cluster").fit(z * unit, y)
    assert model.predict_set(z * unit).any(axis=1).all()


def test_classes_that_cannot_be_leave_the_clusters_finite():
    z, y, _ = rows(600, 6)
    z[:, 3] = -np.inf  # rows of class 3 have an infinite score
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.warns(nx.NormexpWarning, match="cluster 1 the probability 0"):
            sets = decide.ConformalClassifier("lac", groups="cluster").fit(z, y).predict_set(z)
    assert sets.any(axis=1).all()


@pytest.mark.parametrize("groups", [None, "class"])
def test_a_true_class_of_probability_0_is_not_said_to_lack_rows(groups):
    z, y, _ = rows(600, 6)
    z[:, 3] = -np.inf
    with pytest.warns(nx.NormexpWarning) as told:
        decide.ConformalClassifier("lac", coverage=0.95, groups=groups).fit(z, y)
    sentences = [str(one.message) for one in told]
    assert len(sentences) == 1, sentences
    assert "the probability 0" in sentences[0]
    assert ("class 3" in sentences[0]) == (groups == "class")


@pytest.mark.parametrize("unit", [1e-100, 1e90, 1e300])
def test_the_p_norm_does_not_depend_on_the_unit_of_the_logits(unit):
    z, _, _ = rows()
    plain = decide.OpenSetDetector("p_norm").fit(z).unknown_score(z)
    assert np.abs(decide.OpenSetDetector("p_norm").fit(z * unit).unknown_score(z * unit) - plain).max() < 1e-12


def test_costs_priors_and_thresholds_at_the_ends_of_float64():
    prob = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert decide.cost_decision(prob, [[-1.5e308, 1.5e308], [1.5e308, -1.5e308]]).tolist() == [0, 1]
    refused(ValueError, "must not cost more", decide.cost_decision, prob, [[1.5e308, -1.5e308], [0, 0]])
    assert decide.balanced_decision(np.log(prob), [1e308, 1e308]).tolist() == [0, 1]
    assert decide.threshold_decision(prob, [1e-320, 1e-320]).tolist() == [0, 1]
    assert decide.threshold_decision([[0.0, 1.0], [1e-3, 0.999]], [1e-320, 0.5]).tolist() == [1, 0]
    refused(TypeError, "thresholds is", decide.threshold_decision, prob, ["0.5", "0.5"])
    refused(ValueError, "unequal lengths", decide.balanced_decision, np.log(prob), [[1], [1, 2]])


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e150, 1e300])
def test_proposed_classes_do_not_depend_on_the_unit_of_the_features(unit):
    _, x, y = head()
    new, centre = x[y >= 5], np.array([x[y == k].mean(axis=0) for k in range(5)])
    plain = decide.propose_classes(new, centre)
    assert np.unique(plain).size > 1
    assert (decide.propose_classes(new * unit, centre * unit) == plain).all()


@pytest.mark.parametrize("value", [2.5, "2", True])
def test_the_number_of_new_classes_is_a_whole_number(value):
    refused(TypeError, "n_classes is", decide.propose_classes, rows()[2], n_classes=value)


def test_columns_in_another_order_are_refused_and_not_mixed_up():
    model, x, y = head(names="abcde")
    other = x[list("edcba")]
    refused(ValueError, "column 0 of X is 'e'", decide.add_class, model, other[y == 5], 5, known=x[y < 5])
    refused(ValueError, "column 0 of known is 'e'", decide.add_class, model, x[y == 5], 5, known=other[y < 5])
    assert decide.add_class(model, x[y == 5], 5, known=x[y < 5]).predict(x[y == 5]).mean() == pytest.approx(
        5.0, abs=0.2
    )
    embeddings = {k: np.eye(7)[k] for k in range(7)}
    refused(
        ValueError, "column 0 of X is 'e'", decide.add_zero_shot_classes, model, embeddings, X=other[y < 5], y=y[y < 5]
    )
    z = model.decision_function(x)
    detector = decide.OpenSetDetector().fit(z, features=x)
    refused(ValueError, "column 0 of features is 'e'", detector.unknown_score, z, other)
    assert np.isfinite(detector.unknown_score(z, x.to_numpy())).all()  # without names nothing can be told


@pytest.mark.parametrize("change", ["add", "remove", "zero shot"])
def test_classes_of_a_trusted_model_are_not_changed_behind_its_back(change):
    model, x, y = head()
    trusted = nx.TrustedClassifier(model).fit(x[y < 5], y[y < 5])
    with pytest.raises(nx.NormexpError, match=re.escape("Give model.estimator_")):
        if change == "add":
            decide.add_class(trusted, x[y == 5], 5, known=x[y < 5])
        elif change == "remove":
            decide.remove_class(trusted, 2)
        else:
            decide.add_zero_shot_classes(trusted, {k: np.eye(7)[k] for k in range(7)}, X=x[y < 5], y=y[y < 5])
    assert decide.remove_class(trusted.estimator_, 2).classes_.tolist() == [0, 1, 3, 4]


def test_labels_strengths_and_embeddings_without_a_meaning_are_refused():
    model, x, y = head()
    known, kept = x[y < 5], y[y < 5]
    add, remove, shot = decide.add_class, decide.remove_class, decide.add_zero_shot_classes
    refused(ValueError, "one label", add, model, x[y == 5], [5], known=known)
    refused(ValueError, "one label", remove, model, np.array([0, 1]))
    for strength in (float("nan"), "1", -1.0, 0.0):
        refused((TypeError, ValueError), "C is", add, model, x[y == 5], 5, known=known, C=strength)
    assert add(model, x[y == 5], 5, known=known, C=np.inf).classes_.size == 6
    embeddings = {k: np.eye(7)[k] for k in range(7)}
    for strength in (float("nan"), "1", -1.0, 0.0):
        refused((TypeError, ValueError), "strength is", shot, model, embeddings, X=known, y=kept, strength=strength)
    for wrong in (None, list(embeddings.values())):
        refused(TypeError, "embeddings is a", shot, model, wrong, X=known, y=kept)
    refused(ValueError, "unequal lengths", shot, model, embeddings, X=known, y=[[1], [1, 2]])


def test_embeddings_of_tensors_are_taken():
    torch = pytest.importorskip("torch")
    model, x, y = head()
    embeddings = {k: np.eye(7)[k] for k in range(7)}
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in embeddings.items()}
    options = {"X": x[y < 5], "y": y[y < 5], "strength": 1.0}
    plain = decide.add_zero_shot_classes(model, embeddings, **options)
    assert (decide.add_zero_shot_classes(model, tensors, **options).coef_ == plain.coef_).all()


def test_a_head_that_lost_a_class_goes_on_in_other_models():
    model, x, y = head()
    fewer = decide.remove_class(model, 2)
    keep = (y < 5) & (y != 2)
    assert decide.add_class(fewer, x[y == 2], 2, known=x[keep]).score(x[y < 5], y[y < 5]) > 0.95
    assert nx.TrustedClassifier(fewer).fit(x[keep], y[keep]).predict_set(x).shape[1] == 4
    other = decide.remove_class(LogisticRegression().fit(x[y < 3], y[y < 3]), 1)
    assert other.decision_function(x).shape == (400,)  # two classes are left
