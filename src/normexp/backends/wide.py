"""Few rows of many classes: several threads share a row, in pieces of whole chunks (see the kernels' ``wide``)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends.blocks import WHERE_MASKED, gathered
from normexp.backends.layout import Block, Rows
from normexp.backends.masks import MaskRows
from normexp.backends.threads import POOL
from normexp.kernels.cpu import long as _long
from normexp.kernels.cpu import single as _single
from normexp.kernels.cpu import wide as _wide
from normexp.kernels.cpu.chunks import CHUNK, TINY

PIECE = 2 * _wide.SPAN * CHUNK  # whole spans; 256 KiB of float32 and as many of the answer


def is_shared(source: Rows, of: str, *, copies: bool = False) -> bool:
    """Whether there are too few rows to keep the threads busy, each with its own; int64 needs its whole row.

    Where the logits must be copied for a reduction (``copies``), pieces also save one thread the memory of a row.
    """
    is_exact_integer = source.view.dtype.kind in "iu" and source.view.dtype.itemsize == 8
    few = source.count < 4 * POOL.limit
    longest = _single.LONG if _is_single(source, of) else _wide.WIDE
    return few and source.width > longest and (copies or POOL.limit > 1) and not is_exact_integer


def _is_single(source: Rows, of: str) -> bool:
    """Whether the kernels of float32 arithmetic are the ones."""
    return of == "softmax" and source.dtype.itemsize == 4


def share_normalise(of: str, source: Rows, masks: MaskRows | None, sink: Rows) -> None:
    """Softmax or log_softmax of each row; sink may lie where source lies."""
    in_place = source.may_share_memory(sink)  # the compiled loops are slow on what they overwrite
    double, takes_log = source.dtype.itemsize == 8, of == "log_softmax"
    pivots = _pivots(source, masks) if _is_single(source, of) else [(np.nan, 0.0)] * source.count
    is_left = np.isnan([pivot for pivot, _ in pivots])
    states = _states(source, masks) if is_left.any() else None
    write_in_place = sink.is_direct() and sink.dtype == source.dtype

    def work(piece: int) -> None:
        row, first, last = _place(source, piece)
        part = _part(source, masks, row, first, last)
        part = part.copy() if in_place else part
        here = sink.classes(first, last)
        filled = here.part(row)[0] if write_in_place else np.empty(last - first, source.dtype)
        if states is None or not is_left[row.first]:
            _long.softmax_of_piece(part, *pivots[row.first], filled)
        else:
            _wide.softmax_of_piece(part, states[row.first], double, takes_log, filled)
        if masks is not None:
            filled[~masks.classes(first, last).gather(row)[0]] = WHERE_MASKED[of]
        if not write_in_place:
            here.scatter(filled[None], row)

    POOL.run(work, source.count * _pieces(source))


def share_logsumexp(source: Rows, masks: MaskRows | None, out: NDArray[Any]) -> None:
    """Log sum exp of each row; out (rows,)."""
    out[:] = _states(source, masks)[:, 3]
    for i in np.flatnonzero(np.isnan(out)):  # infinities and NaN: the row alone tells them apart
        row = _whole(source, masks, int(i))
        _wide.logsumexp_wide(row[None], row.dtype.itemsize == 8, out[i : i + 1])


def _states(source: Rows, masks: MaskRows | None) -> NDArray[np.float64]:
    """The state of each row (rows, 4), as ``merge_states`` leaves it."""
    chunks = -(-source.width // CHUNK)
    found, states = np.empty((source.count, chunks, 3)), np.empty((source.count, 4))
    double = source.dtype.itemsize == 8

    def work(piece: int) -> None:
        row, first, last = _place(source, piece)
        part = _part(source, masks, row, first, last)
        _wide.states_of_piece(part, double, found[row.first, first // CHUNK : -(-last // CHUNK)])

    POOL.run(work, source.count * _pieces(source))
    for i, state in enumerate(states):
        _wide.merge_states(found[i], state)
        if double and state[1] < TINY:
            _wide.mend_state(_whole(source, masks, i), state)
    return states


def _pivots(source: Rows, masks: MaskRows | None) -> list[tuple[float, float]]:
    """Pivot and sum of each row, as ``merge_states`` of ``long`` finds them; the pivot is NaN where it cannot."""
    found = np.empty((source.count, -(-source.width // _long.SPAN), 2))

    def work(piece: int) -> None:
        row, first, last = _place(source, piece)
        part = _part(source, masks, row, first, last)
        _long.states_of_piece(part, found[row.first, first // _long.SPAN : -(-last // _long.SPAN)])

    POOL.run(work, source.count * _pieces(source))
    return [_long.merge_states(states) for states in found]


def _pieces(source: Rows) -> int:
    return -(-source.width // PIECE)


def _place(source: Rows, piece: int) -> tuple[Block, int, int]:
    """The row of a piece, and its classes [first, last)."""
    i, part = divmod(piece, _pieces(source))
    return _row(source, i), part * PIECE, min((part + 1) * PIECE, source.width)


def _row(source: Rows, i: int) -> Block:
    a, b = divmod(i, source.view.shape[2])
    return Block(i, i + 1, a, a + 1, b, b + 1)


def _part(source: Rows, masks: MaskRows | None, row: Block, first: int, last: int) -> NDArray[Any]:
    """The logits of a piece (n,): a view where possible, else a copy, -inf where masked."""
    here = source.classes(first, last)
    if masks is None and source.is_direct():
        rows = here.part(row)
    else:
        rows, _ = gathered(here, None if masks is None else masks.classes(first, last), row, exact_integers=False)
    part: NDArray[Any] = rows[0]
    return part


def _whole(source: Rows, masks: MaskRows | None, i: int) -> NDArray[Any]:
    return _part(source, masks, _row(source, i), 0, source.width)
