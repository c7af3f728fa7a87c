"""CSR matrices made and joined: one place where their types are settled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

Csr = sparse.csr_matrix[Any]
_sparse: Any = sparse  # scipy's stubs know no float32 matrix from a shape


def csr(data: Any, row: Any, column: Any, /, *, shape: tuple[int, int]) -> Csr:
    """Make a CSR matrix; entries at one place are added.

    Parameters
    ----------
    data, row, column : ndarray, shape (nnz,)
        The entries and their places.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    csr_matrix, shape (N, D)
        The matrix.
    """
    matrix: Csr = _sparse.csr_matrix((data, (row, column)), shape=shape)
    return matrix


def empty(n_rows: int, n_columns: int, /) -> Csr:
    """Make a matrix of zeros.

    Parameters
    ----------
    n_rows, n_columns : int
        Its shape.

    Returns
    -------
    csr_matrix of float32, shape (n_rows, n_columns)
        Without an entry.
    """
    matrix: Csr = _sparse.csr_matrix((n_rows, n_columns), dtype=np.float32)
    return matrix


def beside(parts: Sequence[Any], /) -> Csr:
    """Put matrices beside one another.

    Parameters
    ----------
    parts : sequence of csr_matrix or ndarray, shape (N, D_i)
        The parts.

    Returns
    -------
    csr_matrix, shape (N, sum of D_i)
        The whole.
    """
    matrix: Csr = _sparse.hstack(list(parts), format="csr")
    return matrix


def under(parts: Sequence[Any], /) -> Csr:
    """Put matrices under one another.

    Parameters
    ----------
    parts : sequence of csr_matrix, shape (N_i, D)
        The parts.

    Returns
    -------
    csr_matrix, shape (sum of N_i, D)
        The whole.
    """
    matrix: Csr = _sparse.vstack(list(parts), format="csr")
    return matrix
