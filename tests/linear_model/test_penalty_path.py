"""The path of penalties: where it begins, that warm starts and the strong rule change nothing, and CV over it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import l1_min_c

from contract import checks_of
from normexp import NormexpError, SoftmaxClassifier, SoftmaxClassifierCV
from normexp.linear_model import alpha_max, softmax_path
from normexp.solvers import working_set

PENALTIES = [("l1", None), ("elasticnet", 0.5), ("group_lasso", None)]


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of(SoftmaxClassifierCV(penalty="elasticnet", l1_ratios=[0.5, 1.0], Cs=3, cv=3)),
)
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("penalty", "ratio"), PENALTIES)
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_path_begins_where_the_first_coefficient_appears(penalty, ratio, load):
    X, y = load(return_X_y=True)
    strongest = alpha_max(X, y, penalty=penalty, l1_ratio=ratio)
    given = {"penalty": penalty, "l1_ratio": ratio, "tol": 1e-10}
    assert not SoftmaxClassifier(C=0.9999 / strongest, **given).fit(X, y).coef_.any()
    assert SoftmaxClassifier(C=1.001 / strongest, **given).fit(X, y).coef_.any()


def test_the_beginning_is_scikit_learns_for_two_classes_without_intercept():
    X, y = load_breast_cancer(return_X_y=True)
    assert alpha_max(X, y, fit_intercept=False) == pytest.approx(1 / l1_min_c(X, y, loss="log", fit_intercept=False))


@pytest.mark.parametrize(("penalty", "ratio"), PENALTIES)
def test_each_model_of_the_path_is_the_one_fitted_alone(penalty, ratio):
    X, y = load_wine(return_X_y=True)
    path = softmax_path(X, y, penalty=penalty, l1_ratio=ratio, Cs=6, tol=1e-9)
    assert path.n_features[0] == 0
    assert path.n_features[-1] > path.n_features[1] > 0
    for C, coef, intercept in zip(path.Cs, path.coefs, path.intercepts, strict=True):
        alone = SoftmaxClassifier(penalty=penalty, l1_ratio=ratio, C=C, tol=1e-9).fit(X, y)
        np.testing.assert_allclose(
            X @ coef.T + intercept - (X @ coef.T + intercept).mean(axis=1, keepdims=True),
            alone.decision_function(X) - alone.decision_function(X).mean(axis=1, keepdims=True),
            atol=2e-3,
        )


def test_the_strong_rule_chooses_the_first_set_and_errors_of_it_are_found(monkeypatch, rng):
    X = sparse.random(80, 900, density=0.1, random_state=1, format="csr")
    y = (np.asarray(X[:, :3].sum(axis=1)).ravel() + 0.3 * rng.normal(size=80) > 0.2).astype(int)
    Cs = np.geomspace(1.0, 20.0, 14) / alpha_max(X, y)
    sets = []
    real = working_set._working_set

    def noted(penalty, place, before, kept, ratio, first):
        members = real(penalty, place, before, kept, ratio, 256)
        sets.append((ratio, int(members.sum())))
        return members

    monkeypatch.setattr(working_set, "_working_set", noted)
    path = softmax_path(X, y, penalty="l1", Cs=Cs, tol=1e-8)
    assert sum(ratio is not None for ratio, _ in sets) >= 10  # the branch was taken
    assert max(size for _, size in sets) < 900
    assert path.suboptimality.max() <= 1e-8
    # a rule that throws out everything: the check of all features repairs it
    monkeypatch.setattr(
        working_set,
        "_working_set",
        lambda p, at, before, kept, ratio, first: real(p, at, before, kept, ratio and -1e9, 1),
    )
    again = softmax_path(X, y, penalty="l1", Cs=Cs, tol=1e-8)
    np.testing.assert_allclose(again.coefs, path.coefs, atol=2e-3)


@pytest.mark.parametrize(("penalty", "ratio"), PENALTIES)
def test_the_choice_is_that_of_a_plain_search(penalty, ratio):
    X, y = load_wine(return_X_y=True)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    Cs, ratios = [1e-2, 1e-1, 1.0], None if penalty == "l1" else [0.4, 0.9]
    ours = SoftmaxClassifierCV(Cs=Cs, cv=folds, penalty=penalty, l1_ratios=ratios).fit(X, y)
    grid = {"C": Cs, "l1_ratio": ratios} if ratios else {"C": Cs}
    plain = GridSearchCV(SoftmaxClassifier(penalty=penalty, l1_ratio=ratio), grid, cv=folds, scoring="neg_log_loss")
    plain.fit(X, y)
    assert plain.best_params_ == {"C": ours.C_, **({"l1_ratio": ours.l1_ratio_} if ratios else {})}
    theirs = np.array([plain.cv_results_[f"split{k}_test_score"] for k in range(3)])
    mine = np.moveaxis(ours.scores_, 1, 2).reshape(3, -1) if ratios else ours.scores_
    np.testing.assert_allclose(mine, theirs, atol=5e-3)
    np.testing.assert_allclose(ours.predict_proba(X), plain.best_estimator_.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X, y: alpha_max(X, y, penalty="l2"), "no corners"),
        (lambda X, y: softmax_path(X, y, Cs=0), "at least 1 value"),
        (lambda X, y: SoftmaxClassifierCV(penalty="elasticnet").fit(X, y), "ratios to try are needed"),
        (lambda X, y: SoftmaxClassifierCV(penalty="l1", l1_ratios=[0.5]).fit(X, y), "go with 'elasticnet'"),
        (lambda X, y: alpha_max(X, np.zeros(len(y))), "one class only"),
    ],
)
def test_what_has_no_meaning_is_refused_in_a_sentence(call, words):
    X, y = load_wine(return_X_y=True)
    with pytest.raises(NormexpError, match=words):
        call(X, y)
