"""Loss and gradients of a linear head, block by block: the logits of all rows are never in memory.

A block of rows meets all classes: BLAS makes its logits, tile by tile over the classes; the row kernels of
the cross-entropy turn them into losses and, in place, into the gradient; BLAS makes of that the gradients of
the rows and of the projection. These are the three products that the unfused loss needs, and no fourth.

Blocks and tiles depend on the number of classes and the dtype alone. The last block is filled up with zeros, so that
BLAS sees the same shapes whatever the batch. Depth and classes are filled up as well: where a matrix does not fill
BLAS's registers, its last rows and columns may be summed in another order (OpenBLAS's dgemm does that). What place and
threads would change besides, `products` keeps away. So a row's logits are the same to the bit in any batch. Classes
that fill up are ``-inf``.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import products
from normexp.backends.blocks import cooled
from normexp.backends.layout import BLOCK_ELEMENTS
from normexp.backends.threads import POOL
from normexp.base.types import FloatVector
from normexp.kernels.cpu import cross_entropy as _cross_entropy
from normexp.kernels.cpu import linear as _linear

MOST_ROWS = 256  # of a block: BLAS reads the projection once a block, 128 operations for each of its bytes
FEWEST_ROWS = 16
BLOCK_BYTES = 1 << 26  # of a block's logits, 64 MiB, unless even the fewest rows need more
TILE_CLASSES = 8192  # classes that are copied, or wait to be added, at a time
WHOLE = 64  # classes and depth are filled up to multiples of this, which the registers of all CPUs divide
SHALLOW = 128  # up to this depth, which BLAS sums in one go, multiples of 16 are enough

Multiply = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Head:
    """A linear head and what its logits go through; arrays as they came, checked."""

    x: NDArray[Any]  # (N, D)
    projection: NDArray[Any]  # (K, D)
    bias: NDArray[Any] | None  # (K,)
    temperature: NDArray[np.float64]  # broadcastable to (*batch, K)
    batch: tuple[int, ...]
    softcap: float | None
    dtype: np.dtype[Any]  # that the products are computed in


@dataclass(frozen=True, slots=True)
class Loss:
    """What is asked of each row: target (N,) int64, -1 where ignored, or proportions (N, K)."""

    target: NDArray[Any]
    row_weight: FloatVector  # (N,); unused with proportions
    class_weight: FloatVector  # (K,) or (0,); unused with indices
    smoothing: float
    z_loss: float
    gamma: float
    grad_scale: float
    row_scale: FloatVector | None = None  # (N,): what each row's gradient is multiplied by besides


@dataclass(frozen=True, slots=True)
class Gradients:
    """Sums over the rows for the projection and the bias; each row's own for x."""

    x: NDArray[Any]
    projection: NDArray[Any]
    bias: NDArray[Any]


def linear_loss(
    head: Head, loss: Loss, *, wants_grad: bool, multiply: Multiply = products.multiply
) -> tuple[FloatVector, Gradients | None]:
    """Losses of all rows (N,), and the gradients when wanted; multiply(a, b, out=, alike=) is the matrix product."""
    K, D = head.projection.shape
    multiplied = rows_of_a_block(K, head) * _filled_up(D, 16) * _filled_up(K)
    with products.bounded(multiplied, head.dtype) if multiply is products.multiply else nullcontext():
        return _linear_loss(head, loss, multiply, wants_grad=wants_grad)


def _linear_loss(
    head: Head, loss: Loss, multiply: Multiply, *, wants_grad: bool
) -> tuple[FloatVector, Gradients | None]:
    """The same."""
    N, D = head.x.shape
    K = len(head.projection)
    losses = np.zeros(N)
    found = None
    if wants_grad:
        found = Gradients(np.zeros((N, D), head.dtype), np.empty((K, D), head.dtype), np.zeros(K))
    counted = np.flatnonzero(loss.target >= 0) if loss.target.ndim == 1 else np.arange(N)
    height = rows_of_a_block(K, head)
    rows = np.zeros((height, _filled_up(D, WHOLE if D > SHALLOW else 16)), head.dtype)
    raw = np.empty((height, _filled_up(K)), head.dtype)
    logits = raw if head.softcap is None else np.empty_like(raw)
    with np.errstate(all="ignore"):
        for first in range(0, len(counted), height):
            here = counted[first : first + height]
            rows[: len(here), :D] = head.x[here]
            rows[len(here) :] = 0.0
            tall = products.filled_up(len(here), height, head.dtype) if multiply is products.multiply else height
            for tile in _tiles(head):
                multiply(rows[:tall], tile.weights.T, out=raw[:tall, tile.columns])
            row_losses_of_block(head, loss, here, raw, logits, losses, wants_grad=wants_grad)
            if found is not None:
                logits[len(here) :] = 0.0
                if loss.row_scale is not None:
                    np.multiply(logits, _column(loss.row_scale[here], len(logits)), out=logits, casting="same_kind")
                _add_products(head, rows[:tall], logits[:tall], found, here, multiply, is_first=first == 0)
        if found is not None and not len(counted):
            found.projection[...] = 0.0
    return losses, found


def rows_of_a_block(classes: int, head: Head) -> int:
    """How many rows a block has; the number of rows that there are plays no part."""
    buffers = 1 if head.softcap is None else 2
    fitting = BLOCK_BYTES // max(1, classes * head.dtype.itemsize * buffers)
    return min(MOST_ROWS, max(FEWEST_ROWS, fitting // FEWEST_ROWS * FEWEST_ROWS))


def _column(values: FloatVector, height: int) -> NDArray[np.float64]:
    """One value for each row of a block, 0 for those that fill it up."""
    column = np.zeros((height, 1))
    column[: len(values), 0] = values
    return column


def _filled_up(size: int, whole: int = WHOLE) -> int:
    """The next multiple of ``whole``."""
    return -(-size // whole) * whole


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some thousand classes: their rows of the projection, and which columns of a block's logits they fill."""

    weights: NDArray[Any]  # of the computing dtype, filled up with zeros
    columns: slice
    classes: slice  # those that there are


def _tiles(head: Head) -> Iterator[_Tile]:
    """All tiles; one is valid until the next comes. What BLAS can read where it lies is one tile, or two."""
    K, D = head.projection.shape
    depth = _filled_up(D, WHOLE if D > SHALLOW else 16)
    lies_right = head.projection.dtype == head.dtype and head.projection.flags.carray and depth == D
    first = K // WHOLE * WHOLE if lies_right else 0
    if first:
        yield _Tile(head.projection[:first], slice(0, first), slice(0, first))
    scratch = np.zeros((min(TILE_CLASSES, _filled_up(K - first)), depth), head.dtype)
    for start in range(first, K, TILE_CLASSES):
        classes = slice(start, min(start + TILE_CLASSES, K))
        here = head.projection[classes]
        count = _filled_up(len(here))
        scratch[: len(here), :D] = here
        scratch[len(here) :] = 0.0
        yield _Tile(scratch[:count], slice(start, start + count), classes)


def row_losses_of_block(
    head: Head,
    loss: Loss,
    here: NDArray[np.int64],
    raw: NDArray[Any],
    logits: NDArray[Any],
    losses: FloatVector,
    *,
    wants_grad: bool,
) -> None:
    """From the raw logits of a block to the losses of its rows; logits become the gradient of raw when wanted."""
    step = max(1, BLOCK_ELEMENTS // max(1, raw.shape[1]))
    double = head.dtype.itemsize == 8
    nothing = np.empty((0, 0), head.dtype)
    bias = None if head.bias is None else head.bias.astype(head.dtype)
    K = len(head.projection)
    class_weight = loss.class_weight
    if len(class_weight):
        class_weight = np.append(class_weight, np.zeros(raw.shape[1] - K))

    def work(piece: int) -> None:
        part = slice(piece * step, min((piece + 1) * step, len(here)))
        mine, before, z = here[part], raw[part, :K], logits[part, :K]
        with np.errstate(all="ignore"):
            if bias is not None:
                np.add(before, bias, out=before)
            if head.softcap is not None:
                _linear.cap_rows(raw[part], head.softcap, double, logits[part])
            heat = _heat(head, mine)
            if heat is not None:
                _cool(z, heat)
            logits[part, K:] = -np.inf
            filled = logits[part] if wants_grad else nothing
            own = np.empty(len(mine))
            if loss.target.ndim == 1:
                given = (logits[part], loss.target[mine], loss.row_weight[mine], loss.smoothing)
                _cross_entropy.index_rows(*given, loss.z_loss, loss.gamma, double, loss.grad_scale, own, filled)
            else:
                shares = np.zeros(logits[part].shape)
                shares[:, :K] = loss.target[mine]
                options = (class_weight, loss.smoothing, loss.z_loss, loss.gamma)
                _cross_entropy.proportion_rows(logits[part], shares, *options, double, loss.grad_scale, own, filled)
            losses[mine] = own
            if not wants_grad:
                return
            if heat is not None:
                np.divide(z, heat, out=z, casting="same_kind")
                np.copyto(z, 0.0, where=heat == 0.0)  # in the limit the loss is constant wherever it is smooth
            if head.softcap is not None:
                _linear.slope_rows(raw[part], head.softcap, logits[part])

    if K:
        POOL.run(work, -(-len(here) // step))


def _add_products(
    head: Head,
    rows: NDArray[Any],
    flow: NDArray[Any],
    found: Gradients,
    here: NDArray[np.int64],
    multiply: Multiply,
    *,
    is_first: bool,
) -> None:
    """Add a block to the gradients; flow (height, K) is the gradient of its raw logits."""
    depth = found.x.shape[1]
    grad_rows, part_of_it = np.zeros_like(rows), np.empty_like(rows)
    product = None
    for tile in _tiles(head):
        multiply(flow[:, tile.columns], tile.weights, out=part_of_it)
        grad_rows += part_of_it
        for start in range(0, len(tile.weights), TILE_CLASSES):
            stop = min(start + TILE_CLASSES, len(tile.weights))
            columns = flow[:, tile.columns.start + start : tile.columns.start + stop]
            into = found.projection[tile.classes][start:stop]
            if is_first and into.shape == (stop - start, rows.shape[1]):
                multiply(columns.T, rows, out=into, alike=False)
                continue
            if product is None:
                product = np.empty((min(TILE_CLASSES, _filled_up(len(found.bias))), rows.shape[1]), rows.dtype)
            multiply(columns.T, rows, out=product[: stop - start], alike=False)
            wanted = product[: len(into), :depth]
            if is_first:
                into[...] = wanted
            else:
                _add(into, wanted)
    found.x[here] = grad_rows[: len(here), :depth]
    if head.bias is None:
        return
    step = max(1, BLOCK_ELEMENTS // len(flow))
    width = len(found.bias)
    POOL.run(
        lambda piece: _linear.add_columns(flow, piece * step, min((piece + 1) * step, width), found.bias),
        -(-width // step),
    )


def _add(into: NDArray[Any], product: NDArray[Any]) -> None:
    """Add in place, on all threads."""
    step = max(1, 4 * BLOCK_ELEMENTS // max(1, into.shape[1]))

    def work(piece: int) -> None:
        part = slice(piece * step, (piece + 1) * step)
        np.add(into[part], product[part], out=into[part])

    POOL.run(work, -(-len(into) // step))


def _heat(head: Head, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The temperatures of these rows, to broadcast to (rows, K); None where all are 1."""
    if head.temperature.ndim == 0:
        return None if head.temperature == 1.0 else head.temperature
    whole = np.broadcast_to(head.temperature, (*head.batch, len(head.projection)))
    if not head.batch:
        return whole[None]
    found: NDArray[np.float64] = whole[np.unravel_index(rows, head.batch)]
    return found


def _cool(z: NDArray[Any], heat: NDArray[np.float64]) -> None:
    """Divide by the temperature; where it is 0 or infinite, the limits of `cooled`."""
    if (heat > 0.0).all() and np.isfinite(heat).all():
        np.divide(z, heat, out=z, casting="same_kind")
    else:
        np.copyto(z, cooled(z, np.broadcast_to(heat, z.shape)), casting="same_kind")
