"""Bounds of sparsemax, entmax, segment_softmax and softmax_jacobian; the textbook formulas fail them."""

import numpy as np
import pytest

import normexp as nx
import oracle
from oracle import MP
from strategies import FAMILIES, WIDE_FLOATS, family

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
families = pytest.mark.parametrize("name", sorted(FAMILIES))
WIDTHS = (1, 2, 7, 101)
ALPHAS = (1 + 1e-9, 1.001, 1.125, 1.5, 1.75, 2.0)
FIXED = {"sparsemax": MP.ldexp(MP.mpf(1), -51), "entmax": MP.ldexp(MP.mpf(1), -48)}  # beside 1 ULP of the result
SEGMENT = JACOBIAN = {np.dtype(np.float32): 1.0, np.dtype(np.float64): 2.0}


# ---------------------------------------------------------------- sparsemax and entmax


def true_entmax(row, alpha):
    """p = [v - tau]_+ ** (1 / (alpha - 1)), v = (alpha - 1)(z - max), of sum 1: Peters et al. (2019), eq. 6.

    The norm of [v - tau]_+ with exponent 1 / (alpha - 1) falls in tau and is convex, so Newton's method from
    the left, where it is at least 1, never passes the root.
    """
    z, slope = [oracle.exact(v) for v in row], oracle.exact(alpha) - 1
    top = max(z)
    v = [slope * (c - top) for c in z]
    power, tau = 1 / slope, MP.mpf(-1)
    for _ in range(200):
        terms = [(c - tau) ** (power - 1) for c in v if c > tau]
        mass = MP.fsum([t * (c - tau) for t, c in zip(terms, [c for c in v if c > tau], strict=True)])
        step = (mass - mass ** (1 - slope)) / MP.fsum(terms)  # (norm - 1) / its slope
        tau += step
        if step < MP.mpf(10) ** -45:
            break
    else:
        raise AssertionError(f"no threshold for {row!r} at alpha {alpha}")
    return [(c - tau) ** power if c > tau else MP.mpf(0) for c in v]


def map_error(got, truth, dtype, fixed):
    """|error| of the worst entry over the bound: 1 ULP and ``fixed``."""
    rooms = [oracle.spacing(t, dtype) + fixed for t in truth]
    return max(float(abs(oracle.exact(g) - t) / room) for g, t, room in zip(got, truth, rooms, strict=True))


def textbook_sparsemax(row):
    """Martins and Astudillo (2016), alg. 1, in the dtype of the logits."""
    z = np.sort(row)[::-1]
    total = np.cumsum(z, dtype=row.dtype)
    k = np.arange(1, row.size + 1, dtype=row.dtype)
    support = int(np.flatnonzero(1 + k * z > total)[-1])
    return np.maximum(row - (total[support] - row.dtype.type(1)) / k[support], 0)


def textbook_entmax(row, alpha):
    """Peters et al. (2019), alg. 1: bisection for the threshold of (alpha - 1) z, in the dtype of the logits."""
    one, slope = row.dtype.type(1), row.dtype.type(alpha - 1)
    z = slope * row
    low, high = z.max() - one, z.max()
    for _ in range(60):
        middle = (low + high) / 2
        total = (np.maximum(z - middle, 0) ** (one / slope)).sum()
        low, high = (middle, high) if total >= 1 else (low, middle)
    return np.maximum(z - low, 0) ** (one / slope)


@families
@wide
def test_sparsemax_stays_within_its_bound(name, dtype):
    for width in WIDTHS:
        logits = family(name, 3, width, dtype, seed=5)
        for got, row in zip(nx.sparsemax(logits), logits, strict=True):
            assert map_error(got, true_entmax(row, 2), dtype, FIXED["sparsemax"]) <= 1


@pytest.mark.parametrize("alpha", ALPHAS)
@families
@wide
def test_entmax_stays_within_its_bound(name, dtype, alpha):
    for width in (2, 37):
        logits = family(name, 2, width, dtype, seed=6)
        for got, row in zip(nx.entmax(logits, alpha=alpha), logits, strict=True):
            assert map_error(got, true_entmax(row, alpha), dtype, FIXED["entmax"]) <= 1


@wide
def test_the_textbook_sparse_maps_fail_the_bounds(dtype):
    """An offset that softmax-like maps do not see costs them the digits that it holds."""
    offset = 100.0 if dtype == np.float32 else 1e6
    row = (offset + np.array([0.3, 0.1, -0.2, 0.25, -3.0])).astype(dtype)
    for alpha in (2.0, 1.5, 1.125):
        textbook = textbook_sparsemax(row) if alpha == 2 else textbook_entmax(row, alpha)
        truth, fixed = true_entmax(row, alpha), FIXED["sparsemax" if alpha == 2 else "entmax"]
        assert textbook == pytest.approx(np.array(truth, float), abs=1e-3)  # the formula is the right one
        assert map_error(textbook, truth, dtype, fixed) > 4
        assert map_error(nx.entmax(row, alpha=alpha), truth, dtype, fixed) <= 1


# ---------------------------------------------------------------- segments


def textbook_segments(logits, segment):
    """Shifted by the largest logit of each segment, in the dtype of the logits."""
    top = np.full(segment.max() + 1, -np.inf, logits.dtype)
    np.maximum.at(top, segment, logits)
    terms = np.exp(logits - top[segment])
    total = np.zeros_like(top)
    np.add.at(total, segment, terms)
    return terms / total[segment]


def segment_error(got, logits, segment):
    """The worst error in ULP over all segments."""
    parts = [segment == s for s in np.unique(segment)]
    return max(oracle.worst_ulp(got[part], oracle.softmax(logits[part])) for part in parts)


@families
@wide
def test_segment_softmax_stays_within_its_bound(name, dtype):
    logits = family(name, 3, 101, dtype, seed=7)
    segment = np.random.default_rng(7).integers(0, 9, 101)
    segment[:30] = 4  # one long segment
    for row in logits:
        held = row.copy()
        held[[int(np.flatnonzero(segment == s)[0]) for s in range(9)]] = dtype.type(0.5)  # none all -inf
        assert segment_error(nx.segment_softmax(held, segment), held, segment) <= SEGMENT[dtype]


@wide
def test_the_textbook_segments_fail_the_bound(dtype, rng):
    logits, segment = (30 * rng.standard_normal(300)).astype(dtype), rng.integers(0, 5, 300)
    with np.errstate(under="ignore"):
        textbook = textbook_segments(logits, segment)
    assert segment_error(textbook, logits, segment) > 4 * SEGMENT[dtype]
    assert segment_error(nx.segment_softmax(logits, segment), logits, segment) <= SEGMENT[dtype]


# ---------------------------------------------------------------- the Jacobian


def true_jacobian(prob):
    """p_j ([j = k] - p_k) for these probabilities; 1 - p of the likeliest is what the others come to."""
    p = [oracle.exact(q) for q in prob]
    best = p.index(max(p))
    others = [MP.fsum(p[:k] + p[k + 1 :]) if k == best else 1 - p[k] for k in range(len(p))]
    return [p[j] * others[j] if j == k else -p[j] * p[k] for j in range(len(p)) for k in range(len(p))]


@families
@wide
def test_the_jacobian_stays_within_its_bound(name, dtype):
    for width in (1, 2, 13):
        prob = nx.softmax(family(name, 3, width, dtype, seed=8))
        for got, row in zip(nx.softmax_jacobian(prob), prob, strict=True):
            assert oracle.worst_ulp(got.ravel(), true_jacobian(row)) <= JACOBIAN[dtype]


@wide
def test_the_textbook_jacobian_fails_the_bound(dtype):
    prob = nx.softmax(np.array([14.0, 0.0, 1.5], dtype))
    textbook = np.diag(prob) - np.outer(prob, prob)
    assert oracle.worst_ulp(textbook.ravel(), true_jacobian(prob)) > 100 * JACOBIAN[dtype]
    assert oracle.worst_ulp(nx.softmax_jacobian(prob).ravel(), true_jacobian(prob)) <= JACOBIAN[dtype]
