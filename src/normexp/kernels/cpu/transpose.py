"""Blocks of columns to rows and back, so that one set of row kernels serves every axis.

In tiles: on the side where one step further is another page of memory, each line is used up while it is near.
"""

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT

TILE = 16  # 16 float32 are one cache line
BROAD = 4 * TILE  # so many columns read at once: memory hands out neighbouring lines more cheaply


@kernel(EXACT)
def gather_columns(columns, rows):
    """rows[a * B + b, k] = columns[a, k, b]; columns (A, K, B), rows (A * B, K)."""
    A, K, B = columns.shape
    for a in range(A):
        for start in range(0, B, BROAD):
            stop = min(start + BROAD, B)
            for first in range(0, K, TILE):
                last = min(first + TILE, K)
                for b in range(start, stop):
                    for k in range(first, last):
                        rows[a * B + b, k] = columns[a, k, b]


@kernel(EXACT)
def scatter_columns(rows, columns):
    """columns[a, k, b] = rows[a * B + b, k]; rows (A * B, K), columns (A, K, B)."""
    A, K, B = columns.shape
    for a in range(A):
        for start in range(0, B, TILE):
            stop = min(start + TILE, B)
            for first in range(0, K, TILE):
                last = min(first + TILE, K)
                for k in range(first, last):
                    for b in range(start, stop):
                        columns[a, k, b] = rows[a * B + b, k]
