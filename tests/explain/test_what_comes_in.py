"""Rows, classes, weights and options of explanations as people have them, and rows in any unit."""

import warnings
from functools import partial

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.explain.certificates import sureness
from refusals import refused

OF_ROWS = [
    explain.contributions,
    explain.reasons,
    explain.probability_contributions,
    explain.contrast,
    explain.stability,
]


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=300)
    x = 2.0 * rng.normal(size=(5, 6))[y] + rng.normal(size=(300, 6))
    return nx.SoftmaxClassifier().fit(x, y), x, y


def same(a, b):
    """Whether two arrays, or two tuples of them, are the same."""
    pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("function", OF_ROWS)
@pytest.mark.parametrize("kind", ["float64", "bfloat16"])
def test_tensors_that_ask_for_a_gradient_are_explained_as_their_values(fitted, function, kind):
    torch = pytest.importorskip("torch")
    model, x, _ = fitted
    rows = torch.tensor(x[:6], dtype=getattr(torch, kind))
    plain = rows.double().numpy()
    assert same(function(model, rows.requires_grad_()), function(model, plain))


@pytest.mark.parametrize("function", OF_ROWS)
def test_hidden_and_ragged_rows_are_refused(fitted, function):
    model, x, _ = fitted
    refused(ValueError, f"{function.__name__}: X is a masked array", function, model, np.ma.masked_greater(x, 3.0))
    refused(ValueError, "unequal lengths", function, model, [[1.0], [1.0, 2.0]])
    refused(
        ValueError,
        f"{function.__name__}: X is not finite in row 1",
        function,
        model,
        np.vstack([x[0], np.full(6, np.inf)]),
    )


@pytest.mark.parametrize("function", [*OF_ROWS[:3], explain.stability])
def test_what_a_step_refuses_is_said_by_the_function_that_was_called(fitted, function):
    _, x, y = fitted
    model = make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(x, y)
    refused(ValueError, f"{function.__name__}: Cannot center sparse", function, model, sparse.csr_matrix(x[:3]))


@pytest.mark.parametrize("unit", [1e-200, 1e100, 1e200])
def test_the_radius_is_finite_and_scales_with_the_unit_of_the_rows(fitted, unit):
    _, x, y = fitted
    model = nx.SoftmaxClassifier(fit_intercept=False).fit(x, y)
    plain = explain.contrast(model, x[:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain.contrast(model, x[:6] * unit)
        stable = explain.stability(model, x[:6] * unit)
    assert found.radius == pytest.approx(plain.radius * unit, rel=1e-9)
    assert (stable.label_radius == found.radius).all()
    assert (found.decided == plain.decided).all()


@pytest.mark.parametrize("n_classes", [2, 3, 40])
def test_sureness_is_the_least_log_odds_of_any_class(n_classes):
    logits = 3.0 * np.random.default_rng(0).normal(size=(200, n_classes))
    logits[0] = 0.0  # all alike
    logits[1, 0] = 900.0  # surer than 1 - p can say
    least = np.full(len(logits), np.inf)
    for k in range(n_classes):
        rest = np.delete(logits, k, axis=1)
        top = rest.max(axis=1)
        least = np.minimum(least, np.abs(logits[:, k] - top - np.log(np.exp(rest - top[:, None]).sum(axis=1))))
    assert sureness(logits) == pytest.approx(least, rel=1e-13)


@pytest.mark.parametrize("function", [explain.importance, explain.coefficient_importance])
def test_options_of_importance_without_a_meaning_are_refused(fitted, function):
    model, x, y = fitted
    for value in (1, 2.5, "9", True, float("nan")):
        refused((TypeError, ValueError), "n_resamples is", function, model, x, y, n_resamples=value)
    for value in (0, 1, "0.9", None):
        refused((TypeError, ValueError), "level is", function, model, x, y, level=value)
    for value in ("seven", -1, 1.5):
        refused(TypeError, "rng is", function, model, x, y, rng=value)
    if function is explain.importance:
        for value in (0, 1.5, "2"):
            refused((TypeError, ValueError), "n_repeats is", function, model, x, y, n_repeats=value)


def test_texts_alone_have_no_columns_to_shuffle():
    texts = ["sweet round", "sour", "sweet", "sour peel"] * 5
    model = make_pipeline(CountVectorizer(), nx.SoftmaxClassifier()).fit(texts, [0, 1, 0, 1] * 5)
    refused(ValueError, "importance: X has shape (20,)", explain.importance, model, texts, [0, 1, 0, 1] * 5)


@pytest.mark.parametrize("value", ["a", np.full((5, 6), np.nan), -np.ones((5, 6)), np.ones(3)])
def test_standard_errors_are_finite_numbers_of_at_least_0(fitted, value):
    model, x, _ = fitted
    refused((TypeError, ValueError), "standard_error", explain.coefficient_importance, model, x, standard_error=value)


def test_coefficients_on_sparse_rows_have_intervals(fitted):
    model, x, y = fitted
    find = partial(explain.coefficient_importance, n_resamples=3)
    thin, thick = find(model, sparse.csr_matrix(x), y), find(model, x, y)
    assert thin.value == pytest.approx(thick.value, rel=1e-12)
    assert thin.low == pytest.approx(thick.low, abs=0.02)  # refits that end at tol, by other sums


def test_coefficients_of_a_trusted_model_are_those_of_its_base_and_only_that_is_fitted_again(fitted):
    model, x, y = fitted
    trusted = nx.TrustedClassifier(model).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # folds of resampled rows would speak of copies
        found = explain.coefficient_importance(trusted, x, y, n_resamples=3)
    assert same(found[:3], explain.coefficient_importance(trusted.estimator_, x, y, n_resamples=3)[:3])


@pytest.mark.parametrize("function", [explain.influence, explain.leave_one_out])
def test_weights_and_classes_of_training_rows_without_a_meaning_are_refused(fitted, function):
    model, x, y = fitted
    watched = (x[:3], y[:3]) if function is explain.influence else ()
    for weight in (["heavy"] * 300, -np.ones(300), np.full(300, np.nan), np.zeros(300), [1.0]):
        refused((TypeError, ValueError), "sample_weight", function, model, x, y, *watched, sample_weight=weight)
    refused(ValueError, "unequal lengths", function, model, x, [[1], [1, 2]], *watched)
