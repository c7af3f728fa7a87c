"""The words for annotations: what an array, an axis, a temperature is."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = Any
"""An array of any library that follows the array API standard, or anything NumPy can make one of."""

FloatRows = NDArray[np.floating[Any]]
"""Two-dimensional, C-contiguous, float32 or float64: one row of logits after another."""

IntVector = NDArray[np.int64]
FloatVector = NDArray[np.float64]

Axis = int | Sequence[int] | None
Reduction = Literal["mean", "sum", "none"]
Seed = int | np.random.Generator | None
Restore = Callable[[Any], Any]


class LossGrad(NamedTuple):
    """A loss and its gradient with respect to the logits."""

    loss: Any
    grad: Any


class LinearLossGrad(NamedTuple):
    """A loss and its gradients with respect to the rows, the projection and the bias (None without a bias)."""

    loss: Any
    grad_x: Any
    grad_projection: Any
    grad_bias: Any


class TopK(NamedTuple):
    """The likeliest classes, best first: their probabilities, the logs of these, and which classes they are."""

    prob: Any
    log_prob: Any
    index: Any
