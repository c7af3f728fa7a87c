"""Blocks of columns to rows and back, so that one set of row kernels serves every axis.

In square blocks that are turned in registers (``turn``), a few of them side by side: on the side where one step
further is another page of memory, each line is used up while it is near.
"""

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT
from normexp.kernels.cpu.turn import turn_block

TILE = 16  # 16 float32 are one cache line
BROAD = 4 * TILE  # so many columns read at once: memory hands out neighbouring lines more cheaply


@kernel(EXACT)
def gather_columns(columns, rows):
    """rows[a * B + b, k] = columns[a, k, b]; columns (A, K, B), rows (A * B, K)."""
    A, K, B = columns.shape
    side = 64 // columns.itemsize
    k_end = K - K % side if columns.strides[2] == columns.itemsize else 0
    b_end = B - B % side
    for a in range(A):
        here = columns[a]
        for first in range(0, b_end, BROAD):
            for k in range(0, k_end, side):
                for b in range(first, min(first + BROAD, b_end), side):
                    turn_block(here, k, b, rows, a * B + b, k)
        for k in range(k_end):
            for b in range(b_end, B):
                rows[a * B + b, k] = here[k, b]
        for b in range(B):
            for k in range(k_end, K):
                rows[a * B + b, k] = here[k, b]


@kernel(EXACT)
def scatter_columns(rows, columns):
    """columns[a, k, b] = rows[a * B + b, k]; rows (A * B, K), columns (A, K, B)."""
    A, K, B = columns.shape
    side = 64 // columns.itemsize
    k_end = K - K % side if columns.strides[2] == columns.itemsize else 0
    b_end = B - B % side
    for a in range(A):
        here = columns[a]
        for first in range(0, b_end, BROAD):
            for k in range(0, k_end, side):
                for b in range(first, min(first + BROAD, b_end), side):
                    turn_block(rows, a * B + b, k, here, k, b)
        for k in range(k_end):
            for b in range(b_end, B):
                here[k, b] = rows[a * B + b, k]
        for k in range(k_end, K):
            for b in range(B):
                here[k, b] = rows[a * B + b, k]
