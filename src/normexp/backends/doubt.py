"""Entropy, margin, largest logit, generalised entropy and the k likeliest classes, by the CPU kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.blocks import gathered, run_blocks
from normexp.backends.layout import Block, Rows
from normexp.backends.masks import Mask
from normexp.backends.rowwise import reduce_rows, several_of_each
from normexp.base.precision import compute_dtype
from normexp.kernels.cpu import doubt as _doubt
from normexp.kernels.cpu import topk as _topk


def _is_double(rows: NDArray[Any]) -> bool:
    return rows.dtype.itemsize == 8


def entropy(array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Entropy in nats of softmax(array) along ``axes``; 0 where there is no class."""
    return reduce_rows(
        array, axes, mask, dtype, lambda rows, out: _doubt.entropy_rows(rows, _is_double(rows), out), empty=0.0
    )


def margin(array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Largest minus second largest logit along ``axes``; NaN where there is no class."""
    return reduce_rows(array, axes, mask, dtype, _doubt.margin_rows, empty=np.nan)


def max_logit(array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Largest logit along ``axes``; -inf where there is no class."""
    return reduce_rows(array, axes, mask, dtype, _doubt.max_rows, empty=-np.inf, shifts=True)


def generalised_entropy(
    array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any], *, count: int, gamma: float
) -> NDArray[Any]:
    """Sum of (p (1 - p))^gamma over the ``count`` largest p along ``axes``; 0 where there is no class."""

    def fill(rows: NDArray[Any], out: NDArray[Any]) -> None:
        _topk.generalised_entropy_rows(rows, _is_double(rows), count, gamma, out)

    return reduce_rows(array, axes, mask, dtype, fill, empty=0.0)


def top_k(
    array: NDArray[Any], k: int, axis: int, mask: Mask | None, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Probabilities, their logs and the classes of the k largest along ``axis``, which becomes k long."""
    source = Rows.of(array, (axis,))
    masks = None if mask is None else mask.along(array, (axis,), source)
    computed = compute_dtype(array.dtype)
    prob, log_prob = np.empty((source.count, k), computed), np.empty((source.count, k), computed)
    index = np.empty((source.count, k), np.int64)

    def work(block: Block) -> None:
        part = slice(block.first, block.last)
        direct = source.is_direct() and masks is None
        rows = source.part(block) if direct else gathered(source, masks, block)[0]
        _topk.top_k_rows(rows, _is_double(rows), prob[part], log_prob[part], index[part])
        if masks is not None:
            hidden = ~masks.gather(block).any(axis=1)
            prob[part][hidden], log_prob[part][hidden] = 0.0, -np.inf

    run_blocks(source.blocks(), work)
    with np.errstate(over="ignore", under="ignore"):  # float16 has fewer exponents
        prob, log_prob = prob.astype(dtype, copy=False), log_prob.astype(dtype, copy=False)
    return (
        several_of_each(source, prob, axis),
        several_of_each(source, log_prob, axis),
        several_of_each(source, index, axis),
    )
