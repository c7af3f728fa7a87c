"""Maximum, sum and inner product of a row of float64 or float32 in eight running ones, in an order that is written down.

A plain loop over a row is one chain, each link of which waits for the last. Here the k-th entry goes to the running one
k mod 8; these are joined in pairs, (0 1)(2 3)(4 5)(6 7), then in fours, then in eights; the last n mod 8 entries follow
one by one. Rows of fewer than ``FEW`` entries are one chain: joining eight would cost more than it saves.
"""

from numba import njit

from normexp.kernels.cpu.flags import FUSED

FEW = 16


@njit(fastmath=FUSED, nogil=True)
def row_top(row):
    """Largest entry, NaN passed over unless it comes first; row (n,), n > 0."""
    n = row.shape[0]
    a = row[0]
    whole = n - n % 8 if n >= FEW else 0
    if whole > 0:
        b = c = d = e = f = g = h = a
        for k in range(0, whole, 8):
            a = row[k] if row[k] > a else a
            b = row[k + 1] if row[k + 1] > b else b
            c = row[k + 2] if row[k + 2] > c else c
            d = row[k + 3] if row[k + 3] > d else d
            e = row[k + 4] if row[k + 4] > e else e
            f = row[k + 5] if row[k + 5] > f else f
            g = row[k + 6] if row[k + 6] > g else g
            h = row[k + 7] if row[k + 7] > h else h
        a = b if b > a else a
        c = d if d > c else c
        e = f if f > e else e
        g = h if h > g else g
        a = c if c > a else a
        e = g if g > e else e
        a = e if e > a else a
    for k in range(whole, n):
        a = row[k] if row[k] > a else a
    return a


@njit(fastmath=FUSED, nogil=True)
def row_sum(row):
    """Sum of the entries, in float64; row (n,)."""
    n = row.shape[0]
    a = 0.0
    whole = n - n % 8 if n >= FEW else 0
    if whole > 0:
        b = c = d = e = f = g = h = 0.0
        for k in range(0, whole, 8):
            a += row[k]
            b += row[k + 1]
            c += row[k + 2]
            d += row[k + 3]
            e += row[k + 4]
            f += row[k + 5]
            g += row[k + 6]
            h += row[k + 7]
        a = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for k in range(whole, n):
        a += row[k]
    return a


@njit(fastmath=FUSED, nogil=True)
def row_dot(row, other):
    """Inner product, in float64; row and other (n,)."""
    n = row.shape[0]
    a = 0.0
    whole = n - n % 8 if n >= FEW else 0
    if whole > 0:
        b = c = d = e = f = g = h = 0.0
        for k in range(0, whole, 8):
            a += row[k] * other[k]
            b += row[k + 1] * other[k + 1]
            c += row[k + 2] * other[k + 2]
            d += row[k + 3] * other[k + 3]
            e += row[k + 4] * other[k + 4]
            f += row[k + 5] * other[k + 5]
            g += row[k + 6] * other[k + 6]
            h += row[k + 7] * other[k + 7]
        a = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for k in range(whole, n):
        a += row[k] * other[k]
    return a
