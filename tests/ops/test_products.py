"""Rows of a product that are alike wherever they stand, on the kernels of several CPUs."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import normexp as nx
from normexp.backends import products
from strategies import WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
HEAD = np.random.default_rng(1)
X, PROJECTION, TARGET = HEAD.standard_normal((301, 33)), HEAD.standard_normal((1_009, 33)), HEAD.integers(0, 1_009, 301)
PROGRAM = """
import json, numpy as np, threadpoolctl, normexp as nx
from normexp.backends import products

def bits(x, w, target, rows):
    found = nx.linear_cross_entropy_with_grad(x[rows], w, target[rows], reduction="none")
    return found.loss.tobytes() + found.grad_x.tobytes()

report = {"cores": [one.get("architecture") for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]}
for dtype in (np.float32, np.float64):
    same = plain = True
    for n, d, k in ((23, 7, 17), (301, 33, 1009), (70, 513, 901), (300, 1000, 300)):
        rng = np.random.default_rng(n)
        x, w = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((k, d)).astype(dtype)
        target = rng.integers(0, k, n)
        with nx.set_num_threads(2):
            whole = nx.linear_cross_entropy_with_grad(x, w, target, reduction="none")
        product = x @ w.T
        for rows in (slice(0, 1), slice(n - 1, n), slice(2, 5), slice(None, None, -1), rng.permutation(n)):
            same &= bits(x, w, target, rows) == whole.loss[rows].tobytes() + whole.grad_x[rows].tobytes()
            plain &= (x[rows] @ w.T).tobytes() == product[rows].tobytes()
    group, steady = products.habit_of(np.dtype(dtype))
    report[np.dtype(dtype).name] = {"same": bool(same), "plain": bool(plain), "group": group, "steady": steady}
print(json.dumps(report))
"""


@pytest.mark.parametrize("core", ["Haswell", "Sandybridge", "Nehalem"])
def test_rows_are_alike_on_the_kernels_of_other_cpus_or_they_differ(core):
    """OpenBLAS takes the kernels of an older CPU where it is told to; Haswell's turn six of twelve rows round."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "OPENBLAS_CORETYPE": core}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if core not in found["cores"]:
        pytest.skip(f"NumPy's BLAS has no kernels of {core}: {found['cores']}")
    for dtype in ("float32", "float64"):
        assert found[dtype]["same"]
        assert not found[dtype]["plain"]  # what all of this is for
    assert found["float32"]["group"] == (16 if core == "Haswell" else 0)
    assert found["float64"]["group"] == 0
    assert not (found["float32"]["group"] and found["float32"]["steady"])


def in_order(a, b):
    """A product without BLAS: each number of it is added in one order."""
    return np.einsum("ij,jk->ik", a, b)


def unlike(*, tall):
    """A BLAS of which some rows and columns are off in the last place where there are more than ``tall`` of them."""

    def multiply(a, b):
        found = in_order(a, b)
        for axis in (0, 1):
            off = found if axis == 0 else found.T
            if len(off) > tall:
                off[3::7] = np.nextafter(off[3::7], np.inf)
        return found

    return multiply


@pytest.fixture
def fresh():
    """What was found of the real BLAS is forgotten, and found again afterwards."""
    products.habit_of.cache_clear()
    yield
    products.habit_of.cache_clear()


@pytest.mark.parametrize("group", [16, 8, 4, 1])
@wide
def test_as_few_rows_at_a_time_as_it_takes(dtype, group, fresh, monkeypatch):
    """Any way of cutting gives the truth, and a row the same bits in any batch."""
    monkeypatch.setattr(products, "habit_of", lambda dtype: products.Habit(group, False))
    x, w = X.astype(dtype), PROJECTION.astype(dtype)
    whole = nx.linear_cross_entropy_with_grad(x, w, TARGET, reduction="none")
    for rows in (slice(0, 1), slice(2, 5), slice(None, None, -1), slice(100, 301)):
        part = nx.linear_cross_entropy_with_grad(x[rows], w, TARGET[rows], reduction="none")
        assert part.loss.tobytes() == whole.loss[rows].tobytes()
        assert part.grad_x.tobytes() == whole.grad_x[rows].tobytes()
    loss, flow = nx.cross_entropy_with_grad(x.astype(float) @ w.T.astype(float), TARGET, reduction="none")
    near = 1e-5 if dtype == np.float32 else 1e-13
    assert whole.loss == pytest.approx(loss, rel=near)
    assert whole.grad_x == pytest.approx(flow @ w.astype(float), rel=near, abs=10 * near)
    assert whole.grad_projection == pytest.approx(flow.T @ x.astype(float), rel=near, abs=10 * near)


@pytest.mark.parametrize(("tall", "group"), [(300, 0), (47, 16), (15, 8), (7, 4), (0, 1)])
@wide
def test_the_trial_finds_how_many_rows_are_alike(dtype, tall, group, fresh, monkeypatch):
    monkeypatch.setattr("normexp.backends.products.np.matmul", unlike(tall=tall))
    assert products.habit_of(dtype) == (group, group == 0)


@wide
def test_the_trial_finds_threads_that_change_bits(dtype, fresh, monkeypatch):
    """A BLAS whose last thread, where there are four, rounds its last row another way."""
    limit, now = products.BLAS.exactly, []

    @contextmanager
    def noted(threads):
        now[:] = [threads]
        with limit(threads):
            yield

    def multiply(a, b):
        found = in_order(a, b)
        if now == [4]:
            found[-1] = np.nextafter(found[-1], np.inf)
        return found

    monkeypatch.setattr(products.BLAS, "exactly", noted)
    monkeypatch.setattr(products.POOL, "most", 4)
    monkeypatch.setattr("normexp.backends.products.np.matmul", multiply)
    assert products.habit_of(dtype) == (0, False)


@pytest.mark.parametrize("group", [0, 16])
@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_pieces_do_not_know_the_threads(threads, group, monkeypatch):
    monkeypatch.setattr(products, "habit_of", lambda dtype: products.Habit(group, False))
    monkeypatch.setattr(products, "PIECE", 1 << 14)
    x, w = X.astype(np.float32), PROJECTION.astype(np.float32)
    with nx.set_num_threads(1):
        alone = nx.linear_cross_entropy_with_grad(x, w, TARGET)
    with nx.set_num_threads(threads):
        found = nx.linear_cross_entropy_with_grad(x, w, TARGET)
    for a, e in zip(found[:3], alone[:3], strict=True):
        assert np.asarray(a).tobytes() == np.asarray(e).tobytes()


def test_blocks_of_groups_are_filled_up_by_sixteen_alone(monkeypatch):
    for group, tall in ((0, 256), (16, 48), (1, 48)):
        monkeypatch.setattr(products, "habit_of", lambda dtype, group=group: products.Habit(group, False))
        assert products.filled_up(33, 256, np.dtype(np.float32)) == tall
    assert products.filled_up(33, 32, np.dtype(np.float32)) == 32
