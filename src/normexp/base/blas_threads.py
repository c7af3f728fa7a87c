"""BLAS's threads, bound while it multiplies for normexp.

A second thread of OpenBLAS waits for its next product by spinning: hundreds of products of a few milliseconds each then
take several times the processor seconds, and a hundredfold of the time where it waits for a busy core. So whoever works
on blocks in threads of its own, or multiplies small matrices, gives BLAS one thread.

What threadpoolctl sets holds for the whole process. Of calls that overlap the first bounds BLAS and the last gives back
what there was: each on its own would note as the former number what another had set, and leave it behind for ever.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any


@cache
def _libraries() -> Any:
    """The BLAS libraries of this process; looking for them costs milliseconds, so it is done once."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415  (who never multiplies never needs it)

    return ThreadpoolController().select(user_api="blas")


def _limited(threads: int) -> Any:
    """Set the number, whichever thread set it before."""
    _leave_no_owner()
    limit = _libraries().limit(limits=threads)
    _leave_no_owner()
    return limit


def _restore(limit: Any) -> None:
    """Give back what there was, whichever thread set the limit."""
    _leave_no_owner()
    limit.restore_original_limits()
    _leave_no_owner()


def _leave_no_owner() -> None:
    """Let any thread set the number: since 3.8 threadpoolctl lets only that one that did it first, without a word."""
    for library in _libraries().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


class BlasThreads:
    """How many threads BLAS may use while somebody is within ``at_most``."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    @contextmanager
    def at_most(self, threads: int) -> Iterator[None]:
        """Let BLAS use so many threads, and never more than it had."""
        with self._changing:
            if not self._inside:
                former = [library.get_num_threads() for library in _libraries().lib_controllers]
                if max(former, default=1) > threads:
                    self._limit = _limited(min(threads, *former))
            self._inside += 1
        try:
            yield
        finally:
            with self._changing:
                self._inside = max(0, self._inside - 1)
                if not self._inside and self._limit is not None:
                    _restore(self._limit)
                    self._limit = None

    @staticmethod
    def threads() -> int:
        """How many BLAS may use now; 1 where there is none."""
        return max((library.get_num_threads() for library in _libraries().lib_controllers), default=1)

    @contextmanager
    def exactly(self, threads: int) -> Iterator[None]:
        """Let BLAS use so many threads for a moment, whoever is within ``at_most``; entering and leaving that waits.

        Who is within multiplies with another number of threads meanwhile: for trials of a millisecond, once a process.
        """
        with self._changing:
            limit = _limited(threads)
            try:
                yield
            finally:
                _restore(limit)

    def reset(self) -> None:
        """Begin anew, as a forked child must: the threads that were within are not there to leave."""
        self._changing, self._inside, self._limit = threading.Lock(), 0, None


BLAS = BlasThreads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BLAS.reset)


def one_blas_thread() -> AbstractContextManager[None]:
    """A context in which BLAS takes one thread.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     float((np.ones((2, 2)) @ np.ones((2, 2))).sum())
    8.0
    """
    return BLAS.at_most(1)
