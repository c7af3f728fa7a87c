"""NumPy arrays to Numba kernels: blocks of rows, shared among the threads of the pool."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.blocks import WHERE_MASKED, gathered, overlaps, run_blocks, tempered
from normexp.backends.columns import reads_columns, softmax_columns
from normexp.backends.layout import Block, Rows, Scratch
from normexp.backends.masks import Mask
from normexp.backends.pull import Pull
from normexp.backends.wide import is_shared, share_logsumexp, share_normalise
from normexp.base.types import FloatVector, IntVector
from normexp.kernels.cpu import cross_entropy as _cross_entropy
from normexp.kernels.cpu import few as _few
from normexp.kernels.cpu import long as _long
from normexp.kernels.cpu import narrow as _narrow
from normexp.kernels.cpu import single as _single
from normexp.kernels.cpu import softmax as _softmax
from normexp.kernels.cpu import wide as _wide

_ONE = np.ones(1)
_NO_GRAD = {np.dtype(f): np.empty((0, 0), f) for f in (np.float32, np.float64)}
_MIDDLE = {"softmax": _softmax.softmax_rows, "log_softmax": _softmax.log_softmax_rows}
_NARROW = {"softmax": _narrow.softmax_narrow, "log_softmax": _narrow.log_softmax_narrow}

_SMALL = 4096  # up to so many logits, handing work to other threads costs more than the work


def normalise_small(of: str, array: NDArray[Any]) -> NDArray[Any] | None:
    """Softmax or log_softmax along the last axis of few C-contiguous float32 or float64 logits; else None."""
    if not (0 < array.size <= _SMALL and array.ndim and array.flags.carray):
        return None
    out = np.empty(array.shape, array.dtype)
    width = array.shape[-1]
    normalise_rows(of, array.reshape(-1, width), None, out.reshape(-1, width))
    return out


def normalise_rows(of: str, rows: NDArray[Any], heat: NDArray[np.float64] | None, out: NDArray[Any]) -> None:
    """Softmax or log_softmax of C-contiguous rows (N, K) of float32 or float64, N and K positive, on this thread.

    rows and out share no memory.
    """
    if heat is None and of == "softmax" and rows.dtype.itemsize == 4:
        K = rows.shape[1]
        if K <= _few.FEW and len(rows) >= _few.WORTH:
            far = _few.softmax_few(rows, out)
        else:
            far = (_single.softmax_single if K <= _single.LONG else _long.softmax_long)(rows, out)
        if not far:
            return
        is_far = ~(np.abs(np.fmax.reduce(rows, axis=1)) < _single.REACH)
        rest = rows[is_far]
        filled = np.empty_like(rest)
        _normalise_rows(of, rest, None, filled)
        out[is_far] = filled
        return
    _normalise_rows(of, rows, heat, out)
    if heat is not None and (is_plain := heat == 1.0).any():  # the bits that such a row has among its like
        rest = rows[is_plain]
        filled = np.empty_like(rest)
        normalise_rows(of, rest, None, filled)
        out[is_plain] = filled


def _normalise_rows(of: str, rows: NDArray[Any], heat: NDArray[np.float64] | None, out: NDArray[Any]) -> None:
    """The same for any logits and temperatures, in float64 arithmetic."""
    double = rows.dtype.itemsize == 8
    if heat is None and rows.shape[1] <= _narrow.NARROW:
        _NARROW[of](rows, double, out)
    elif rows.shape[1] <= _wide.WIDE:
        _MIDDLE[of](rows, _ONE if heat is None else heat, double, out)
    else:
        _wide.softmax_wide(rows, _ONE if heat is None else heat, double, of == "log_softmax", out)


def normalise(
    of: str,
    array: NDArray[Any],
    axes: tuple[int, ...],
    temperature: NDArray[np.float64] | None,
    mask: Mask | None,
    out: NDArray[Any] | None,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Softmax or log_softmax (``of``) of ``array`` along ``axes``, in ``out`` or in a new array of ``dtype``.

    temperature is broadcastable to the array; out may be the array itself.
    """
    source = Rows.of(array, axes)
    result = source.empty_like(array, axes, dtype) if out is None or overlaps(array, out) else out
    sink = Rows.of(result, axes, like=source)
    masks = None if mask is None else mask.along(array, axes, source)
    each = temperature is not None and _differs_along(np.broadcast_to(temperature, array.shape), axes)
    heats = None if temperature is None else Rows.of(np.broadcast_to(temperature, array.shape), axes, source)
    read_in_place = source.is_direct() and mask is None and heats is None and result is not array
    write_in_place = sink.is_direct() and sink.dtype == source.dtype
    scratch = Scratch()

    def work(block: Block) -> None:
        exact = not each  # what is taken off all classes is not taken off each by its own measure
        rows = (
            source.part(block)
            if read_in_place
            else gathered(source, masks, block, exact_integers=exact, scratch=scratch)[0]
        )
        heat = None
        if heats is not None:
            rows, heat = tempered(rows, heats.gather(block))
        filled = sink.part(block) if write_in_place else scratch.take("filled", rows.shape, rows.dtype)
        normalise_rows(of, rows, heat, filled)
        if masks is not None:
            filled[~masks.gather(block)] = WHERE_MASKED[of]
        if not write_in_place:
            sink.scatter(filled, block)

    plain = heats is None and masks is None
    if heats is None and is_shared(source, of):
        share_normalise(of, source, masks, sink)
    elif plain and of == "softmax" and reads_columns(source, sink):
        softmax_columns(source, sink, work, lambda rows, filled: normalise_rows(of, rows, None, filled))
    else:
        run_blocks(source.blocks(direct=read_in_place and write_in_place), work)
    if out is not None and result is not out:
        np.copyto(out, result)
    return result if out is None else out


def _differs_along(heat: NDArray[np.float64], axes: tuple[int, ...]) -> bool:
    """Whether a temperature, broadcast, may be another for each class."""
    return any(heat.strides[axis] and heat.shape[axis] > 1 for axis in axes)


def empty_like(array: NDArray[Any], axes: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of the same shape, laid out so that rows lie as they do here."""
    return Rows.of(array, axes).empty_like(array, axes, dtype)


def logsumexp(array: NDArray[Any], axes: tuple[int, ...], mask: Mask | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Log sum exp of ``array`` along ``axes``, in the shape of the batch."""
    source = Rows.of(array, axes)
    masks = None if mask is None else mask.along(array, axes, source)
    out = np.full(source.count, -np.inf, dtype)
    direct = source.is_direct() and mask is None
    if is_shared(source, "logsumexp", copies=not direct):
        share_logsumexp(source, masks, out)
        return source.unflatten(out)
    scratch = Scratch()

    def work(block: Block) -> None:
        rows, top = (source.part(block), None) if direct else gathered(source, masks, block, scratch=scratch)
        kernel = _narrow.logsumexp_narrow if source.width <= _narrow.NARROW else _wide.logsumexp_wide
        kernel(rows, rows.dtype.itemsize == 8, out[block.first : block.last])
        if top is not None:
            out[block.first : block.last] += top

    run_blocks(source.blocks(direct=direct), work)
    return source.unflatten(out)


def index_loss(
    array: NDArray[Any],
    axes: tuple[int, ...],
    target: IntVector,
    row_weight: FloatVector,
    *,
    smoothing: float,
    z_loss: float,
    gamma: float,
    grad_scale: float,
    grad: NDArray[Any] | None,
    mask: Mask | None = None,
) -> FloatVector:
    """Losses of all rows, and grad (of the array's shape) filled unless it is None.

    target, row_weight and the losses have the batch's shape; a negative target is an ignored row. Where the mask
    says that a logit does not count, it is -inf.
    """
    source = Rows.of(array, axes)
    index, weight = source.flatten(target), source.flatten(row_weight)
    narrow = source.width <= _narrow.NARROW and smoothing == gamma == 0.0

    def kernel(rows: NDArray[Any], block: Block, z_loss: float, loss: FloatVector, filled: NDArray[Any]) -> None:
        part = slice(block.first, block.last)
        double, given = rows.dtype.itemsize == 8, (rows, index[part], weight[part])
        if narrow:
            _narrow.index_narrow(*given, z_loss, double, grad_scale, loss, filled)
        else:
            _cross_entropy.index_rows(*given, smoothing, z_loss, gamma, double, grad_scale, loss, filled)

    pull = Pull(z_loss, grad_scale, lambda block: index[block.first : block.last] >= 0)
    return _losses(array, axes, kernel, grad, mask, pull)


def proportion_loss(
    array: NDArray[Any],
    axes: tuple[int, ...],
    target: NDArray[Any],
    weight: FloatVector,
    *,
    smoothing: float,
    z_loss: float,
    gamma: float,
    grad_scale: float,
    grad: NDArray[Any] | None,
    mask: Mask | None = None,
) -> FloatVector:
    """Losses of all rows as above; target holds proportions in the array's shape, weight is (K,) or (0,)."""
    source = Rows.of(array, axes)
    wanted = Rows.of(target, axes, like=source)

    def kernel(rows: NDArray[Any], block: Block, z_loss: float, loss: FloatVector, filled: NDArray[Any]) -> None:
        shares = wanted.gather(block).astype(np.float64)
        _cross_entropy.proportion_rows(
            rows, shares, weight, smoothing, z_loss, gamma, rows.dtype.itemsize == 8, grad_scale, loss, filled
        )

    pull = Pull(z_loss, grad_scale, lambda block: np.ones(block.last - block.first, np.bool_))
    return _losses(array, axes, kernel, grad, mask, pull)


def total(loss: FloatVector) -> float:
    """Sum of the losses of all rows, as if with twice the digits: the order of the rows does not matter."""
    return float(_cross_entropy.exact_sum(np.ascontiguousarray(loss).reshape(-1)))


def _losses(
    array: NDArray[Any],
    axes: tuple[int, ...],
    kernel: Callable[[NDArray[Any], Block, float, FloatVector, NDArray[Any]], None],
    grad: NDArray[Any] | None,
    mask: Mask | None,
    pull: Pull,
) -> FloatVector:
    """Run a loss kernel block by block."""
    source = Rows.of(array, axes)
    loss = np.zeros(source.count)
    sink = None if grad is None else Rows.of(grad, axes, like=source)
    masks = None if mask is None else mask.along(array, axes, source)
    direct = source.is_direct() and mask is None
    write_in_place = sink is not None and sink.is_direct() and sink.dtype == source.dtype
    scratch = Scratch()

    def work(block: Block) -> None:
        if direct:
            rows, top = source.part(block), None
        else:
            rows, top = gathered(source, masks, block, scratch=scratch)
        if sink is None:
            filled = _NO_GRAD[rows.dtype]
        else:
            filled = sink.part(block) if write_in_place else scratch.take("filled", rows.shape, rows.dtype)
        kernel(rows, block, pull.z_loss if top is None else 0.0, loss[block.first : block.last], filled)
        if top is not None and pull.z_loss != 0.0:  # the kernel saw rows that lack their largest, so not their log-sum
            pull.add(rows, top, block, loss[block.first : block.last], None if sink is None else filled)
        if sink is not None and not write_in_place:
            sink.scatter(filled, block)

    run_blocks(source.blocks(direct=direct and (sink is None or write_in_place)), work)
    return source.unflatten(loss)
