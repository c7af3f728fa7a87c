"""Cross-entropy of rows of logits against class indices, and its gradient: the log-probabilities are never in memory.

The loss and the gradient at the true class are made in float64, once for each row: minus (1 - p_y) is made of the terms
of the other classes, so it is 0 only where those are.
"""

import triton
import triton.language as tl

from normexp.kernels.gpu.online import INF, exp_of, gap_of, load_tile, log_one_plus, merge, state_of, store_tile


@triton.jit
def sums_of(z):
    """The sum of a tile's possible logits and how many they are, float64, for label smoothing."""
    possible = z != -INF
    count = tl.sum(possible.to(tl.int32), axis=1).to(tl.float64)
    return tl.sum(tl.where(possible, z, 0.0).to(tl.float64), axis=1), count


@triton.jit
def row_loss(m, rest, z_true, total, count, weight, smoothing, z_loss, SMOOTH: tl.constexpr):
    """weight ((1 - smoothing) nll + smoothing (mean nll)) + z_loss lse^2 of each row; all (R,) float64, m float32."""
    top = tl.where(tl.abs(m) == INF, float("nan"), m.to(tl.float64))
    log_rest = log_one_plus(rest)
    found = log_rest - (z_true - top)
    if SMOOTH:
        found = (1.0 - smoothing) * found + smoothing * (log_rest - (total / count - top))
    lse = top + log_rest
    return weight * found + z_loss * lse * lse


@triton.jit
def row_slopes(m, rest, z_true, count, weight, pull, smoothing, z_loss, SMOOTH: tl.constexpr):
    """Of each row: the factor of p_k, what is taken from each class, the gradient at the true class; (R,) float64."""
    top = tl.where(tl.abs(m) == INF, float("nan"), m.to(tl.float64))
    lse = top + log_one_plus(rest)
    mass = 1.0 + rest
    term = tl.exp(z_true - top)
    others = tl.where(z_true == top, rest, mass - term) / mass
    share = tl.zeros_like(mass)
    off = tl.zeros_like(mass)
    if SMOOTH:
        share = smoothing / count
        off = smoothing - share  # 1 - q_y
    normaliser = 2.0 * z_loss * lse
    true = pull * (weight * (off - others) + normaliser * (term / mass))
    true = tl.where(z_true == -INF, 0.0, true)
    return pull * (weight + normaliser), pull * weight * share, true


@triton.jit
def gradient_of(z, col, target, m, rest, factor, taken, true):
    """The gradient of a tile of logits."""
    heat = tl.full((z.shape[0],), 1.0, tl.float64)
    d, tail = gap_of(z, m, heat, False)
    scaled = tl.where(m == INF, float("nan"), factor / (1.0 + rest)).to(tl.float32)
    term = tl.where(z == m[:, None], 1.0, exp_of(d, tail))
    found = term * scaled[:, None] - taken.to(tl.float32)[:, None]
    found = tl.where(col[None, :] == target[:, None], true.to(tl.float32)[:, None], found)
    found = tl.where((z == -INF) & (m != INF)[:, None], 0.0, found)
    return tl.where((target < 0)[:, None], 0.0, found)


@triton.jit
def cross_entropy_rows(
    logits, target, weight, pulls, numbers, losses, grad,
    rows, classes, row_stride, col_stride, pull_stride, grad_stride,
    LOSS: tl.constexpr, GRAD: tl.constexpr, SMOOTH: tl.constexpr,
    WHOLE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Fill losses (N,) float64, grad (N, K), or both. target (N,) int64, -1 ignored; weight, pulls (N,) float64.

    numbers: label smoothing and z_loss, float64, which a scalar argument of a kernel is not.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    here = row < rows
    answer = tl.load(target + row, mask=here, other=-1)
    counts = answer >= 0
    smoothing = tl.load(numbers)
    z_loss = tl.load(numbers + 1)
    own = tl.load(weight + row, mask=here, other=0.0)
    z_true = tl.load(logits + row * row_stride + answer * col_stride, mask=counts, other=0.0)
    z_true = z_true.to(tl.float32).to(tl.float64)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    count = tl.full((ROWS,), 1.0, tl.float64)
    if WHOLE:
        z = load_tile(logits, row, col, row_stride, col_stride, rows, classes, -INF)
        m, rest = state_of(z, heat, False)
        if SMOOTH:
            total, count = sums_of(z)
    else:
        m = tl.full((ROWS,), -INF, tl.float32)
        rest = tl.full((ROWS,), -1.0, tl.float64)
        count = tl.zeros((ROWS,), tl.float64)
        for first in range(0, classes, COLS):
            z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
            m2, rest2 = state_of(z, heat, False)
            m, rest = merge(m, rest, m2, rest2, heat, False)
            if SMOOTH:
                total2, count2 = sums_of(z)
                total += total2
                count += count2
    if LOSS:
        found = row_loss(m, rest, z_true, total, count, own, smoothing, z_loss, SMOOTH)
        tl.store(losses + row, tl.where(counts, found, 0.0), mask=here)
    if GRAD:
        pull = tl.load(pulls + row * pull_stride, mask=here, other=0.0)
        factor, taken, true = row_slopes(m, rest, z_true, count, own, pull, smoothing, z_loss, SMOOTH)
        if WHOLE:
            slope = gradient_of(z, col, answer, m, rest, factor, taken, true)
            store_tile(grad, row, col, grad_stride, rows, classes, slope)
        else:
            for first in range(0, classes, COLS):
                z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
                slope = gradient_of(z, first + col, answer, m, rest, factor, taken, true)
                store_tile(grad, row, first + col, grad_stride, rows, classes, slope)
