"""Rows of so many classes that nothing is stored for each, and that several threads share."""

import numpy as np
import pytest

import normexp as nx
import oracle
from normexp.backends import wide
from normexp.backends.layout import Rows
from strategies import FLOATS, family

K = 1_000_003
PROMISED = {np.dtype(np.float32): 1.0, np.dtype(np.float64): 2.0}
SINGLE = 1.1  # of softmax in float32 arithmetic
wide_floats = pytest.mark.parametrize("dtype", list(PROMISED), ids=str)
needs_long = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
OPS = {"softmax": nx.softmax, "log_softmax": nx.log_softmax, "logsumexp": nx.logsumexp}


def row_of(n, dtype, seed=3):
    rng = np.random.default_rng(seed)
    row = (9 * rng.standard_normal(n)).astype(dtype)
    row[rng.random(n) < 0.05] = -np.inf
    return row


def errors_of(logits):
    """The worst error of each function, in ULP."""
    truth = oracle.long_state(logits)
    scale = np.maximum(np.abs(truth.lse), np.abs(truth.top))
    return {
        "softmax": oracle.long_ulp_errors(nx.softmax(logits), truth.prob).max(),
        "log_softmax": oracle.long_ulp_errors(nx.log_softmax(logits), truth.log_prob).max(),
        "logsumexp": oracle.long_ulp_errors(nx.logsumexp(logits), truth.lse, scale=scale).max(),
    }


def assert_promised(errors, dtype):
    for of, error in errors.items():
        limit = SINGLE if of == "softmax" and dtype == np.float32 else PROMISED[dtype]
        assert error <= limit, f"{of}: {error:.3g} ULP"


@needs_long
@pytest.mark.parametrize("name", ["normal 10", "all equal", "dominant", "spread 1e38"])
@wide_floats
def test_a_million_classes_keep_the_bounds(name, dtype):
    assert_promised(errors_of(family(name, 1, K, dtype)), dtype)


@needs_long
@wide_floats
def test_rising_logits_keep_the_bounds(dtype):
    """Every chunk has a new maximum: the running sum is scaled again and again."""
    logits = np.linspace(-8, 8, K).astype(dtype)[None]
    assert_promised(errors_of(logits), dtype)


@needs_long
@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal 10", "all equal", "dominant"])
@wide_floats
def test_ten_million_classes_keep_the_bounds(name, dtype):
    assert_promised(errors_of(family(name, 1, 10_000_000, dtype)), dtype)


@needs_long
@wide_floats
def test_the_bound_rejects_a_running_sum(dtype):
    logits = family("normal 10", 1, K, dtype)
    e = np.exp(logits - logits.max())
    prob = e / np.cumsum(e, dtype=dtype)[-1]
    assert oracle.long_ulp_errors(prob, oracle.long_state(logits).prob).max() > PROMISED[dtype]


@needs_long
@wide_floats
def test_the_bounds_reject_the_logarithm_of_a_running_sum(dtype):
    """The likeliest come first, so each later one loses digits to the sum."""
    logits = np.linspace(8, -8, K).astype(dtype)[None]
    truth = oracle.long_state(logits)
    lse = logits.max() + np.log(np.cumsum(np.exp(logits - logits.max()), dtype=dtype)[-1])
    scale = np.maximum(np.abs(truth.lse), np.abs(truth.top))
    assert oracle.long_ulp_errors(lse[None], truth.lse, dtype, scale=scale).max() > PROMISED[dtype]
    assert oracle.long_ulp_errors(logits - lse, truth.log_prob).max() > PROMISED[dtype]


@needs_long
@wide_floats
def test_a_temperature_keeps_the_bounds(dtype):
    logits = family("normal 10", 2, 70_001, dtype)
    halved = (logits.astype(np.float64) / 4).astype(dtype)  # exact
    truth = oracle.long_state(halved)
    got = nx.softmax(logits, temperature=4.0), nx.log_softmax(logits, temperature=4.0)
    assert oracle.long_ulp_errors(got[0], truth.prob).max() <= PROMISED[dtype]
    assert oracle.long_ulp_errors(got[1], truth.log_prob).max() <= PROMISED[dtype]


def test_a_leader_far_ahead_keeps_the_log_of_its_probability():
    """The others add up to a subnormal number, which no sum of subnormal exponentials gives."""
    row = np.full(200_001, -740.3)
    row[77] = 0.0
    with oracle.MP.workdps(40):
        truth = -200_000 * oracle.MP.exp(oracle.exact(-740.3))
    assert oracle.ulp_error(nx.log_softmax(row)[77], truth, np.float64) <= 1
    with nx.set_num_threads(2):
        assert oracle.ulp_error(nx.log_softmax(row)[77], truth, np.float64) <= 1


# ---------------------------------------------------------------- the same bits


def variants(row):
    """The row's results, by every way that leads to them."""
    upright = np.stack([row, row[::-1]], axis=1)
    yield "alone", {name: op(row) for name, op in OPS.items()}
    yield "among nine", {name: op(np.tile(row, (9, 1)))[8] for name, op in OPS.items()}
    yield "upright", {name: op(upright, axis=0).T[0] for name, op in OPS.items()}
    yield "unmasked", {name: op(row, where=np.ones(row.shape, bool)) for name, op in OPS.items()}
    out = {name: OPS[name](row, out=np.empty_like(row)) for name in ("softmax", "log_softmax")}
    yield "out", {**out, "logsumexp": nx.logsumexp(row)}
    place = {name: OPS[name](copy, out=copy) for name in out for copy in [row.copy()]}
    yield "in place", {**place, "logsumexp": nx.logsumexp(row)}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_threads_that_share_a_row_change_no_bit(dtype):
    row = row_of(300_007, dtype)
    with nx.set_num_threads(1):
        alone = {name: op(row).tobytes() for name, op in OPS.items()}
    for count in (1, 2, 7):
        with nx.set_num_threads(count):
            for of in OPS:
                assert wide.is_shared(Rows.of(row[None], (1,)), of) == (count > 1)
            for way, results in variants(row):
                for name, result in results.items():
                    assert np.ascontiguousarray(result).tobytes() == alone[name], f"{name}, {way}, {count} threads"


def test_many_rows_are_not_shared():
    with nx.set_num_threads(2):
        assert not wide.is_shared(Rows.of(np.zeros((8, 50_000), np.float32), (1,)), "logsumexp")
        assert wide.is_shared(Rows.of(np.zeros((7, 50_000), np.float32), (1,)), "logsumexp")
        assert not wide.is_shared(
            Rows.of(np.zeros((7, 50_000), np.float32), (1,)), "softmax"
        )  # one arithmetic up to LONG
        assert wide.is_shared(Rows.of(np.zeros((7, 50_000)), (1,)), "softmax")
        assert not wide.is_shared(Rows.of(np.zeros((1, wide.PIECE // 2), np.float32), (1,)), "logsumexp")


# ---------------------------------------------------------------- infinities, NaN, masks, integers


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinities_and_nan_in_any_chunk(dtype, count):
    n = 140_001
    where = [0, 2_047, 70_000, n - 1]
    with nx.set_num_threads(count):
        for at in where:
            for value, lse in ((np.inf, np.inf), (np.nan, np.nan)):
                row = np.zeros(n, dtype)
                row[at] = value
                assert np.isnan(nx.softmax(row)).all()
                assert np.isnan(nx.log_softmax(row)).all()
                assert np.array_equal(nx.logsumexp(row), lse, equal_nan=True)
            row = np.full(n, -np.inf, dtype)
            assert np.isnan(nx.softmax(row)).all()
            assert nx.logsumexp(row) == -np.inf
            row[at] = np.nan
            assert np.isnan(nx.softmax(row)).all()
            assert np.isnan(nx.logsumexp(row))
            row[at] = 2.0
            assert nx.softmax(row)[at] == 1
            assert nx.log_softmax(row)[at] == 0
            assert np.count_nonzero(nx.softmax(row)) == 1
            assert nx.logsumexp(row) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_mask_hides_does_not_matter(count):
    row = row_of(140_001, np.float64)
    mask = row > 0
    hidden = np.where(mask, row, np.nan)
    with nx.set_num_threads(count):
        truth = oracle.long_state(np.where(mask, row, -np.inf)[None])
        prob = nx.softmax(hidden, where=mask)
        assert prob[~mask].tolist() == [0.0] * int((~mask).sum())
        assert oracle.long_ulp_errors(prob, truth.prob[0]).max() <= 2
        assert (nx.log_softmax(hidden, where=mask)[~mask] == -np.inf).all()
        assert oracle.long_ulp_errors(nx.logsumexp(hidden, where=mask)[None], truth.lse).max() <= 2
        assert nx.softmax(row, where=np.zeros(row.shape, bool)).any() == 0
        assert nx.logsumexp(row, where=np.zeros(row.shape, bool)) == -np.inf


@pytest.mark.parametrize("count", [1, 2])
def test_integers_at_their_extremes(count):
    with nx.set_num_threads(count):
        for dtype in (np.int8, np.int64):
            row = np.full(140_001, np.iinfo(dtype).min, dtype)
            row[[3, 140_000]] = np.iinfo(dtype).max
            prob = nx.softmax(row)
            assert prob[[3, 140_000]].tolist() == [0.5, 0.5]
            assert prob[4] == pytest.approx(np.exp(float(row[4]) - float(row[3])) / 2, rel=1e-15)
