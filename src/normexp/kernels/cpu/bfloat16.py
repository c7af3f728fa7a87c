"""bfloat16 as the upper half of a float32: widening is exact, narrowing rounds to the nearest, ties to even.

NumPy has no such dtype, so the numbers come as the 16 bits that they are.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import EXACT


@kernel(EXACT)
def widen_rows(bits, out):
    """out[i, k] = the bits of the float32 that bits[i, k] stands for; bits uint16 (N, K), out uint32 (N, K)."""
    N, K = bits.shape
    for i in range(N):
        for k in range(K):
            out[i, k] = np.uint32(bits[i, k]) << np.uint32(16)


@njit(fastmath=EXACT, nogil=True)
def narrow_row(word_of, out):
    """out[k] = the bits of the bfloat16 nearest to word_of[k]."""
    half, one, quiet = np.uint32(0x7FFF), np.uint32(1), np.uint32(0x40)
    infinite, sixteen = np.uint32(0x7F800000), np.uint32(16)
    magnitude = np.uint32(0x7FFFFFFF)
    for k in range(word_of.shape[0]):
        word = word_of[k]
        upper = word >> sixteen
        rounded = (word + half + (upper & one)) >> sixteen
        is_nan = (word & magnitude) > infinite
        out[k] = np.uint16(upper | quiet) if is_nan else np.uint16(rounded)


@kernel(EXACT)
def narrow_rows(words, out):
    """out[i, k] = the bits of the bfloat16 nearest to words[i, k]; words uint32 (N, K) of float32, out uint16 (N, K)."""
    for i in range(words.shape[0]):
        narrow_row(words[i], out[i])


@kernel(EXACT)
def add_rows(bits, out):
    """Add bfloat16 numbers to float32 ones: out[i, k] += bits[i, k]; out float32 (N, K)."""
    N, K = bits.shape
    word = np.empty(K, np.uint32)
    value = word.view(np.float32)
    for i in range(N):
        for k in range(K):
            word[k] = np.uint32(bits[i, k]) << np.uint32(16)
        for k in range(K):
            out[i, k] += value[k]


@kernel(EXACT)
def sum_rows(bits, total, out):
    """The last numbers of sums: out[i, k] = bits of the bfloat16 nearest to total[i, k] + bits[i, k]; total is read only."""
    N, K = bits.shape
    word, sums = np.empty(K, np.uint32), np.empty(K, np.float32)
    value, found = word.view(np.float32), sums.view(np.uint32)
    for i in range(N):
        for k in range(K):
            word[k] = np.uint32(bits[i, k]) << np.uint32(16)
        for k in range(K):
            sums[k] = total[i, k] + value[k]
        narrow_row(found, out[i])
