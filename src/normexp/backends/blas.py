"""BLAS's threads, bound to normexp's own number while it multiplies for normexp.

Nothing is looked for, and nothing set, unless somebody has set fewer threads than there are CPUs.
"""

from contextlib import AbstractContextManager, nullcontext

from normexp.backends.threads import POOL
from normexp.base.blas_threads import BLAS


def bounded_blas() -> AbstractContextManager[None]:
    """A context in which BLAS uses as many threads as normexp may; never more than it had."""
    return nullcontext() if POOL.limit >= POOL.most else BLAS.at_most(POOL.limit)
