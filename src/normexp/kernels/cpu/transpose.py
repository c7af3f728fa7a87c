"""Blocks of columns to rows and back, so that one set of row kernels serves every axis."""

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT

TILE = 16  # 16 float32 are one cache line: each line is read once


@kernel(EXACT)
def gather_columns(columns, rows):
    """rows[a * B + b, k] = columns[a, k, b]; columns (A, K, B), rows (A * B, K)."""
    A, K, B = columns.shape
    for a in range(A):
        for start in range(0, B, TILE):
            stop = min(start + TILE, B)
            for k in range(K):
                for b in range(start, stop):
                    rows[a * B + b, k] = columns[a, k, b]


@kernel(EXACT)
def scatter_columns(rows, columns):
    """columns[a, k, b] = rows[a * B + b, k]; rows (A * B, K), columns (A, K, B)."""
    A, K, B = columns.shape
    for a in range(A):
        for start in range(0, B, TILE):
            stop = min(start + TILE, B)
            for k in range(K):
                for b in range(start, stop):
                    columns[a, k, b] = rows[a * B + b, k]
