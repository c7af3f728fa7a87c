"""Arrays whose axes no reshape can merge without a copy: the same bits as their copies, block by block."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
from normexp.backends.folded import Folded, boxes, merges
from normexp.backends.layout import Rows


@given(st.lists(st.integers(1, 5), min_size=0, max_size=4), st.data())
def test_boxes_are_the_places_in_order(sizes, data):
    count = int(np.prod(sizes, dtype=int))
    first = data.draw(st.integers(0, count))
    last = data.draw(st.integers(first, count))
    places = np.arange(count).reshape(sizes)
    found = list(boxes(first, last, tuple(sizes)))
    assert len(found) <= max(1, 2 * len(sizes) - 1)
    flat = [places[box].reshape(-1) for _, box in found]
    assert [begin for begin, _ in found] == [int(part[0]) for part in flat]
    assert np.array_equal(np.concatenate([*flat, []]), np.arange(first, last))


def steps(array, cut):
    """Three groups of neighbouring axes."""
    return array.shape[: cut[0]], array.shape[cut[0] : cut[1]], array.shape[cut[1] :]


VIEWS = {
    "whole": np.s_[:],
    "a gap": np.s_[:, :2],
    "every other": np.s_[:, :, ::2],
    "backwards": np.s_[::-1, :, ::-1],
    "one": np.s_[:, 1:2],
    "none": np.s_[:, :0],
    "repeated": np.s_[:, np.newaxis],
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_merges_is_what_numpy_reshapes_without_a_copy(name):
    base = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)[VIEWS[name]]
    for order in ([*range(base.ndim)], [*range(base.ndim)][::-1], [1, 0, *range(2, base.ndim)]):
        array = base.transpose(order)
        for cut in product(range(array.ndim + 1), repeat=2):
            if cut[0] > cut[1]:
                continue
            groups = steps(array, cut)
            merged = array.reshape([int(np.prod(group, dtype=int)) for group in groups])
            assert merges(array, groups) == (np.shares_memory(merged, array) or array.size == 0)


@given(st.data())
def test_parts_are_those_of_the_reshape(data):
    whole = np.arange(3 * 4 * 5 * 2 * 6).reshape(4, 3, 2, 5, 6).transpose(1, 0, 3, 2, 4)[:, :3, :, :, 1:]
    groups = steps(whole, (2, 4))
    A, K, B = (int(np.prod(group)) for group in groups)
    folded, true = Folded.of(whole, groups), whole.reshape(A, K, B)
    assert folded.shape == true.shape
    a0, b0, k0 = (data.draw(st.integers(0, size - 1)) for size in (A, B, K))
    a1, b1, k1 = (data.draw(st.integers(low + 1, size)) for low, size in ((a0, A), (b0, B), (k0, K)))
    some = folded.classes(0, k1).classes(k0, k1)
    part = some.copy(a0, a1, b0, b1)
    assert np.array_equal(part, true[a0:a1, k0:k1, b0:b1])
    true = true.copy()
    true[a0:a1, k0:k1, b0:b1] *= -1
    some.fill(-part, a0, b0)
    assert np.array_equal(folded.copy(0, A, 0, B), true)


def folded_logits(dtype, rng):
    """Views that do not merge, and the axes of their classes."""
    x = (9 * rng.standard_normal((6, 20, 15, 10))).astype(dtype)
    yield x[:, :17], (3,)
    yield x[:, :, ::3], (1,)
    yield x[:, :, :9], (0,)
    yield x[::-1, 3:, :, ::2], (1, 3)
    yield x.transpose(3, 1, 0, 2), (0, 2)
    yield np.broadcast_to(x[:, :1, :, :1], (6, 3, 15, 2)), (2,)
    yield x.astype(x.dtype.newbyteorder(">"))[:, :17], (2,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.int8], ids=str)
def test_the_bits_are_those_of_a_copy(dtype, rng):
    taken = 0
    for x, axes in folded_logits(dtype, rng):
        taken += isinstance(Rows.of(x, axes).view, Folded)
        plain, axis = x.astype(x.dtype.newbyteorder("=")).copy(), axes if len(axes) > 1 else axes[0]
        where = rng.random((*x.shape[:-1], 1)) < 0.7
        for op in (nx.softmax, nx.log_softmax, nx.sparsemax, nx.logsumexp, nx.entropy, nx.margin, nx.max_logit):
            assert np.array_equal(op(x, axis=axis), op(plain, axis=axis), equal_nan=True)
        for op in (nx.softmax, nx.logsumexp):
            found, true = op(x, axis=axis, where=where), op(plain, axis=axis, where=where)
            assert np.array_equal(found, true)
            hidden = np.ma.array(x, mask=np.broadcast_to(~where, x.shape))
            assert np.array_equal(op(hidden, axis=axis), true)
            again = np.ma.array(x, mask=rng.random(x.shape) < 0.3)
            both = np.where(again.mask, False, where)
            assert np.array_equal(op(again, axis=axis, where=where), op(plain, axis=axis, where=both))
        prob = nx.softmax(plain, axis=axis)
        assert np.array_equal(nx.softmax_vjp(prob, x, axis=axis), nx.softmax_vjp(prob, plain, axis=axis))
        if len(axes) == 1:
            target = rng.integers(0, x.shape[axis], np.delete(x.shape, axis))
            for goal in (target, np.asfortranarray(prob)):
                found, true = (nx.cross_entropy_with_grad(z, goal, axis=axis, z_loss=0.1) for z in (x, plain))
                assert found.loss == true.loss
                assert np.array_equal(found.grad, true.grad)
            for mine, others in zip(nx.top_k(x, 2, axis=axis), nx.top_k(plain, 2, axis=axis), strict=True):
                assert np.array_equal(mine, others)
    assert taken >= 6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_out_may_be_folded_and_the_input_itself(dtype, rng):
    for x, axes in folded_logits(dtype, rng):
        if not x.flags.writeable or not x.dtype.isnative:
            continue
        true = nx.softmax(x.copy(), axis=axes)
        out = np.empty((*x.shape[:2], 2 * x.shape[2], x.shape[3]), dtype)[:, :, 1::2]
        assert nx.softmax(x, axis=axes, out=out) is out
        assert np.array_equal(out, true)
        given_back = x.copy()
        assert nx.softmax(x, axis=axes, out=x) is x
        assert np.array_equal(x, true)
        x[...] = given_back


def test_long_folded_rows_are_shared_among_threads(rng):
    x = rng.standard_normal((3, 700, 2, 600)).astype(np.float32)[:, :, :, :500].transpose(2, 0, 1, 3)
    true, log_sum = nx.softmax(x.copy(), axis=(2, 3)), nx.logsumexp(x.copy(), axis=(2, 3))
    for threads in (1, 2, 7):
        with nx.set_num_threads(threads):
            assert np.array_equal(nx.logsumexp(x, axis=(2, 3)), log_sum)
            assert np.array_equal(nx.softmax(x, axis=(2, 3)), true)
            mine = x.copy(order="K")
            nx.log_softmax(mine, axis=(2, 3), out=mine)
            assert np.array_equal(mine, nx.log_softmax(x.copy(), axis=(2, 3)))
