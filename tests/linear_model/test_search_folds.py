"""SoftmaxClassifierCV with rare classes, groups, weights and scorers of all kinds, with and without routing."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from normexp import NormexpError, NormexpWarning, SoftmaxClassifier, SoftmaxClassifierCV, TrustedClassifier
from normexp.linear_model.scoring import held_out_log_loss

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = np.arange(60) % 3
X[np.arange(60), Y] += 1.0
RARE = np.r_[[0] * 30, [1] * 27, [2] * 3]
CS = [0.01, 1.0, 100.0]
WEIGHT = np.where(np.arange(60) % 2, 3.0, 0.5)
GROUPS = np.arange(60) // 6


def accuracy(model, X, y):
    return float(np.mean(model.predict(X) == y))


def weighted_accuracy(model, X, y, sample_weight=None):
    return float(np.average(model.predict(X) == y, weights=sample_weight))


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("scoring", ["neg_log_loss", "neg_brier_score", make_scorer(
    log_loss, greater_is_better=False, response_method="predict_proba")])  # fmt: skip
def test_a_class_with_fewer_rows_than_folds_is_scored_as_scikit_learn_does(scoring):
    folds = list(StratifiedKFold(5).split(X, RARE))
    assert any(2 not in RARE[held] for _, held in folds)  # the case is there
    ours = SoftmaxClassifierCV(Cs=CS, cv=folds, scoring=scoring, tol=1e-10).fit(X, RARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = LogisticRegressionCV(Cs=CS, cv=folds, scoring=scoring, tol=1e-10, max_iter=10_000).fit(X, RARE)
    scores = theirs.scores_
    scores = next(iter(scores.values())) if isinstance(scores, dict) else scores
    np.testing.assert_allclose(ours.scores_, np.reshape(scores, ours.scores_.shape), atol=2e-2)
    assert float(np.ravel(theirs.C_)[0]) == ours.C_


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_default_settings_take_rare_classes():
    model = SoftmaxClassifierCV(Cs=3).fit(X, RARE)
    assert np.isfinite(model.scores_).all()
    alone = np.r_[[0] * 30, [1] * 29, 2]  # one row, which one fold trains without
    assert SoftmaxClassifierCV(Cs=3).fit(X, alone).predict_proba(X).shape == (60, 3)


def test_each_fold_is_scored_on_all_classes_by_hand():
    held = np.r_[0:10, 30:40]  # without class 2
    used = np.setdiff1d(np.arange(60), held)
    model = SoftmaxClassifierCV(Cs=[1.0], cv=[(used, held)], tol=1e-9).fit(X, RARE)
    prob = SoftmaxClassifier(C=1.0).fit(X[used], RARE[used]).predict_proba(X[held])
    by_hand = np.log(prob[np.arange(len(held)), RARE[held]]).mean()
    assert model.scores_[0, 0] == pytest.approx(by_hand, abs=2e-3)
    two = prob[:, :2] / prob[:, :2].sum(axis=1, keepdims=True)  # the test of the test: without class 2 it differs
    assert abs(np.log(two[np.arange(len(held)), RARE[held]]).mean() - by_hand) > 1e-2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"Cs": "a"}, "Cs is 'a'"),
        ({"Cs": ["a"]}, r"Cs is \['a'\]"),
        ({"cv": 1}, "cv is 1; at least 2 folds"),
        ({"cv": True}, "cv is True; at least 2 folds"),
        ({"cv": "a"}, "cv is 'a'"),
        ({"cv": 2.5}, "cv is 2.5"),
        ({"cv": 40}, "cv is 40.*n_splits=40"),
        ({"cv": []}, "cv"),
        ({"cv": [(np.arange(50), np.arange(50, 61))]}, "cv names the row 60, and there are 60"),
        ({"scoring": 3}, "scoring is 3; the name of a scorer"),
        ({"scoring": None}, "scoring is None; the name of a scorer"),
        ({"scoring": "no_such"}, "no_such"),
        ({"scoring": lambda model, X, y: np.nan}, "the score of a fold is NaN"),
    ],
)
def test_wrong_parameters_are_refused_in_words(parameters, words):
    with pytest.raises(NormexpError, match=f"(?s)^SoftmaxClassifierCV.fit: .*{words}"):
        SoftmaxClassifierCV(**{"Cs": 2, **parameters}).fit(X, Y)


def test_a_function_as_scorer_gets_the_weights_it_takes():
    plain = SoftmaxClassifierCV(Cs=CS, cv=3, scoring="accuracy").fit(X, Y, sample_weight=WEIGHT)
    ours = SoftmaxClassifierCV(Cs=CS, cv=3, scoring=weighted_accuracy).fit(X, Y, sample_weight=WEIGHT)
    np.testing.assert_allclose(ours.scores_, plain.scores_, rtol=1e-12)
    with pytest.warns(NormexpWarning, match="scoring is a function without an argument sample_weight"):
        unweighted = SoftmaxClassifierCV(Cs=CS, cv=3, scoring=accuracy).fit(X, Y, sample_weight=WEIGHT)
    assert np.abs(unweighted.scores_ - plain.scores_).max() > 1e-3
    np.testing.assert_array_equal(unweighted.coef_.shape, plain.coef_.shape)


@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_splitter(routing):
    folds = list(GroupKFold(3).split(X, Y, GROUPS))
    plain = SoftmaxClassifierCV(Cs=CS, cv=folds).fit(X, Y)
    with sklearn.config_context(enable_metadata_routing=routing):
        ours = SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).fit(X, Y, groups=GROUPS)
        np.testing.assert_array_equal(ours.scores_, plain.scores_)
        with pytest.raises(NormexpError, match=r"^SoftmaxClassifierCV.fit: .*groups"):
            SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).fit(X, Y)
        with pytest.raises(TypeError, match="strange"):
            SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).fit(X, Y, groups=GROUPS, strange=1)


def test_a_pipeline_routes_groups_and_weights_to_the_search():
    scaled = StandardScaler().fit_transform(X)
    plain = SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).fit(scaled, Y, sample_weight=WEIGHT, groups=GROUPS)
    with sklearn.config_context(enable_metadata_routing=True):
        search = SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        line = make_pipeline(scaler, search).fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
    np.testing.assert_array_equal(line[-1].scores_, plain.scores_)
    np.testing.assert_array_equal(line[-1].coef_, plain.coef_)
    unweighted = SoftmaxClassifierCV(Cs=CS, cv=GroupKFold(3)).fit(scaled, Y, groups=GROUPS)
    assert np.abs(unweighted.scores_ - plain.scores_).max() > 1e-3  # the weights did arrive


def test_the_trusted_classifier_routes_weights_through_a_pipeline():
    line = make_pipeline(StandardScaler(), SoftmaxClassifier())
    with pytest.raises(NormexpError, match=r"^TrustedClassifier.fit: sample_weight came"):
        TrustedClassifier(line, cv=3).fit(X, Y, sample_weight=WEIGHT)
    with sklearn.config_context(enable_metadata_routing=True):
        with pytest.raises(NormexpError, match=r"^TrustedClassifier.fit: sample_weight came"):
            TrustedClassifier(line, cv=3).fit(X, Y, sample_weight=WEIGHT)  # nobody asked for them
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        asked = make_pipeline(scaler, SoftmaxClassifier().set_fit_request(sample_weight=True))
        routed = trusted(asked, sample_weight=WEIGHT)
    by_name = trusted(SoftmaxClassifier(), sample_weight=WEIGHT, rows=StandardScaler().fit_transform(X))
    np.testing.assert_allclose(routed.estimator_[-1].coef_, by_name.estimator_.coef_, atol=1e-9)
    unweighted = trusted(SoftmaxClassifier(), rows=StandardScaler().fit_transform(X))
    assert np.abs(unweighted.estimator_.coef_ - by_name.estimator_.coef_).max() > 1e-2  # the weights did arrive


@pytest.mark.parametrize("routing", [False, True])
def test_the_trusted_classifier_keeps_groups_together(routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        model = trusted(SoftmaxClassifier(), groups=GROUPS, sample_weight=WEIGHT)
    assert np.isfinite(model.predict_proba(X)).all()


def trusted(base, rows=X, **params):
    """A fit whose few rows are warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TrustedClassifier(base, cv=3).fit(rows, Y, **params)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_is_scored_as_scikit_learn_scores_it(n_classes, dtype):
    rng = np.random.default_rng(3)
    X = (400.0 * rng.normal(size=(90, 2))).astype(dtype)  # some rows are wrong beyond the clipping of probabilities
    y = np.array(["a", "b", "c"])[(np.arange(90) % n_classes)]
    model = SoftmaxClassifier(init=rng.normal(size=(1 if n_classes == 2 else 3, 3)), max_iter=0).fit(X, y)
    weight = rng.uniform(size=90)
    labels, close = np.unique(y), 1e-6 if dtype is np.float32 else 1e-12
    for given in (None, weight):
        theirs = -log_loss(y, model.predict_proba(X), labels=labels, sample_weight=given)
        assert held_out_log_loss(model, X, y, given) == pytest.approx(theirs, rel=close)
    exact = np.mean([-np.log(p[k]) if p[k] > 0 else np.inf for p, k in zip(
        model.predict_proba(X), np.searchsorted(labels, y), strict=True)])  # fmt: skip
    assert exact > 1.01 * -held_out_log_loss(model, X, y)  # the clipping was reached
