"""Classes that come and go without a refit of the others: against full refits, exact conditioning, and made truth."""

import copy

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import approx_fprime
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score

import normexp as nx
from normexp.base.errors import DtypeError, InputError, RangeError, ShapeError
from normexp.decide import add_class, add_zero_shot_classes, discovery, propose_classes, remove_class


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits in two halves, and a model that has never seen an eight."""
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    order = np.random.default_rng(0).permutation(len(y))
    fit, test = order[:900], order[900:]
    eight = y[fit] == 8
    model = nx.SoftmaxClassifier(C=1.0).fit(X[fit][~eight], y[fit][~eight])
    return X[fit], y[fit], X[test], y[test], model


def test_an_added_class_is_nearly_as_good_as_a_full_refit(digits):
    X, y, fresh, truth, old = digits
    eight = y == 8
    new = add_class(old, X[eight], 8, known=X[~eight], share=eight.mean())
    full = nx.SoftmaxClassifier(C=1.0).fit(X, y)
    assert new.classes_.tolist() == list(range(10))
    assert old.classes_.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert new.score(fresh, truth) > full.score(fresh, truth) - 0.015
    assert (new.predict(fresh[truth == 8]) == 8).mean() > 0.85
    assert abs(new.predict_proba(X)[:, 8].mean() - eight.mean()) < 1e-4  # the intercept's own equation


def test_five_rows_are_enough_to_be_found(digits):
    X, y, fresh, truth, old = digits
    five = np.flatnonzero(y == 8)[:5]
    known = X[y != 8]
    new = add_class(old, X[five], 8, known=known)
    assert (new.predict(fresh[truth == 8]) == 8).mean() > 0.5
    others = truth != 8
    assert new.score(fresh[others], truth[others]) > old.score(fresh[others], truth[others]) - 0.04


def test_the_odds_among_the_old_classes_stay_what_they_were(digits):
    X, y, fresh, _, old = digits
    new = add_class(old, X[y == 8][:20], 8, known=X[y != 8][:200])
    before, after = old.decision_function(fresh), np.delete(new.decision_function(fresh), 8, axis=1)
    np.testing.assert_allclose(before, after, rtol=1e-12, atol=1e-13)  # BLAS adds in another order for another width


def test_the_new_row_is_the_optimum_of_the_softmax_likelihood_with_the_others_held(digits):
    X, y, _, _, old = digits
    eight = y == 8
    new = add_class(old, X[eight], 8, known=X[~eight], share=eight.mean())
    z = old.decision_function(X[~eight]), old.decision_function(X[eight])

    def objective(theta):
        w, b = theta[:-1], theta[-1]
        loss = sum(float(logsumexp(np.c_[part, x @ w + b], axis=1).sum() - logsumexp(part, axis=1).sum())
                   for part, x in zip(z, (X[~eight], X[eight]), strict=True))  # fmt: skip
        return loss + float((logsumexp(z[1], axis=1) - X[eight] @ w - b).sum()) + 0.5 * float(w @ w)

    theta = np.r_[new.coef_[8], new.intercept_[8]]
    slope = approx_fprime(theta, objective, 1e-6)
    assert np.abs(slope).max() < 2e-2  # differences of a sum of about 100 over steps of 1e-6
    assert objective(theta) < objective(theta + 0.02)
    wrong = theta * 0.9
    assert np.abs(approx_fprime(wrong, objective, 1e-6)).max() > 0.5  # the bound can fail


def test_sparse_rows_and_models_of_scikit_learn_are_served_alike(digits):
    X, y, fresh, truth, _ = digits
    eight = y == 8
    foreign = LogisticRegression(max_iter=2000).fit(X[~eight], y[~eight])
    dense = add_class(foreign, X[eight], 8, known=X[~eight])
    thin = add_class(foreign, sparse.csr_matrix(X[eight]), 8, known=sparse.csr_matrix(X[~eight]))
    np.testing.assert_allclose(dense.coef_, thin.coef_, atol=1e-4)
    assert isinstance(dense, LogisticRegression)
    assert dense.score(fresh, truth) > 0.9


def test_two_classes_become_three_and_three_two():
    rng = np.random.default_rng(0)
    centre = 4.0 * np.eye(3)
    y = np.array(["ant", "bee", "cat"])[np.arange(300) % 3]
    X = centre[np.arange(300) % 3] + rng.normal(size=(300, 3))
    two = nx.SoftmaxClassifier().fit(X[y != "bee"], y[y != "bee"])
    three = add_class(two, X[y == "bee"], "bee", known=X[y != "bee"])
    assert three.classes_.tolist() == ["ant", "bee", "cat"]
    assert three.coef_.shape == (3, 3)
    assert three.score(X, y) > 0.95
    back = remove_class(three, "bee")
    assert back.coef_.shape == (1, 3)
    np.testing.assert_allclose(back.predict_proba(X), two.predict_proba(X), atol=1e-12)


def test_removing_a_class_conditions_on_its_absence(digits):
    _, _, fresh, _, old = digits
    kept = old.classes_ != 3
    p = old.predict_proba(fresh)
    rest = remove_class(old, 3).predict_proba(fresh)
    np.testing.assert_allclose(rest, p[:, kept] / (1.0 - p[:, ~kept]), rtol=1e-9)


def test_a_class_that_comes_and_goes_leaves_no_trace(digits):
    X, y, fresh, _, old = digits
    again = remove_class(add_class(old, X[y == 8][:10], 8, known=X[y != 8][:100]), 8)
    np.testing.assert_array_equal(again.coef_, old.coef_)
    np.testing.assert_array_equal(again.predict(fresh), old.predict(fresh))
    assert not hasattr(again, "suboptimality_")  # it told of another fit
    assert hasattr(old, "suboptimality_")


def test_what_was_added_can_be_saved(digits, tmp_path):
    X, y, fresh, _, old = digits
    new = add_class(old, X[y == 8], 8, known=X[y != 8])
    nx.save(new, tmp_path / "new.nx")
    np.testing.assert_array_equal(nx.load(tmp_path / "new.nx").predict_proba(fresh), new.predict_proba(fresh))


WRONG = {
    "known already": (lambda m, x: add_class(m, x, 3, known=x), RangeError, "knows (the class )?3 already"),
    "another type": (lambda m, x: add_class(m, x, "eight", known=x), DtypeError, "different types"),
    "another width": (lambda m, x: add_class(m, x[:, :5], 8, known=x), ShapeError, "64 features"),
    "no rows": (lambda m, x: add_class(m, x[:0], 8, known=x), ShapeError, "at least one row"),
    "NaN": (lambda m, x: add_class(m, np.where(x > 2, x, np.nan), 8, known=x), RangeError, "rows 0, 1"),
    "share": (lambda m, x: add_class(m, x, 8, known=x, share=1.0), RangeError, "share is 1.0"),
    "no head": (lambda m, x: add_class(object(), x, 8, known=x), InputError, "no coef_"),
    "not there": (lambda m, x: remove_class(m, 8), RangeError, "does not know the class 8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_sentences(digits, case):
    call, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        call(copy.copy(digits[4]), digits[0][:30])


def test_the_last_two_classes_stay():
    X, y = np.array([[0.0], [1.0], [0.2], [0.9]]), [0, 1, 0, 1]
    with pytest.raises(RangeError, match="two must be left"):
        remove_class(nx.SoftmaxClassifier().fit(X, y), 0)


# ---------------------------------------------------------------- zero-shot


def attributed(seed=0, n_classes=40, rows=60):
    """Classes whose means are a linear image of attributes that are known beforehand."""
    rng = np.random.default_rng(seed)
    attribute = rng.normal(size=(n_classes, 6))
    centre = attribute @ rng.normal(size=(6, 20)) + 0.3 * rng.normal(size=(n_classes, 20))
    y = np.repeat(np.arange(n_classes), rows)
    return centre[y] + rng.normal(size=(y.size, 20)), y, attribute


def test_classes_without_rows_are_found_and_seen_ones_hardly_lost():
    X, y, attribute = attributed()
    seen = y < 32
    model = nx.SoftmaxClassifier().fit(X[seen][::2], y[seen][::2])
    wider = add_zero_shot_classes(model, dict(enumerate(attribute)), X=X[seen][::2], y=y[seen][::2])
    assert wider.classes_.tolist() == list(range(40))
    found = (wider.predict(X[~seen]) == y[~seen]).mean()
    kept = wider.score(X[seen][1::2], y[seen][1::2])
    assert found > 0.5  # chance is 1 in 40
    assert kept > model.score(X[seen][1::2], y[seen][1::2]) - 0.15
    np.testing.assert_array_equal(wider.coef_[:32], model.coef_)


def test_without_calibration_unseen_classes_would_lose():
    """The scale and the bias are what finds them: taken out, few rows of unseen classes are decided so."""
    X, y, attribute = attributed(seed=3)
    seen = y < 32
    model = nx.SoftmaxClassifier().fit(X[seen], y[seen])
    wider = add_zero_shot_classes(model, dict(enumerate(attribute)), X=X[seen], y=y[seen], strength=10.0)
    plain = copy.copy(wider)
    scale, bias = wider.zero_shot_.scale, wider.zero_shot_.bias
    plain.coef_, plain.intercept_ = wider.coef_.copy(), wider.intercept_.copy()
    plain.coef_[32:] /= scale
    plain.intercept_[32:] = (plain.intercept_[32:] - bias) / scale

    def harmonic(one):
        unseen, known = one.score(X[~seen], y[~seen]), one.score(X[seen], y[seen])
        return 2 * unseen * known / (unseen + known)

    assert harmonic(wider) > harmonic(plain) + 0.05


def test_the_mean_probability_of_unseen_classes_is_about_their_share():
    X, y, attribute = attributed(seed=1)
    seen = y < 32
    model = nx.SoftmaxClassifier().fit(X[seen], y[seen])
    wider = add_zero_shot_classes(model, dict(enumerate(attribute)), X=X[seen], y=y[seen])
    share = wider.predict_proba(X)[:, 32:].sum(axis=1).mean()
    assert abs(share - 0.2) < 0.06


def test_labels_of_text_and_wrong_embeddings():
    X, y, attribute = attributed(n_classes=12, rows=20)
    names = np.array([f"class {k:02d}" for k in range(12)])
    seen = y < 10
    model = nx.SoftmaxClassifier().fit(X[seen], names[y[seen]])
    table = dict(zip(names.tolist(), attribute, strict=True))
    wider = add_zero_shot_classes(model, table, X=X[seen], y=names[y[seen]])
    assert wider.classes_.tolist() == sorted(table)
    with pytest.raises(InputError, match="have no embedding, such as 'class 03'"):
        add_zero_shot_classes(model, {k: v for k, v in table.items() if k != "class 03"}, X=X[seen], y=names[y[seen]])
    with pytest.raises(InputError, match="known to the model already"):
        add_zero_shot_classes(model, {k: table[k] for k in names[:10]}, X=X[seen], y=names[y[seen]])
    with pytest.raises(ShapeError, match="vectors of one length"):
        add_zero_shot_classes(model, {**table, "class 11": [1.0]}, X=X[seen], y=names[y[seen]])
    with pytest.raises(RangeError, match="classes that the model does not know"):
        add_zero_shot_classes(model, table, X=X, y=names[y])


# ---------------------------------------------------------------- from strangers to a class


def test_rejected_rows_are_grouped_named_and_added(digits):
    """The loop of the house: propose groups, a person names one, the model learns it."""
    X, y, fresh, truth, old = digits
    rejected = np.flatnonzero(y == 8)
    alarms = np.flatnonzero(y != 8)[:10]
    rows = np.r_[rejected, alarms]
    means = np.stack([X[y == k].mean(axis=0) for k in old.classes_])
    group = propose_classes(X[rows], known=means, n_classes=1)
    proposed = rows[group == len(means)]
    assert (y[proposed] == 8).mean() > 0.95
    assert proposed.size > 0.7 * rejected.size
    new = add_class(old, X[proposed], 8, known=X[y != 8])
    assert (new.predict(fresh[truth == 8]) == 8).mean() > 0.7


@pytest.mark.parametrize("unit", [2.0**700, 2.0**-700])
def test_the_unit_of_the_embeddings_of_zero_shot_classes_does_not_matter(unit):
    rng = np.random.default_rng(0)
    attribute = rng.normal(size=(12, 4))
    y = rng.integers(10, size=400)
    X = (attribute @ rng.normal(size=(4, 6)))[y] + rng.normal(size=(400, 6))
    model = nx.SoftmaxClassifier().fit(X, y)
    plain = add_zero_shot_classes(model, dict(enumerate(attribute)), X=X, y=y)
    found = add_zero_shot_classes(model, dict(enumerate(unit * attribute)), X=X, y=y)
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


def hidden(n_groups, n_each, width, seed=0):
    """Groups that are apart in a few directions of many columns full of noise."""
    rng = np.random.default_rng(seed)
    centre = np.zeros((n_groups, width))
    centre[:, :n_groups] = 5.0 * np.eye(n_groups)
    truth = np.repeat(np.arange(n_groups), n_each)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return (centre[truth] + rng.normal(size=(truth.size, width))) @ turn, truth


def test_groups_are_found_among_hundreds_of_columns_of_noise():
    X, truth = hidden(6, 40, 200)
    group = propose_classes(X)
    assert len(np.unique(group)) == 6
    assert adjusted_rand_score(truth, group) > 0.95
    known = X[truth == 5].mean(axis=0, keepdims=True)
    beside = propose_classes(X, known=known)
    assert (beside[truth == 5] == 0).mean() > 0.9
    assert len(np.unique(beside)) == 6


def test_silhouettes_in_all_columns_would_see_one_group_there():
    X, _ = hidden(6, 40, 200)
    assert len(np.unique(discovery._with_most_silhouette(X, np.zeros((0, 200)))[0])) == 1


def test_noise_alone_is_one_group():
    X = np.random.default_rng(0).normal(size=(300, 120))
    assert len(np.unique(propose_classes(X))) == 1
