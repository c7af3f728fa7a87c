"""Entmax and sparsemax by the CPU kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.masks import Mask
from normexp.backends.rowwise import map_rows
from normexp.kernels.cpu import sparsemax as _sparsemax


def entmax(
    array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any], *, alpha: float
) -> NDArray[Any]:
    """Entmax of ``array`` along ``axes`` for alpha > 1, in a new array of ``dtype``."""
    return map_rows(array, axes, mask, dtype, lambda rows, out: _sparsemax.entmax_rows(rows, alpha, out))
