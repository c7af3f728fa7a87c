"""SoftmaxClassifierCV: scikit-learn's contract, the same choice as a plain search, and words for bad input."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from contract import checks_of
from normexp import NormexpError, SoftmaxClassifier, SoftmaxClassifierCV

CS = [1e-3, 1e-1, 10.0]


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of(SoftmaxClassifierCV(Cs=3, cv=3)),
)
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy"])
def test_the_choice_is_that_of_a_plain_search(load, scoring):
    X, y = load(return_X_y=True)
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    ours = SoftmaxClassifierCV(Cs=CS, cv=folds, scoring=scoring).fit(X, y)
    plain = GridSearchCV(SoftmaxClassifier(), {"C": CS}, cv=folds, scoring=scoring).fit(X, y)
    assert plain.best_params_["C"] == ours.C_
    theirs = np.array([plain.cv_results_[f"split{k}_test_score"] for k in range(4)])
    np.testing.assert_allclose(ours.scores_, theirs, atol=5e-3)
    np.testing.assert_allclose(ours.predict_proba(X), plain.best_estimator_.predict_proba(X), atol=1e-6)


def test_rows_of_weight_two_count_twice(rng):
    X, y = rng.normal(size=(90, 3)), np.arange(90) % 3
    X[np.arange(90), y] += 1.5
    folds = [(np.arange(60), np.arange(60, 90)), (np.arange(30, 90), np.arange(30))]
    weight = np.where(np.arange(90) % 2, 2.0, 1.0)
    weighted = SoftmaxClassifierCV(Cs=CS, cv=folds).fit(X, y, sample_weight=weight)
    repeat = np.repeat(np.arange(90), weight.astype(int))
    doubled = [tuple(np.flatnonzero(np.isin(repeat, part)) for part in fold) for fold in folds]
    repeated = SoftmaxClassifierCV(Cs=CS, cv=doubled).fit(X[repeat], y[repeat])
    np.testing.assert_allclose(weighted.scores_, repeated.scores_, atol=1e-3)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-3)


def test_sparse_rows_with_many_features_are_searched_too(rng):
    y = np.arange(60) % 2
    X = sparse.random(60, 500, density=0.05, random_state=0, format="csr") + sparse.csr_matrix(
        (np.ones(60), (np.arange(60), y)), shape=(60, 500)
    )
    model = SoftmaxClassifierCV(Cs=CS, cv=3).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.suboptimality_ < 1e-6


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"Cs": 0}, "Cs is 0"), ({"Cs": [1.0, -1.0]}, "above 0"), ({"Cs": []}, "above 0")],
)
def test_wrong_values_are_refused_in_words(parameters, words):
    with pytest.raises(NormexpError, match=words):
        SoftmaxClassifierCV(**parameters).fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
