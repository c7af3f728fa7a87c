"""top_k: the k likeliest classes, normalised over all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import assert_within
from strategies import FAMILIES, FLOATS, WIDE_FLOATS, family, logit_rows


def check(row, k, got):
    truth = oracle.state(row)
    index = np.asarray(got.index)
    assert index.dtype.kind == "i"
    assert len(set(index.tolist())) == k
    assert sorted(row[index].tolist()) == sorted(np.sort(row)[::-1][:k].tolist())
    assert (row[index][1:] <= row[index][:-1]).all()
    assert_within(got.prob, [truth.prob[i] for i in index], "prob")
    assert_within(got.log_prob, [truth.log_prob[i] for i in index], "log")


@given(row=st.sampled_from([np.float32, np.float64]).flatmap(logit_rows), k=st.integers(1, 40))
def test_the_likeliest_classes_of_any_row(row, k):
    k = min(k, row.size)
    check(row, k, nx.top_k(row, k))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
def test_every_family_of_logits(name, dtype):
    logits = family(name, 3, 301, dtype)
    got = nx.top_k(logits, 5)
    assert got._fields[:3] == ("prob", "log_prob", "index")
    assert got.prob.shape == got.log_prob.shape == got.index.shape == (3, 5)
    for i, row in enumerate(logits):
        check(row, 5, type(got)(got.prob[i], got.log_prob[i], got.index[i]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dtypes_are_kept(dtype):
    got = nx.top_k(np.array([1.0, 4.0, 2.0, 3.0]).astype(dtype), 3)
    assert got.index.tolist() == [1, 3, 2]
    assert got.prob.dtype == got.log_prob.dtype == dtype


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_along_any_axis(axis, rng):
    x = rng.standard_normal((6, 5, 7))
    got = nx.top_k(x, 2, axis=axis)
    expected = nx.top_k(np.moveaxis(x, axis, -1), 2)
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(np.moveaxis(a, axis, -1), b)


def test_all_classes_are_the_softmax_sorted(rng):
    x = rng.standard_normal((4, 9))
    got = nx.top_k(x, 9)
    assert got.prob == pytest.approx(np.take_along_axis(nx.softmax(x), got.index, axis=1), rel=1e-15)
    assert np.array_equal(got.index, np.argsort(-x, axis=1))


def test_special_rows():
    x = np.array([[np.nan, 1.0, 2.0], [-np.inf, -np.inf, 5.0], [1.0, 2.0, 3.0]])
    got = nx.top_k(x, 2)
    assert np.isnan(got.prob[0]).all()
    assert got.prob[1].tolist() == [1, 0]
    assert got.index[2].tolist() == [2, 1]


@pytest.mark.parametrize("k", [0, -1, 11])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=r"top_k.*k") as caught:
        nx.top_k(np.zeros((2, 10)), k)
    assert isinstance(caught.value, nx.NormexpError)
