"""float32 softmax in float32 arithmetic: its parts, its bound, and the rows that it leaves to others."""

import mpmath
import numpy as np
import pytest
from numba import config

import normexp as nx
import oracle
from normexp.kernels.cpu import few, lanes, long, single, transpose, turn

MP = mpmath.MPContext()
MP.dps = 60
f = np.float32
needs_long_double = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
BOUND = 2.3 if config.DISABLE_JIT else 2.2  # docs/numerics.md; plain Python has no fused products


def rows(n_rows, n_classes, spread, offset=0.0, seed=0):
    rng = np.random.default_rng([seed, n_rows, n_classes])
    return (spread * rng.standard_normal((n_rows, n_classes)) + offset).astype(np.float32)


def worst_error(prob, logits):
    return oracle.long_ulp_errors(prob, oracle.long_state(logits).prob).max()


# ---------------------------------------------------------------- the parts


def test_the_polynomial_is_within_its_bound():
    coefficients = [MP.mpf(float(getattr(single, f"C{i}"))) for i in range(5)]

    def error(r, terms):
        q = sum(c * r**i for i, c in enumerate(terms))
        return abs((1 + r + r * r * q) / MP.exp(r) - 1) * 2**24

    points = [MP.log(2) / 2 * (MP.mpf(i) / 500 - 1) for i in range(1001)]
    assert max(error(r, coefficients) for r in points) < 0.09
    assert max(error(r, [MP.mpf(1) / MP.factorial(i + 2) for i in range(5)]) for r in points) > 0.09  # Taylor's


def test_the_gap_from_a_pivot_is_exact_where_the_plain_difference_is_not():
    rng = np.random.default_rng(0)
    lost = 0
    for top in [0.0, 0.3, -7.3, 88.8, -1234.56, 3e5, 5.2e5, 1e-30]:
        pivot = f(single.pivot_of(f(top)))
        assert f(top) <= pivot <= f(top) + f(0.0625)
        for z in (pivot - rng.uniform(0, 105, 200)).astype(np.float32):
            d, tail = single.gap_from_pivot(z, pivot)
            assert float(d) + float(tail) == float(z) - float(pivot)
            lost += tail != 0
    assert lost > 50  # without the tail, the difference would be wrong


@pytest.mark.parametrize("n", [*range(1, 70), 1000, 2047])
def test_a_row_is_added_up_in_the_order_that_is_written_down(n):
    rng = np.random.default_rng(n)
    e = (rng.random(n) * 10.0 ** rng.uniform(-6, 6, n)).astype(np.float32)
    assert lanes.lane_sum(e) == lanes._plain_sum(e)
    assert lanes.lane_max(e) == e.max()
    if n > 1:
        e[rng.integers(n)] = np.nan
        assert lanes.lane_max(e) == np.nanmax(e)
        assert np.isnan(lanes.lane_sum(e))


def test_another_order_would_show():
    differing = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        e = (rng.random(1000) * 10.0 ** rng.uniform(-12, 6, 1000)).astype(np.float32)
        differing += lanes._plain_sum(e) != lanes._plain_sum(e[::-1])
    assert differing > 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_is_turned(dtype):
    side = 64 // np.dtype(dtype).itemsize
    source = np.arange(40 * 50, dtype=dtype).reshape(40, 50)
    target = np.zeros((45, 42), dtype)

    def expected():
        filled = np.zeros_like(target)
        filled[5 : 5 + side, 3 : 3 + side] = source[1 : 1 + side, 2 : 2 + side].T
        return filled

    turn._plain_turn(source, 1, 2, target, 5, 3)
    assert np.array_equal(target, expected())
    rows_of = np.zeros((33 * 2, 21), dtype)
    columns = np.random.default_rng(0).standard_normal((2, 21, 40)).astype(dtype)[:, :, 3:36]
    transpose.gather_columns(columns, rows_of)
    assert np.array_equal(rows_of, columns.transpose(0, 2, 1).reshape(66, 21))
    back = np.zeros((2, 21, 40), dtype)
    transpose.scatter_columns(rows_of, back[:, :, 3:36])
    assert np.array_equal(back[:, :, 3:36], columns)
    assert not back[:, :, :3].any()
    assert not back[:, :, 36:].any()


# ---------------------------------------------------------------- the bound

SHAPES = [(700, 1), (700, 2), (333, 7), (200, 10), (67, 32), (70, 33), (129, 100), (20, 1000), (3, 5000)]


@needs_long_double
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spread", [1.0, 9.0, 60.0, 4e4])
@pytest.mark.parametrize("offset", [0.0, -1e3, 5e5])
def test_the_bound_holds(shape, spread, offset):
    logits = rows(*shape, spread, offset)
    logits[0, -1] = -np.inf if shape[1] > 1 else 0.0
    assert worst_error(nx.softmax(logits), logits) <= BOUND


@needs_long_double
def test_the_bound_rejects_the_textbook():
    logits = rows(200, 100, 9.0)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert worst_error(e / e.sum(axis=1, keepdims=True), logits) > BOUND


@needs_long_double
def test_long_rows_are_within_one_unit():
    logits = rows(1, single.LONG + 77, 9.0)
    prob = np.empty_like(logits)
    assert long.softmax_long(logits, prob) == 0
    assert worst_error(prob, logits) <= 1.0


# ---------------------------------------------------------------- the same bits, and what is left to others


@pytest.mark.parametrize("n_classes", [1, 3, 10, 16, 31, 32, 33, 100, 3000])
def test_a_row_has_the_same_bits_alone_and_among_others(n_classes):
    logits = rows(131, n_classes, 9.0)
    logits[5] *= f(1e6)  # left to the other kernels
    logits[7, 0] = np.nan
    whole = nx.softmax(logits)
    for i in [0, 5, 6, 7, 63, 64, 130]:
        assert nx.softmax(logits[i]).tobytes() == whole[i].tobytes()
        assert nx.softmax(logits[i:]).tobytes() == whole[i:].tobytes()
    assert nx.softmax(np.asfortranarray(logits)).tobytes() == whole.tobytes()
    assert np.ascontiguousarray(nx.softmax(np.ascontiguousarray(logits.T), axis=0).T).tobytes() == whole.tobytes()
    hot = np.ones((131, 1))
    hot[::2] = 2.0
    assert nx.softmax(logits, temperature=hot)[1::2].tobytes() == whole[1::2].tobytes()
    place = logits.copy()
    nx.softmax(place, out=place)
    assert place.tobytes() == whole.tobytes()


@pytest.mark.parametrize("n_classes", [3, 32, 33, 100, 3000])
def test_rows_out_of_reach_are_counted_and_right(n_classes):
    logits = rows(70, n_classes, 3.0)
    logits[3] += f(2.0**19)
    logits[4] = -np.inf
    logits[69] -= f(1e9)
    logits[8, 1] = np.inf
    kernel = few.softmax_few if n_classes <= few.FEW else single.softmax_single
    assert kernel(logits, np.empty_like(logits)) == 4
    assert long.softmax_long(logits, np.empty_like(logits)) == 4
    prob = nx.softmax(logits)
    assert np.isnan(prob[[4, 8]]).all()
    kept = np.delete(np.arange(70), [4, 8])
    truth = oracle.long_state(logits[kept])
    assert oracle.long_ulp_errors(prob[kept], truth.prob).max() <= BOUND
