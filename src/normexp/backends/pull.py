"""The z-loss of rows of 64-bit integers, which the kernels see as what each logit lacks of its row's largest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.layout import Block
from normexp.base.types import FloatVector
from normexp.kernels.cpu import softmax as _softmax
from normexp.kernels.cpu import wide as _wide

_ONE = np.ones(1)


@dataclass(frozen=True, slots=True)
class Pull:
    """What ``z_loss * logsumexp(z)**2`` adds to the losses and gradients of the rows that count."""

    z_loss: float
    grad_scale: float
    counts: Callable[[Block], NDArray[np.bool_]]  # which rows of a block

    def add(
        self, rows: NDArray[Any], top: FloatVector, block: Block, loss: FloatVector, grad: NDArray[Any] | None
    ) -> None:
        """Add it, given float64 rows (n, K) and what was taken off each; grad (n, K) unless it is None."""
        lse, counts = np.empty(len(rows)), self.counts(block)
        _wide.logsumexp_wide(rows, True, lse)
        counts &= lse > -np.inf  # a row that is hidden wholly has NaN as loss and 0 as gradient already
        lse += top
        loss[counts] += self.z_loss * lse[counts] * lse[counts]
        if grad is not None:
            prob = np.empty(rows.shape)
            _softmax.softmax_rows(rows, _ONE, True, prob)
            scale = np.where(counts, self.grad_scale * (2.0 * self.z_loss * lse), 0.0)
            grad += scale[:, None] * np.where(counts[:, None], prob, 0.0)
