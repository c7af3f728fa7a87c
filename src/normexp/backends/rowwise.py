"""Row kernels to arrays: what comes in is seen as rows, what goes out is put back in the batch's shape.

``reduce_rows`` makes one number of each row, ``largest`` k of them, ``map_rows`` a row of each row.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.blocks import gathered, run_blocks
from normexp.backends.layout import Block, Rows
from normexp.backends.masks import Mask

RowReduction = Callable[[NDArray[Any], NDArray[Any]], None]


def reduce_rows(
    array: NDArray[Any],
    axes: tuple[int, ...],
    mask: Mask | None,
    dtype: np.dtype[Any],
    fill: RowReduction,
    *,
    empty: float,
    shifts: bool = False,
) -> NDArray[Any]:
    """One number for each row along ``axes``, in the batch's shape: ``fill(rows, out)`` computes those of a block.

    ``empty`` is the answer of a row without classes, or with none that the mask shows; ``shifts`` says that the answer
    moves with the logits. 64-bit integers come as what they lack of the row's largest, which is exact.
    """
    source = Rows.of(array, axes)
    masks = None if mask is None else mask.along(array, axes, source)
    out = np.full(source.count, empty, dtype)
    direct = source.is_direct() and mask is None

    def work(block: Block) -> None:
        rows, top = (source.part(block), None) if direct else gathered(source, masks, block)
        here = out[block.first : block.last]
        fill(rows, here)
        if top is not None and shifts:
            here += top
        if masks is not None:
            here[~masks.gather(block).any(axis=1)] = empty

    run_blocks(source.blocks(), work)
    return source.unflatten(out)


def map_rows(
    array: NDArray[Any],
    axes: tuple[int, ...],
    mask: Mask | None,
    dtype: np.dtype[Any],
    fill: RowReduction,
) -> NDArray[Any]:
    """An array of the same shape, row by row along ``axes``: ``fill(rows, out)`` computes a block; 0 where masked."""
    source = Rows.of(array, axes)
    masks = None if mask is None else mask.along(array, axes, source)
    result = source.empty_like(array, axes, dtype)
    sink = Rows.of(result, axes, like=source)
    read_in_place = source.is_direct() and mask is None
    write_in_place = sink.is_direct() and sink.dtype == source.dtype

    def work(block: Block) -> None:
        rows = source.part(block) if read_in_place else gathered(source, masks, block)[0]
        filled = sink.part(block) if write_in_place else np.empty((len(rows), source.width), rows.dtype)
        fill(rows, filled)
        if masks is not None:
            filled[~masks.gather(block)] = 0.0
        if not write_in_place:
            sink.scatter(filled, block)

    run_blocks(source.blocks(), work)
    return result


def combine_rows(
    first: NDArray[Any],
    second: NDArray[Any],
    axes: tuple[int, ...],
    dtype: np.dtype[Any],
    fill: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], None],
) -> NDArray[Any]:
    """Two arrays of one shape to a third, row by row: ``fill(rows of first, rows of second, out)``."""
    source = Rows.of(first, axes)
    other = Rows.of(second, axes, like=source)
    result = source.empty_like(first, axes, dtype)
    sink = Rows.of(result, axes, like=source)
    write_in_place = sink.is_direct() and sink.dtype == source.dtype

    def work(block: Block) -> None:
        rows = source.part(block) if source.is_direct() else source.gather(block)
        others = other.part(block) if other.is_direct() else other.gather(block)
        filled = sink.part(block) if write_in_place else np.empty((len(rows), source.width), rows.dtype)
        fill(rows, others, filled)
        if not write_in_place:
            sink.scatter(filled, block)

    run_blocks(source.blocks(), work)
    return result


def several_of_each(source: Rows, values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Values (rows, k) in the batch's shape, with k at ``axis``."""
    shape = [source.batch_shape[position] for position in source.batch_order]
    back = [int(position) for position in np.argsort(source.batch_order)]
    return np.moveaxis(values.reshape(*shape, values.shape[1]).transpose(*back, len(back)), -1, axis)
