"""Bitwise the same, however the work is cut up."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
from strategies import FLOATS, LAYOUTS, layouts_for, logit_batches

# few long rows, many short rows, and shapes no tile divides; large enough to be shared among threads
SHAPES = [(3, 100_003), (1, 400_009), (50_021, 10), (1_031, 257), (4_099, 3), (17, 1)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
some_floats = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)


@pytest.fixture
def threads():
    """The number of threads is put back afterwards."""
    before = nx.get_num_threads()
    yield nx.set_num_threads
    nx.set_num_threads(before)


def problem(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    logits = (12 * rng.standard_normal(shape)).astype(dtype)
    logits[rng.random(shape) < 0.05] = -np.inf
    logits[:, 0] = 1.5
    target = np.where(np.isneginf(logits[:, -1]), 0, shape[1] - 1)
    weight = rng.uniform(0.5, 2.0, shape[1]).astype(dtype)
    return logits, target, weight


def everything(logits, target, weight):
    """All row results of the five functions, as bytes."""
    loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
    rich = {"weight": weight, "label_smoothing": 0.1, "z_loss": 1e-3, "ignore_index": 1}
    rich_loss, rich_grad = nx.cross_entropy_with_grad(logits, target, reduction="none", **rich)
    return {
        "softmax": nx.softmax(logits),
        "tempered": nx.softmax(logits, temperature=1.7),
        "masked": nx.softmax(logits, where=logits > -10),
        "log_softmax": nx.log_softmax(logits),
        "logsumexp": nx.logsumexp(logits),
        "cross_entropy": nx.cross_entropy(logits, target, reduction="none"),
        "loss": loss,
        "grad": grad,
        "rich loss": rich_loss,
        "rich grad": rich_grad,
    }


def assert_same_bits(got, expected):
    assert got.keys() == expected.keys()
    for name, value in got.items():
        assert value.dtype == expected[name].dtype, name
        assert value.tobytes() == expected[name].tobytes(), name


@shapes
@some_floats
def test_any_number_of_threads(shape, dtype, threads):
    arguments = problem(shape, dtype)
    threads(1)
    alone = everything(*arguments)
    one_value = {r: nx.cross_entropy(*arguments[:2], reduction=r) for r in ("mean", "sum")}
    for count in (2, 7):
        threads(count)
        assert nx.get_num_threads() == count
        assert_same_bits(everything(*arguments), alone)
        for reduction, value in one_value.items():
            assert nx.cross_entropy(*arguments[:2], reduction=reduction) == value


@shapes
@some_floats
def test_any_split_of_the_batch(shape, dtype):
    logits, target, weight = problem(shape, dtype)
    whole = everything(logits, target, weight)
    cuts = sorted({0, 1, shape[0] // 3, shape[0] // 2 + 1, shape[0] - 1, shape[0]})
    for start, stop in pairwise(cuts):
        part = everything(logits[start:stop], target[start:stop], weight)
        assert_same_bits(part, {name: value[start:stop] for name, value in whole.items()})


@shapes
@some_floats
def test_any_order_of_the_rows(shape, dtype):
    logits, target, weight = problem(shape, dtype)
    whole = everything(logits, target, weight)
    order = np.random.default_rng(1).permutation(shape[0])
    got = everything(logits[order], target[order], weight)
    assert_same_bits(got, {name: value[order] for name, value in whole.items()})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(1_031, 257), (3, 20_011)], ids=str)
def test_any_memory_layout(shape, dtype):
    logits, target, weight = problem(shape, dtype)
    expected = everything(logits, target, weight)
    for name in layouts_for(dtype):
        assert_same_bits(everything(LAYOUTS[name](logits), target, weight), expected)


@shapes
@some_floats
def test_any_axis(shape, dtype):
    logits, target, _ = problem(shape, dtype)
    upright = np.ascontiguousarray(logits.T)
    for op in (nx.softmax, nx.log_softmax):
        assert op(upright, axis=0).T.tobytes() == op(logits).tobytes()
        assert op(upright[:, None, :], axis=0)[:, 0].T.tobytes() == op(logits).tobytes()
        assert op(logits.T, axis=0).T.tobytes() == op(logits).tobytes()
    assert nx.logsumexp(upright, axis=0).tobytes() == nx.logsumexp(logits).tobytes()
    expected = nx.cross_entropy_with_grad(logits, target, reduction="none")
    got = nx.cross_entropy_with_grad(upright, target, axis=0, reduction="none")
    assert got.loss.tobytes() == expected.loss.tobytes()
    assert np.ascontiguousarray(got.grad.T).tobytes() == expected.grad.tobytes()


def test_a_row_is_the_same_alone_and_among_others_in_any_position():
    logits, _, _ = problem((301, 1_001), np.float32)
    row = logits[5]
    alone = nx.softmax(row).tobytes()
    for place in (0, 1, 7, 150, 299, 300):
        others = np.roll(logits, place, axis=0)
        others[place] = row
        assert nx.softmax(others)[place].tobytes() == alone


def test_padding_with_impossible_classes_is_a_different_row_with_the_same_truth(rng):
    """Not promised bitwise; the values must agree within the bound of both."""
    row = rng.standard_normal(37)
    padded = np.concatenate([row, np.full(91, -np.inf)])
    assert nx.softmax(padded)[:37] == pytest.approx(nx.softmax(row), rel=8 * np.finfo(float).eps)
    assert nx.softmax(padded)[37:].tolist() == [0.0] * 91


# ---------------------------------------------------------------- out=


@pytest.mark.parametrize("op", [nx.softmax, nx.log_softmax], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_out_receives_the_same_bits_and_is_returned(op, dtype, axis):
    logits, _, _ = problem((129, 65), dtype)
    expected = op(logits, axis=axis)
    for name in set(layouts_for(dtype)) - {"read-only", "other byte order"}:
        out = LAYOUTS[name](np.full(logits.shape, 7).astype(dtype))
        result = op(logits, axis=axis, out=out)
        assert result is out, name
        assert np.array_equal(out.astype(float), expected.astype(float)), name


@pytest.mark.parametrize("op", [nx.softmax, nx.log_softmax], ids=["softmax", "log_softmax"])
@shapes
@some_floats
def test_out_may_be_the_input(op, shape, dtype):
    logits, _, _ = problem(shape, dtype)
    for axis in (-1, 0):
        expected = op(logits, axis=axis)
        place = logits.copy()
        assert op(place, axis=axis, out=place) is place
        assert place.tobytes() == expected.tobytes()


@pytest.mark.parametrize("op", [nx.softmax, nx.log_softmax], ids=["softmax", "log_softmax"])
def test_out_may_overlap_the_input(op):
    logits, _, _ = problem((400, 64), np.float32)
    expected = op(logits)
    room = np.empty(logits.size + 64, np.float32)
    source = room[:-64].reshape(logits.shape)
    source[...] = logits
    shifted = room[64:].reshape(logits.shape)  # one row further on
    assert op(source, out=shifted) is shifted
    assert shifted.tobytes() == expected.tobytes()
    place = logits.copy()
    backwards = place[::-1, ::-1]
    op(place, out=backwards)
    assert np.array_equal(backwards, expected)


def test_out_of_integers_takes_the_float64_result():
    logits = np.arange(6).reshape(2, 3)
    out = np.empty((2, 3))
    assert nx.softmax(logits, out=out) is out
    assert np.array_equal(out, nx.softmax(logits))


def test_out_with_a_mask_and_a_temperature():
    logits, _, _ = problem((50, 33), np.float64)
    where = logits > 0
    expected = nx.softmax(logits, where=where, temperature=2.5)
    place = logits.copy()
    nx.softmax(place, where=where, temperature=2.5, out=place)
    assert place.tobytes() == expected.tobytes()


# ---------------------------------------------------------------- small and strange


@given(
    logits=st.sampled_from([np.float32, np.float64]).flatmap(logit_batches),
    order=st.randoms(use_true_random=False),
)
def test_rows_of_any_kind_do_not_see_each_other(logits, order):
    places = list(range(len(logits)))
    order.shuffle(places)
    for op in (nx.softmax, nx.log_softmax, nx.logsumexp):
        whole = op(logits)
        assert op(logits[places]).tobytes() == whole[places].tobytes()
        for i in places[:2]:
            assert np.asarray(op(logits[i])).tobytes() == whole[i].tobytes()


def test_the_textbook_formula_depends_on_the_memory_layout():
    """NumPy sums the columns of one layout in another order than the rows of the other: the comparison sees it."""
    logits, _, _ = problem((1_031, 257), np.float32)

    def textbook(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    with pytest.raises(AssertionError, match="softmax"):
        assert_same_bits({"softmax": textbook(np.asfortranarray(logits))}, {"softmax": textbook(logits)})
