"""vjp, jvp, Jacobian; entropy, margin, energy, max_logit, generalised entropy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import MP
from strategies import FLOATS, WIDE_FLOATS, logit_rows

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)


@wide
def test_the_products_are_those_of_the_jacobian(dtype, rng):
    prob = nx.softmax((2 * rng.standard_normal((4, 6))).astype(dtype))
    v = rng.standard_normal((4, 6)).astype(dtype)
    jacobian = nx.softmax_jacobian(prob)
    assert jacobian.shape == (4, 6, 6)
    assert jacobian.dtype == dtype
    room = 20 * float(np.finfo(dtype).eps)
    assert jacobian == pytest.approx(prob[:, :, None] * (np.eye(6) - prob[:, None, :]), abs=room)
    assert nx.softmax_jvp(prob, v) == pytest.approx(np.einsum("nij,nj->ni", jacobian, v), abs=room)
    assert nx.softmax_vjp(prob, v) == pytest.approx(np.einsum("ni,nij->nj", v, jacobian), abs=room)


def test_the_jacobian_is_the_slope_of_softmax(rng):
    for row in rng.uniform(-6, 6, (5, 4)):
        jacobian = nx.softmax_jacobian(nx.softmax(row))
        for k in range(4):
            slopes = oracle.numerical_gradient(lambda z, k=k: oracle.softmax(z)[k], list(row))
            assert jacobian[k] == pytest.approx([float(s) for s in slopes], rel=1e-12, abs=1e-16)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_products_along_any_axis(axis, rng):
    prob, v = nx.softmax(rng.standard_normal((3, 4, 5)), axis=axis), rng.standard_normal((3, 4, 5))
    for op in (nx.softmax_vjp, nx.softmax_jvp):
        expected = op(np.moveaxis(prob, axis, -1), np.moveaxis(v, axis, -1))
        assert np.moveaxis(op(prob, v, axis=axis), axis, -1) == pytest.approx(expected, abs=1e-15)


def test_a_constant_tangent_moves_nothing(rng):
    prob = nx.softmax(rng.standard_normal((3, 8)))
    assert np.abs(nx.softmax_jvp(prob, np.full((3, 8), 5.0))).max() <= 1e-14


def test_products_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"softmax_vjp.*cotangent") as caught:
        nx.softmax_vjp(np.full((2, 3), 1 / 3), np.ones((2, 4)))
    assert isinstance(caught.value, nx.NormexpError)


# ---------------------------------------------------------------- doubt


def true_entropy(row):
    here = oracle.state(row)
    return -MP.fsum([p * lp for p, lp in zip(here.prob, here.log_prob, strict=True) if p > 0])


@given(row=st.sampled_from([np.float32, np.float64]).flatmap(logit_rows))
def test_entropy_of_any_row(row):
    truth, got = true_entropy(row), nx.entropy(row)
    assert float(got) >= 0
    assert oracle.ulp_error(got, truth, row.dtype) <= 8


@wide
def test_a_confident_row_keeps_its_small_entropy(dtype):
    row = np.array([60.0, 0.0, 1.0], dtype)
    assert nx.entropy(row) > 0
    assert oracle.ulp_error(nx.entropy(row), true_entropy(row), dtype) <= 8
    p = nx.softmax(row.astype(np.float32))
    assert -(p[0] * np.log(p[0])) == 0  # the textbook loses the first term


def test_entropy_of_equal_logits_is_the_log_of_their_number():
    for n_classes in (1, 2, 10, 1000):
        assert nx.entropy(np.zeros(n_classes)) == pytest.approx(np.log(n_classes), abs=1e-14)
    assert nx.entropy([-np.inf, 0.0, 0.0]) == pytest.approx(np.log(2))


@wide
def test_margin_energy_and_max_logit(dtype, rng):
    x = (5 * rng.standard_normal((4, 3, 11))).astype(dtype)
    ordered = np.sort(x, axis=-1)
    assert np.array_equal(nx.margin(x), ordered[..., -1] - ordered[..., -2])
    assert np.array_equal(nx.max_logit(x), x.max(axis=-1))
    assert np.array_equal(nx.energy(x), -nx.logsumexp(x))
    for op in (nx.margin, nx.energy, nx.max_logit, nx.entropy, nx.generalised_entropy):
        assert op(x).shape == (4, 3)
        assert op(x).dtype == dtype


def test_ties_have_no_margin():
    assert nx.margin([2.0, 5.0, 5.0]) == 0.0
    assert nx.margin([5.0, -np.inf]) == np.inf


@pytest.mark.parametrize("n_classes", [2, 10, 100, 101, 500])
def test_generalised_entropy_counts_the_hundred_largest(n_classes, rng):
    row = 2 * rng.standard_normal(n_classes)
    p = sorted(oracle.softmax(row), reverse=True)[:100]
    truth = MP.fsum([(q * (1 - q)) ** MP.mpf("0.1") for q in p])
    assert float(nx.generalised_entropy(row)) == pytest.approx(float(truth), rel=1e-9)


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
def test_sixteen_bit_logits_are_measured_in_float32(dtype):
    row = np.zeros(70_000, dtype)
    assert nx.entropy(row) == pytest.approx(np.log(70_000), rel=1e-6)
    assert nx.energy(row) == pytest.approx(-np.log(70_000), rel=1e-6)


def test_nan_rows_are_nan_and_alone():
    x = np.array([[np.nan, 1.0, 2.0], [1.0, 2.0, 3.0]])
    for op in (nx.margin, nx.energy, nx.max_logit, nx.entropy, nx.generalised_entropy):
        got = op(x)
        assert np.isnan(got[0])
        assert got[1] == op(x[1])
