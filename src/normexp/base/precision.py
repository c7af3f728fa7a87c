"""Unit roundoff, accumulator and result dtypes: each choice with its reason.

float32 logits are computed in float64, because a float64 exponential costs about what a compensated
float32 one does and leaves one rounding, the last. float64 logits are computed in float64 with the
rounding errors carried along. float16 and bfloat16 become float32 first, exactly; integers and bool
become float64 (an int64 beyond 2**53 is rounded there, to within half a unit of a float64).
"""

from typing import Any

import numpy as np

ROUNDOFF = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
"""Unit roundoff u of round-to-nearest: half the distance from 1 to the next number (IEEE 754-2019)."""


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is ml_dtypes' bfloat16, told by its name so that ml_dtypes need not be there."""
    return dtype.name == "bfloat16"


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype that the kernels read for logits of this dtype; None when there is none."""
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    if is_bfloat16(dtype) or (dtype.kind == "f" and dtype.itemsize == 2):
        return np.dtype(np.float32)
    if dtype.kind == "f" and dtype.itemsize in {4, 8}:
        return np.dtype(f"f{dtype.itemsize}")
    return None


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of probabilities and gradients: the logits' own, in native order; float64 for integers."""
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def loss_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of losses and log-sums: at least float32."""
    computed = compute_dtype(dtype)
    assert computed is not None, dtype  # noqa: S101  (the door has refused it)
    return computed
