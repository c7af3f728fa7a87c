"""The constants in exp and log1p are what their files say: computed again, with 60 digits."""

import mpmath
import numpy as np
import pytest

from normexp.kernels.cpu import exponential, logarithm

MP = mpmath.MPContext()
MP.dps = 60


def interpolation(function, low, high, degree):
    """Monomial coefficients of the interpolation at the Chebyshev nodes of [low, high], as float64."""
    n = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * MP.cos(MP.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    powers = MP.matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            powers[i, j] = x**j
    return [float(c) for c in MP.lu_solve(powers, MP.matrix([function(x) for x in nodes]))]


def worst(function, low, high, points=1001):
    return max(abs(function(low + (high - low) * MP.mpf(i) / (points - 1))) for i in range(points))


def polynomial(coefficients, x):
    value = MP.mpf(0)
    for c in reversed(coefficients):
        value = value * x + MP.mpf(c)
    return value


SINGLE = [getattr(exponential, f"P{i}") for i in range(1, 7)]
DOUBLE = [getattr(exponential, f"Q{i}") for i in range(10)]
LOG = [getattr(logarithm, f"L{i}") for i in range(8)]


def exp_remainder(r):
    """(exp(r) - 1 - r) / r^2."""
    return (MP.exp(r) - 1 - r) / r**2 if abs(r) > MP.mpf(10) ** -20 else MP.mpf(1) / 2 + r / 6


def log_remainder(w):
    """(2 atanh(s) / s - 2) / w, where w = s^2."""
    if w < MP.mpf(10) ** -25:
        return MP.mpf(2) / 3 + 2 * w / 5
    s = MP.sqrt(w)
    return (2 * MP.atanh(s) / s - 2) / w


def test_the_single_exponential_is_within_its_bound():
    error = worst(lambda r: (1 + r * polynomial(SINGLE, r)) / MP.mpf(2) ** r - 1, -MP.mpf(1) / 2, MP.mpf(1) / 2)
    assert error < MP.mpf(2) ** -28
    shorter = interpolation(lambda r: (MP.mpf(2) ** r - 1) / r if r else MP.log(2), -MP.mpf(1) / 2, MP.mpf(1) / 2, 4)
    cut = worst(lambda r: (1 + r * polynomial(shorter, r)) / MP.mpf(2) ** r - 1, -MP.mpf(1) / 2, MP.mpf(1) / 2)
    assert cut > MP.mpf(2) ** -28  # a degree less would not do


def test_the_double_exponential_is_within_its_bound():
    a = MP.log(2) / 2
    error = worst(lambda r: (1 + r + r * r * polynomial(DOUBLE, r)) / MP.exp(r) - 1, -a, a)
    assert error < MP.mpf(2) ** -55


def test_the_logarithm_is_within_its_bound():
    end = ((MP.sqrt(2) - 1) / (MP.sqrt(2) + 1)) ** 2

    def relative(w):
        s = MP.sqrt(w)
        return w * (polynomial(LOG, w) - log_remainder(w)) * s / (2 * MP.atanh(s)) if w else MP.mpf(0)

    assert worst(relative, MP.mpf(0), end) < MP.mpf(2) ** -56


@pytest.mark.parametrize("name", ["single", "double", "log"])
def test_the_coefficients_are_interpolations_at_chebyshev_nodes(name):
    half = MP.mpf(1) / 2
    if name == "single":
        found = [interpolation(lambda r: MP.mpf(2) ** r, -half * w, half * w, 6)[1:] for w in widths()]
        given = SINGLE
    elif name == "double":
        a = MP.log(2) / 2
        found, given = [interpolation(exp_remainder, -a * w, a * w, 9) for w in widths()], DOUBLE
    else:
        end = ((MP.sqrt(2) - 1) / (MP.sqrt(2) + 1)) ** 2
        found, given = [interpolation(log_remainder, MP.mpf(0), end * w, 7) for w in widths()], LOG
    assert min(distance(given, again) for again in found) < 1e-13


def widths():
    """The interval, and a little more, as leaves room for the rounding of the remainder."""
    return [MP.mpf(w) for w in ("1", "1.0001", "1.001", "1.01")]


def distance(given, again):
    """How far the polynomials are apart, relative to their constant terms."""
    return max(abs(a - b) * 0.5**i for i, (a, b) in enumerate(zip(given, again, strict=True))) / abs(given[0])


def test_the_constants_of_the_reduction():
    assert float(1 / MP.log(2)) == exponential.LOG2E
    assert int(float(exponential.LN2_HIGH).hex()[4:-3], 16) & 0xFFFFF == 0  # n * LN2_HIGH is exact for |n| < 2^20
    lost = abs(MP.mpf(exponential.LN2_HIGH) + MP.mpf(exponential.LN2_LOW) - MP.log(2))
    assert lost < MP.mpf(2) ** -85
    assert np.float64(float(MP.sqrt(MP.mpf(1) / 2))).view(np.int64) == logarithm.SQRT_HALF_BITS
    assert exponential.ROUND == 1.5 * 2.0**52
