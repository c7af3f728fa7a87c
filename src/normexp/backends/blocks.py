"""Blocks of rows: shared among the threads of the pool, copied where kernels cannot read them in place."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.layout import Block, Rows, Scratch
from normexp.backends.masks import MaskRows
from normexp.backends.threads import POOL

WHERE_MASKED = {"softmax": 0.0, "log_softmax": -np.inf}


def run_blocks(blocks: list[Block], work: Callable[[Block], None]) -> None:
    """work(block) for each block, on as many threads as there are blocks and the pool allows."""
    POOL.run(lambda piece: work(blocks[piece]), len(blocks))


def overlaps(array: NDArray[Any], out: NDArray[Any]) -> bool:
    """Whether the two share memory without being the same entries in the same places."""
    same = array.ctypes.data == out.ctypes.data and array.strides == out.strides and array.dtype == out.dtype
    return not same and np.may_share_memory(array, out)


def gathered(
    source: Rows, masks: MaskRows | None, block: Block, *, exact_integers: bool = True, scratch: Scratch | None = None
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """A copy of the rows of a block, -inf where masked; and what was subtracted from each row, if anything."""
    allowed = None if masks is None else masks.gather(block)
    top = None
    if exact_integers and source.view.dtype.kind in "iu" and source.view.dtype.itemsize == 8:
        rows, top = source.gather_shifted(block, allowed)
    else:
        rows = source.gather(block, scratch)
    if allowed is not None:
        rows[~allowed] = -np.inf
    return rows, top


def tempered(rows: NDArray[Any], heat: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Rows, and one positive temperature for each; temperatures of classes and the limit 0 are put into the rows."""
    first = heat[:, 0].copy()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if not (heat == first[:, None]).all():
            return cooled(rows, heat), np.ones(len(rows))
        cold = first == 0.0
        if cold.any():
            top = rows.max(axis=1, keepdims=True)
            limit = np.where(rows == top, 0.0, -np.inf)
            limit[~np.isfinite(top[:, 0])] = np.nan
            rows = np.where(cold[:, None], limit, rows).astype(rows.dtype)
            first[cold] = 1.0
        warm = np.isinf(first)
        if warm.any():
            flat = np.where(np.isneginf(rows), -np.inf, rows * 0.0)  # NaN and +inf become NaN
            rows = np.where(warm[:, None], flat, rows).astype(rows.dtype)
            first[warm] = 1.0
    return rows, first


def cooled(rows: NDArray[Any], heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, K) over their heat (n, K); where it is infinite 0, and the limits for the classes at 0.

    Those sink to 0 at one pace. If the largest of them is above 0, or no other class is possible, they alone are left,
    and of them the largest; else those at 0 stay, and those below go.
    """
    plain = (heat > 0.0) & np.isfinite(heat)
    with np.errstate(invalid="ignore", over="ignore"):
        over: NDArray[np.float64] = rows / np.where(plain, heat, 1.0)
        if plain.all():
            return over
        over = np.where(np.isinf(heat), np.where(np.isneginf(rows), -np.inf, 0.0), over)
        cold = heat == 0.0
        top = np.where(cold, rows, -np.inf).max(axis=1, keepdims=True)
        wins = (top > 0.0) | ~(~cold & (over > -np.inf)).any(axis=1, keepdims=True)
        limit = np.where((rows == np.where(wins, top, 0.0)) & (rows > -np.inf), 0.0, -np.inf)
        over = np.where(cold, limit, np.where(wins, -np.inf, over))
        over[~(rows < np.inf).all(axis=1)] = np.nan
    return over
