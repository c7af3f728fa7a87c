"""How kernels are compiled: on first use, the GIL released, and kept on disk where that is possible.

Numba's own cache looks at one source file only: a kernel would stay as it was when a function that it calls
in another file changes, or when an upgrade keeps the time stamps. So the stamp here covers all files of this
folder. And where no folder can be written, or the disk is full, a kernel is compiled for this process alone.
"""

import functools
import os
from pathlib import Path

import numpy as np
from numba import config, njit


def _folder_stamp():
    """Time and size of every source file of this folder."""
    with os.scandir(Path(__file__).parent) as entries:
        found = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in entries if e.name.endswith(".py"))
    return tuple(found)


_STAMP = _folder_stamp()


def kernel(flags):
    """Compile the function with these fastmath flags when it is first called; see the module."""

    def decorate(function):
        if config.DISABLE_JIT:
            return _quiet(function)
        try:
            dispatcher = njit(fastmath=flags, nogil=True, cache=True)(function)
        except RuntimeError:  # no folder can be written
            return njit(fastmath=flags, nogil=True)(function)
        cache = getattr(dispatcher, "_cache", None)
        index = getattr(cache, "_cache_file", None)
        if index is not None:
            index._source_stamp = _STAMP  # noqa: SLF001  (no public way; a test holds that it works)
            cache.save_overload = _tolerant(cache.save_overload)
        return dispatcher

    return decorate


def _quiet(function):
    """The plain Python function, silent on infinities as machine code is."""

    @functools.wraps(function)
    def call(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return call


def _tolerant(save):
    """Go on without the cache when it cannot be written."""

    def save_overload(signature, compiled):
        try:
            save(signature, compiled)
        except OSError:  # disk full, folder gone
            return

    return save_overload
