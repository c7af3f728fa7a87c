"""Products of a CSR matrix with a block of class columns.

One function serves X W and X' R: the second is called with the transposed matrix in CSR form. Each output
row is one sum in the order of the stored entries, so a split of the rows over threads changes no bit.
"""

import numpy as np

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import FUSED


@kernel(FUSED)
def csr_dot_rows(values, indices, indptr, dense, first, last, out):
    """Fill out[first:last] with the rows of (CSR matrix) @ dense; dense (columns, K), out (rows, K), C-contiguous."""
    classes = dense.shape[1]
    for i in range(first, last):
        for k in range(classes):
            out[i, k] = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            value = values[entry]
            j = indices[entry]
            for k in range(classes):
                out[i, k] += value * dense[j, k]


@kernel(FUSED)
def csr_gram_rows(values, indices, indptr, inverse_ridge, dense, first, last, out):
    """Add sum_j x_j (x_j' dense) inverse_ridge[j] to out, for the features j in [first, last).

    The matrix is given feature by feature: x_j are its rows here. dense and out are (rows, K), C-contiguous; the
    K numbers x_j' dense of a feature are never stored beyond the feature.
    """
    classes = dense.shape[1]
    sums = np.empty(classes)
    for j in range(first, last):
        sums[:] = 0.0
        for entry in range(indptr[j], indptr[j + 1]):
            value = np.float64(values[entry])
            row = dense[indices[entry]]
            for k in range(classes):
                sums[k] += value * row[k]
        for k in range(classes):
            sums[k] *= inverse_ridge[j]
        for entry in range(indptr[j], indptr[j + 1]):
            value = np.float64(values[entry])
            row = out[indices[entry]]
            for k in range(classes):
                row[k] += value * sums[k]
