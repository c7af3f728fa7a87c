"""Where logits count, as it came: a mask is read block by block, never inverted, combined or enlarged as a whole."""

from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from normexp.backends.layout import Block, Rows

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mask:
    """Logits count where ``allowed`` is True and ``hidden`` is not; each broadcastable to the logits, or None."""

    allowed: Bools | None
    hidden: Bools | None

    @classmethod
    def of(cls, allowed: Bools | None, hidden: Bools | None) -> Self | None:
        """A mask, if there is any."""
        return None if allowed is None and hidden is None else cls(allowed, hidden)

    def along(self, array: NDArray[Any], axes: tuple[int, ...], source: Rows) -> "MaskRows":
        """The mask of an array that is seen as the rows ``source``."""

        def rows(mask: Bools | None) -> Rows | None:
            return None if mask is None else Rows.of(np.broadcast_to(mask, array.shape), axes, source, np.bool_)

        return MaskRows(rows(self.allowed), rows(self.hidden))


@dataclass(frozen=True, slots=True)
class MaskRows:
    """A mask seen as rows, in the order of those it belongs to."""

    allowed: Rows | None
    hidden: Rows | None

    def gather(self, block: Block) -> Bools:
        """Where the logits of a block count (n, K)."""
        allowed = [] if self.allowed is None else [self.allowed.gather(block)]
        shown = [] if self.hidden is None else [~self.hidden.gather(block)]
        return reduce(np.logical_and, [*allowed, *shown])

    def classes(self, first: int, last: int) -> Self:
        """The same rows, of the classes [first, last) alone."""
        return type(self)(
            None if self.allowed is None else self.allowed.classes(first, last),
            None if self.hidden is None else self.hidden.classes(first, last),
        )
