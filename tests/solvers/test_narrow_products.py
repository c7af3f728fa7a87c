"""Large sparse problems take Hessian products and directions in float32: the same optimum, and the same proof of it."""

import numpy as np
import pytest
from scipy import sparse

from normexp.backends import pieces
from normexp.rows import memory, row_blocks
from normexp.solvers import coefficient_space, metric, problem
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.problem import best_length
from normexp.solvers.truncated_newton import minimise


def texts():
    rng = np.random.default_rng(2)
    target = np.concatenate([np.arange(120), rng.integers(0, 120, 600)]).astype(np.intp)
    own = rng.integers(0, 500, size=(120, 5))
    words = np.hstack([own[target[:, None], rng.integers(0, 5, (720, 3))], rng.zipf(1.4, (720, 5)) % 500])
    X = sparse.csr_matrix((np.ones(words.size), (np.repeat(np.arange(720), 8), words.ravel())), shape=(720, 500))
    return X, target


def fitted(tol):
    X, target = texts()
    objective = SoftmaxObjective(
        row_blocks(X, 120), target, np.ones(720), n_classes=120, ridge=np.full(500, 0.1), fit_intercept=True
    )
    zeros = np.zeros((500, 120)), np.zeros(120)
    ending = minimise(CoefficientSpace(objective, *zeros, np.random.default_rng(0)), tol=tol, max_iter=100)
    return objective, ending


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(memory, "_NARROW_NUMBERS", 1)
    monkeypatch.setattr(pieces, "LARGE", 1)
    monkeypatch.setattr(coefficient_space, "LARGE", 1)
    monkeypatch.setattr(metric, "_MAX_DENSE_FEATURES", 100)


@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-9])
def test_the_certificate_holds(narrow, monkeypatch, tol):
    objective, ending = fitted(tol)
    assert tol < 1e-6 or objective.curved_rows.dtype == np.float32  # finer ones may need float64 in the end
    assert ending.outcome is Outcome.CERTIFIED
    monkeypatch.undo()
    whole, fine = fitted(1e-11)
    assert whole.curved_rows.dtype == np.float64
    assert fine.value * (1 - 1e-12) <= ending.value <= fine.value * (1 + 1.01 * tol)
    assert (ending.value - fine.value) / fine.value <= ending.suboptimality + 1e-11


def test_more_digits_than_float32_holds_are_found_in_float64(narrow):
    objective, ending = fitted(1e-13)
    assert ending.suboptimality <= 1e-12
    assert objective.working in (np.float32, np.float64)


def test_the_products_are_those_of_float64_to_the_digits_of_float32(narrow, monkeypatch, rng):
    narrow_objective, _ = fitted(1e-2)
    monkeypatch.undo()
    wide_objective, _ = fitted(1e-2)
    coef, shift = rng.normal(size=(500, 120)), rng.normal(size=120)
    along, turn = rng.normal(size=(500, 120)), rng.normal(size=120)
    products = []
    for objective in (narrow_objective, wide_objective):
        objective.damping = 0.0
        objective.at(coef, shift)
        products.append(objective.curvature_along(along.astype(objective.working), turn)[0])
    assert products[0].dtype == np.float32
    np.testing.assert_allclose(products[0], products[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("best", range(30))
def test_the_length_of_the_least_value_is_found(best):
    """Convex along the line: lengths beyond the first ten are asked for only when they may be better."""
    lengths = np.concatenate(problem.LENGTHS)
    asked = []

    def values_at(some):
        asked.extend(some)
        return np.square(np.log2(some) - np.log2(lengths[best]))

    assert best_length(values_at, 1e9) == lengths[best]
    assert len(asked) == (10 if best < 9 else 20 if best < 19 else 30)


def test_values_that_overflow_are_passed_over():
    overflown = np.array([np.nan, np.inf])
    assert best_length(lambda some: np.where(some > 0.1, overflown[[0, 1] * 5], some), 1.0) == 2.0**-14.5
    assert best_length(lambda some: np.full(len(some), np.nan), 1.0) == 0.0
    assert best_length(lambda some: some + 1.0, 1.0) == 0.0
