"""The library's own small pool of threads.

Kernels release the GIL, so plain Python threads are enough. Numba's default threading layer aborts the
process when two Python threads enter it at once, and OpenMP dies after a fork; this pool does neither:

- A call splits its work into numbered pieces. The calling thread works on them itself; idle pool threads
  help. Pieces depend on the shapes alone, never on the number of threads, so neither do the bits.
- A caller waits only for pieces that somebody has begun. Callers from many threads, or from inside a piece,
  therefore cannot wait for each other in a circle.
- Threads start when a call first has work for them, and are daemons. After a fork the child begins with a
  fresh pool: threads do not survive a fork, and a lock held by one of them would stay locked for ever. A fork waits
  for a kernel that is being compiled (`forking`), for the same reason.
"""

import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from normexp.backends.forking import CompilerHold
from normexp.base.checks import check_whole
from normexp.base.errors import RangeError


class _Call:
    """One call's pieces: who takes the next number, and whether all that were begun have ended."""

    def __init__(self, work: Callable[[int], None], pieces: int) -> None:
        self._work = work
        self._pieces = pieces
        self._next = 0
        self._open = 0
        self._error: BaseException | None = None
        self._state = threading.Condition()

    def help(self) -> None:
        """Work on pieces until none is left."""
        while True:
            with self._state:
                if self._next >= self._pieces:
                    return
                piece = self._next
                self._next += 1
                self._open += 1
            error: BaseException | None = None
            try:
                self._work(piece)
            except BaseException as raised:  # noqa: BLE001  (the caller raises it again)
                error = raised
            with self._state:
                self._open -= 1
                if error is not None:
                    self._error = self._error or error
                    self._next = self._pieces
                if self._next >= self._pieces and self._open == 0:
                    self._state.notify_all()

    def wait(self) -> None:
        """Wait for the pieces that others have begun, then raise what any piece raised."""
        with self._state:
            while self._open:
                self._state.wait()
        if self._error is not None:
            raise self._error


class ThreadPool:
    """Threads that help whoever calls ``run``; at most ``limit`` threads work on one call.

    ``most`` is the number of CPUs that the process may run on, where the limit begins.
    """

    def __init__(self) -> None:
        self.limit = self.most = _available_cpus()
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def reset(self) -> None:
        """Forget the threads, as a forked child must; the limit stays."""
        self._calls = queue.SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def run(self, work: Callable[[int], None], pieces: int) -> None:
        """Call work(0), ..., work(pieces - 1), each once, on this thread and on idle ones."""
        helpers = min(self.limit, pieces) - 1
        if helpers <= 0:
            for piece in range(pieces):
                work(piece)
            return
        self._start(helpers)
        call = _Call(work, pieces)
        for _ in range(helpers):
            self._calls.put(call)
        call.help()
        call.wait()

    def _start(self, wanted: int) -> None:
        """Have at least this many threads."""
        if self._started >= wanted:
            return
        with self._starting:
            while self._started < wanted:
                name = f"normexp-{self._started}"
                threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True).start()
                self._started += 1


class ThreadLimit:
    """What ``set_num_threads`` gives back: leaving it as a context restores the former number."""

    def __init__(self, former: int) -> None:
        self._former = former

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        POOL.limit = self._former


def set_num_threads(n: int, /) -> ThreadLimit:
    """Let each call of normexp use at most ``n`` threads of its own, the calling one included.

    Parameters
    ----------
    n : int
        At least 1. The default is the number of CPUs that the process may run on.

    Returns
    -------
    ThreadLimit
        May be ignored. Used in a ``with`` statement, it restores the former number at the end.

    Raises
    ------
    DtypeError, RangeError
        If ``n`` is not a whole number, or below 1.

    Notes
    -----
    Results do not depend on the number of threads, to the bit. The matrix products of ``linear_cross_entropy`` are
    BLAS's, which has threads of its own: where ``n`` is below the number of CPUs, BLAS is bound to it, in the whole
    process, while such a call lasts, and has its former number after it. Where its threads would change bits (a trial
    tells), it is bound to one, and normexp's own multiply. That costs 10 to 30 microseconds a call, nothing for small
    heads, and 20 ms once. A fit gives BLAS one thread and works on blocks of rows in its own. Products of tensors are
    torch's (``torch.set_num_threads``); what else the process multiplies is left alone
    (``threadpoolctl.threadpool_limits``).

    Examples
    --------
    >>> import normexp as nx
    >>> with nx.set_num_threads(1):
    ...     nx.get_num_threads()
    1
    """
    count = check_whole(n, of="set_num_threads", name="n", right="a whole number of at least 1")
    if count < 1:
        raise RangeError(f"set_num_threads: n is {count}; a whole number of at least 1 would be right.")
    former, POOL.limit = POOL.limit, count
    return ThreadLimit(former)


def get_num_threads() -> int:
    """How many threads one call of normexp may use, the calling one included.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.get_num_threads() >= 1
    True
    """
    return POOL.limit


def _available_cpus() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _serve(calls: "queue.SimpleQueue[_Call]") -> None:
    """Help one call after another, for ever."""
    while True:
        calls.get().help()


POOL = ThreadPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)
    _HOLD = CompilerHold()
    os.register_at_fork(before=_HOLD.take, after_in_parent=_HOLD.give_back, after_in_child=_HOLD.give_back)
