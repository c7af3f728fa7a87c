"""Large arrays worked on piece by piece, on idle threads too, where NumPy would use one and fill memory on the way."""

from collections.abc import Callable
from typing import TypeVar, cast

from normexp.backends.threads import POOL

# From so many numbers on an array is worked on in pieces of so many: 1 MB of float64, which stay in the cache. The
# blocks of dense tables are smaller; those are the threads' work themselves.
LARGE, PIECE = 1 << 20, 1 << 17

_T = TypeVar("_T")


def in_pieces(shape: tuple[int, ...], part: Callable[[slice], _T], /) -> list[_T]:
    """Call part on all rows of an array, or on pieces of a large one; the results in the order of the rows.

    Where the pieces begin follows from the shape alone, so that no bit depends on the number of threads.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    part : callable
        Takes a slice of rows.

    Returns
    -------
    list
        What part returned for each piece; for the sum of numbers the order of addition is that of the pieces.
    """
    rows, columns = shape
    if rows * columns < LARGE:
        return [part(slice(0, rows))]
    size = max(1, PIECE // columns)
    starts = range(0, rows, size)
    results: list[_T | None] = [None] * len(starts)

    def work(piece: int) -> None:
        results[piece] = part(slice(starts[piece], min(starts[piece] + size, rows)))

    POOL.run(work, len(starts))
    return cast("list[_T]", results)
