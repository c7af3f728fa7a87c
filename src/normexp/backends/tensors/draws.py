"""Gumbel noise and draws by it as registered ops; the randomness is a seed that is itself a tensor."""

from typing import Any

import numpy as np
import torch

from normexp.backends.tensors import plain
from normexp.backends.tensors.operation import Operation, one_by_one
from normexp.backends.tensors.views import batch_shape, from_rows, to_rows
from normexp.base.errors import RangeError

_BLOCK = 1 << 18  # 2 MiB of noise at a time
_TINY = float(np.finfo(np.float64).tiny)  # E may be exactly 0


def _noise(shape: tuple[int, ...], generator: Any, device: Any) -> Any:
    """-log E for exponentially distributed E, float64: as NumPy's generator draws it, or torch's own."""
    if isinstance(generator, np.random.Generator):
        return torch.from_numpy(-np.log(np.maximum(generator.standard_exponential(shape), _TINY))).to(device)
    drawn = torch.empty(shape, dtype=torch.float64, device=device).exponential_(generator=generator)
    return -torch.log(torch.clamp(drawn, min=_TINY))


def _generator(seed: Any, device: Any) -> Any:
    """The generator of a seed: NumPy's on the CPU, so that arrays and tensors get the same draws."""
    if device.type == "cpu":
        return np.random.default_rng(int(seed))
    return torch.Generator(device).manual_seed(int(seed))


def noise_of(shape: Any, axis: int, generator: Any, device: Any) -> Any:
    """Gumbel noise of a shape, drawn row after row along ``axis``."""
    if not len(shape):
        return _noise((), generator, device)
    batch = batch_shape(shape, [axis])
    return from_rows(_noise((*batch, shape[axis]), generator, device), shape, [axis])


def _gumbel(logits: Any, seed: Any, axis: int) -> Any:
    return noise_of(logits.shape, axis, _generator(seed, logits.device), logits.device)


gumbel_noise = Operation(
    "gumbel_noise(Tensor logits, Tensor seed, int axis) -> Tensor",
    on_cpu=_gumbel,
    anywhere=_gumbel,
    fake=lambda logits, *_: torch.empty_like(logits, dtype=torch.float64, memory_format=torch.contiguous_format),
    batched=one_by_one(),
)


def drawn(logits: Any, size: int, replace: bool, axis: int, generator: Any) -> Any:
    """Class indices (..., size); -1 where no class can be drawn."""
    rows = to_rows(logits, [axis] if logits.ndim else [])
    batch, width = rows.shape[:-1], rows.shape[-1]
    rows = rows.reshape(-1, width) if width else rows.reshape(int(np.prod(batch)), 0)
    rows = plain.floats(rows)
    draws = torch.full((len(rows), size), -1, dtype=torch.int64, device=logits.device)
    if width == 0 or not len(rows) or size == 0:
        return draws.reshape(*batch, size)
    dead = ~torch.isfinite(rows.amax(-1))
    _check_possible(rows, dead, size, replace=replace)
    times = size if replace else 1
    height = max(1, _BLOCK // (width * times))
    together = times if height > 1 or times * width <= _BLOCK else max(1, _BLOCK // width)
    for first in range(0, len(rows), height):
        part = rows[first : first + height, None, :]
        for at in range(0, times, together):
            now = min(together, times - at)
            keys = part + _noise((len(part), now, width), generator, logits.device)
            if replace:
                draws[first : first + height, at : at + now] = keys.argmax(-1)
            else:
                draws[first : first + height] = torch.topk(keys[:, 0], size, -1).indices
    draws[dead] = -1
    return draws.reshape(*batch, size)


def _check_possible(rows: Any, dead: Any, size: int, *, replace: bool) -> None:
    """Without replacement, every row needs as many possible classes as draws."""
    if replace:
        return
    possible = (rows > -torch.inf).sum(-1)
    short = (possible < size) & ~dead
    if bool(short.any()):
        row = int(short.nonzero()[0])
        raise RangeError(
            f"sample: size is {size}, but row {row} has {int(possible[row])} possible classes; without replacement, "
            f"at most so many would be right."
        )


def _sample(logits: Any, seed: Any, size: int, replace: bool, axis: int) -> Any:
    return drawn(logits, size, replace, axis, _generator(seed, logits.device))


def _sample_fake(logits: Any, seed: Any, size: int, replace: bool, axis: int) -> Any:
    del seed, replace
    batch = batch_shape(logits.shape, [axis] if logits.ndim else [])
    return logits.new_empty((*batch, size), dtype=torch.int64)


sample = Operation(
    "sample(Tensor logits, Tensor seed, int size, bool replace, int axis) -> Tensor",
    on_cpu=_sample,
    anywhere=_sample,
    fake=_sample_fake,
    batched=one_by_one(),
)
