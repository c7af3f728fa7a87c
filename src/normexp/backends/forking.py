"""A fork waits for the kernel that another thread compiles: the child could never compile one itself.

Numba holds one lock while it compiles and does nothing about it at a fork. A child that was forked in between inherits
the lock as it was, held by a thread that it does not have, with half of a compilation behind it; its own first call
of a function would wait for ever. So whoever forks takes the lock first, and parent and child give it back. What Numba
imports at the first compilation of a process lies before that lock: a fork in these moments can still hang a child.
"""

import sys
import threading
from typing import Any

LONGEST_WAIT_S = 300.0  # many times what a kernel takes; then the fork goes on, as it would have without a wait


class CompilerHold(threading.local):
    """The compiler's lock, held by the thread that forks; Numba is looked up, never imported."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def take(self) -> None:
        """Wait until no other thread compiles, and keep it so."""
        module = sys.modules.get("numba.core.compiler_lock")
        lock = getattr(getattr(module, "global_compiler_lock", None), "_lock", None)  # its own acquire waits for ever
        if lock is not None and lock.acquire(timeout=LONGEST_WAIT_S):
            self._held.append(lock)

    def give_back(self) -> None:
        """Let others compile, in the parent or in the child."""
        if self._held:
            self._held.pop().release()
