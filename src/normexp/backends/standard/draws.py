"""Classes drawn by Gumbel noise; the noise is NumPy's, so that one seed gives every library the same draws."""

import math
from typing import Any

import numpy as np

from normexp.backends.standard.door import check_array, one_axis, temperature_of
from normexp.backends.standard.probabilities import prob_of, quiet
from normexp.backends.standard.spaces import Space
from normexp.backends.standard.state import INF, floats, row_state
from normexp.backends.standard.views import batch_shape, from_rows, maybe_rows, to_rows
from normexp.base.checks import check_whole
from normexp.base.errors import RangeError

_BLOCK = 1 << 18  # 2 MiB of noise at a time
_TINY = float(np.finfo(np.float64).tiny)  # E may be exactly 0


@quiet
def sample(logits: Any, /, *, size: int | None = None, replace: bool = True, rng: Any = None, axis: int = -1) -> Any:
    """Classes drawn at random."""
    of = "sample"
    sp = check_array(logits, of=of)
    axes = one_axis(axis, logits, of=of) if logits.ndim else ()
    count = 1 if size is None else check_whole(size, of=of, name="size")
    if count < 0:
        raise RangeError(f"{of}: size is {count}; at least 0 would be right.")
    batch = batch_shape(logits.shape, axes)
    rows = to_rows(sp, logits, axes)
    draws = _drawn(sp, floats(sp, rows), count, generator_of(rng, of=of), replace=replace)
    return sp.xp.reshape(draws, batch if size is None else (*batch, count))


def _drawn(sp: Space, z: Any, count: int, generator: np.random.Generator, *, replace: bool) -> Any:
    """Class indices (N, count) of rows (..., K), -1 where none can be drawn."""
    xp, width, rows = sp.xp, z.shape[-1], math.prod(z.shape[:-1])
    nothing = xp.full((rows, count), -1, dtype=sp.index, device=sp.device)
    if not rows or not count or not width:
        return nothing
    z = xp.reshape(z, (rows, width))
    dead = ~xp.isfinite(xp.max(z, axis=-1, keepdims=True))
    if not replace:
        _check_possible(sp, z, dead, count)
    times = count if replace else 1
    height = max(1, _BLOCK // (width * times))
    together = times if times * width <= _BLOCK else max(1, _BLOCK // width)
    parts = []
    for first in range(0, rows, height):
        part = z[first : min(first + height, rows), :]
        found = []
        for at in range(0, times, together):
            now = min(together, times - at)
            keys = xp.expand_dims(part, axis=1) + _noise(sp, (part.shape[0], now, width), generator)
            if replace:
                found.append(xp.argmax(keys, axis=-1))
            else:
                found.append(xp.argsort(keys[:, 0, :], axis=-1, descending=True, stable=True)[:, : min(count, width)])
        parts.append(xp.concat(found, axis=1))
    draws = sp.cast(xp.concat(parts, axis=0), sp.index)
    return xp.where(dead, nothing, _filled(sp, draws, count))


def _filled(sp: Space, draws: Any, count: int) -> Any:
    """Rows as wide as asked; only rows without an answer lack classes."""
    missing = count - draws.shape[1]
    if not missing:
        return draws
    more = sp.xp.full((draws.shape[0], missing), -1, dtype=sp.index, device=sp.device)
    return sp.xp.concat([draws, more], axis=1)


def _check_possible(sp: Space, z: Any, dead: Any, count: int) -> None:
    """Without replacement, every row needs as many possible classes as draws."""
    possible = sp.xp.sum(sp.cast(z > -INF, sp.index), axis=-1, keepdims=True)
    short = (possible < count) & ~dead
    if sp.any(short):
        row = sp.first_true(short)
        raise RangeError(
            f"sample: size is {count}, but row {row} has {int(possible[row, 0])} possible classes; without "
            f"replacement, at most so many would be right."
        )


@quiet
def gumbel_softmax(
    logits: Any, /, *, temperature: Any = 1.0, hard: bool = False, rng: Any = None, axis: int = -1
) -> Any:
    """Softmax of the logits with Gumbel noise."""
    of = "gumbel_softmax"
    sp = check_array(logits, of=of)
    axes = one_axis(axis, logits, of=of) if logits.ndim else ()
    heat = maybe_rows(sp, temperature_of(sp, temperature, logits, logits.shape, of=of), logits.shape, axes)
    if hard:
        heat = sp.full((1,) * (logits.ndim if axes else 1), 0.0)
    z = floats(sp, to_rows(sp, logits, axes))
    keys = z + _noise(sp, tuple(z.shape), generator_of(rng, of=of))
    found = prob_of(row_state(sp, keys, temperature=heat))
    return sp.cast(from_rows(sp, found, logits.shape, axes), sp.result_dtype(logits.dtype))


def _noise(sp: Space, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    """-log E for exponentially distributed E, wide, on the device."""
    drawn = -np.log(np.maximum(generator.standard_exponential(shape), _TINY))
    return sp.array(drawn, of="sample", name="noise", beside=None)


def generator_of(rng: Any, *, of: str) -> np.random.Generator:
    """The generator itself, or one from a seed."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    seed = check_whole(rng, of=of, name="rng", right="None, a whole number or a numpy.random.Generator")
    if seed < 0:
        raise RangeError(f"{of}: rng is {seed}; a seed of at least 0 would be right.")
    return np.random.default_rng(seed)
