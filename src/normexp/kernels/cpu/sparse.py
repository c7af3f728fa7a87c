"""Products of a CSR matrix with a block of class columns.

One function serves X W and X' R: the second is called with the transposed matrix in CSR form. Each output
row is one sum in the order of the stored entries, so a split of the rows over threads changes no bit.
"""

from numba import njit

FLAGS = {"contract", "nsz"}


@njit(fastmath=FLAGS, nogil=True, cache=True)
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
