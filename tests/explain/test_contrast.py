"""The smallest change that flips a decision: exact in three norms, with bounds, and towards a class."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from sklearn.datasets import load_iris, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.explain.nearest import into_half_space, into_polyhedron

X, Y = load_wine(return_X_y=True)
NORMS = [1, 2, np.inf]
MODELS = {
    "softmax": nx.SoftmaxClassifier(),
    "two classes": nx.SoftmaxClassifier(),
    "scaled": make_pipeline(StandardScaler(), LogisticRegression()),
}


def fitted(name):
    return MODELS[name].fit(X, np.minimum(Y, 1) if name == "two classes" else Y)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODELS)
def test_the_flip_happens_just_beyond_the_radius_and_not_just_before(name, norm):
    model = fitted(name)
    found = explain.contrast(model, X, norm=norm)
    before = model.predict(X)
    assert (found.decided != before).all()
    assert (model.predict(found.x) == found.decided).all()
    step = found.x - X
    np.testing.assert_allclose(np.linalg.norm(step, ord=norm, axis=1), found.radius, rtol=1e-6)
    assert (model.predict(X + (1 - 1e-6) * step) == before).all()
    assert (model.predict(X + (1 + 1e-6) * step) == found.decided).all()


@pytest.mark.parametrize("norm", NORMS)
def test_no_direction_flips_within_the_radius(norm, rng):
    """Random steps, and the steepest ones towards every other class, of nearly the radius."""
    model = fitted("softmax")
    found = explain.contrast(model, X, norm=norm)
    before = model.predict(X)
    slopes = (model.coef_[None] - model.coef_[before][:, None]).transpose(1, 0, 2)  # class, row, column
    steepest = {1: lambda a: a * (np.abs(a) == np.abs(a).max(axis=-1, keepdims=True)), 2: lambda a: a, np.inf: np.sign}
    for direction in [*rng.normal(size=(40, *X.shape)), *steepest[norm](slopes)]:
        length = np.linalg.norm(direction, ord=norm, axis=1, keepdims=True)
        unit = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
        assert (model.predict(X + 0.999999 * found.radius[:, None] * unit) == before).all()


def test_a_wrong_dual_norm_would_be_noticed():
    """The Euclidean radius is no radius in the largest coordinate: within it decisions flip."""
    model = fitted("softmax")
    radius = explain.contrast(model, X, norm=2).radius
    before = model.predict(X)
    found = explain.contrast(model, X, norm=np.inf)
    assert (radius > 1.1 * found.radius).any()
    unit = (found.x - X) / found.radius[:, None]
    assert (model.predict(X + 0.999 * radius[:, None] * unit) != before).any()


@pytest.mark.parametrize("norm", NORMS)
def test_a_class_can_be_asked_for(norm):
    model = fitted("softmax")
    before = model.predict(X)
    for to in range(3):
        found = explain.contrast(model, X[::6], to=to, norm=norm)
        assert (found.decided == to).all()
        assert (model.predict(found.x) == to).all()
        assert (found.radius[before[::6] == to] == 0).all()
        assert (found.x[before[::6] == to] == X[::6][before[::6] == to]).all()
        assert (found.radius >= explain.contrast(model, X[::6], norm=norm).radius * (before[::6] != to) - 1e-12).all()


def crowded(rng, n_classes=8, n_columns=3):
    """Many classes in few columns: the way to one leads past others, and some can hardly be reached."""
    model = LogisticRegression()
    model.coef_, model.intercept_ = rng.normal(size=(n_classes, n_columns)), rng.normal(size=n_classes)
    model.classes_, model.n_features_in_ = np.arange(n_classes), n_columns
    return model, 2 * rng.normal(size=(12, n_columns))


@pytest.mark.parametrize("norm", NORMS)
def test_the_way_past_other_classes_is_the_shortest(norm, rng):
    """Against a general solver (norm 2), and against the corners of a fine box (norms 1 and infinity)."""
    model, rows = crowded(rng)
    pairwise = 0
    for row in rows[:6]:
        for to in range(8):
            found = explain.contrast(model, row[None], to=to, norm=norm)
            if np.isinf(found.radius[0]):
                continue
            assert model.predict(found.x)[0] == to
            slopes = model.coef_[to] - np.delete(model.coef_, to, axis=0)
            gains = np.delete(model.decision_function(row[None])[0], to) - model.decision_function(row[None])[0, to]
            if norm == 2:
                beyond = {"type": "ineq", "fun": lambda d, a=slopes, g=gains: a @ d - g, "jac": lambda d, a=slopes: a}
                start, options = found.x[0] - row + 0.01, {"ftol": 1e-14, "maxiter": 500}
                wanted = minimize(
                    lambda d: d @ d, start, jac=lambda d: 2 * d, method="SLSQP", constraints=beyond, options=options
                )
                np.testing.assert_allclose(found.radius[0], np.sqrt(wanted.fun), rtol=1e-5, atol=1e-7)
            else:
                vertices = least_by_vertices(slopes, gains, norm)
                np.testing.assert_allclose(found.radius[0], vertices, rtol=1e-7, atol=1e-9)
            own = model.predict(row[None])[0]
            against = (slopes[own - (own > to)], gains[own - (own > to)]) if own != to else None
            if against is not None:
                alone = into_half_space(*against, norm, np.full(3, -np.inf), np.full(3, np.inf))
                pairwise += bool((slopes @ alone < gains - 1e-9).any())
    assert pairwise > 5  # the half-space against the decision alone would not have done


def least_by_vertices(slopes, gains, norm):
    """Least norm over a polyhedron in three dimensions, by all of its vertices in the space of the linear program."""
    n = slopes.shape[1]
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    # norm = max over corners c of the dual ball of c . d: minimise t with c . d <= t
    corners = signs if norm == 1 else np.vstack([np.eye(n), -np.eye(n)])
    rows = np.vstack(
        [np.column_stack([slopes, np.zeros(len(slopes))]), np.column_stack([-corners, np.ones(len(corners))])]
    )
    right = np.r_[gains, np.zeros(len(corners))]
    best = np.inf
    for chosen in itertools.combinations(range(len(rows)), n + 1):
        system = rows[list(chosen)]
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        point = np.linalg.solve(system, right[list(chosen)])
        if (rows @ point >= right - 1e-9).all():
            best = min(best, point[-1])
    return best


def test_a_class_that_wins_nowhere_has_an_infinite_radius():
    model = LogisticRegression()
    model.coef_, model.intercept_ = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 0.0, -1.0])
    model.classes_, model.n_features_in_ = np.array(["a", "b", "never"]), 2
    for norm in NORMS:
        found = explain.contrast(model, [[1.0, 5.0], [-2.0, 0.0]], to="never", norm=norm)
        assert np.isinf(found.radius).all()
        assert found.decided.tolist() == ["a", "b"]
        assert found.x.tolist() == [[1.0, 5.0], [-2.0, 0.0]]


def test_equal_coefficients_cannot_be_told_apart_by_any_change():
    model = LogisticRegression()
    model.coef_, model.intercept_ = np.zeros((1, 2)), np.array([1.0])
    model.classes_, model.n_features_in_ = np.array([0, 1]), 2
    found = explain.contrast(model, [[1.0, 5.0]])
    assert np.isinf(found.radius[0])
    assert found.decided[0] == 1


# ---------------------------------------------------------------- bounds, scales


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_and_frozen_columns_are_kept_and_cost_distance(norm):
    model = fitted("scaled")
    free = explain.contrast(model, X, norm=norm, scale=X.std(axis=0))
    low, high = X.min(axis=0), X.max(axis=0)
    held = explain.contrast(model, X, norm=norm, scale=X.std(axis=0), lower=low, upper=high, frozen=[0, 12])
    flips = np.isfinite(held.radius)
    assert flips.mean() > 0.9
    assert (held.x[:, [0, 12]] == X[:, [0, 12]]).all()
    assert ((held.x >= low) & (held.x <= high)).all()
    assert (held.radius >= free.radius * (1 - 1e-12)).all()
    assert (held.radius[flips] > 1.01 * free.radius[flips]).any()
    assert (model.predict(held.x) == held.decided).all()
    assert (held.decided[flips] != model.predict(X)[flips]).all()
    step = held.x - X
    assert (model.predict(X + (1 - 1e-6) * step) == model.predict(X)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_step_within_a_box_is_the_one_of_a_linear_or_quadratic_program(norm, rng):
    for _ in range(30):
        slope, low, high = rng.normal(size=6), -rng.exponential(size=6), rng.exponential(size=6)
        most = float(np.maximum(slope * low, slope * high).sum())
        gain = float(rng.uniform(0.05, 0.95)) * most
        step = into_half_space(slope, gain, norm, low, high)
        general = into_polyhedron(slope[None], np.array([gain]), norm, low, high)
        assert (step >= low).all()
        assert (step <= high).all()
        np.testing.assert_allclose(slope @ step, gain, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(step, norm), np.linalg.norm(general, norm), rtol=1e-7)
        assert into_half_space(slope, 1.01 * most, norm, low, high) is None


def test_the_radius_within_bounds_is_that_of_a_general_optimiser():
    """For each rival the projection onto a half-space within the box, by SLSQP; the least of them is the radius."""
    model, unit = fitted("softmax"), X.std(axis=0)
    low, high = X.min(axis=0), X.max(axis=0)
    found = explain.contrast(model, X[::9], scale=unit, lower=low, upper=high)
    free = explain.contrast(model, X[::9], scale=unit).radius
    for row, radius in zip(X[::9], found.radius, strict=True):
        z = model.decision_function(row[None])[0]
        own, best = z.argmax(), np.inf
        for k in set(range(3)) - {own}:
            slope = (model.coef_[k] - model.coef_[own]) * unit
            limits = list(zip((low - row) / unit, (high - row) / unit, strict=True))
            if np.where(slope > 0, slope * (high - row) / unit, slope * (low - row) / unit).sum() < z[own] - z[k]:
                continue
            told = minimize(
                lambda step: 0.5 * step @ step,
                np.zeros(13),
                jac=lambda step: step,
                bounds=limits,
                constraints={
                    "type": "ineq",
                    "fun": lambda step, s=slope, gap=z[own] - z[k]: s @ step - gap,
                    "jac": lambda step, s=slope: s,
                },
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            assert told.success
            best = min(best, np.linalg.norm(told.x))
        np.testing.assert_allclose(radius, best, rtol=1e-5)
    assert (found.radius > 1.001 * free).any()  # the bounds bind


def test_a_scale_is_a_change_of_units():
    model = fitted("softmax")
    scale = X.std(axis=0)
    scaled = nx.SoftmaxClassifier()
    scaled.coef_, scaled.intercept_, scaled.classes_ = model.coef_ * scale, model.intercept_, model.classes_
    scaled.n_features_in_ = 13
    for norm in NORMS:
        a = explain.contrast(model, X[:20], norm=norm, scale=scale)
        b = explain.contrast(scaled, X[:20] / scale, norm=norm)
        np.testing.assert_allclose(a.radius, b.radius, rtol=1e-9)
        np.testing.assert_allclose(a.x / scale, b.x, rtol=1e-7)


def test_norm_one_changes_a_single_column():
    found = explain.contrast(fitted("softmax"), X, norm=1)
    assert ((found.x != X).sum(axis=1) == 1).all()


def test_rows_on_the_boundary_and_labels_that_are_words():
    model = LogisticRegression()
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    model.classes_, model.n_features_in_ = np.array(["no", "yes"]), 1
    found = explain.contrast(model, [[0.0], [3.0], [-4.0]])
    assert found.radius.tolist() == [0.0, 3.0, 4.0]
    assert found.decided.tolist() == ["yes", "no", "yes"]


def test_sparse_rows_and_no_rows():
    model = fitted("softmax")
    np.testing.assert_array_equal(explain.contrast(model, sparse.csr_matrix(X[:3])).x, explain.contrast(model, X[:3]).x)
    assert explain.contrast(model, X[:0]).x.shape == (0, 13)


BAD = {
    "norm": ({"norm": 3}, RangeError, "norm is 3; 1, 2 or numpy.inf"),
    "scale": ({"scale": 0.0}, RangeError, "scale holds 0.0"),
    "short scale": ({"scale": [1.0, 2.0]}, ShapeError, "13 columns"),
    "bounds": ({"lower": 5.0}, RangeError, "row 0 has .* outside the bounds 5 to inf"),
    "NaN bounds": ({"upper": np.nan}, RangeError, "outside the bounds"),
    "words": ({"upper": "high"}, DtypeError, "upper is 'high'"),
    "frozen": ({"frozen": [13]}, RangeError, "column numbers from 0 to 12"),
    "class": ({"to": "d"}, RangeError, "to is 'd', which is no class"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_a_sentence(name):
    options, error, words = BAD[name]
    with pytest.raises(error, match=words):
        explain.contrast(fitted("softmax"), X, **options)


def test_a_model_that_is_not_linear_in_its_input_is_refused(table_models):
    texts = make_pipeline(TfidfVectorizer(), nx.SoftmaxClassifier()).fit(["aa bb", "bb cc", "cc dd"] * 2, [0, 1, 0] * 2)
    with pytest.raises(DtypeError, match="TfidfVectorizer, which is not affine"):
        explain.contrast(texts, ["aa bb"])
    model, block = table_models["columns"]
    with pytest.raises(DtypeError, match="TableEncoder"):
        explain.contrast(model, block)


def test_iris_against_a_plain_formula():
    rows, y = load_iris(return_X_y=True)
    model = nx.SoftmaxClassifier().fit(rows, y)
    z = model.decision_function(rows)
    own = z.argmax(axis=1)
    radius = np.full(len(rows), np.inf)
    for k in range(3):
        gap = z.max(axis=1) - z[:, k]
        length = np.linalg.norm(model.coef_[own] - model.coef_[k], axis=1)
        radius = np.where(own == k, radius, np.minimum(radius, gap / np.where(own == k, 1.0, length)))
    np.testing.assert_allclose(explain.contrast(model, rows).radius, radius, rtol=1e-12)
