"""Contributions: exact sums, Shapley values, every kind of model, sparse rows, and what is refused."""

import itertools
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, NormexpWarning, RangeError, ShapeError
from normexp.explain.exact import Pair, settle
from normexp.explain.exact import row_sums as exact_row_sums
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax

X, Y = load_wine(return_X_y=True)
MODELS = {
    "SoftmaxClassifier": nx.SoftmaxClassifier(),
    "LinearDiscriminant": LinearDiscriminant(shrinkage=0.1),
    "NaiveBayesSoftmax": NaiveBayesSoftmax(),
    "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression()),
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "min-max": make_pipeline(MinMaxScaler(), nx.SoftmaxClassifier()),
    "max-abs, robust": make_pipeline(MaxAbsScaler(), make_pipeline(RobustScaler(), nx.SoftmaxClassifier())),
    "best 5, PCA": make_pipeline(StandardScaler(), SelectKBest(k=5), PCA(3, whiten=True), nx.SoftmaxClassifier()),
    "SVD": make_pipeline("passthrough", TruncatedSVD(4, random_state=0), StandardScaler(), nx.SoftmaxClassifier()),
}


def fitted(name, y=Y):
    return MODELS[name].fit(X, y)


def logits(model, rows):
    score = getattr(model, "decision_function", None)
    z = model.predict_log_proba(rows) if score is None else score(rows)
    return np.column_stack([np.zeros_like(z), z]) if z.ndim == 1 else z


def top_two(z):
    order = np.argsort(-z, axis=1, kind="stable")
    return order[:, 0], order[:, 1]


def exact_gap(model, row, of, against):
    """The log-odds as a fraction, from the very floats of the coefficients."""
    coef, intercept = np.atleast_2d(model.coef_), model.intercept_
    if len(coef) == 1:
        coef, intercept = np.vstack([0 * coef, coef]), np.r_[0.0, intercept]
    terms = (
        (Fraction(float(a)) - Fraction(float(b))) * Fraction(float(x))
        for a, b, x in zip(coef[of], coef[against], row, strict=True)
    )
    return sum(terms, Fraction(float(intercept[of])) - Fraction(float(intercept[against])))


@pytest.mark.parametrize("classes", [3, 2])
@pytest.mark.parametrize("name", MODELS)
def test_the_rows_sum_to_the_log_odds_of_the_decision_against_the_runner_up(name, classes):
    model = fitted(name, np.minimum(Y, classes - 1))
    z = logits(model, X)
    first, second = top_two(z)
    here = np.arange(len(X))
    phi = explain.contributions(model, X)
    assert phi.shape == X.shape
    sums = np.array([math.fsum(row) for row in phi])
    scale = np.abs(phi).sum(axis=1)  # the model's own float64 scores have that much rounding to lose
    assert (np.abs(sums - (z[here, first] - z[here, second])) <= 1e-12 * scale).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_named_baseline_takes_its_own_log_odds_away(name):
    model = fitted(name)
    base = X[7]
    phi = explain.contributions(model, X[:40], of=2, against=0, baseline=base)
    z, z0 = logits(model, X[:40]), logits(model, base[None])
    wanted = (z[:, 2] - z[:, 0]) - (z0[0, 2] - z0[0, 0])
    np.testing.assert_allclose(phi.sum(axis=1), wanted, rtol=1e-9, atol=1e-11 * np.abs(phi).sum(axis=1).max())
    assert (phi[7] == 0).all()


def ill_conditioned(rng, n_rows=300, n_columns=12):
    """A model, and rows that lie within 1e-9 of the boundary although their terms are large."""
    model = LogisticRegression()
    model.coef_ = rng.normal(size=(3, n_columns)) * 10.0 ** rng.uniform(-3, 3, (3, n_columns))
    model.intercept_, model.classes_, model.n_features_in_ = rng.normal(size=3), np.arange(3), n_columns
    rows = rng.normal(size=(n_rows, n_columns)) * 10.0 ** rng.uniform(-2, 2, (n_rows, n_columns))
    slope = model.coef_[0] - model.coef_[1]
    for _ in range(3):  # onto the boundary of classes 0 and 1, then a hair off
        rows -= ((rows @ slope + model.intercept_[0] - model.intercept_[1]) / (slope @ slope))[:, None] * slope
    return model, rows + 10.0 ** rng.uniform(-12, -3, (n_rows, 1)) * slope / np.linalg.norm(slope)


def worst_sum_error(model, rows, phi):
    """Distance of the exact sums to the exact gaps, in units of what is promised."""
    worst = 0.0
    for row, terms in zip(rows, phi, strict=True):
        gap = exact_gap(model, row, 0, 1)
        unit = np.spacing(np.abs(terms[terms != 0]).min()) / 2
        error = abs(sum(map(Fraction, terms.tolist())) - gap)
        worst = max(worst, float(error) / max(1e-12 * abs(float(gap)), unit))
    return worst


def test_the_sum_is_right_to_1e_12_even_where_it_cancels(rng):
    model, rows = ill_conditioned(rng)
    assert worst_sum_error(model, rows, explain.contributions(model, rows, of=0, against=1)) <= 1.0


def test_the_bound_rejects_the_textbook_products(rng):
    model, rows = ill_conditioned(rng)
    phi = (model.coef_[0] - model.coef_[1]) * rows
    gap = model.intercept_[0] - model.intercept_[1]
    phi += np.abs(phi) * gap / np.abs(phi).sum(axis=1, keepdims=True)
    assert worst_sum_error(model, rows, phi) > 100.0


def test_no_contribution_is_moved_by_more_than_rounding(rng):
    model, rows = ill_conditioned(rng)
    phi = explain.contributions(model, rows, of=0, against=1, baseline=0.0)
    plain = (model.coef_[0] - model.coef_[1]) * rows
    assert (np.abs(phi - plain) <= 1e-13 * np.abs(plain).sum(axis=1, keepdims=True)).all()


def brute_force_shapley(value, row, base):
    """Shapley values by their definition, over all subsets of the columns."""
    n = len(row)
    phi = np.zeros(n)
    masks = np.array(list(itertools.product([False, True], repeat=n)))
    values = value(np.where(masks, row, base))
    index = {tuple(mask): v for mask, v in zip(masks.tolist(), values, strict=True)}
    for mask in masks.tolist():
        size = sum(mask)
        for j in range(n):
            if not mask[j]:
                joined = (*mask[:j], True, *mask[j + 1 :])
                phi[j] += math.factorial(size) * math.factorial(n - size - 1) * (index[joined] - index[tuple(mask)])
    return phi / math.factorial(n)


@pytest.mark.parametrize("columns", [1, 4, 10])
@pytest.mark.parametrize("name", ["SoftmaxClassifier", "LogisticRegression"])
def test_they_are_the_shapley_values_of_the_log_odds(name, columns):
    model = MODELS[name].fit(X[:, :columns], Y)
    row, base = X[60, :columns], X[:, :columns].mean(axis=0)
    (of,), (against,) = top_two(logits(model, row[None]))

    def gap(rows):
        z = logits(model, rows)
        return z[:, of] - z[:, against]

    phi = explain.contributions(model, row[None], baseline=base)[0]
    np.testing.assert_allclose(phi, brute_force_shapley(gap, row, base), atol=1e-11 * max(1, np.abs(phi).sum()))


def test_without_a_baseline_they_are_the_shapley_values_from_a_row_that_is_undecided():
    model = fitted("SoftmaxClassifier")
    columns = slice(0, 13)
    row = X[60]
    phi = explain.contributions(model, row[None])[0]
    (of,), (against,) = top_two(logits(model, row[None]))
    start = row - phi / (model.coef_[of] - model.coef_[against])[columns]
    z = logits(model, start[None])[0]
    assert abs(z[of] - z[against]) <= 1e-11 * np.abs(phi).sum()
    np.testing.assert_allclose(explain.contributions(model, row[None], baseline=start)[0], phi, rtol=1e-9)


def test_the_training_mean_is_the_baseline_where_a_scaler_knows_it():
    model = fitted("LogisticRegression")
    why = explain.reasons(model, X[:5])
    named = explain.reasons(model, X[:5], baseline=X.mean(axis=0))
    np.testing.assert_allclose(why.contributions, named.contributions, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(why.baseline_gap + why.contributions.sum(axis=1), why.gap, rtol=1e-12)
    shared = explain.contributions(model, X[:5])
    factor = why.baseline_gap / np.abs(why.contributions).sum(axis=1)
    np.testing.assert_allclose(shared, why.contributions + np.abs(why.contributions) * factor[:, None], rtol=1e-11)


def test_a_pipeline_explains_the_columns_that_went_into_it():
    """Scaling the columns by hand, or in the pipeline, gives the same contributions."""
    scaler = StandardScaler().fit(X)
    outer = make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(X, Y)
    inner = nx.SoftmaxClassifier().fit(scaler.transform(X), Y)
    a = explain.contributions(outer, X, baseline=X.mean(axis=0))
    b = explain.contributions(inner, scaler.transform(X), baseline=0.0)
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_columns_with_large_means_keep_their_digits():
    shifted = X.copy()
    shifted[:, 0] += 1e9
    model = make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(shifted, Y)
    phi = explain.contributions(model, shifted)
    z = logits(model, shifted)
    gap = np.diff(np.sort(z, axis=1)[:, -2:], axis=1)[:, 0]
    np.testing.assert_allclose(phi.sum(axis=1), gap, rtol=1e-11)


def test_a_step_that_is_not_affine_is_passed_and_its_columns_are_explained():
    texts = ["good film", "bad film", "good good play", "bad bad play"] * 3
    y = np.array(["up", "down", "up", "down"] * 3)
    model = make_pipeline(TfidfVectorizer(), StandardScaler(with_mean=False), nx.SoftmaxClassifier()).fit(texts, y)
    why = explain.reasons(model, ["good bad film"], of="up")
    assert sparse.issparse(why.contributions)
    told = dict(zip(why.names, why.contributions.toarray()[0], strict=True))
    assert set(told) == {"good", "bad", "film", "play"}
    assert told["good"] > 0 > told["bad"]
    assert told["play"] == 0
    poly = make_pipeline(PolynomialFeatures(2), StandardScaler(), nx.SoftmaxClassifier()).fit(X[:, :3], Y)
    assert explain.contributions(poly, X[:4, :3]).shape == (4, 10)


def test_arrays_need_no_package_of_tables_or_pictures():
    """The floor loads where polars, skrub and matplotlib are not installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['polars', 'skrub', 'matplotlib', 'pyarrow', 'typer']))\n"
        "import numpy as np, normexp as nx\n"
        "X = np.eye(4); model = nx.SoftmaxClassifier().fit(X, [0, 1, 0, 1]); e = nx.explain\n"
        "e.contributions(model, X); e.probability_contributions(model, X)\n"
        "e.contrast(model, X); e.stability(model, X)\n"
        "e.importance(model, X, [0, 1, 0, 1]); e.influence(model, X, [0, 1, 0, 1], X, [0, 1, 0, 1]); print('all')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "all"), done.stderr


def test_a_calibrated_model_has_the_reasons_of_its_base():
    class Calibrated:
        adjusters_ = ()
        estimator_ = fitted("LogisticRegression")

    np.testing.assert_array_equal(
        explain.contributions(Calibrated(), X[:5]), explain.contributions(Calibrated.estimator_, X[:5])
    )


def test_frames_give_the_names_and_must_keep_the_order():
    frame = load_wine(as_frame=True).data
    model = make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(frame, Y)
    why = explain.reasons(model, frame[:4])
    assert why.names.tolist() == list(frame.columns)
    np.testing.assert_array_equal(why.contributions, explain.reasons(model, frame[:4].to_numpy()).contributions)
    with pytest.raises(ShapeError, match="column 0 of X is 'proline'"):
        explain.contributions(model, frame[frame.columns[::-1]])


def test_a_search_is_its_best_estimator():
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, cv=2).fit(
        load_iris().data, load_iris().target
    )
    rows = load_iris().data[:5]
    np.testing.assert_array_equal(
        explain.contributions(search, rows), explain.contributions(search.best_estimator_, rows)
    )


# ---------------------------------------------------------------- sparse


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return nx.SoftmaxClassifier(C=0.01).fit(X, y), X


@pytest.mark.parametrize("baseline", [None, 0.0, 1.5])
def test_sparse_rows_have_the_contributions_of_dense_ones(digits, baseline):
    model, X = digits
    told = explain.contributions(model, sparse.csr_array(X[:300]), baseline=baseline)
    wanted = explain.contributions(model, X[:300], baseline=baseline)
    assert sparse.issparse(told)
    np.testing.assert_allclose(told.toarray(), wanted, rtol=1e-11, atol=1e-13)
    if baseline != 1.5:
        assert (told.toarray()[X[:300] == 0] == 0).all()


def test_sparse_sums_are_exact_too(digits):
    model, X = digits
    told = explain.contributions(model, sparse.csc_matrix(X[:50]), of=3, against=8)
    for row, terms in zip(X[:50], told.toarray(), strict=True):
        gap = float(exact_gap(model, row, 3, 8))
        assert abs(math.fsum(terms) - gap) <= 1e-12 * abs(gap)


def test_many_rows_are_cut_into_blocks_without_a_trace(digits):
    model, X = digits
    rows = np.vstack([X] * 4)  # 460 000 entries: two blocks
    phi = explain.contributions(model, rows)
    np.testing.assert_array_equal(phi[: len(X)], phi[-len(X) :])
    told = explain.contributions(model, sparse.csr_matrix(rows)).toarray()
    np.testing.assert_allclose(told, phi, rtol=1e-10, atol=1e-13)


def test_rows_at_the_baseline_are_named_and_stay_zero(digits):
    model, X = digits
    rows = np.vstack([X[:2], np.zeros_like(X[:1])])
    for given in (rows, sparse.csr_matrix(rows)):
        with pytest.warns(NormexpWarning, match="row 2 stands at the baseline"):
            phi = explain.contributions(model, given)
        assert abs(phi[2]).sum() == 0


def test_no_rows_give_no_contributions(digits):
    model, X = digits
    assert explain.contributions(model, X[:0]).shape == (0, 64)
    assert explain.contributions(model, sparse.csr_matrix((0, 64))).shape == (0, 64)
    assert explain.contributions(fitted("LogisticRegression"), X[:0, :13]).shape == (0, 13)


# ---------------------------------------------------------------- classes, errors


def test_a_class_and_its_rival_are_labels_one_or_one_for_each_row():
    names = np.array(["barolo", "grignolino", "barbera"])[Y]
    model = nx.SoftmaxClassifier().fit(X, names)
    one = explain.contributions(model, X[:3], of="barbera", against="barolo", baseline=0.0)
    many = explain.contributions(model, X[:3], of=["barbera"] * 3, against=["barolo"] * 3, baseline=0.0)
    back = explain.contributions(model, X[:3], of="barolo", against="barbera", baseline=0.0)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(one, -back)
    told = explain.reasons(model, X[:3], of="grignolino")
    z = logits(model, X[:3])
    rest = np.delete(z, list(model.classes_).index("grignolino"), axis=1)
    others = np.delete(model.classes_, list(model.classes_).index("grignolino"))
    assert told.against.tolist() == others[rest.argmax(axis=1)].tolist()
    predicted = model.predict(X[:3])
    assert explain.reasons(model, X[:3], against=predicted).of.tolist() != predicted.tolist()


BAD = {
    "no coefficients": (lambda m: (RandomForestClassifier(2, random_state=0).fit(X, Y), X), {}, DtypeError, "no coef_"),
    "a regressor": (lambda m: (Ridge().fit(X, Y), X), {}, DtypeError, "classes_"),
    "no model": (lambda m: ("model.nx", X), {}, DtypeError, "a str came"),
    "not fitted": (lambda m: (nx.SoftmaxClassifier(), X), {}, ValueError, "not fitted"),
    "too few columns": (lambda m: (m, X[:, :5]), {}, ShapeError, "5 columns.*13"),
    "one row": (lambda m: (m, X[0]), {}, ShapeError, r"X\[None\]"),
    "words": (lambda m: (m, [["a"] * 13]), {}, DtypeError, "numbers"),
    "NaN": (lambda m: (m, np.where(np.arange(len(X))[:, None] == 9, np.nan, X)), {}, RangeError, "row 9"),
    "unknown class": (lambda m: (m, X), {"of": 7}, RangeError, "no class of the model; it knows 0, 1, 2"),
    "its own rival": (lambda m: (m, X), {"of": 1, "against": 1}, RangeError, "both 1 in row 0"),
    "too few labels": (lambda m: (m, X), {"of": [1, 2]}, ShapeError, "one for each of the 178 rows"),
    "a baseline of words": (lambda m: (m, X), {"baseline": "mean"}, DtypeError, "baseline is 'mean'"),
    "a short baseline": (lambda m: (m, X), {"baseline": [1.0]}, ShapeError, "13 columns"),
    "an infinite baseline": (lambda m: (m, X), {"baseline": np.inf}, RangeError, "finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_a_sentence(name):
    make, options, error, words = BAD[name]
    model, rows = make(fitted("SoftmaxClassifier"))
    with pytest.raises(error, match=words):
        explain.contributions(model, rows, **options)


def test_a_sparse_row_that_is_not_finite_is_named(digits):
    model, X = digits
    rows = sparse.csr_matrix(X[:5])
    rows.data[rows.indptr[3] + 1] = np.inf
    with pytest.raises(RangeError, match="row 3"):
        explain.contributions(model, rows)


# ---------------------------------------------------------------- sums


def test_row_sums_carry_what_float64_loses(rng):
    terms = rng.normal(size=(50, 31)) * 10.0 ** rng.uniform(-20, 20, (50, 31))
    terms = np.hstack([terms, -terms, rng.normal(size=(50, 1))])
    total = exact_row_sums(Pair(terms, np.zeros_like(terms)))
    wanted = [math.fsum(row) for row in terms]
    np.testing.assert_allclose(total.high, wanted, rtol=1e-10)
    assert np.abs(terms.sum(axis=1) - wanted).max() > 1.0  # the plain sum is off by whole units


def test_settling_leaves_zeros_alone():
    settled = settle(np.array([[0.0, 0.0], [1.0, 0.0]]), Pair(np.array([3.0, 1.0 + 1e-15]), np.zeros(2)))
    assert settled.tolist() == [[0.0, 0.0], [1.0 + 1e-15, 0.0]]
