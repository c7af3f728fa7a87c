"""float32 softmax down columns that lie side by side: the bits that rows have, whatever the shape and the path."""

import os
import subprocess
import sys

import numpy as np
import pytest

import normexp as nx
from normexp.backends import columns as backend
from normexp.backends import cpu
from normexp.kernels.cpu import lanes

f = np.float32
SHAPES = [
    *[(1, k, 64) for k in (*range(1, 42), 127, 128, 129, 160, 2047, 2048)],
    (1, 2049, 64),  # a whole (K, B) with parts of 2048, one of them not whole
    (1, 4103, 65),
    (1, 300, 1025),
    (1, 64, 4096),
    (1, 10, 2100),  # several strips
    (1, 100, 4097),
    (1, 1024, 5001),
    (2, 150, 9000),
    (1, 1025, 4097),  # too wide for the length: by rows
    (3, 2000, 100),  # several whole ones
    (70, 5, 90),  # many small ones
    (700, 33, 64),
    (2, 40, 2500),
]


def logits_of(shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-1, 2, shape[2])).astype(f)


def by_rows(logits):
    return np.moveaxis(nx.softmax(np.ascontiguousarray(np.moveaxis(logits, 1, -1))), -1, 1)


@pytest.fixture(autouse=True)
def columns_are_read_where_they_lie(monkeypatch):
    """Count the calls that take the path under test."""
    taken = []
    path = cpu.softmax_columns
    monkeypatch.setattr(cpu, "softmax_columns", lambda *arguments: (taken.append(1), path(*arguments))[1])
    return taken


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bits_are_those_of_rows(shape, columns_are_read_where_they_lie):
    logits = logits_of(shape)
    assert nx.softmax(logits, axis=1).tobytes() == by_rows(logits).tobytes()
    assert columns_are_read_where_they_lie or shape in ((1, 1, 64), (1, 1025, 4097))


def test_a_plain_sum_down_the_columns_has_other_bits():
    logits = logits_of((1, 500, 64))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert (e / e.sum(axis=1, keepdims=True)).tobytes() != by_rows(logits).tobytes()


@pytest.mark.parametrize("n", [*range(1, 70), 1000, 2047, 2048])
def test_lanes_are_those_of_a_row(n):
    e = np.ones(n, f)
    sums = np.zeros(lanes.LANES)
    for k in range(n):
        sums[lanes.lane_of(k, n)] += 2.0 ** (k % 50)
        e[k] = 2.0 ** (k % 50)
    assert not sums[lanes.lanes_used(n) :].any()
    h = lanes.LANES >> 1
    while h:
        sums[:h] += sums[h : 2 * h]
        h >>= 1
    assert sums[0] == lanes.lane_sum(e)


@pytest.mark.parametrize("shape", [(1, 3000, 100), (50, 20, 100), (2, 30, 5000)], ids=["whole", "strips", "wide"])
def test_in_place_and_any_number_of_threads(shape):
    logits = logits_of(shape, seed=1)
    expected = by_rows(logits).tobytes()
    for threads in (1, 2, 7):
        with nx.set_num_threads(threads):
            same = logits.copy()
            assert nx.softmax(same, axis=1, out=same) is same
            assert same.tobytes() == expected


@pytest.mark.parametrize("share", [0.03, 0.5], ids=["few are far", "many are far"])
@pytest.mark.parametrize(
    "shape", [(1, 3000, 100), (2, 3000, 100), (50, 20, 100), (1, 30, 5000)], ids=["whole", "two", "strips", "wide"]
)
@pytest.mark.parametrize("in_place", [False, True])
def test_columns_of_special_numbers(shape, share, in_place):
    logits = logits_of(shape, seed=2)
    is_special = np.random.default_rng(3).random((shape[0], shape[2])) < share
    specials = np.array([np.nan, np.inf, -np.inf, 6e5, -6e5, 3e38, -3e38], f)
    for i, (a, b) in enumerate(np.argwhere(is_special)):
        special = specials[i % len(specials)]
        if i % 2:
            logits[a, :, b] = special
        else:
            logits[a, i % shape[1], b] = special
    logits[:, 5, :] = -np.inf
    expected = by_rows(logits)
    got = nx.softmax(logits, axis=1, out=logits if in_place else None)
    np.testing.assert_array_equal(got, expected)


def test_middle_axes_and_other_orders():
    logits = logits_of((6, 50, 30 * 40)).reshape(6, 50, 30, 40)
    expected = by_rows(logits.reshape(6, 50, 1200)).reshape(logits.shape)
    assert nx.softmax(logits, axis=1).tobytes() == expected.tobytes()
    turned = np.asfortranarray(logits[0].reshape(50, 1200).T)  # rows that lie as columns
    np.testing.assert_array_equal(nx.softmax(turned, axis=-1), expected[0].reshape(50, 1200).T)
    strided = np.zeros((50, 2400), f)[:, ::2]
    strided[:] = logits[0].reshape(50, 1200)
    np.testing.assert_array_equal(nx.softmax(strided, axis=0), expected[0].reshape(50, 1200))


@pytest.mark.parametrize("B", [64, 65, 100, 1000, 1024, 1025, 10000, 10**6])
@pytest.mark.parametrize("K", [1, 10, 100, 1000, backend.TALL])
def test_a_strip_is_neither_narrow_nor_larger_than_the_cache(K, B):
    w = backend.strip_width(K, B)
    assert w == B or w % backend.LINE == 0
    assert backend.NARROW // 2 < w <= backend.BROAD or w == B <= backend.BROAD
    assert K * w <= backend.STRIP + K * backend.LINE
    assert -(-B // w) * w - B < w


def test_the_paths_meet_at_the_sizes_that_choose_them():
    tall = backend.PANEL // 128
    for shape in [(1, tall, 128), (1, tall + 1, 128), (1, 40, backend.NARROW - 1), (1, 99, backend.WIDE + 1)]:
        logits = logits_of(shape)
        assert nx.softmax(logits, axis=1).tobytes() == by_rows(logits).tobytes()


def test_without_jit():
    code = (
        "import numpy as np, normexp as nx;"
        "x = np.random.default_rng(0).standard_normal((40, 70)).astype('f'); x[3, 5] = np.inf;"
        "a = nx.softmax(x, axis=0); b = nx.softmax(np.ascontiguousarray(x.T)).T;"
        "np.testing.assert_array_equal(a, b)"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
