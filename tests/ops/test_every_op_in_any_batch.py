"""What all row functions share: bits that no batch, axis, layout or thread changes; dtypes, masks, odd rows."""

import numpy as np
import pytest

import normexp as nx
from strategies import ALL_DTYPES, FLOATS, LAYOUTS, result_dtype

MAPS = {
    "sparsemax": nx.sparsemax,
    "entmax": nx.entmax,
    "entmax 1.3": lambda x, **o: nx.entmax(x, alpha=1.3, **o),
    "vjp": lambda x, **o: nx.softmax_vjp(np.abs(x), np.flip(x), **o),
    "gumbel_softmax": lambda x, **o: nx.gumbel_softmax(x, rng=0, **o),
}
NUMBERS = {
    "entropy": nx.entropy,
    "margin": nx.margin,
    "energy": nx.energy,
    "max_logit": nx.max_logit,
    "generalised_entropy": nx.generalised_entropy,
}
SEVERAL = {
    "top_k prob": lambda x, axis=-1: nx.top_k(x, 3, axis=axis).prob,
    "top_k log_prob": lambda x, axis=-1: nx.top_k(x, 3, axis=axis).log_prob,
    "top_k index": lambda x, axis=-1: nx.top_k(x, 3, axis=axis).index,
}
DRAWS = {
    "sample": lambda x, axis=-1: nx.sample(x, rng=0, axis=axis),
    "sample 4": lambda x, axis=-1: nx.sample(x, size=4, rng=0, axis=axis),
    "sample without": lambda x, axis=-1: nx.sample(x, size=4, replace=False, rng=0, axis=axis),
}
SPARSE = {name: MAPS[name] for name in ("sparsemax", "entmax", "entmax 1.3")}
ROWS = {**SPARSE, **NUMBERS, **SEVERAL}
EVERY = {**MAPS, **NUMBERS, **SEVERAL, **DRAWS}


def over(ops):
    return pytest.mark.parametrize("op", ops.values(), ids=ops.keys())


def bits(array):
    return np.ascontiguousarray(array).tobytes()


# ---------------------------------------------------------------- reproducible


@over(ROWS)
@pytest.mark.parametrize("shape", [(97, 10), (40, 300), (9, 5_000)], ids=str)
def test_a_row_does_not_know_its_batch(op, shape, rng):
    x = (3 * rng.standard_normal(shape)).astype(np.float32)
    whole = op(x)
    for rows in (slice(0, 1), slice(3, 8), slice(None, None, -1), rng.permutation(shape[0])):
        assert bits(op(x[rows])) == bits(whole[rows])
    with nx.set_num_threads(1):
        alone = op(x)
    with nx.set_num_threads(7):
        assert bits(op(x)) == bits(alone) == bits(whole)


@over(EVERY)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_memory_layout_does_not_matter(op, layout, rng):
    x = (3 * rng.standard_normal((11, 6))).astype(np.float32)
    arranged = LAYOUTS[layout](x)
    assert bits(op(arranged)) == bits(op(x))
    assert np.array_equal(arranged, x)


@over({**ROWS, **DRAWS})
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_the_axis_does_not_matter(op, axis, rng):
    x = rng.standard_normal((5, 6, 7))
    got, expected = op(x, axis=axis), op(np.moveaxis(x, axis, -1))
    if got.ndim == 3 and op not in DRAWS.values():
        got = np.moveaxis(got, axis, -1)
    assert bits(got) == bits(expected)


@over({**SPARSE, **NUMBERS})
def test_two_axes_are_one_long_row(op, rng):
    x = rng.standard_normal((3, 4, 5))
    flat = op(x.transpose(1, 0, 2).reshape(4, 15))
    got = op(x, axis=(0, 2))
    expected = flat if flat.ndim == 1 else flat.reshape(4, 3, 5).transpose(1, 0, 2)
    assert bits(got) == bits(expected)
    whole = op(x, axis=None)
    assert np.ravel(whole).tobytes() == np.ravel(op(x.ravel())).tobytes()


@pytest.mark.parametrize("options", [{}, {"size": 3}, {"size": 3, "replace": False}, {"size": 90_000}], ids=str)
def test_a_generator_gives_a_batch_and_its_parts_the_same_draws(options, rng):
    x = rng.standard_normal((7, 5))
    whole, parts = np.random.default_rng(9), np.random.default_rng(9)
    expected = nx.sample(x, rng=whole, **options)
    assert np.array_equal(
        np.concatenate([nx.sample(x[a:b], rng=parts, **options) for a, b in ((0, 2), (2, 7))]), expected
    )
    soft = nx.gumbel_softmax(x, rng=whole)
    assert np.array_equal(np.concatenate([nx.gumbel_softmax(x[a:b], rng=parts) for a, b in ((0, 6), (6, 7))]), soft)


# ---------------------------------------------------------------- dtypes


@over(SPARSE)
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_maps_keep_the_dtype_and_round_the_wide_answer(op, dtype):
    x = np.array([[0, 1, 1, 0], [1, 0, 0, 0]]).astype(dtype)
    got = op(x)
    assert got.dtype == result_dtype(dtype)
    computed = x.astype(np.float32 if dtype in FLOATS[:3] else np.float64)
    assert np.array_equal(got, op(computed).astype(got.dtype))


@over(NUMBERS)
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_numbers_are_at_least_float32(op, dtype):
    x = np.array([[0, 1, 1, 0], [1, 0, 0, 0]]).astype(dtype)
    got = op(x)
    computed = x.astype(np.float32 if dtype in FLOATS[:3] else np.float64)
    assert got.dtype == computed.dtype
    assert np.array_equal(got, op(computed))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u8"])
def test_integers_are_right_at_their_extremes(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.array([low, high - 2, high - 1], dtype)
    assert nx.margin(x) == 1.0
    assert nx.max_logit(x) == float(high - 1)
    assert nx.entropy(x) == pytest.approx(nx.entropy([float(low) - float(high), -1.0, 0.0]), rel=1e-14)
    assert nx.sparsemax(np.array([low, high, high], dtype)).tolist() == [0.0, 0.5, 0.5]
    assert nx.top_k(x, 2).index.tolist() == [2, 1]
    assert nx.top_k(x, 2).prob == pytest.approx([0.7310585786, 0.2689414214], rel=1e-9)
    assert nx.segment_softmax(x, [0, 1, 1])[1:] == pytest.approx([0.2689414214, 0.7310585786], rel=1e-9)
    assert (nx.sample(x, size=500, rng=0) == 2).mean() == pytest.approx(0.731, abs=0.06)


ODD = {"complex": np.zeros(3, complex), "text": np.array(["a", "b", "c"]), "object": np.array([1, None, 2])}


@over(EVERY)
@pytest.mark.parametrize("x", ODD.values(), ids=ODD)
def test_what_cannot_be_computed_with_is_refused(op, x):
    with pytest.raises(TypeError) as caught:
        (op(x) if op is not MAPS["vjp"] else nx.softmax_vjp(x, x))
    assert isinstance(caught.value, nx.NormexpError)


@over({**SPARSE, **NUMBERS, **SEVERAL, **DRAWS})
@pytest.mark.parametrize("axis", [2, -3])
def test_a_wrong_axis_is_refused(op, axis):
    with pytest.raises(np.exceptions.AxisError, match="axis") as caught:
        op(np.zeros((5, 6)), axis=axis)
    assert isinstance(caught.value, nx.NormexpError)


# ---------------------------------------------------------------- empty, odd and masked rows


@over({**SPARSE, **NUMBERS})
def test_arrays_without_entries(op):
    assert op(np.zeros((0, 5))).size == 0
    assert op(np.zeros((3, 0))).shape in {(3, 0), (3,)}


def test_rows_without_classes():
    x = np.zeros((2, 0), np.float32)
    assert nx.entropy(x).tolist() == nx.generalised_entropy(x).tolist() == [0, 0]
    assert nx.max_logit(x).tolist() == [-np.inf, -np.inf]
    assert nx.energy(x).tolist() == [np.inf, np.inf]
    assert np.isnan(nx.margin(x)).all()
    assert nx.sample(x, rng=0).tolist() == [-1, -1]
    assert nx.softmax_jacobian(x).shape == (2, 0, 0)
    assert nx.softmax_vjp(x, x).shape == nx.gumbel_softmax(x, rng=0).shape == (2, 0)


def test_a_single_number_is_a_row_of_one_class():
    assert nx.entropy(3.0) == nx.generalised_entropy(3.0) == 0
    assert nx.max_logit(3.0) == 3
    assert nx.margin(3.0) == np.inf
    assert nx.sparsemax(3.0) == nx.entmax(3.0) == nx.gumbel_softmax(3.0, rng=0) == 1
    assert nx.sample(3.0, rng=0) == 0
    assert nx.softmax_vjp(1.0, 5.0) == 0


@over(ROWS)
def test_nan_and_infinity_stay_in_their_row(op, rng):
    clean = rng.standard_normal((6, 9))
    x = clean.copy()
    x[1, 4], x[3, 0], x[4] = np.nan, np.inf, -np.inf
    got, expected = op(x), op(clean)
    for row in (0, 2, 5):
        assert bits(got[row]) == bits(expected[row])
    if got.dtype.kind == "f":
        assert np.isnan(got[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_no_answer(dtype):
    dead, hot = np.full(4, -np.inf, dtype), np.array([1, np.inf, 2, -np.inf], dtype)
    for row in (dead, hot):
        assert np.isnan(nx.entropy(row))
        assert np.isnan(nx.generalised_entropy(row))
        assert np.isnan(nx.top_k(row, 2).prob).all()
        assert np.isnan(nx.gumbel_softmax(row, rng=0)).all()
        assert nx.sample(row, size=3, rng=0).tolist() == [-1, -1, -1]
        assert nx.sample(row, size=3, replace=False, rng=0).tolist() == [-1, -1, -1]
    assert nx.top_k(dead, 3).index.tolist() == [0, 1, 2]
    assert np.isnan(nx.margin(dead))
    assert nx.margin(hot) == nx.max_logit(hot) == np.inf
    assert (nx.max_logit(dead), nx.energy(dead), nx.energy(hot)) == (-np.inf, np.inf, -np.inf)


@pytest.mark.parametrize("width", [5, 3_000])
def test_a_mask_hides_classes_whatever_they_hold(width, rng):
    x = rng.standard_normal((4, width)).astype(np.float32)
    hidden = rng.random((4, width)) < 0.5
    hidden[:, :2], hidden[3] = False, True
    rubbish = np.where(hidden, np.float32(np.nan), x)
    masked = np.ma.masked_array(rubbish, hidden)
    without = np.where(hidden, -np.inf, x).astype(np.float32)
    for op in NUMBERS.values():
        assert bits(op(masked)[:3]) == bits(op(without)[:3])
    for op in SPARSE.values():
        assert bits(op(masked)[:3]) == bits(op(without)[:3])
        assert not op(masked)[3].any()
    best = nx.top_k(masked, 2)
    assert bits(best.prob[:3]) == bits(nx.top_k(without, 2).prob[:3])
    assert best.prob[3].tolist() == [0, 0]
    assert best.log_prob[3].tolist() == [-np.inf, -np.inf]
    assert nx.entropy(masked)[3] == 0
    assert nx.energy(masked)[3] == np.inf
    soft = nx.gumbel_softmax(masked, rng=0)
    assert not soft[hidden].any()
    assert soft[:3].sum(axis=1) == pytest.approx(np.ones(3), rel=1e-5)
    draws = nx.sample(masked, size=20, rng=0)
    assert not hidden[np.arange(3)[:, None], draws[:3]].any()
    assert (draws[3] == -1).all()
    grouped = nx.segment_softmax(masked[0], np.arange(width) % 2)
    assert bits(grouped) == bits(nx.segment_softmax(without[0], np.arange(width) % 2))


# ---------------------------------------------------------------- segments


def test_the_order_of_the_segments_does_not_matter(rng):
    x, segment = rng.standard_normal(90_000).astype(np.float32), rng.integers(0, 700, 90_000)
    got = nx.segment_softmax(x, segment)
    order = np.argsort(segment, kind="stable")
    assert bits(nx.segment_softmax(x[order], segment[order])) == bits(got[order])
    assert bits(nx.segment_softmax(x, 699 - segment)) == bits(got)
    with nx.set_num_threads(1):
        assert bits(nx.segment_softmax(x, segment)) == bits(got)


def test_columns_are_normalised_by_themselves(rng):
    x, segment = rng.standard_normal((50, 2, 3)), rng.integers(0, 6, 50)
    got = nx.segment_softmax(x, segment, num_segments=6)
    for i in range(2):
        for j in range(3):
            assert bits(got[:, i, j]) == bits(nx.segment_softmax(x[:, i, j], segment))


@pytest.mark.parametrize(("ids", "options", "word"), [
    ([0, 5, 1], {"num_segments": 5}, "row 1 is 5"), ([0, 1, -2], {}, "row 2 is -2"),
    ([0, 1, 1], {"num_segments": 2.0}, "num_segments"), ([0, 1, 1], {"num_segments": -1}, "num_segments"),
], ids=str)  # fmt: skip
def test_a_wrong_segment_is_named_with_its_row(ids, options, word):
    with pytest.raises((ValueError, TypeError), match=f"segment_softmax.*{word}") as caught:
        nx.segment_softmax(np.zeros(3), ids, **options)
    assert isinstance(caught.value, nx.NormexpError)
