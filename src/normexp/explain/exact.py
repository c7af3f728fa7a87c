"""Sums and products whose rounding errors are carried along: what makes contributions sum to the gap they explain.

A number is held as a pair (high, low) that stands for high + low, with about 32 digits between them.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_SPLITTER: Final = 2.0**27 + 1.0  # halves a 53-bit significand: Dekker (1971), section 5.7
_FINE: Final = 512.0  # an entry of at most 512 gaps has units of at most 2^-44 = 6e-14 of the gap


class Pair(NamedTuple):
    """An unevaluated sum: high is the nearest float64, low what it misses."""

    high: F64
    low: F64


def two_sum(a: F64, b: F64, /) -> Pair:
    """Sum of two arrays and its rounding error, exactly: Knuth, TAOCP 2, section 4.2.2, theorem B."""
    high = a + b
    moved = high - a
    return Pair(high, (a - (high - moved)) + (b - moved))


def two_product(a: F64, b: F64, /) -> Pair:
    """Product of two arrays and its rounding error, exactly but beyond 1e290, where the error is taken for 0."""
    high = a * b
    with np.errstate(over="ignore", invalid="ignore"):
        a_high, a_low = _halves(a)
        b_high, b_low = _halves(b)
        low = a_low * b_low - (((high - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return Pair(high, np.where(np.isfinite(low), low, 0.0))


def products(left: Pair, right: Pair, /) -> Pair:
    """Product of two arrays of pairs, to about 31 digits."""
    high, low = two_product(left.high, right.high)
    return two_sum(high, low + (left.high * right.low + left.low * right.high))


def add(left: Pair, right: Pair, /) -> Pair:
    """Sum of two arrays of pairs, to about 31 digits of the larger."""
    high, low = two_sum(left.high, right.high)
    return two_sum(high, low + (left.low + right.low))


def row_sums(terms: Pair, /) -> Pair:
    """Sum of each row of an array of pairs (N, D): as if computed with 106 bits, then rounded to a pair.

    Columns are added in pairs, and these in pairs again: log2 D passes, each carrying its rounding errors.
    Ogita, Rump and Oishi (2005), "Accurate sum and dot product", algorithm 4.4, along a tree.
    """
    high, low = terms.high, terms.low.sum(axis=1)
    while high.shape[1] > 1:
        half = high.shape[1] // 2
        rest = high[:, 2 * half :]
        high, lost = two_sum(high[:, :half], high[:, half : 2 * half])
        low = low + lost.sum(axis=1)
        high = np.hstack([high, rest])
    first = high[:, 0] if high.shape[1] else np.zeros(len(high))
    return two_sum(first, low)


def settle(terms: F64, total: Pair, /) -> F64:
    """Terms (N, D) that sum to the total of their row, (N,), by a last change to one of them.

    What the terms miss, some units in the last place of the largest, goes to the largest term whose own units are
    finer than 1e-13 of the total, or to the smallest where none is that fine.

    Notes
    -----
    The exact sum of a row then differs from its total by at most max(6e-14 |total|, half a unit in the last place of
    the row's smallest term other than 0), which is the best that float64 can hold. Rows of zeros stay as they are.
    """
    if not terms.size:
        return terms
    sums = row_sums(Pair(terms, np.zeros_like(terms)))
    missing = (total.high - sums.high) + (total.low - sums.low)
    size = np.abs(terms)
    fine = np.where(size <= _FINE * np.abs(total.high)[:, None], size, 0.0)
    place = fine.argmax(axis=1)
    coarse = fine[np.arange(len(fine)), place] == 0.0
    if coarse.any():
        place[coarse] = np.where(size[coarse] > 0.0, size[coarse], np.inf).argmin(axis=1)
    held = np.flatnonzero(size[np.arange(len(size)), place] > 0.0)
    settled = terms.copy()
    settled[held, place[held]] += missing[held]
    return settled


def _halves(a: F64) -> tuple[F64, F64]:
    """Upper and lower half of each significand."""
    scaled = _SPLITTER * a
    upper = scaled - (scaled - a)
    return upper, a - upper
