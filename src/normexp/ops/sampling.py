"""Classes drawn from softmax(logits), and the softmax of logits with Gumbel noise."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import cpu
from normexp.backends.dispatch import by_library
from normexp.base.checks import check_axis, check_logits, check_temperature
from normexp.base.errors import AxisError, DtypeError, RangeError
from normexp.base.precision import compute_dtype, result_dtype
from normexp.base.types import Array, Seed

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
    rows, shape, _ = _rows(logits, axis, of=of)
    count = _size(size, of=of)
    generator = _generator(rng, of=of)
    top = rows.max(axis=1, initial=-np.inf)
    dead = ~np.isfinite(top)
    draws = np.full((len(rows), count), -1, np.int64)
    possible = (rows > -np.inf).sum(axis=1)
    short = (possible < count) & ~dead
    if not replace and short.any():
        row = int(np.flatnonzero(short)[0])
        raise RangeError(
            f"{of}: size is {count}, but row {row} has {possible[row]} possible classes; without replacement, "
            f"at most so many would be right."
        )
    for first, at, keys in _noisy_keys(rows, count if replace else 1, generator):
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
    rows, _, array = _rows(logits, axis, of=of)
    heat = check_temperature(temperature, array.shape, of=of)
    at = axis if array.ndim else 0
    one_heat = heat if heat.ndim == 0 and heat != 1.0 else None
    heats = None
    if heat.ndim:
        heats = np.moveaxis(np.broadcast_to(heat, array.shape), at, -1).reshape(rows.shape)
    generator = _generator(rng, of=of)
    dtype = result_dtype(array.dtype)
    out = np.empty(rows.shape, dtype)
    for first, _, keys in _noisy_keys(rows, 1, generator):
        last = first + len(keys)
        given = one_heat if heats is None else heats[first:last]
        cooled = np.zeros(()) if hard else None if given is None else np.asarray(given)
        out[first:last] = cpu.normalise("softmax", keys[:, 0], (1,), cooled, None, None, np.dtype(np.float64))
    if np.ma.isMaskedArray(logits):
        hidden = np.moveaxis(np.ma.getmaskarray(logits), at, -1) if array.ndim else np.ma.getmaskarray(logits)
        out[hidden.reshape(rows.shape)] = 0.0
    if array.ndim == 0:
        return out.reshape(())[()]
    moved = np.moveaxis(array, at, -1)
    return np.moveaxis(out.reshape(moved.shape), -1, at)


def _rows(logits: Any, axis: Any, *, of: str) -> tuple[NDArray[Any], tuple[int, ...], NDArray[Any]]:
    """Logits as rows (N, K) in the order of the batch, the batch's shape, and the array; -inf where masked."""
    array, shown = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    if len(axes) != 1 and array.ndim:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {array.shape}; one axis of classes is right."
        )
    computed = _floats(array, axes)
    if shown is not None and not shown.all():
        computed = np.where(shown, computed, -np.inf).astype(computed.dtype)
    if not array.ndim:
        return computed.reshape(1, 1), (), array
    moved = np.moveaxis(computed, axes[0], -1)
    batch = moved.shape[:-1]
    count = int(np.prod(batch, dtype=np.int64))
    return moved.reshape(count, moved.shape[-1]), batch, array


def _floats(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """A dtype to compute with; 64-bit integers as what they lack of the row's largest, which is exact."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size and axes:
        top = array.max(axis=axes, keepdims=True)
        lacking: NDArray[Any] = -(top.astype(np.uint64) - array.astype(np.uint64)).astype(np.float64)
        return lacking
    return array.astype(compute_dtype(array.dtype), copy=False)


def _noisy_keys(
    rows: NDArray[Any], draws: int, generator: np.random.Generator
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """(first row, first draw, z + g of shape (rows, draws, K)), a block at a time, in the order of rows and draws."""
    count, width = rows.shape
    if width == 0:
        return
    step = max(1, _BLOCK // width)
    if draws <= step:
        height = max(1, step // max(1, draws))
        for first in range(0, count, height):
            block = rows[first : first + height, None, :]
            yield first, 0, _with_noise(block, draws, generator)
        return
    for row in range(count):
        for at in range(0, draws, step):
            yield row, at, _with_noise(rows[row : row + 1, None, :], min(step, draws - at), generator)


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
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise DtypeError(f"{of}: size is {size!r}; a whole number or None would be right.")
    count = int(size.__index__())
    if count < 0:
        raise RangeError(f"{of}: size is {count}; at least 0 would be right.")
    return count


def _generator(rng: Any, *, of: str) -> np.random.Generator:
    """The generator itself, or one from a seed."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    if isinstance(rng, bool) or not hasattr(rng, "__index__"):
        raise DtypeError(f"{of}: rng is {rng!r}; None, a whole number or a numpy.random.Generator would be right.")
    seed = int(rng.__index__())
    if seed < 0:
        raise RangeError(f"{of}: rng is {seed}; a seed of at least 0 would be right.")
    return np.random.default_rng(seed)
