"""BLAS on one thread, for products so small that a second one costs more than it can bring."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS takes one thread.

    A second thread of OpenBLAS waits for its next product by spinning: hundreds of products of a few milliseconds each
    then take several times the processor seconds, and a hundredfold of the time where it waits for a busy core.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     float((np.ones((2, 2)) @ np.ones((2, 2))).sum())
    8.0
    """
    limited: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """The thread pools; looking for them costs milliseconds, so it is done once."""
    return ThreadpoolController()
