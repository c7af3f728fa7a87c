"""BLAS's threads, bound to normexp's own number while it multiplies for normexp.

threadpoolctl finds the libraries once, and only where somebody has set fewer threads than there are CPUs. What it sets
holds for the whole process, and is given back at the end. Of calls that overlap the first bounds it: each on its own
could give back what another had set.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from normexp.backends.threads import POOL


@cache
def _libraries() -> Any:
    """The BLAS libraries of this process."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415  (who never sets threads never needs it)

    return ThreadpoolController().select(user_api="blas")


class BlasBound:
    """Bounds BLAS while a thread is within ``held``."""

    def __init__(self) -> None:
        self._bounding = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let BLAS use as many threads as normexp may; never more than it had."""
        bounding = self._bounding  # the same to the end, in a child forked within too
        if POOL.limit >= POOL.most or not bounding.acquire(blocking=False):
            yield
            return
        try:
            former = [library.get_num_threads() for library in _libraries().lib_controllers]
            if max(former, default=1) <= POOL.limit:
                yield
            else:
                with _libraries().limit(limits=min(POOL.limit, *former)):
                    yield
        finally:
            bounding.release()

    def reset(self) -> None:
        """Renew the lock, as a forked child must: the thread that held it may not be there to let it go."""
        self._bounding = threading.Lock()


BLAS = BlasBound()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BLAS.reset)
