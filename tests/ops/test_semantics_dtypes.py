"""The semantics table, dtype by dtype: what comes back, in which dtype, right at the extremes."""

import ml_dtypes
import numpy as np
import pytest

import normexp as nx
import oracle
from oracle import assert_within
from strategies import ALL_DTYPES, BFLOAT16, FLOATS, INTEGERS, INTEGRAL, LARGEST, result_dtype

each_dtype = pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)
each_integer = pytest.mark.parametrize("dtype", INTEGERS, ids=str)
maps = pytest.mark.parametrize(("op", "truth", "kind"), [
    (nx.softmax, oracle.softmax, "prob"), (nx.log_softmax, oracle.log_softmax, "log"),
], ids=["softmax", "log_softmax"])  # fmt: skip
REDUCED = {"float16": (np.float32, np.float64), "bfloat16": (np.float32, np.float64)}


def sample(dtype):
    """Three rows of four logits that every dtype can hold (bool: as 0 and 1)."""
    rows = [[3, 0, 1, 2], [0, 0, 5, 1], [7, 7, 7, 0]]
    return np.array(rows).astype(dtype)


def reduced_is_right(result, dtype):
    """Losses and log-sums: the dtype itself, but never below float32."""
    allowed = REDUCED.get(np.dtype(dtype).name, (result_dtype(dtype),))
    return np.asarray(result).dtype in [np.dtype(d) for d in allowed]


@maps
@each_dtype
def test_maps_are_right_and_keep_the_dtype(op, truth, kind, dtype):
    logits = sample(dtype)
    before = logits.copy()
    result = op(logits)
    assert isinstance(result, np.ndarray)
    assert result.dtype == result_dtype(dtype)
    assert result.shape == logits.shape
    for row, got in zip(logits, result, strict=True):
        assert_within(got, truth(row), kind)
    assert logits.tobytes() == before.tobytes()


@each_dtype
def test_logsumexp_is_right_and_at_least_float32(dtype):
    logits = sample(dtype)
    result = nx.logsumexp(logits)
    assert reduced_is_right(result, dtype)
    assert result.shape == (3,)
    for row, got in zip(logits, result, strict=True):
        assert_within(got, oracle.logsumexp(row), "log")


@each_dtype
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_is_right_and_at_least_float32(dtype, reduction):
    logits, target = sample(dtype), np.array([2, 3, 0])
    loss = nx.cross_entropy(logits, target, reduction=reduction)
    again, grad = nx.cross_entropy_with_grad(logits, target, reduction=reduction)
    true_loss, true_grad = oracle.cross_entropy(logits, target, reduction=reduction)
    assert reduced_is_right(loss, dtype)
    assert np.shape(loss) == ((3,) if reduction == "none" else ())
    assert np.asarray(loss).tobytes() == np.asarray(again).tobytes()
    assert_within(loss, true_loss, "log", extra=0 if reduction == "none" else 1)
    assert grad.dtype == result_dtype(dtype)
    for got, true in zip(grad, true_grad, strict=True):
        assert_within(got, true, "grad", extra=1 if reduction == "mean" else 0)


@pytest.mark.parametrize("target_dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_integer_dtype_serves_as_target(dtype, target_dtype):
    logits = sample(dtype)
    target = np.array([2, 3, 0], dtype=target_dtype)
    loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
    expected, expected_grad = nx.cross_entropy_with_grad(logits, target.astype(np.int64), reduction="none")
    assert loss.tobytes() == expected.tobytes()
    assert grad.tobytes() == expected_grad.tobytes()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_targets_of_any_byte_order_and_stride(byte_order):
    logits = sample(np.float32)
    target = np.array([2, 9, 3, 9, 0, 9], dtype=np.int32).astype(byte_order + "i4")[::2]
    expected = nx.cross_entropy(logits, np.array([2, 3, 0]), reduction="none")
    assert np.array_equal(nx.cross_entropy(logits, target, reduction="none"), expected)


@maps
@each_integer
def test_the_extremes_of_every_integer_dtype(op, truth, kind, dtype):
    """int8 [127, -128] and uint8 [1, 200] are what others get wrong: they wrap around, or overflow in float16."""
    info = np.iinfo(dtype)
    for row in ([info.max, info.min], [info.min, info.max, info.min], [info.max, info.max], [1, info.max, 0]):
        logits = np.array(row, dtype=dtype)
        assert_within(op(logits), truth(row), kind)


@each_integer
def test_logsumexp_at_the_extremes_of_every_integer_dtype(dtype):
    info = np.iinfo(dtype)
    for row in ([info.max, info.min], [info.min, info.min], [info.max, info.max, info.max]):
        result = nx.logsumexp(np.array(row, dtype=dtype))
        assert_within(result, oracle.logsumexp(row), "log", scale=max(row))


@each_integer
def test_cross_entropy_at_the_extremes_of_every_integer_dtype(dtype):
    info = np.iinfo(dtype)
    rows = [[info.max, info.min], [info.min, info.max]]
    loss, grad = nx.cross_entropy_with_grad(np.array(rows, dtype=dtype), np.array([0, 0]), reduction="none")
    true_loss, true_grad = oracle.cross_entropy(rows, [0, 0], reduction="none")
    assert_within(loss, true_loss, "log")
    assert_within(grad.ravel(), [g for row in true_grad for g in row], "grad")


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_neighbours_beyond_two_to_the_53_are_told_apart(dtype):
    """Two 64-bit integers that are one double, but whose difference is 1."""
    top = int(np.iinfo(dtype).max)
    row = [top, top - 1, top - 3]
    logits = np.array(row, dtype=dtype)
    assert float(top) == float(top - 1)
    assert_within(nx.softmax(logits), oracle.softmax(row), "prob")
    assert_within(nx.log_softmax(logits), oracle.log_softmax(row), "log")


def test_bool_logits_are_zeros_and_ones():
    for op in (nx.softmax, nx.log_softmax):
        result = op(np.array([True, False, True]))
        assert result.dtype == np.float64
        assert np.array_equal(result, op(np.array([1.0, 0.0, 1.0])))
    assert nx.logsumexp(np.array([True, False])) == nx.logsumexp(np.array([1.0, 0.0]))


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
def test_seventy_thousand_equal_logits_do_not_overflow_sixteen_bits(dtype):
    logits = np.zeros((2, 70_000), dtype=dtype)
    lse = nx.logsumexp(logits)
    assert reduced_is_right(lse, dtype)
    assert_within(lse, [oracle.MP.log(70_000)] * 2, "log")
    prob = nx.softmax(logits)
    assert prob.dtype == dtype
    assert_within(prob[0, :3], [oracle.MP.mpf(1) / 70_000] * 3, "prob")
    assert (prob == prob[0, 0]).all()
    assert_within(nx.log_softmax(logits)[1, -3:], [-oracle.MP.log(70_000)] * 3, "log")
    loss = nx.cross_entropy(logits, np.array([5, 69_999]), reduction="none")
    assert_within(loss, [oracle.MP.log(70_000)] * 2, "log")


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
def test_sixteen_bits_are_the_rounded_float32_answer(dtype, rng):
    for scale in (1.0, 8.0, 60.0):
        logits = (scale * rng.standard_normal((40, 33))).astype(dtype)
        wide = logits.astype(np.float32)
        target = rng.integers(0, 33, 40)
        assert nx.softmax(logits).tobytes() == nx.softmax(wide).astype(dtype).tobytes()
        assert nx.log_softmax(logits).tobytes() == nx.log_softmax(wide).astype(dtype).tobytes()
        assert nx.logsumexp(logits).astype(np.float32).tobytes() == nx.logsumexp(wide).tobytes()
        narrow_loss, narrow_grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
        loss, grad = nx.cross_entropy_with_grad(wide, target, reduction="none")
        assert narrow_loss.astype(np.float32).tobytes() == loss.tobytes()
        assert narrow_grad.tobytes() == grad.astype(dtype).tobytes()


@each_float
def test_the_largest_finite_logits_are_legal(dtype):
    big = LARGEST[dtype]
    row = np.array([big, -big, big, 0.0]).astype(dtype)
    assert_within(nx.softmax(row), [oracle.MP.mpf("0.5"), 0, oracle.MP.mpf("0.5"), 0], "prob")
    truth = oracle.log_softmax(row)
    assert_within(nx.log_softmax(row), truth, "log")
    assert_within(nx.logsumexp(row), oracle.logsumexp(row), "log")
    loss, grad = nx.cross_entropy_with_grad(row, 1)
    assert_within(loss, -truth[1], "log")
    assert_within(grad, oracle.cross_entropy_row(row, 1).grad, "grad")


WRONG = {
    "complex64": np.zeros(3, np.complex64),
    "complex128": np.zeros(3, np.complex128),
    "object": np.array([1.0, 2.0, None], dtype=object),
    "<U3": np.array(["one", "two"]),
    "|S3": np.array([b"one", b"two"]),
    "datetime64[D]": np.array(["2020-01-01"], dtype="datetime64[D]"),
    np.dtype(np.longdouble).name: np.zeros(3, np.longdouble),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(
    "function", ["softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad"]
)
def test_a_dtype_it_cannot_compute_with_is_refused_by_name(function, name):
    if name == "float64":
        pytest.skip("long double is a double on this platform")
    arguments = [np.intp(0)] if function.startswith("cross") else []
    with pytest.raises(TypeError) as caught:
        getattr(nx, function)(WRONG[name], *arguments)
    assert isinstance(caught.value, nx.NormexpError)
    message = str(caught.value)
    kind = {"<U3": r"U3|str", "|S3": r"S3|bytes"}.get(name, name)
    assert any(word in message for word in kind.replace("[D]", "").split("|")), message
    assert function in message


def test_lists_tuples_and_scalars_are_taken_as_arrays():
    assert np.array_equal(nx.softmax([2.0, 1.0, 0.1]), nx.softmax(np.array([2.0, 1.0, 0.1])))
    assert nx.softmax([2.0, 1.0, 0.1]).dtype == np.float64
    assert np.array_equal(nx.softmax((2, 1, 0)), nx.softmax(np.array([2.0, 1.0, 0.0])))
    assert nx.logsumexp([[0, 0], [1, 1]]).shape == (2,)
    loss = nx.cross_entropy([[2.0, 1.0, 0.1], [0.0, 1.0, 5.0]], [0, 2], reduction="none")
    assert_within(loss, oracle.cross_entropy([[2.0, 1.0, 0.1], [0.0, 1.0, 5.0]], [0, 2], reduction="none")[0], "log")


def test_the_published_example():
    assert nx.softmax([2.0, 1.0, 0.1]).round(8).tolist() == [0.65900114, 0.24243297, 0.09856589]


@each_dtype
def test_a_scalar_has_probability_one(dtype):
    for scalar in (np.array(1, dtype=dtype), np.dtype(dtype).type(1)):
        assert np.shape(nx.softmax(scalar)) == ()
        assert float(nx.softmax(scalar)) == 1.0
        assert float(nx.log_softmax(scalar)) == 0.0
        assert float(nx.logsumexp(scalar)) == 1.0
    assert np.asarray(nx.softmax(np.array(1, dtype=dtype))).dtype == result_dtype(dtype)
    assert reduced_is_right(nx.logsumexp(np.array(1, dtype=dtype)), dtype)


def test_a_masked_array_counts_only_what_it_shows(rng):
    logits = rng.standard_normal((4, 6))
    hidden = rng.random((4, 6)) < 0.4
    hidden[2] = True
    logits[hidden] = 1e30
    masked = np.ma.masked_array(logits, mask=hidden)
    for op in (nx.softmax, nx.log_softmax):
        expected = op(logits, where=~hidden)
        got = op(masked)
        assert np.array_equal(np.ma.getdata(got)[~hidden], expected[~hidden])
    assert np.ma.filled(nx.softmax(masked), 0.0)[hidden].tolist() == [0.0] * int(hidden.sum())
    lse = nx.logsumexp(logits, where=~hidden)
    got = nx.logsumexp(masked)
    shown = [0, 1, 3]
    assert np.array_equal(np.ma.getdata(got)[shown], lse[shown])
    assert np.ma.filled(got, -np.inf)[2] == -np.inf


def test_bfloat16_is_the_one_of_ml_dtypes():
    assert nx.softmax(np.zeros(2, ml_dtypes.bfloat16)).dtype == BFLOAT16


def test_the_table_covers_every_dtype():
    assert {d.name for d in ALL_DTYPES} == {
        "float16", "bfloat16", "float32", "float64", "bool",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    }  # fmt: skip
    assert len(INTEGRAL) == 9


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_hiding_the_largest_of_64_bit_integers_loses_no_digit(dtype):
    """As float64 the two that are left would be equal."""
    top = np.iinfo(dtype).max
    logits, shown = np.array([top, top - 1, top - 3], dtype), np.array([False, True, True])
    assert float(logits[1]) == float(logits[2])
    expected = nx.softmax(np.array([0.0, -2.0]))
    assert np.array_equal(nx.softmax(logits, where=shown)[1:], expected)
    assert np.array_equal(nx.softmax(np.ma.array(logits, mask=~shown))[1:], expected)
    assert np.array_equal(nx.log_softmax(logits, where=shown)[1:], nx.log_softmax(np.array([0.0, -2.0])))
    assert nx.logsumexp(logits, where=shown) == float(top - 1)
