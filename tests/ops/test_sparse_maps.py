"""sparsemax, entmax and segment_softmax against 60 digits and against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import MP, assert_within
from strategies import WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
rows = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


def true_sparsemax(row):
    """Martins and Astudillo (2016), alg. 1: the Euclidean projection onto the simplex."""
    z = sorted((oracle.exact(v) for v in row), reverse=True)
    support = max(k for k in range(1, len(z) + 1) if 1 + k * z[k - 1] > MP.fsum(z[:k]))
    tau = (MP.fsum(z[:support]) - 1) / support
    return [max(oracle.exact(v) - tau, 0) for v in row]


def true_entmax(row, alpha):
    """Bisection for the threshold, 180 halvings: Peters, Niculae and Martins (2019), eq. 6 and alg. 1."""
    a = oracle.exact(alpha)
    z = [(a - 1) * oracle.exact(v) for v in row]
    low, high = max(z) - 1, max(z)
    power = 1 / (a - 1)
    for _ in range(180):
        mid = (low + high) / 2
        if MP.fsum([(v - mid) ** power for v in z if v > mid]) >= 1:
            low = mid
        else:
            high = mid
    return [(v - low) ** power if v > low else MP.mpf(0) for v in z]


def close(got, truth, dtype, rtol=16):
    wanted = np.array([float(t) for t in truth])
    assert np.abs(got - wanted).max() <= rtol * 8 * np.finfo(dtype).eps  # the logits go up to 8


@given(row=rows, dtype=st.sampled_from(WIDE_FLOATS))
def test_sparsemax_is_the_projection(row, dtype):
    got = nx.sparsemax(np.array(row, dtype))
    assert got.dtype == dtype
    close(got, true_sparsemax(row), dtype)
    assert got.sum() == pytest.approx(1.0, abs=1e-5)
    assert (got >= 0).all()


@given(row=rows, alpha=st.sampled_from([1.125, 1.5, 1.75, 2.0, 3.0]), dtype=st.sampled_from(WIDE_FLOATS))
def test_entmax_solves_its_equation(row, alpha, dtype):
    got = nx.entmax(np.array(row, dtype), alpha=alpha)
    assert got.dtype == dtype
    close(got, true_entmax(row, alpha), dtype, rtol=64)


@wide
def test_the_special_cases_agree_with_the_general_one(dtype, rng):
    x = (3 * rng.standard_normal((20, 15))).astype(dtype)
    room = 200 * float(np.finfo(dtype).eps)
    assert nx.entmax(x, alpha=2.0) == pytest.approx(nx.sparsemax(x), abs=room)
    assert nx.entmax(x, alpha=1.0) == pytest.approx(nx.softmax(x), abs=room)
    assert nx.entmax(x) == pytest.approx(nx.entmax(x, alpha=1.5), abs=0)
    assert (nx.sparsemax(x) == 0).sum() > (nx.entmax(x) == 0).sum() > 0


@pytest.mark.parametrize("op", [nx.sparsemax, nx.entmax], ids=["sparsemax", "entmax"])
def test_edges_of_the_sparse_maps(op):
    assert op([3.0]).tolist() == [1.0]
    assert op([5.0, 5.0]).tolist() == [0.5, 0.5]
    assert op([-np.inf, 0.0, 0.0]).tolist() == [0.0, 0.5, 0.5]
    assert op([1e30, 0.0]).tolist() == [1.0, 0.0]
    assert np.isnan(op([np.nan, 0.0])).all()
    assert np.isnan(op([-np.inf, -np.inf])).all()
    assert op(np.zeros((0, 3))).shape == (0, 3)
    x = np.random.default_rng(0).standard_normal((4, 5, 6))
    assert np.moveaxis(op(x, axis=1), 1, -1) == pytest.approx(op(np.moveaxis(x, 1, -1)), abs=1e-15)


@pytest.mark.parametrize("alpha", [0.5, 0.999, -1.0, np.nan])
def test_alpha_below_one_is_refused(alpha):
    with pytest.raises(ValueError, match=r"entmax.*alpha") as caught:
        nx.entmax(np.zeros(3), alpha=alpha)
    assert isinstance(caught.value, nx.NormexpError)


# ---------------------------------------------------------------- segments


@wide
def test_each_segment_is_a_softmax_of_its_own(dtype, rng):
    logits = (15 * rng.standard_normal(200)).astype(dtype)
    segment = rng.integers(0, 9, 200)
    got = nx.segment_softmax(logits, segment)
    assert got.dtype == dtype
    for s in range(9):
        assert_within(got[segment == s], oracle.softmax(logits[segment == s]), "prob")


def test_the_maximum_of_another_segment_never_matters():
    """A shift by the maximum of all would leave 0/0 in the first segment."""
    logits, segment = np.array([-1e4, -1e4 + 1, 1e4]), np.array([0, 0, 2])
    got = nx.segment_softmax(logits, segment, num_segments=4)
    assert_within(got, [*oracle.softmax([0.0, 1.0]), MP.mpf(1)], "prob")


def test_special_values_stay_in_their_segment():
    got = nx.segment_softmax(np.array([np.nan, 1.0, 2.0, -np.inf, -np.inf, 5.0]), np.array([0, 0, 1, 1, 2, 3]))
    assert np.isnan(got[[0, 1, 4]]).all()
    assert got[[2, 3, 5]].tolist() == [1, 0, 1]
    assert nx.segment_softmax(np.zeros(0), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize(("ids", "options", "builtin"), [
    ([0, 1], {}, ValueError), ([0, 1, -1], {}, ValueError), ([0, 1, 3], {"num_segments": 3}, ValueError),
    ([0.0, 1.0, 2.0], {}, TypeError),
], ids=str)  # fmt: skip
def test_wrong_segments_are_refused(ids, options, builtin):
    with pytest.raises(builtin, match="segment_softmax") as caught:
        nx.segment_softmax(np.zeros(3), np.array(ids), **options)
    assert isinstance(caught.value, nx.NormexpError)
