"""Reductions need memory for their rows and a working block, never for the logits a second time.

tracemalloc sees all arrays that Python makes; within kernels lie only single rows of numbers.
"""

import gc
import tracemalloc

import numpy as np
import pytest
import scipy.special

import normexp as nx
from strategies import WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
K_BEST = 5
REDUCTIONS = {
    "logsumexp": nx.logsumexp,
    "entropy": nx.entropy,
    "margin": nx.margin,
    "energy": nx.energy,
    "max_logit": nx.max_logit,
    "generalised_entropy": nx.generalised_entropy,
    "top_k": lambda x: nx.top_k(x, K_BEST),
    "cross_entropy": lambda x: nx.cross_entropy(x, np.zeros(len(x), np.int64)),
}
reductions = pytest.mark.parametrize("op", REDUCTIONS.values(), ids=REDUCTIONS.keys())
BLOCK_BYTES = 1 << 19  # one thread's block and what Python itself takes
ROW_BYTES = 64 + 24 * K_BEST  # the results, and a few numbers beside each


def peak_bytes(op, x):
    """The most that a call holds beyond what was there, its result included; a first call has compiled and cached."""
    op(x)
    gc.collect()
    tracemalloc.start()
    try:
        op(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@reductions
@wide
def test_many_rows_cost_some_numbers_each(op, dtype, rng):
    x = rng.standard_normal((10_000, 400)).astype(dtype)
    room = BLOCK_BYTES + ROW_BYTES * len(x)
    assert room < x.nbytes / 6
    with nx.set_num_threads(1):
        assert peak_bytes(op, x) <= room


@reductions
@wide
def test_more_wide_rows_cost_no_more_than_their_results(op, dtype, rng):
    """A working block may hold a few wide rows; it does not grow with their number."""
    x = rng.standard_normal((48, 50_000)).astype(dtype)
    with nx.set_num_threads(1):
        grown = peak_bytes(op, x) - peak_bytes(op, x[:24])
    assert grown <= ROW_BYTES * 24 + (1 << 16)


@wide
def test_a_second_copy_of_the_logits_would_be_seen(dtype, rng):
    x = rng.standard_normal((10_000, 400)).astype(dtype)
    assert peak_bytes(lambda z: scipy.special.logsumexp(z, axis=-1), x) > BLOCK_BYTES + ROW_BYTES * len(x)
    few = x.reshape(80, 50_000)
    grown = peak_bytes(lambda z: np.exp(z).sum(axis=-1), few) - peak_bytes(lambda z: np.exp(z).sum(axis=-1), few[:40])
    assert grown > ROW_BYTES * 40 + (1 << 16)
