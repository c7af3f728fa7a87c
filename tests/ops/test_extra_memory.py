"""Reductions need memory for their rows and a working block, never for the logits a second time.

Masks, gaps, swapped axes and foreign byte orders change nothing: what must be copied is copied block by block.
tracemalloc sees all arrays that Python makes; within kernels lie only single rows of numbers.
"""

import functools
import gc
import tracemalloc

import numpy as np
import pytest
import scipy.special

import normexp as nx
from row_functions import ONE_NUMBER
from strategies import WIDE_FLOATS


def batch_of(x, axis):
    """The shape of the batch."""
    return tuple(np.delete(x.shape, axis))


wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
K_BEST = 5
REDUCTIONS = {
    **ONE_NUMBER,
    "top_k": lambda x, axis=-1: nx.top_k(x, K_BEST, axis=axis),
    "cross_entropy": lambda x, axis=-1: nx.cross_entropy(x, np.zeros(batch_of(x, axis), np.int64), axis=axis),
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


# ---------------------------------------------------------------- what must be copied is copied in blocks

GAPS = np.s_[:, :90]
LAYOUTS = {
    "columns": lambda x: (np.asfortranarray(x), -1),
    "the first axis": lambda x: (np.ascontiguousarray(x.T), 0),
    "a stack with gaps": lambda x: (x.reshape(100, 100, 400)[GAPS], -1),
    "gaps before the last axis": lambda x: (np.moveaxis(x.reshape(100, 100, 400), 2, 0).copy()[:, :, :90], 0),
    "the middle of four": lambda x: (x.reshape(100, 100, 400, 2)[:, :90], 2),
    "swapped classes": lambda x: (x.reshape(-1, 20, 20).transpose(0, 2, 1), (1, 2)),
    "classes in two places": lambda x: (np.ascontiguousarray(x.reshape(-1, 20, 20).transpose(1, 0, 2)), (0, 2)),
    "one row for all": lambda x: (np.broadcast_to(x[:1], x.shape), -1),
    "the other byte order": lambda x: (x.astype(x.dtype.newbyteorder(">")), -1),
}
ONE_AXIS = {"top_k", "cross_entropy"}
CASES = [
    pytest.param(op, layout, dtype, id=f"{name}-{place}-{dtype.__name__}")
    for name, op in REDUCTIONS.items()
    for place, layout in LAYOUTS.items()
    for dtype in (np.float32, np.int64)
    if not (name in ONE_AXIS and place in {"swapped classes", "classes in two places"})
    and (dtype is np.float32 or name == "logsumexp")
]
COPY_BYTES = 3 << 20  # a block of 64-bit integers is there up to five times on its way to a float


@functools.cache
def many_logits():
    return 30 * np.random.default_rng(11).standard_normal((10_000, 400))


def laid_out(layout, dtype):
    x = many_logits().astype(dtype)
    return layout(x if layout is not LAYOUTS["the middle of four"] else np.concatenate([x, x]))


@pytest.mark.parametrize(("op", "layout", "dtype"), CASES)
def test_any_layout_is_copied_in_blocks(op, layout, dtype):
    x, axis = laid_out(layout, dtype)
    room = COPY_BYTES + ROW_BYTES * x.size // 400
    assert room < x.size * x.itemsize / 2
    with nx.set_num_threads(1):
        assert peak_bytes(lambda z: op(z, axis=axis), x) <= room


def textbook_of_any_layout(x, axis):
    """Merge the axes first, as a reshape does."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    rows = np.moveaxis(x, axes, range(-len(axes), 0)).reshape(-1, 400)
    return nx.logsumexp(rows)


@pytest.mark.parametrize(
    "name", ["a stack with gaps", "the middle of four", "swapped classes", "classes in two places"]
)
def test_a_reshape_would_be_seen(name):
    x, axis = laid_out(LAYOUTS[name], np.float32)
    with nx.set_num_threads(1):
        assert peak_bytes(lambda z: textbook_of_any_layout(z, axis), x) > COPY_BYTES + ROW_BYTES * x.size // 400


MASKS = {
    "an entry each": lambda rng, shape: rng.random(shape) < 0.8,
    "a class each": lambda rng, shape: rng.random(shape[1]) < 0.8,
    "a row each": lambda rng, shape: rng.random((shape[0], 1)) < 0.8,
    "columns": lambda rng, shape: np.asfortranarray(rng.random(shape) < 0.8),
}
masks = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
MASK_ROOM = BLOCK_BYTES + (1 << 18) + ROW_BYTES * 10_000


@reductions
def test_masked_arrays_cost_no_byte_an_entry(op, rng):
    x = many_logits().astype(np.float32)
    hidden = np.ma.array(x, mask=rng.random(x.shape) < 0.2)
    with nx.set_num_threads(1):
        assert peak_bytes(op, hidden) <= MASK_ROOM
        assert peak_bytes(lambda z: op(z.T, axis=0), hidden) <= MASK_ROOM
        assert peak_bytes(lambda z: op(z.reshape(100, 100, 400)[GAPS]), hidden) <= MASK_ROOM + BLOCK_BYTES


@masks
def test_where_costs_no_byte_an_entry(mask, rng):
    x = many_logits().astype(np.float32)
    where, both = mask(rng, x.shape), np.ma.array(x, mask=rng.random(x.shape) < 0.2)
    with nx.set_num_threads(1):
        assert peak_bytes(lambda z: nx.logsumexp(z, where=where), x) <= MASK_ROOM
        assert peak_bytes(lambda z: nx.logsumexp(z, where=where), both) <= MASK_ROOM


def test_a_mask_turned_round_as_a_whole_would_be_seen(rng):
    x = np.ma.array(many_logits().astype(np.float32), mask=rng.random((10_000, 400)) < 0.2)
    with nx.set_num_threads(1):
        textbook = peak_bytes(lambda z: nx.logsumexp(z.data, where=~np.ma.getmaskarray(z)), x)
    assert textbook > MASK_ROOM


def test_one_long_row_is_copied_in_pieces_by_one_thread_too(rng):
    x = rng.standard_normal(2_000_000).astype(np.float16)
    where = rng.random(x.shape) < 0.5
    few, many = nx.logsumexp(x), nx.logsumexp(x, where=where)
    with nx.set_num_threads(1):
        assert peak_bytes(nx.logsumexp, x) <= 1 << 20 < x.nbytes
        assert peak_bytes(lambda z: nx.logsumexp(z, where=where), x) <= 1 << 20
        assert (nx.logsumexp(x), nx.logsumexp(x, where=where)) == (few, many)
