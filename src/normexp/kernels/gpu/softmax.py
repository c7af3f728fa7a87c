"""Softmax, its logarithm and log-sum-exp of rows. A row that fits a tile is read once, a longer one twice."""

import triton
import triton.language as tl

from normexp.kernels.gpu.online import INF, exp_of, gap_of, load_tile, log_one_plus, merge, state_of, store_tile


@triton.jit
def _answer(z, m, rest, heat, LOG: tl.constexpr, HEAT: tl.constexpr):
    """Probabilities of a tile, or their logarithms, from the state of the whole rows."""
    d, tail = gap_of(z, m, heat, HEAT)
    is_top = z == m[:, None]
    if LOG:
        log_rest = log_one_plus(rest)
        high = log_rest.to(tl.float32)
        low = (log_rest - high.to(tl.float64)).to(tl.float32)
        found = tl.where(is_top, 0.0, d) - (high[:, None] - (low[:, None] + tl.where(is_top, 0.0, tail)))
        found = tl.where(z == -INF, -INF, found)
        found = tl.where((rest == rest)[:, None], found, float("nan"))
    else:
        share = (1.0 / (1.0 + rest)).to(tl.float32)
        found = tl.where(is_top, 1.0, exp_of(d, tail)) * share[:, None]
    return tl.where((tl.abs(m) == INF)[:, None], float("nan"), found)


@triton.jit
def softmax_rows(
    logits, heat_of_row, out, rows, classes, row_stride, col_stride, heat_stride, out_stride,
    LOG: tl.constexpr, HEAT: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Fill out[i, k] with softmax(logits[i] / heat[i])_k, or its log; WHOLE: a row is no longer than COLS."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    if HEAT:
        heat = tl.load(heat_of_row + row * heat_stride, mask=row < rows, other=1.0)
    if WHOLE:
        z = load_tile(logits, row, col, row_stride, col_stride, rows, classes, -INF)
        m, rest = state_of(z, heat, HEAT)
        store_tile(out, row, col, out_stride, rows, classes, _answer(z, m, rest, heat, LOG, HEAT))
    else:
        m = tl.full((ROWS,), -INF, tl.float32)
        rest = tl.full((ROWS,), -1.0, tl.float64)
        for first in range(0, classes, COLS):
            z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
            m2, rest2 = state_of(z, heat, HEAT)
            m, rest = merge(m, rest, m2, rest2, heat, HEAT)
        for first in range(0, classes, COLS):
            z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
            found = _answer(z, m, rest, heat, LOG, HEAT)
            store_tile(out, row, first + col, out_stride, rows, classes, found)


@triton.jit
def logsumexp_rows(
    logits, out, rows, classes, row_stride, col_stride,
    WHOLE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Fill out[i] with log sum_k exp(logits[i, k])."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    heat = tl.full((ROWS,), 1.0, tl.float64)
    m = tl.full((ROWS,), -INF, tl.float32)
    rest = tl.full((ROWS,), -1.0, tl.float64)
    if WHOLE:
        z = load_tile(logits, row, col, row_stride, col_stride, rows, classes, -INF)
        m, rest = state_of(z, heat, False)
    else:
        for first in range(0, classes, COLS):
            z = load_tile(logits, row, first + col, row_stride, col_stride, rows, classes, -INF)
            m2, rest2 = state_of(z, heat, False)
            m, rest = merge(m, rest, m2, rest2, heat, False)
    found = m.to(tl.float64) + log_one_plus(rest)
    tl.store(out + row, found.to(tl.float32), mask=row < rows)
