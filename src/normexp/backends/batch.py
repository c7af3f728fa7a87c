"""Rows of an array in the order of its batch, some at a time: what is drawn for them must not hang on their layout."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from normexp.base.precision import compute_dtype


@dataclass(frozen=True, slots=True)
class Batch:
    """An array with the classes last, at least two-dimensional, and where its entries are hidden."""

    view: NDArray[Any]  # (*batch, K)
    hidden: NDArray[np.bool_] | None

    @classmethod
    def of(cls, array: NDArray[Any], axis: int | None, hidden: NDArray[np.bool_] | None = None) -> Self:
        """See ``array`` with the classes along ``axis``; None for a single number."""

        def turned(one: NDArray[Any]) -> NDArray[Any]:
            moved = one.reshape(1) if axis is None else np.moveaxis(one, axis, -1)
            return moved[None] if moved.ndim == 1 else moved

        return cls(turned(array), None if hidden is None else turned(hidden))

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(np.prod(self.view.shape[:-1], dtype=np.int64))

    @property
    def width(self) -> int:
        """How many classes there are."""
        return int(self.view.shape[-1])

    def place(self, first: int, last: int) -> tuple[NDArray[np.intp], ...]:
        """Where the rows [first, last) lie in the batch."""
        return np.unravel_index(np.arange(first, last), self.view.shape[:-1])

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """A copy of the rows [first, last), -inf where hidden; 64-bit integers less the largest that is shown."""
        place = self.place(first, last)
        values = self.view[place]
        hidden = None if self.hidden is None else self.hidden[place]
        if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            counts, low = np.True_ if hidden is None else ~hidden, np.iinfo(values.dtype).min
            top = values.max(axis=1, keepdims=True, where=counts, initial=low)
            rows: NDArray[Any] = -(top.astype(np.uint64) - values.astype(np.uint64)).astype(np.float64)
        else:
            rows = values.astype(compute_dtype(values.dtype), copy=False)
        if hidden is not None:
            rows[hidden] = -np.inf
        return rows
