"""Segments of any order and length to runs in memory, softmax of the runs, and back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.layout import BLOCK_ELEMENTS
from normexp.backends.threads import POOL
from normexp.base.precision import compute_dtype
from normexp.kernels.cpu import segments as _segments


def segment_softmax(
    array: NDArray[Any], segment: NDArray[np.int64], hidden: NDArray[np.bool_] | None, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Softmax within the segments along the first axis, for each column of the others; segment (N,), not negative."""
    count = len(segment)
    result = np.empty(array.shape, dtype)
    if array.size == 0:
        return result
    order = None if (segment[1:] >= segment[:-1]).all() else np.argsort(segment, kind="stable")
    ordered = segment if order is None else segment[order]
    begins = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [count]])
    columns = array.reshape(count, -1).T
    filled = result.reshape(count, -1).T
    for column in range(len(columns)):
        values = columns[column] if order is None else columns[column][order]
        seen = None
        if hidden is not None:
            seen = ~hidden.reshape(count, -1)[:, column]
            seen = seen if order is None else seen[order]
        runs = _as_floats(values, begins, seen)
        if seen is not None:
            runs = np.where(seen, runs, -np.inf).astype(runs.dtype)
        out = np.empty(count, runs.dtype)
        _run(runs, begins, out)
        if seen is not None:
            out[~seen] = 0.0
        with np.errstate(over="ignore", under="ignore"):
            filled[column][slice(None) if order is None else order] = out.astype(dtype, copy=False)
    return result


def _as_floats(values: NDArray[Any], begins: NDArray[np.int64], seen: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Contiguous values of a dtype that the kernels read; 64-bit integers as what they lack of their run's largest.

    The largest of those that are seen; what the others become means nothing.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        counted = values if seen is None else np.where(seen, values, values.dtype.type(np.iinfo(values.dtype).min))
        top = np.repeat(np.maximum.reduceat(counted, begins[:-1]), np.diff(begins))
        lacking: NDArray[Any] = -(top.astype(np.uint64) - values.astype(np.uint64)).astype(np.float64)
        return lacking
    return np.ascontiguousarray(values, compute_dtype(values.dtype))


def _run(values: NDArray[Any], begins: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Softmax of all runs, some 65 536 entries a piece; a longer run is a piece of its own."""
    goals = np.arange(0, len(values), BLOCK_ELEMENTS)
    cuts = np.unique(np.append(np.searchsorted(begins, goals), len(begins) - 1))
    double = values.dtype.itemsize == 8

    def work(piece: int) -> None:
        _segments.softmax_runs(values, begins[cuts[piece] : cuts[piece + 1] + 1], double, out)

    POOL.run(work, len(cuts) - 1)
