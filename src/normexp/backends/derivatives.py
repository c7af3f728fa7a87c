"""Products with the Jacobian of softmax, and the Jacobian, by the CPU kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.layout import BLOCK_ELEMENTS
from normexp.backends.rowwise import combine_rows
from normexp.backends.threads import POOL
from normexp.base.precision import compute_dtype
from normexp.kernels.cpu import derivatives as _derivatives


def jacobian_product(
    prob: NDArray[Any], vector: NDArray[Any], axes: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """(diag(p) - p p') v for each row along ``axes``; the matrix is symmetric, so this is v' J as well as J v."""
    return combine_rows(prob, vector, axes, dtype, _derivatives.product_rows)


def jacobian(prob: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Diag(p) - p p' for each row along the last axis, shape (..., K, K)."""
    width = prob.shape[-1]
    rows = np.ascontiguousarray(prob.reshape(-1, width) if width else prob.reshape(0, 1), compute_dtype(prob.dtype))
    result = np.empty((*prob.shape, width), dtype)
    computed = np.empty((len(rows), width, width), rows.dtype) if result.dtype != rows.dtype else result
    flat = computed.reshape(-1, width, width) if width else computed.reshape(0, 1, 1)
    step = max(1, BLOCK_ELEMENTS // max(1, width * width))

    def work(piece: int) -> None:
        part = slice(piece * step, (piece + 1) * step)
        _derivatives.jacobian_rows(rows[part], flat[part])

    POOL.run(work, -(-len(rows) // step))
    if computed is not result:
        with np.errstate(over="ignore", under="ignore"):
            np.copyto(result.reshape(flat.shape), flat, casting="unsafe")
    return result
