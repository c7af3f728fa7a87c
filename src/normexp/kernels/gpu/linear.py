"""The fused linear head: logits exist as tiles in registers, and their gradient as one block of rows by classes.

Forward: each program takes a tile of rows through one span of classes and leaves the state of the span; the spans of a
row are merged in their order. Gradient: the logits of a block of rows and classes are computed again, their gradient
fills a workspace of that size, and two products add it to the gradients of x and of the projection, every tile of which
belongs to one program. No program adds to what another one does, so nothing depends on their order.
"""

import triton
import triton.language as tl

from normexp.kernels.gpu.cross_entropy import row_loss, row_slopes, sums_of
from normexp.kernels.gpu.online import INF, exp_of, merge, state_of

# tanh below 0.625 (Cephes, single/tanhf.c)
T0 = tl.constexpr(-3.33332819422e-1)
T1 = tl.constexpr(1.33314422036e-1)
T2 = tl.constexpr(-5.37397155531e-2)
T3 = tl.constexpr(2.06390887954e-2)
T4 = tl.constexpr(-5.70498872745e-3)


@triton.jit
def tanh_of(x):
    """The hyperbolic tangent and its slope, 1 - tanh^2 without cancellation; float32."""
    size = tl.abs(x)
    e = exp_of(-2.0 * size, tl.zeros_like(size))
    large = (1.0 - e) / (1.0 + e)
    square = x * x
    small = x + x * square * (T0 + square * (T1 + square * (T2 + square * (T3 + square * T4))))
    found = tl.where(size < 0.625, small, tl.where(x < 0.0, -large, large))
    return found, 4.0 * e / ((1.0 + e) * (1.0 + e))


@triton.jit
def product_tile(
    a, b, row, col, depth, a_row, a_col, b_row, b_col, rows, cols,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """sum_d a[row, d] b[col, d], (R, C) float32, 0 beyond the edges. row, col: int64.

    WIDEN: multiply as float32, for the interpreter, which takes the bits of bfloat16 for integers in a product.
    """
    step = tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, COLS), tl.float32)
    for first in range(0, depth, DEPTH):
        d = (first + step).to(tl.int64)
        inside = d < depth
        left_at = a + row[:, None] * a_row + d[None, :] * a_col
        right_at = b + d[:, None] * b_row + col[None, :] * b_col
        left = tl.load(left_at, mask=(row < rows)[:, None] & inside[None, :], other=0.0)
        right = tl.load(right_at, mask=inside[:, None] & (col < cols)[None, :], other=0.0)
        if WIDEN:
            left = left.to(tl.float32)
            right = right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    return total


@triton.jit
def logit_tile(
    x, projection, bias, heat, cap, row, col, depth, x_row, x_col, w_row, w_col, rows, classes,
    BIAS: tl.constexpr, HEAT: tl.constexpr, CAP: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """The logits of a tile, -inf beyond the classes, and their slope by ``x @ projection.T + bias``."""
    z = product_tile(
        x,
        projection,
        row,
        col,
        depth,
        x_row,
        x_col,
        w_col,
        w_row,
        rows,
        classes,
        ROWS,
        COLS,
        DEPTH,
        PRECISION,
        WIDEN,
    )
    slope = tl.full((ROWS, COLS), 1.0, tl.float32)
    if BIAS:
        z += tl.load(bias + col, mask=col < classes, other=0.0).to(tl.float32)[None, :]
    if CAP:
        bounded, slope = tanh_of(z / cap)
        z = cap * bounded
    if HEAT:
        z = z / heat.to(tl.float32)[:, None]
        slope = slope / heat.to(tl.float32)[:, None]
    return tl.where((col < classes)[None, :], z, -INF), slope


@triton.jit
def linear_states(
    x, projection, bias, heat_of_row, target, numbers, tops, rests, totals, counts, trues,
    rows, classes, depth, x_row, x_col, w_row, w_col, heat_stride, span,
    BIAS: tl.constexpr, HEAT: tl.constexpr, CAP: tl.constexpr, SMOOTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Fill the state of each span of classes: tops (S, N) float32, rests, totals, counts (S, N) and trues (N,) float64."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1).to(tl.int64)
    here = row < rows
    begin = part * span
    end = tl.minimum(begin + span, classes)
    cap = tl.load(numbers + 2).to(tl.float32)
    answer = tl.load(target + row, mask=here, other=-1)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    if HEAT:
        heat = tl.load(heat_of_row + row * heat_stride, mask=here, other=1.0)
    one = tl.full((ROWS,), 1.0, tl.float64)
    m = tl.full((ROWS,), -INF, tl.float32)
    rest = tl.full((ROWS,), -1.0, tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    count = tl.zeros((ROWS,), tl.float64)
    true = tl.zeros((ROWS,), tl.float64)
    for first in range(begin, end, COLS):
        col = (first + tl.arange(0, COLS)).to(tl.int64)
        z, _ = logit_tile(
            x, projection, bias, heat, cap, row, col, depth, x_row, x_col, w_row, w_col, rows, classes,
            BIAS, HEAT, CAP, ROWS, COLS, DEPTH, PRECISION, WIDEN,
        )  # fmt: skip
        m2, rest2 = state_of(z, one, False)
        m, rest = merge(m, rest, m2, rest2, one, False)
        true += tl.sum(tl.where(col[None, :] == answer[:, None], z, 0.0), axis=1).to(tl.float64)
        if SMOOTH:
            total2, count2 = sums_of(z)
            total += total2
            count += count2
    at = part * rows + row
    tl.store(tops + at, m, mask=here)
    tl.store(rests + at, rest, mask=here)
    if SMOOTH:
        tl.store(totals + at, total, mask=here)
        tl.store(counts + at, count, mask=here)
    tl.store(trues + row, true, mask=here & (answer >= begin) & (answer < end))


@triton.jit
def linear_losses(
    tops, rests, totals, counts, trues, weight, pulls, numbers, losses, factors, takens, slopes,
    rows, spans, pull_stride,
    GRAD: tl.constexpr, SMOOTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Merge the spans of each row into its first one; fill losses and, with GRAD, what the gradient needs of a row."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here = row < rows
    one = tl.full((ROWS,), 1.0, tl.float64)
    m = tl.full((ROWS,), -INF, tl.float32)
    rest = tl.full((ROWS,), -1.0, tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    count = tl.full((ROWS,), 0.0, tl.float64)
    at = row
    for _ in range(spans):
        m2 = tl.load(tops + at, mask=here, other=0.0)
        rest2 = tl.load(rests + at, mask=here, other=0.0)
        m, rest = merge(m, rest, m2, rest2, one, False)
        if SMOOTH:
            total += tl.load(totals + at, mask=here, other=0.0)
            count += tl.load(counts + at, mask=here, other=1.0)
        at += rows
    smoothing = tl.load(numbers)
    z_loss = tl.load(numbers + 1)
    own = tl.load(weight + row, mask=here, other=0.0)
    true = tl.load(trues + row, mask=here, other=0.0)
    tl.store(losses + row, row_loss(m, rest, true, total, count, own, smoothing, z_loss, SMOOTH), mask=here)
    if GRAD:
        pull = tl.load(pulls + row * pull_stride, mask=here, other=0.0)
        factor, taken, slope = row_slopes(m, rest, true, count, own, pull, smoothing, z_loss, SMOOTH)
        tl.store(tops + row, m, mask=here)
        tl.store(factors + row, tl.where(m == INF, float("nan"), factor / (1.0 + rest)), mask=here)
        tl.store(takens + row, taken, mask=here)
        tl.store(slopes + row, slope, mask=here)


@triton.jit
def linear_gradient(
    x, projection, bias, heat_of_row, target, numbers, tops, factors, takens, slopes, scale, out,
    rows, classes, depth, x_row, x_col, w_row, w_col, heat_stride, first_row, first_class, last_row, last_class, out_row,
    BIAS: tl.constexpr, HEAT: tl.constexpr, CAP: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Fill the workspace with scale times the gradient of x @ projection.T + bias, for one block of rows and classes."""
    row = first_row + tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = first_class + tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    here = row < last_row
    cap = tl.load(numbers + 2).to(tl.float32)
    grow = tl.load(scale)
    answer = tl.load(target + row, mask=here, other=-1)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    if HEAT:
        heat = tl.load(heat_of_row + row * heat_stride, mask=here, other=1.0)
    z, inner = logit_tile(
        x, projection, bias, heat, cap, row, col, depth, x_row, x_col, w_row, w_col, rows, classes,
        BIAS, HEAT, CAP, ROWS, COLS, DEPTH, PRECISION, WIDEN,
    )  # fmt: skip
    m = tl.load(tops + row, mask=here, other=0.0)
    factor = (grow * tl.load(factors + row, mask=here, other=0.0)).to(tl.float32)
    taken = (grow * tl.load(takens + row, mask=here, other=0.0)).to(tl.float32)
    true = (grow * tl.load(slopes + row, mask=here, other=0.0)).to(tl.float32)
    d = z - m[:, None]
    term = tl.where(z == m[:, None], 1.0, exp_of(d, tl.zeros_like(d)))
    found = term * factor[:, None] - taken[:, None]
    found = tl.where(col[None, :] == answer[:, None], true[:, None], found)
    found = tl.where((z == -INF) & (m != INF)[:, None], 0.0, found * inner)
    at = (row - first_row)[:, None] * out_row + (col - first_class)[None, :]
    tl.store(out + at, found.to(out.dtype.element_ty), mask=here[:, None] & (col < last_class)[None, :])


@triton.jit
def add_product(
    a, b, out, rows, cols, depth, a_row, a_col, b_row, b_col, out_row,
    ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """out (M, N) float32 += a (M, D) @ b (D, N); each tile of out belongs to one program."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    more = product_tile(
        a, b, row, col, depth, a_row, a_col, b_row, b_col, rows, cols, ROWS, COLS, DEPTH, PRECISION, WIDEN
    )
    at = out + row[:, None] * out_row + col[None, :]
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    tl.store(at, tl.load(at, mask=inside, other=0.0) + more, mask=inside)
