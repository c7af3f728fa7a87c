"""Forecasts of optima along a path: right where their rule holds, harmless where it does not."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from normexp import SoftmaxClassifier, SoftmaxClassifierCV
from normexp.linear_model.penalty_path import fitted_path
from normexp.rows import memory
from normexp.solvers import CornerProblem, Forecast, Penalty, RidgeProblem, forecast

EVEN = np.arange(6.0)


def gone(told, path):
    """What a forecast says along a path, before each optimum."""
    told.begin(np.ones(path.shape[1]))
    said = []
    for optimum in path:
        said.append(told.start())
        told.reached(optimum)
    told.finish()
    return said


def test_the_first_path_follows_its_own_rate(rng):
    first, move = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    path = np.array([first + move * (1 - 0.5**m) for m in range(6)])
    said = gone(Forecast(EVEN), path)
    assert said[0] is None
    np.testing.assert_array_equal(said[1], path[0])
    for m in range(3, 6):  # from here on the rate is known
        np.testing.assert_allclose(said[m], path[m], atol=1e-12)
    uneven = np.array([0.0, 1.0, 1.5, 4.0, 4.2, 9.0])
    straight = np.array([first + move * at for at in uneven])
    for m, guess in enumerate(gone(Forecast(uneven), straight)[2:], 2):
        np.testing.assert_allclose(guess, straight[m], atol=1e-12)


def test_other_paths_tell_the_next_one(rng):
    course, apart = rng.normal(size=(6, 4, 3)), rng.normal(size=(4, 3))
    told = Forecast(EVEN)
    gone(told, course - 0.1 * apart)
    assert told.knows_others
    gone(told, course + 0.1 * apart)  # the mean of both is the course
    said = gone(told, course + apart)  # apart from it by the same at each penalty
    np.testing.assert_allclose(said[0], course[0], atol=1e-12)
    np.testing.assert_allclose(said[1], course[1] + apart, atol=1e-12)
    move = rng.normal(size=(4, 3))
    course = np.array([move * 0.7**m for m in range(6)])
    told = Forecast(EVEN)
    gone(told, course)
    fading = np.array([move * 0.7**m + apart * 0.7**m for m in range(6)])  # as fast as the course itself moves
    for m, guess in enumerate(gone(told, fading)[2:], 2):
        np.testing.assert_allclose(guess, fading[m], atol=1e-12)
        assert np.abs(fading[m - 1] + course[m] - course[m - 1] - fading[m]).max() > 1e-3  # without the rate it is not


def test_optima_too_large_to_keep_are_not_shared(monkeypatch, rng):
    monkeypatch.setattr(forecast, "_MOST_NUMBERS", 71)
    told = Forecast(EVEN)
    gone(told, rng.normal(size=(6, 4, 3)))
    assert not told.knows_others
    assert told.start() is None


def rows_and_classes(rng, n_features):
    X = rng.normal(size=(60, n_features))
    return X, (X[:, :3] + rng.gumbel(size=(60, 3))).argmax(axis=1).astype(np.intp)


@pytest.mark.parametrize(("n_features", "by_rows"), [(5, False), (200, True)])
@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_wrong_guess_is_known_for_one(n_features, by_rows, thin, intercept, rng):
    X, target = rows_and_classes(rng, n_features)
    X = sparse.csr_matrix(X) if thin else X

    def after(change):
        problem = RidgeProblem(X, target, np.ones(60), n_classes=3, fit_intercept=intercept)
        assert problem.by_rows is by_rows
        problem.solve(1.0, tol=1e-9)
        values = []
        fitted = problem.solve(
            0.5, tol=1e-9, place=change(problem.place), callback=lambda step: values.append(step.value)
        )
        return fitted, values

    alone = RidgeProblem(X, target, np.ones(60), n_classes=3, fit_intercept=intercept).solve(0.5, tol=1e-9)
    warm, steps = after(lambda place: place)
    wild, others = after(lambda place: 50.0 * place + 1.0)
    np.testing.assert_allclose(others, steps, rtol=1e-9)  # it began at the optimum before, not at the guess
    assert wild.solution.n_passes <= warm.solution.n_passes + 1
    for fitted in (warm, wild):
        assert fitted.solution.suboptimality <= 1e-9
        np.testing.assert_allclose(fitted.coef, alone.coef, atol=1e-4)
        np.testing.assert_allclose(fitted.intercept, alone.intercept, atol=1e-4)


@pytest.mark.parametrize(("penalty", "ratios"), [("l2", None), ("elasticnet", [0.5])])
def test_folds_tell_each_other_where_to_begin_and_nothing_else(penalty, ratios, monkeypatch, rng):
    X = rng.normal(size=(400, 6))
    y = (X[:, :4] + rng.gumbel(size=(400, 4))).argmax(axis=1)
    model = SoftmaxClassifierCV(Cs=8, cv=4, penalty=penalty, l1_ratios=ratios, tol=1e-9)
    passes = []
    take = SoftmaxClassifier._take
    monkeypatch.setattr(
        SoftmaxClassifier, "_take", lambda *given: passes.append(given[1].solution.n_passes) or take(*given)
    )
    monkeypatch.setattr("normexp.linear_model.softmax_classifier_cv._PATH_TOL", 1e-9)
    told = model.fit(X, y).scores_
    with_forecasts = sum(passes)
    passes.clear()
    monkeypatch.setattr(Forecast, "start", lambda self: None)  # every fit begins at zero
    alone = model.fit(X, y).scores_
    np.testing.assert_allclose(told, alone, atol=1e-6)
    assert with_forecasts < 0.8 * sum(passes)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("kind", [RidgeProblem, CornerProblem])
def test_some_rows_of_a_table_are_a_table(kind, copied, thin, monkeypatch, rng):
    X, target = rows_and_classes(rng, 5)
    table = sparse.csr_matrix(X) if thin else X
    only = np.flatnonzero(rng.random(60) < 0.8)
    monkeypatch.setattr(memory, "_COPY_NUMBERS", 1 << 20 if copied else 0)
    strength = 0.5 if kind is RidgeProblem else Penalty(np.full(5, 0.5), np.full(5, 0.5))
    weight = rng.uniform(size=len(only))
    some = kind(table, target[only], weight, n_classes=3, only=only).solve(strength)
    alone = kind(table[only], target[only], weight, n_classes=3).solve(strength)
    np.testing.assert_array_equal(some.coef, alone.coef)
    np.testing.assert_array_equal(some.intercept, alone.intercept)


def test_the_rows_of_a_fold_are_not_copied_out_of_a_large_table(monkeypatch, rng):
    X = rng.normal(size=(20_000, 60))
    only, target = np.arange(0, 20_000, 2), np.arange(10_000) % 3
    monkeypatch.setattr(memory, "_COPY_NUMBERS", 0)
    monkeypatch.setattr(memory, "_BLOCK_NUMBERS", 1 << 14)

    def peak(table, rows):
        tracemalloc.start()
        problem = RidgeProblem(table if rows is None else X, target, np.ones(10_000), n_classes=3, only=rows)
        problem.solve(1.0, max_iter=0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(X[only], None)  # kernels are loaded
    assert peak(X, only) < 0.3 * X[only].nbytes


def test_the_paths_of_folds_that_lack_a_class_are_kept_apart(rng):
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 3
    forecasts = {}
    model = SoftmaxClassifier(tol=1e-6)
    for kept in (y < 3, y < 2, y > 0):
        fits = list(fitted_path(model, np.array([0.1, 1.0]), X[kept], y[kept], None, forecasts, of="test"))
        alone = SoftmaxClassifier(C=1.0).fit(X[kept], y[kept])
        np.testing.assert_allclose(fits[-1].predict_proba(X), alone.predict_proba(X), atol=1e-3)
    assert sorted(forecasts) == [(0, 1), (0, 1, 2), (1, 2)]
