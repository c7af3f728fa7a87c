"""The unsure rows of many classes: with room for all they are the classes' blocks, and they save passes."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from normexp.rows import row_blocks
from normexp.solvers import class_rows, metric
from normexp.solvers.class_blocks import fit_class_blocks
from normexp.solvers.class_rows import ClassRows, fit_class_rows
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import column_map
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.truncated_newton import minimise


def clusters(dtype, *, n_rows=2000, n_features=48, n_classes=50, separation=0.3, fit_intercept=True):
    """Overlapping clusters, few rows for each class."""
    rng = np.random.default_rng(3)
    target = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes)]).astype(np.intp)
    X = separation * rng.normal(size=(n_classes, n_features))[target] + rng.normal(size=(n_rows, n_features))
    rows = row_blocks((2.0 + X).astype(dtype), n_classes)
    weight = rng.uniform(0.5, 1.5, size=n_rows)
    centre, scale = column_map(rows, weight, centred=fit_intercept)
    return SoftmaxObjective(
        rows.seen_through(centre, scale),
        target,
        weight,
        n_classes=n_classes,
        ridge=1.0 / scale**2,
        fit_intercept=fit_intercept,
    )


def fitted(objective, tol=1e-6):
    zeros = np.zeros((objective.rows.n_features, objective.n_scores)), np.zeros(objective.n_scores)
    with threadpool_limits(1):  # threads of a BLAS that wait for one another cost more than they bring here
        space = CoefficientSpace(objective, *zeros, np.random.default_rng(0))
        return minimise(space, tol=tol, max_iter=100)


@pytest.fixture
def no_blocks(monkeypatch):
    """Neither the Hessian nor all blocks: as it is where there are a hundred times more classes."""
    monkeypatch.setattr(metric, "_MAX_UNKNOWNS", 0)
    monkeypatch.setattr(metric, "_MAX_BLOCK_NUMBERS", 0)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_with_room_for_all_rows_they_are_the_classes_blocks(monkeypatch, rng, fit_intercept):
    monkeypatch.setattr(class_rows, "_PAIRS_OF_A_ROW", 1e6)
    monkeypatch.setattr(class_rows, "_ROWS_OF_A_CLASS", 10**6)
    objective = clusters(np.float64, n_rows=180, n_features=400, n_classes=4, fit_intercept=fit_intercept)
    objective.at(rng.normal(size=(400, 4)) * 0.02, rng.normal(size=4) * fit_intercept)
    coef, shift = rng.normal(size=(400, 4)), rng.normal(size=4) * fit_intercept
    found = fit_class_rows(objective).solve(coef, shift)
    right = fit_class_blocks(objective, rng).solve(coef, shift)
    np.testing.assert_allclose(found[0], right[0], atol=2e-3 * np.abs(right[0]).max())
    np.testing.assert_allclose(found[1] * fit_intercept, right[1] * fit_intercept, atol=2e-3 * np.abs(right[0]).max())


def test_it_is_symmetric_and_positive(rng):
    objective = clusters(np.float32)
    objective.at(rng.normal(size=(48, 50)) * 0.3, rng.normal(size=50))
    preconditioner = fit_class_rows(objective)
    assert max(len(rows) for rows, _ in preconditioner.updates) > 5  # more than the means
    first, second = [(rng.normal(size=(48, 50)), rng.normal(size=50)) for _ in range(2)]

    def product(left, right):
        coef, shift = preconditioner.solve(*right)
        return float(np.vdot(left[0], coef) + left[1] @ shift)

    assert product(first, second) == pytest.approx(product(second, first), rel=1e-4, abs=1e-4 * product(first, first))
    assert product(first, first) > 0


@pytest.mark.usefixtures("no_blocks")
@pytest.mark.parametrize("separation", [0.15, 0.5])
def test_they_save_a_quarter_of_the_passes(monkeypatch, separation):
    with_rows, without = (clusters(np.float32, separation=separation) for _ in range(2))
    first = fitted(with_rows)
    monkeypatch.setattr(metric, "_FIRST_PATIENCE", 10**6)
    second = fitted(without)
    assert first.outcome is second.outcome is Outcome.CERTIFIED
    assert first.value == pytest.approx(second.value, rel=2e-6)
    assert with_rows.n_passes < 0.75 * without.n_passes


def test_the_pass_that_forms_them_is_counted(rng):
    objective = clusters(np.float64)
    objective.at(rng.normal(size=(48, 50)), rng.normal(size=50))
    before = objective.n_passes
    assert isinstance(fit_class_rows(objective), ClassRows)
    assert objective.n_passes == before + 1


def test_rows_without_weight_give_a_preconditioner_all_the_same(rng):
    objective = clusters(np.float64)
    objective.at(rng.normal(size=(48, 50)) * 1e4, rng.normal(size=50))  # all but sure of every row
    coef, shift = fit_class_rows(objective).solve(rng.normal(size=(48, 50)), rng.normal(size=50))
    assert np.isfinite(coef).all()
    assert np.isfinite(shift).all()


def test_no_more_rows_are_kept_than_there_is_room_for(monkeypatch, rng):
    objective = clusters(np.float64)
    objective.at(rng.normal(size=(48, 50)) * 0.3, rng.normal(size=50))
    monkeypatch.setattr(class_rows, "_KEPT_NUMBERS", 300 * 49)
    kept = [len(rows) - 1 for rows, _ in fit_class_rows(objective).updates]
    assert 150 < sum(kept) <= 300
    monkeypatch.setattr(class_rows, "_KEPT_NUMBERS", 10**9)
    monkeypatch.setattr(class_rows, "_ROWS_OF_A_CLASS", 7)
    assert max(len(rows) - 1 for rows, _ in fit_class_rows(objective).updates) <= 7
