"""Memory of large results, handed out again when its last user has let it go.

The pages of a fresh array are cleared by the operating system when they are first touched: for the softmax of
1 000 000 x 10 that costs as much as the softmax (bench/results/ops.md). So the memory of a large result goes back to a
shelf when the array and all its views are gone, and the next result of about that size gets it. The shelf holds
256 MiB at most; ``set_kept_memory`` changes that.
"""

import os
import threading
from collections import deque
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.checks import check_whole
from normexp.base.errors import RangeError

SMALLEST = 1 << 25  # bytes; up to here malloc keeps pages itself (M_MMAP_THRESHOLD grows to 32 MiB and no further)
WASTE = 1.25  # memory that is larger than what is needed by more than this factor stays where it is


class _Lease:
    """Memory while it is in use: the base of the array that shows it, and so alive as long as any view of that."""

    __slots__ = ("__array_interface__", "_memory", "_shelf")

    def __init__(self, memory: NDArray[np.uint8], shelf: "Shelf") -> None:
        self._memory, self._shelf = memory, shelf
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._shelf.give(self._memory)


class Shelf:
    """Memory that nobody uses, the longest unused in front; ``limit`` bytes at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: deque[NDArray[np.uint8]] = deque()
        self._taking = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with whatever its memory held before."""
        size = prod(shape) * dtype.itemsize
        if size < SMALLEST or self.limit == 0:
            return np.empty(shape, dtype)
        memory = self._take(size)
        shown = np.asarray(_Lease(np.empty(size, np.uint8) if memory is None else memory, self))
        return shown[:size].view(dtype).reshape(shape)

    def give(self, memory: NDArray[np.uint8]) -> None:
        """Put memory back, or let it go when the shelf is full.

        Takes no lock, since the collector may call this in the middle of anything; appending is one step.
        """
        if self._size() + memory.size <= self.limit:
            self._held.append(memory)

    def reset(self) -> None:
        """Renew the lock, as a forked child must: a thread that held it is not there to let it go."""
        self._taking = threading.Lock()

    def trim(self) -> None:
        """Let the longest unused go until what is left is within the limit."""
        with self._taking:
            while self._held and self._size() > self.limit:
                self._held.popleft()

    def _size(self) -> int:
        """Bytes on the shelf."""
        return sum(held.size for held in tuple(self._held))

    def _take(self, size: int) -> NDArray[np.uint8] | None:
        """Memory of this size or little more, off the shelf; where there is none, the longest unused makes room."""
        with self._taking:
            for place, memory in enumerate(tuple(self._held)):  # others may append meanwhile, none may take
                if size <= memory.size <= WASTE * size:
                    del self._held[place]
                    return memory
            while self._held and self._size() + size > self.limit:
                self._held.popleft()
        return None


SHELF = Shelf(1 << 28)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHELF.reset)


def set_kept_memory(n: int, /) -> None:
    """Let normexp keep at most ``n`` bytes of results that are no longer in use, for results to come.

    Parameters
    ----------
    n : int
        At least 0; 0 gives all memory back at once, and keeps none from then on. At first 268 435 456 (256 MiB).

    Raises
    ------
    DtypeError, RangeError
        If ``n`` is not a whole number, or below 0.

    Notes
    -----
    Pages that are new to a process are cleared by the operating system when they are first written, which takes about
    as long as the softmax itself. Results of more than 32 MiB therefore come, where possible, from memory of earlier
    results whose arrays are gone. An array is never shared: its memory is free only when no view of it is left.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.set_kept_memory(0)  # nothing is kept
    >>> nx.set_kept_memory(2**28)
    """
    right = "a whole number of bytes of at least 0"
    limit = check_whole(n, of="set_kept_memory", name="n", right=right)
    if limit < 0:
        raise RangeError(f"set_kept_memory: n is {limit}; {right} would be right.")
    SHELF.limit = limit
    SHELF.trim()
