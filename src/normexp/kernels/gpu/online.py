"""The state of a row: its largest logit m, and how much the others add to it (the same as in ``kernels.cpu``).

One largest term, exactly 1, is left out of the sum: ``rest`` holds the others, and log(sum exp z) = m + log1p(rest)
keeps every digit when one class dominates (Blanchard, Higham and Higham (2021), sec. 3). Tiles of a row are merged as
(m, rest), Milakov and Gimelshein (2018), alg. 3. Terms are float32, what each row has one of is float64. A state of
nothing is (-inf, -1); -inf beside -inf is asked for by ``==``, so that -inf - -inf never comes about in a sum.

Nothing here depends on whether the compiler fuses a product and a sum: the products that must be exact are of halves
of 12 bits.
"""

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))
FLOOR = tl.constexpr(-105.0)  # exp of it rounds to 0 as a float32, subnormals included

# exp on [-ln 2 / 2, ln 2 / 2], and ln 2 in two parts of which the first has 10 bits (Cephes, single/expf.c)
LOG2E = tl.constexpr(1.44269504088896341)
LN2_HIGH = tl.constexpr(0.693359375)
LN2_LOW = tl.constexpr(-2.12194440e-4)
E0 = tl.constexpr(5.0000001201e-1)
E1 = tl.constexpr(1.6666665459e-1)
E2 = tl.constexpr(4.1665795894e-2)
E3 = tl.constexpr(8.3334519073e-3)
E4 = tl.constexpr(1.3981999507e-3)
E5 = tl.constexpr(1.9875691500e-4)


@triton.jit
def power_of_two(n):
    """2^n as a float32; n (int32) of a normal number."""
    return ((n + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exp_of(d, tail):
    """exp(d + tail) for float32 d <= 0 and a tail below half a unit in its last place; exact 0, subnormals, NaN."""
    far = d < FLOOR
    d = tl.where(far, FLOOR, d)
    n = tl.floor(d * LOG2E + 0.5)
    r = (d - n * LN2_HIGH) - n * LN2_LOW + tl.where(far, 0.0, tail)
    p = E0 + r * (E1 + r * (E2 + r * (E3 + r * (E4 + r * E5))))
    p = 1.0 + (r + r * r * p)
    whole = tl.where(n == n, n, 0.0).to(tl.int32)
    half = whole >> 1
    return (p * power_of_two(half)) * power_of_two(whole - half)


@triton.jit
def upper(x):
    """The float32 without the lower 12 of its 24 bits."""
    return (x.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)


@triton.jit
def gap_of(z, m, heat, HEAT: tl.constexpr):
    """(z - m) / heat in two float32: the number and what its rounding took; z (R, C), m and heat (R,), heat float64.

    TwoSum (Knuth (1998), sec. 4.2.2, theorem B); the remainder of the division from products of halves, all exact.
    """
    top = m[:, None]
    d = z - top
    back = d - z
    tail = (z - (d - back)) + (-top - back)
    if HEAT:
        t = heat.to(tl.float32)[:, None]
        t_low = (heat - heat.to(tl.float32).to(tl.float64)).to(tl.float32)[:, None]
        q = d / t
        q1 = upper(q)
        q2 = q - q1
        t1 = upper(t)
        t2 = t - t1
        left = (((d - q1 * t1) - q1 * t2) - q2 * t1) - q2 * t2
        tail = ((left + tail) - q * t_low) / t
        d = q
    return d, tl.where(tail == tail, tail, 0.0)


@triton.jit
def state_of(z, heat, HEAT: tl.constexpr):
    """The state of a tile of rows: m (R,) float32, rest (R,) float64. NaN ends in rest."""
    m = tl.max(tl.where(z == z, z, -INF), axis=1)
    d, tail = gap_of(z, m, heat, HEAT)
    is_top = z == m[:, None]
    terms = tl.where(is_top, 0.0, exp_of(d, tail))
    ties = tl.sum(is_top.to(tl.int32), axis=1)
    return m, tl.sum(terms, axis=1).to(tl.float64) + (ties - 1).to(tl.float64)


@triton.jit
def merge(m, rest, m2, rest2, heat, HEAT: tl.constexpr):
    """The state of what two states stand for together."""
    same = m == m2
    d = tl.where(same, 0.0, -tl.abs(tl.where(same, 0.0, m.to(tl.float64)) - tl.where(same, 0.0, m2.to(tl.float64))))
    if HEAT:
        d = d / heat
    scale = tl.exp(d)
    first = m >= m2
    higher = tl.where(first, rest, rest2)
    lower = tl.where(first, rest2, rest)
    return tl.where(first, m, m2), higher + (1.0 + lower) * scale


@triton.jit
def log_one_plus(x):
    """log(1 + x) for float64 x >= 0, to the last digits of a small x as well."""
    u = 1.0 + x
    return tl.log(u) + (x - (u - 1.0)) / u


@triton.jit
def load_tile(pointer, row, col, row_stride, col_stride, rows, classes, other):
    """Entries (R, C) of a strided matrix as float32, ``other`` beyond its edges; offsets are int64."""
    at = row[:, None] * row_stride + col.to(tl.int64)[None, :] * col_stride
    inside = (row < rows)[:, None] & (col < classes)[None, :]
    return tl.load(pointer + at, mask=inside, other=other).to(tl.float32)


@triton.jit
def store_tile(pointer, row, col, row_stride, rows, classes, values):
    """Fill entries (R, C) of a matrix whose rows are contiguous."""
    at = row[:, None] * row_stride + col.to(tl.int64)[None, :]
    inside = (row < rows)[:, None] & (col < classes)[None, :]
    tl.store(pointer + at, values.to(pointer.dtype.element_ty), mask=inside)
