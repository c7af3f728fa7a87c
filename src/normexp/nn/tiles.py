"""The k likeliest of very many classes, a tile of classes at a time: one pass over the projection."""

from collections.abc import Callable
from typing import Any

import torch

from normexp.base.types import TopK
from normexp.ops import top_k

TILE_BYTES = 1 << 24  # of logits at a time


def tiled_top_k(logits_of: Callable[..., Any], rows: int, classes: int, k: int, *, room: Any = None) -> TopK:
    """The k likeliest classes of each row; logits_of(first, last, out) gives (rows, last - first) of them.

    Where there is ``room``, a tensor of the dtype and device of the logits, all tiles are written into one ``out``:
    fresh memory for each would cost a seventh of the time. Else ``out`` is None.

    A tile's own top-k says which classes may be among the best, and what its other logits add up to: with m the
    largest and ``rest`` all terms but it, ``log_prob`` of the best is ``-log1p(rest)``. Two tiles merge as
    ``rest = rest_1 + exp(m_2 - m_1) (1 + rest_2)`` for m_1 >= m_2 (Milakov and Gimelshein (2018), eq. 4).
    """
    step = max(k, TILE_BYTES // (4 * max(1, rows)), 1024)
    out = None if room is None else room.new_empty(rows * min(step, classes))
    state: Any = None
    for first in range(0, classes, step):
        last = min(first + step, classes)
        z = logits_of(first, last, None if out is None else out[: rows * (last - first)].view(rows, last - first))
        found = top_k(z, min(k, z.shape[-1]))
        best = z.gather(-1, found.index).to(torch.float64)
        top = best[:, :1]
        rest = torch.expm1(-found.log_prob[:, :1].to(torch.float64))
        here = (best, found.index + first, top, rest)
        state = here if state is None else _merged(state, here, k)
    best, index, top, rest = state
    log_prob = (best - top) - torch.log1p(rest)
    return TopK(log_prob.exp().to(z.dtype), log_prob.to(z.dtype), index)


def _merged(a: Any, b: Any, k: int) -> Any:
    """Two states as one; of equal logits the earlier class stays in front."""
    values, index = torch.cat([a[0], b[0]], -1), torch.cat([a[1], b[1]], -1)
    order = torch.argsort(values, dim=-1, descending=True, stable=True)[:, :k]
    leads = a[2] >= b[2]
    top, other = torch.where(leads, a[2], b[2]), torch.where(leads, b[2], a[2])
    rest, beside = torch.where(leads, a[3], b[3]), torch.where(leads, b[3], a[3])
    rest = rest + torch.where(torch.isneginf(other), 0.0, torch.exp(other - top) * (1.0 + beside))
    return values.gather(-1, order), index.gather(-1, order), top, rest
