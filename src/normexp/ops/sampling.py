"""Classes drawn from softmax(logits), and the softmax of logits with Gumbel noise."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import cpu
from normexp.backends.batch import Batch
from normexp.backends.dispatch import by_library
from normexp.base.checks import check_axis, check_logits, check_temperature, check_whole
from normexp.base.errors import AxisError, RangeError
from normexp.base.precision import result_dtype
from normexp.base.types import Array, Seed
from normexp.ops.shapes import batch_shape

_BLOCK = 1 << 18  # 2 MiB of noise at a time


@by_library
def sample(
    logits: Array, /, *, size: int | None = None, replace: bool = True, rng: Seed = None, axis: int = -1
) -> Array:
    """Classes drawn at random, each with its probability under ``softmax(logits)``.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    size : int, optional
        How many draws a row; None draws one and adds no axis.
    replace : bool, default True
        Whether a row's draws are independent. False draws each class at most once: the first by its probability, the
        next by its probability among those left, and so on.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from: fresh from the system, a seed, or a generator that is drawn from.
    axis : int, default -1
        Where the classes are.

    Returns
    -------
    array of int64
        Class indices, in the batch's shape, with ``size`` at the end. -1 where no class can be drawn: a row of
        ``-inf``, with NaN or with ``+inf``, or without classes.

    Raises
    ------
    RangeError, DtypeError, ShapeError, AxisError
        If an argument does not fit, or fewer classes than ``size`` are possible without replacement; the row is named.

    See Also
    --------
    gumbel_softmax : a draw that has a gradient.

    Notes
    -----
    The Gumbel-max trick [1]_: the class of the largest ``z_k + g_k`` is a draw, for independent ``g_k = -log E_k``
    with E exponentially distributed; the ``size`` largest are draws without replacement, in order [2]_. So no
    probability is ever computed, and far classes keep their tiny chances. The noise is drawn row after row: one
    generator gives the same draws for a batch and for its parts one after the other, for any axis and memory layout.
    Cost: one random number for each class and draw, one for each class without replacement; extra memory a few MiB.

    References
    ----------
    .. [1] Gumbel (1954), "Statistical theory of extreme values and some practical applications", NBS.
    .. [2] Kool, van Hoof and Welling (2019), "Stochastic beams and where to find them", ICML.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.sample([0.0, -float("inf"), 3.0], size=2, replace=False, rng=0).tolist()
    [2, 0]
    """
    of = "sample"
    batch, whole, axes = _batch(logits, axis, of=of)
    shape = batch_shape(whole, axes)
    count = _size(size, of=of)
    generator = _generator(rng, of=of)
    dead, possible = _possible(batch)
    short = (possible < count) & ~dead
    if not replace and short.any():
        row = int(np.flatnonzero(short)[0])
        raise RangeError(
            f"{of}: size is {count}, but row {row} has {possible[row]} possible classes; without replacement, "
            f"at most so many would be right."
        )
    draws = _room(batch.count, count, of=of)
    for first, at, keys in _noisy_keys(batch, count if replace else 1, generator):
        last = first + len(keys)
        if replace:
            draws[first:last, at : at + keys.shape[1]] = keys.argmax(axis=2)
        else:
            draws[first:last] = _best(keys[:, 0], count)
    draws[dead] = -1
    return draws.reshape(shape)[()] if size is None else draws.reshape(*shape, count)


@by_library
def gumbel_softmax(
    logits: Array, /, *, temperature: Any = 1.0, hard: bool = False, rng: Seed = None, axis: int = -1
) -> Array:
    """Softmax of the logits with Gumbel noise: a draw that is smoothed by ``temperature``.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    temperature : float or array, default 1.0
        At least 0, broadcastable to the logits. 0 is the limit, the same as ``hard``.
    hard : bool, default False
        Give 1 to the largest class and 0 to the others.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from: fresh from the system, a seed, or a generator that is drawn from.
    axis : int, default -1
        Where the classes are.

    Returns
    -------
    array
        In the logits' shape and dtype; float64 for integers and bool. The largest class of each row is a draw from
        ``softmax(logits)``, whatever the temperature.

    Raises
    ------
    RangeError, DtypeError, ShapeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    sample : the draws alone.

    Notes
    -----
    ``softmax((z + g) / temperature)`` with ``g_k = -log E_k`` and E exponentially distributed [1]_ (eq. 2), computed
    in float64 and rounded once. The noise is drawn row after row: one generator gives the same result for a batch and
    for its parts one after the other, for any axis and memory layout. A class at ``-inf`` gets 0; a row of ``-inf``,
    with NaN or with ``+inf`` gives NaN; what a masked array hides gets 0.

    References
    ----------
    .. [1] Jang, Gu and Poole (2017), "Categorical reparameterization with Gumbel-softmax", ICLR.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.gumbel_softmax([0.0, -float("inf"), 9.0], hard=True, rng=0)
    array([0., 0., 1.])
    """
    of = "gumbel_softmax"
    batch, shape, axes = _batch(logits, axis, of=of)
    heat = check_temperature(temperature, shape, of=of)
    one_heat = heat if heat.ndim == 0 and heat != 1.0 else None
    heats = Batch.of(np.broadcast_to(heat, shape), axes[0] if axes else None) if heat.ndim else None
    generator = _generator(rng, of=of)
    out = np.empty((batch.count, batch.width), result_dtype(batch.view.dtype))
    for first, _, keys in _noisy_keys(batch, 1, generator):
        last = first + len(keys)
        given = one_heat if heats is None else heats.rows(first, last)
        cooled = np.zeros(()) if hard else given
        out[first:last] = cpu.normalise("softmax", keys[:, 0], (1,), cooled, None, None, np.dtype(np.float64))
        if batch.hidden is not None:
            out[first:last][batch.hidden[batch.place(first, last)]] = 0.0
    if not axes:
        return out.reshape(())[()]
    return np.moveaxis(out.reshape(*batch_shape(shape, axes), batch.width), -1, axes[0])


def _batch(logits: Any, axis: Any, *, of: str) -> tuple[Batch, tuple[int, ...], tuple[int, ...]]:
    """The logits row by row in the order of the batch, their shape, and the axis of classes, if there is one."""
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    if len(axes) != 1 and array.ndim:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {array.shape}; one axis of classes is right."
        )
    return Batch.of(array, axes[0] if axes else None, hidden), array.shape, axes


def _possible(batch: Batch) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which rows give no draw, and how many classes of each are possible."""
    dead, possible = np.ones(batch.count, np.bool_), np.zeros(batch.count, np.int64)
    step = max(1, _BLOCK // max(1, batch.width))
    for first in range(0, batch.count, step):
        last = min(first + step, batch.count)
        rows = batch.rows(first, last)
        dead[first:last] = ~np.isfinite(rows.max(axis=1, initial=-np.inf))
        possible[first:last] = (rows > -np.inf).sum(axis=1)
    return dead, possible


def _room(count: int, draws: int, *, of: str) -> NDArray[np.int64]:
    """Room for the draws, -1 each."""
    if max(1, count) * draws > np.iinfo(np.intp).max // 8:
        raise RangeError(f"{of}: size is {draws}; as many draws as memory holds would be right.")
    return np.full((count, draws), -1, np.int64)


def _noisy_keys(
    batch: Batch, draws: int, generator: np.random.Generator
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """(first row, first draw, z + g of shape (rows, draws, K)), a block at a time, in the order of rows and draws."""
    count, width = batch.count, batch.width
    if width == 0:
        return
    step = max(1, _BLOCK // width)
    if draws <= step:
        height = max(1, step // max(1, draws))
        for first in range(0, count, height):
            block = batch.rows(first, min(first + height, count))[:, None]
            yield first, 0, _with_noise(block, draws, generator)
        return
    for row in range(count):
        block = batch.rows(row, row + 1)[:, None]
        for at in range(0, draws, step):
            yield row, at, _with_noise(block, min(step, draws - at), generator)


def _with_noise(block: NDArray[Any], draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Sum z + g in float64; block (rows, 1, K)."""
    noise = generator.standard_exponential((len(block), draws, block.shape[2]))
    np.log(np.maximum(noise, np.finfo(np.float64).tiny, out=noise), out=noise)  # E may be exactly 0
    np.subtract(block, noise, out=noise)
    return noise


def _best(keys: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The classes of the ``count`` largest keys of each row, the largest first."""
    if count == 0:
        return np.empty((len(keys), 0), np.int64)
    if count < keys.shape[1]:
        found = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    else:
        found = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
    order = np.argsort(-np.take_along_axis(keys, found, axis=1), axis=1, kind="stable")
    chosen: NDArray[np.int64] = np.take_along_axis(found, order, axis=1).astype(np.int64)
    return chosen


def _size(size: Any, *, of: str) -> int:
    """How many draws; 1 for None."""
    if size is None:
        return 1
    count = check_whole(size, of=of, name="size", right="a whole number or None")
    if count < 0:
        raise RangeError(f"{of}: size is {count}; at least 0 would be right.")
    return count


def _generator(rng: Any, *, of: str) -> np.random.Generator:
    """The generator itself, or one from a seed."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    seed = check_whole(rng, of=of, name="rng", right="None, a whole number or a numpy.random.Generator")
    if seed < 0:
        raise RangeError(f"{of}: rng is {seed}; a seed of at least 0 would be right.")
    return np.random.default_rng(seed)
