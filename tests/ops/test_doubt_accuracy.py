"""Bounds of entropies, top_k, the Jacobian's products and entmax; the textbook formulas fail them."""

import numpy as np
import pytest

import normexp as nx
import oracle
from oracle import MP
from strategies import FAMILIES, WIDE_FLOATS, family

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
families = pytest.mark.parametrize("name", sorted(FAMILIES))
WIDTHS = (1, 2, 3, 7, 101, 301)
ENTROPY = {np.dtype(np.float32): 1.0, np.dtype(np.float64): 5.0}
TOP_K = {np.dtype(np.float32): 1.0, np.dtype(np.float64): 3.0}
GENERALISED = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-13}


def true_entropy(here):
    return -MP.fsum([p * lp for p, lp in zip(here.prob, here.log_prob, strict=True) if p > 0])


def true_generalised_entropy(here):
    pairs = sorted(zip(here.prob, here.others, strict=True), key=lambda pair: pair[0], reverse=True)[:100]
    return MP.fsum([(p * other) ** MP.mpf("0.1") for p, other in pairs if p > 0 and other > 0])


# ---------------------------------------------------------------- bounds


@families
@wide
def test_entropy_stays_within_its_bound(name, dtype):
    for width in WIDTHS:
        logits = family(name, 3, width, dtype, seed=3)
        for got, row in zip(nx.entropy(logits), logits, strict=True):
            assert oracle.ulp_error(got, true_entropy(oracle.state(row)), dtype) <= ENTROPY[dtype]


@wide
def test_the_textbook_entropy_fails_the_bound(dtype):
    row = np.array([40.0, 0.0, 1.0], dtype)
    p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    textbook = -(p * np.log(p)).sum()
    truth = true_entropy(oracle.state(row))
    assert oracle.ulp_error(textbook, truth, dtype) > 1000
    assert oracle.ulp_error(nx.entropy(row), truth, dtype) <= ENTROPY[dtype]


def test_entropy_counts_classes_whose_probability_underflows():
    """At 740 behind, p is subnormal but -p log p is 740 times that."""
    for gap in (650.0, 700.3, 709.7, 740.1, 744.9, 749.0, 751.0, 760.0):
        row = np.array([1.1, 1.1 - gap, 0.9 - gap])
        assert oracle.ulp_error(nx.entropy(row), true_entropy(oracle.state(row)), np.float64) <= ENTROPY[row.dtype]


def test_entropy_over_many_chunks(rng):
    """A chunk has 2 048 classes: leaders in the first, in the last, and rows that rise all along."""
    n_classes = 7_001
    rising = np.linspace(-30, 30, n_classes)
    rows = [
        rising,
        rising[::-1],
        3 * rng.standard_normal(n_classes),
        np.where(np.arange(n_classes) < 5_000, -np.inf, 1),
    ]
    rows.append(np.where(np.arange(n_classes) == 6_999, 720.0, rising / 30))
    for dtype in WIDE_FLOATS:
        for row in rows:
            here = oracle.state(row.astype(dtype))
            got = nx.entropy(row.astype(dtype))
            assert oracle.ulp_error(got, true_entropy(here), dtype) <= ENTROPY[dtype]
            best = nx.top_k(row.astype(dtype), 9)
            assert oracle.worst_ulp(best.prob, [here.prob[k] for k in best.index]) <= TOP_K[dtype]
            assert oracle.worst_ulp(best.log_prob, [here.log_prob[k] for k in best.index]) <= TOP_K[dtype]
            assert np.array_equal(best.index, np.argsort(-row.astype(dtype), kind="stable")[:9])


@families
@wide
def test_generalised_entropy_stays_within_its_bound(name, dtype):
    smallest = float(np.finfo(dtype).tiny)
    for width in WIDTHS:
        logits = family(name, 3, width, dtype, seed=3)
        for got, row in zip(nx.generalised_entropy(logits), logits, strict=True):
            truth = true_generalised_entropy(oracle.state(row))
            assert abs(oracle.exact(got) - truth) <= GENERALISED[dtype] * truth + smallest


@wide
def test_the_textbook_generalised_entropy_fails_the_bound(dtype):
    row = np.array([50.0, 0.0], dtype)
    p = nx.softmax(row)
    textbook = ((p * (1 - p)) ** dtype.type(0.1)).sum()  # 1 - p of the leader is 0
    truth = true_generalised_entropy(oracle.state(row))
    assert abs(oracle.exact(textbook) - truth) > 0.4 * truth
    assert abs(oracle.exact(nx.generalised_entropy(row)) - truth) <= GENERALISED[dtype] * truth


@families
@wide
def test_top_k_stays_within_its_bound(name, dtype):
    for width in WIDTHS:
        logits = family(name, 3, width, dtype, seed=3)
        got = nx.top_k(logits, min(width, 7))
        for i, row in enumerate(logits):
            here = oracle.state(row)
            assert oracle.worst_ulp(got.prob[i], [here.prob[k] for k in got.index[i]]) <= TOP_K[dtype]
            assert oracle.worst_ulp(got.log_prob[i], [here.log_prob[k] for k in got.index[i]]) <= TOP_K[dtype]


@wide
def test_the_textbook_top_k_fails_the_bound(dtype):
    """The logarithm of a probability near 1; the exponential of a difference that was rounded."""
    row = np.array([40.0, 0.0, 1.0], dtype)
    best, truth = nx.top_k(row, 1), oracle.log_softmax(row)[:1]
    assert oracle.worst_ulp(np.log(best.prob), truth) > 1e6
    assert oracle.worst_ulp(best.log_prob, truth) <= TOP_K[row.dtype]
    row = np.array([0.1, -60.7, -70.3], dtype)
    best, truth = nx.top_k(row, 3), oracle.softmax(row)
    terms = np.exp(row - row.max())
    assert oracle.worst_ulp(terms / terms.sum(), truth) > 4 * TOP_K[row.dtype]
    assert oracle.worst_ulp(best.prob, truth) <= TOP_K[row.dtype]


@pytest.mark.parametrize("k", [1, 2, 5, 63, 64, 65, 2_047, 2_048, 2_049, 5_000])
def test_equal_logits_come_in_the_order_of_their_classes(k, rng):
    row = rng.integers(-4, 4, 5_000).astype(np.float32)
    assert np.array_equal(nx.top_k(row, k).index, np.argsort(-row, kind="stable")[:k])


# ---------------------------------------------------------------- the Jacobian's products


def product_error(got, prob, vector):
    """|error| of each entry over the bound that softmax_vjp states."""
    p, v = [oracle.exact(q) for q in prob], [oracle.exact(c) for c in vector]
    best = max(range(len(p)), key=lambda k: p[k])
    w = [c - v[best] for c in v]
    mean = MP.fsum([q * c for q, c in zip(p, w, strict=True)])
    size = MP.fsum([abs(q * c) for q, c in zip(p, w, strict=True)])
    unit = MP.mpf(float(np.finfo(got.dtype).eps)) / 2
    worst = 0.0
    for k, value in enumerate(got):
        truth = p[k] * (w[k] - mean)
        room = unit * abs(truth) + MP.ldexp(MP.mpf(1), -51) * p[k] * (abs(w[k]) + size)
        room += oracle.smallest(got.dtype)
        worst = max(worst, float(abs(oracle.exact(value) - truth) / room))
    return worst


@pytest.mark.parametrize("op", [nx.softmax_vjp, nx.softmax_jvp], ids=["vjp", "jvp"])
@wide
def test_the_products_stay_within_their_bound(op, dtype, rng):
    for name in ("normal 10", "dominant", "ties", "minus infinities", "underflow"):
        prob = nx.softmax(family(name, 4, 37, dtype))
        vector = rng.standard_normal((4, 37)).astype(dtype) + dtype.type(3)
        for got, p, v in zip(op(prob, vector), prob, vector, strict=True):
            assert product_error(got, p, v) <= 1


@pytest.mark.parametrize("op", [nx.softmax_vjp, nx.softmax_jvp], ids=["vjp", "jvp"])
@wide
def test_the_textbook_product_fails_the_bound(op, dtype):
    prob, vector = nx.softmax(np.array([20.0, 0.0, 1.0], dtype)), np.array([3.1, 1.2, 2.3], dtype)
    textbook = prob * (vector - (prob * vector).sum())
    assert product_error(textbook, prob, vector) > 1000
    assert product_error(op(prob, vector), prob, vector) <= 1


def test_an_impossible_class_passes_nothing_on():
    got = nx.softmax_vjp([0.0, 0.5, 0.5], [np.inf, 1.0, 0.0])
    assert got.tolist() == [0.0, 0.25, -0.25]
    assert np.isnan(nx.softmax_vjp([np.nan, np.nan], [1.0, 0.0])).all()


def test_the_diagonal_of_the_jacobian_does_not_cancel():
    prob = nx.softmax(np.array([20.0, 0.0], np.float32))
    assert nx.softmax_jacobian(prob)[0, 0] == pytest.approx(2.0611536e-09, rel=1e-6)
    assert prob[0] * (1 - prob[0]) == 0  # the textbook


# ---------------------------------------------------------------- entmax near its ends


def test_entmax_near_one_is_softmax():
    """Written with powers, (1 + x) ** 1e6 would lose six digits."""
    row = np.array([2.0, 1.0, -3.0, 0.5])
    for alpha in (1 + 1e-6, 1 + 1e-9, 1 + 1e-12):
        assert nx.entmax(row, alpha=alpha) == pytest.approx(nx.softmax(row), rel=20 * (alpha - 1) + 1e-14)


@pytest.mark.parametrize("alpha", [1.01, 1.3, 1.5, 1.9, 2.0, 2.5, 4.0, 30.0])
def test_entmax_sums_to_one_and_keeps_the_order(alpha, rng):
    x = 4 * rng.standard_normal((200, 60))
    p = nx.entmax(x, alpha=alpha)
    assert p.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-7 if alpha > 2 else 1e-14)
    rank = np.argsort(x, axis=1)
    assert (np.diff(np.take_along_axis(p, rank, axis=1), axis=1) >= 0).all()


def test_many_equal_logits_share_equally():
    for alpha in (1.2, 1.5, 2.0, 3.0):
        p = nx.entmax(np.zeros(10_000), alpha=alpha)
        assert p == pytest.approx(np.full(10_000, 1e-4), rel=1e-12)
        assert (p == p[0]).all()
