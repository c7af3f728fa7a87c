"""The classes' own blocks: what they are, and that they save iterations where a Kronecker product cannot."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from normexp.rows import row_blocks
from normexp.solvers import metric
from normexp.solvers.class_blocks import fit_class_blocks
from normexp.solvers.coefficient_space import CoefficientSpace
from normexp.solvers.fit import column_map
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.outcome import Outcome
from normexp.solvers.truncated_newton import minimise


def make(dtype, *, n_rows=1500, n_features=40, n_pairs=3, ridge=0.01):
    """Pairs of classes, each unsure of one another only, with correlations between columns that are the pair's own."""
    rng = np.random.default_rng(1)
    pair = rng.integers(0, n_pairs, size=n_rows)
    target = (2 * pair + rng.integers(0, 2, size=n_rows)).astype(np.intp)
    X = rng.normal(size=(n_rows, n_features))
    for p in range(n_pairs):
        turn = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
        X[pair == p] = (X[pair == p] * np.geomspace(1.0, 1e-3, n_features)) @ turn + 3 * rng.normal(size=n_features)
    rows = row_blocks(X.astype(dtype), 2 * n_pairs)
    weight = rng.uniform(0.5, 1.5, size=n_rows)
    centre, scale = column_map(rows, weight, centred=True)
    return SoftmaxObjective(
        rows.seen_through(centre, scale),
        target,
        weight,
        n_classes=2 * n_pairs,
        ridge=ridge / scale**2,
        fit_intercept=True,
    )


def fitted(objective, tol, max_iter=200):
    zeros = np.zeros((objective.rows.n_features, objective.n_scores)), np.zeros(objective.n_scores)
    with threadpool_limits(1):  # threads of a BLAS that wait for one another cost more than they bring here
        return minimise(CoefficientSpace(objective, *zeros, np.random.default_rng(0)), tol=tol, max_iter=max_iter)


def test_a_block_is_the_hessian_of_its_class_alone(rng):
    objective = make(np.float64, n_features=12, n_rows=180)  # few enough that all rows count
    objective.at(rng.normal(size=(12, 6)) * 0.1, rng.normal(size=6))
    blocks = fit_class_blocks(objective, rng)
    for k in range(6):
        along = np.zeros((12, 6))
        along[:, k] = rng.normal(size=12)
        turn = np.zeros(6)
        turn[k] = 0.7
        bent, turned = objective.curvature_along(along, turn)
        lower = np.tril(blocks.factors[k])
        mine = lower @ (lower.T @ np.append(along[:, k], 0.7))
        np.testing.assert_allclose(mine, np.append(bent[:, k], turned[k]), rtol=1e-3, atol=1e-3 * np.abs(mine).max())


def test_the_blocks_save_two_fifths_of_the_passes_on_correlated_columns(monkeypatch):
    monkeypatch.setattr(metric, "_MAX_UNKNOWNS", 0)  # not the Hessian itself
    with_blocks, without = make(np.float64), make(np.float64)
    first = fitted(with_blocks, 1e-9)
    monkeypatch.setattr(metric, "_MAX_BLOCK_NUMBERS", 0)
    second = fitted(without, 1e-9, max_iter=100)
    assert first.outcome is Outcome.CERTIFIED
    assert first.value <= second.value * (1 + 1e-9)
    assert with_blocks.n_passes < 0.6 * without.n_passes  # from run to run of other roundings it is 0.4 to 0.52


def test_a_float32_table_is_certified_to_the_default_tolerance(monkeypatch):
    monkeypatch.setattr(metric, "_MAX_UNKNOWNS", 0)
    narrow = make(np.float32)
    ending = fitted(narrow, 1e-6)
    assert ending.outcome is Outcome.CERTIFIED
    assert ending.value == pytest.approx(fitted(make(np.float64), 1e-6).value, rel=1e-5)


def test_many_steps_without_a_penalty_are_told_from_too_few():
    from normexp.solvers.truncated_newton import _unfinished

    assert _unfinished(0, penalised=False) is Outcome.NOT_STARTED
    assert _unfinished(5, penalised=False) is Outcome.MAX_ITER
    assert _unfinished(100, penalised=False) is Outcome.GROWING
    assert _unfinished(100, penalised=True) is Outcome.MAX_ITER
    assert not Outcome.GROWING.converged
