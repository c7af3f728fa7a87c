"""The state of a row: its largest logit m, and how much the others add to it.

A row of logits stands for m and the terms exp(z_k - m). One largest term, exactly 1, is left out of the
sum: ``rest`` holds the others, and log(sum exp z) = m + log1p(rest) keeps every digit when one class
dominates (Blanchard, Higham and Higham (2021), sec. 3).

The order of a sum depends on the length alone: halves are added upon each other until few numbers are
left (``fold``). That is SIMD code without any liberty for the compiler, its error grows with log2 K
only, and its bits depend on nothing but the row.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.exponential import exp_double, exp_single
from normexp.kernels.cpu.flags import EXACT, FUSED

LANES = 64  # running maxima side by side: four AVX-512 registers of float32
SPLIT = 134217729.0  # 2**27 + 1 cuts a float64 into two halves of 26 bits (Dekker (1971))


@njit(fastmath=EXACT, forceinline=True)
def gap(z, m):
    """Z - m and its rounding error (Knuth, TAOCP vol. 2, 4.2.2 theorem B); no error when z is infinite."""
    d = z - m
    t = d - z
    tail = (z - (d - t)) + (-m - t)
    return d, tail if tail == tail else 0.0  # noqa: PLR0124  (NaN)


@njit(fastmath=EXACT, forceinline=True)
def product_error(a, b, p):
    """What the float p = a * b lacks of the product, exactly (Dekker (1971)), barring overflow."""
    c = a * SPLIT
    a1 = c - (c - a)
    a2 = a - a1
    c = b * SPLIT
    b1 = c - (c - b)
    b2 = b - b1
    return ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@njit(fastmath=EXACT, forceinline=True)
def quotient(d, tail, t):
    """(d + tail) / t and its rounding error."""
    q = d / t
    low = (((d - q * t) - product_error(q, t, q * t)) + tail) / t
    return q, low if low == low else 0.0  # noqa: PLR0124  (NaN)


@njit(fastmath=EXACT, forceinline=True)
def reciprocal(total, tail):
    """1 / (total + tail) and its rounding error."""
    r = 1.0 / total
    p = r * total
    return r, (((1.0 - p) - product_error(r, total, p)) - tail * r) * r


@njit(fastmath=EXACT, nogil=True)
def fold(terms, n):
    """Sum of terms[:n], which are overwritten: the upper half onto the lower, and the last few one by one."""
    while n > 16:
        h = (n + 1) >> 1
        lower, upper = terms[: n - h], terms[h:n]
        for j in range(n - h):
            lower[j] += upper[j]
        n = h
    total = 0.0
    for j in range(n):
        total += terms[j]
    return total


@njit(fastmath=EXACT, nogil=True)
def fold_exactly(terms, tails, n):
    """Sum of terms[:n] + tails[:n] as two floats, rounding errors carried along; both arrays are overwritten."""
    while n > 1:
        h = (n + 1) >> 1
        lower, upper, lower_tails, upper_tails = terms[: n - h], terms[h:n], tails[: n - h], tails[h:n]
        for j in range(n - h):
            a, b = lower[j], upper[j]
            s = a + b
            t = s - a
            lower[j] = s
            lower_tails[j] += upper_tails[j] + ((a - (s - t)) + (b - t))
        n = h
    s = terms[0] + tails[0]
    return s, (terms[0] - s) + tails[0]


@njit(fastmath=EXACT, nogil=True)
def row_max(row, lanes):
    """The largest entry of the row, NaN passed over; -inf when there is none. lanes: (LANES,) of the row's dtype."""
    K = row.shape[0]
    lanes[:] = -np.inf
    whole = K - K % LANES
    for k in range(0, whole, LANES):
        part = row[k : k + LANES]
        for j in range(LANES):
            lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
    part = row[whole:]
    for j in range(K - whole):
        lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
    h = LANES >> 1
    while h > 0:
        upper = lanes[h : 2 * h]
        for j in range(h):
            lanes[j] = upper[j] if upper[j] > lanes[j] else lanes[j]
        h >>= 1
    return np.float64(lanes[0])


@njit(fastmath=FUSED, nogil=True)
def rest_single(row, m, scale, e, terms):
    """e[k] = exp((row[k] - m) * scale), and the sum of all but one of those that are 1; for float32 rows."""
    K = row.shape[0]
    h = (K + 1) >> 1
    ones = 0
    lower, upper, lower_e, upper_e = row[: K - h], row[h:], e[: K - h], e[h:K]
    for k in range(K - h):
        a = exp_single((np.float64(lower[k]) - m) * scale)
        b = exp_single((np.float64(upper[k]) - m) * scale)
        lower_e[k] = a
        upper_e[k] = b
        ones += a == 1.0
        ones += b == 1.0
        terms[k] = (0.0 if a == 1.0 else a) + (0.0 if b == 1.0 else b)
    if K & 1:
        a = exp_single((np.float64(row[h - 1]) - m) * scale)
        e[h - 1] = a
        ones += a == 1.0
        terms[h - 1] = 0.0 if a == 1.0 else a
    return fold(terms, h) + (ones - 1)


@njit(fastmath=EXACT, nogil=True)
def exp_row_double(row, m, temperature, e):
    """e[k] = exp((row[k] - m) / temperature) for a float64 row, the rounding errors carried into exp."""
    if temperature == 1.0:
        for k in range(row.shape[0]):
            d, tail = gap(np.float64(row[k]), m)
            e[k] = exp_double(d, tail)
    else:
        for k in range(row.shape[0]):
            d, tail = gap(np.float64(row[k]), m)
            d, tail = quotient(d, tail, temperature)
            e[k] = exp_double(d, tail)


@njit(fastmath=EXACT, nogil=True)
def rest_double(row, m, temperature, e, terms, tails):
    """As rest_single, for float64 rows: the sum as two floats."""
    K = row.shape[0]
    exp_row_double(row, m, temperature, e)
    h = (K + 1) >> 1
    ones = 0
    lower, upper = e[: K - h], e[h:K]
    for k in range(K - h):
        ones += lower[k] == 1.0
        ones += upper[k] == 1.0
        a = 0.0 if lower[k] == 1.0 else lower[k]
        b = 0.0 if upper[k] == 1.0 else upper[k]
        s = a + b
        t = s - a
        terms[k] = s
        tails[k] = (a - (s - t)) + (b - t)
    if K & 1:
        ones += e[h - 1] == 1.0
        terms[h - 1] = 0.0 if e[h - 1] == 1.0 else e[h - 1]
        tails[h - 1] = 0.0
    s, tail = fold_exactly(terms, tails, h)
    rest = s + (ones - 1)
    t = rest - s
    return rest, ((s - (rest - t)) + ((ones - 1) - t)) + tail


@njit(fastmath=EXACT, nogil=True)
def row_state(row, temperature, double, lanes, e, terms, tails):
    """m, rest and its tail; e is filled with exp((row - m) / temperature). rest is NaN if any e is."""
    m = row_max(row, lanes)
    if double:
        rest, tail = rest_double(row, m, temperature, e, terms, tails)
    else:
        rest, tail = rest_single(row, m, 1.0 / temperature, e, terms), 0.0
    return m, rest, tail


@njit(fastmath=EXACT, nogil=True)
def total_of(rest, tail):
    """1 + rest + tail as two floats."""
    total = 1.0 + rest
    t = total - rest
    return total, ((rest - (total - t)) + (1.0 - t)) + tail


@njit(fastmath=EXACT, nogil=True)
def is_empty(row, m):
    """Whether every logit of the row is -inf."""
    if m != -np.inf:
        return False
    for k in range(row.shape[0]):
        if row[k] != -np.inf:  # NaN
            return False
    return True


@njit(fastmath=FUSED, nogil=True)
def scale_row(e, factor, error, out):
    """out[k] = e[k] * (factor + error), rounded to the dtype of out."""
    for k in range(out.shape[0]):
        out[k] = e[k] * factor + e[k] * error


@njit(fastmath=EXACT, nogil=True)
def log_row(row, m, temperature, log_sum, out):
    """out[k] = (row[k] - m) / temperature - log_sum."""
    if temperature == 1.0:
        for k in range(row.shape[0]):
            d, tail = gap(np.float64(row[k]), m)
            out[k] = d + (tail - log_sum)
    else:
        for k in range(row.shape[0]):
            d, tail = gap(np.float64(row[k]), m)
            d, tail = quotient(d, tail, temperature)
            out[k] = d + (tail - log_sum)
