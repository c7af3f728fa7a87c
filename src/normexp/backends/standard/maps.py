"""Sparsemax and entmax, and softmax within groups."""

import math
from typing import Any

from normexp.backends.standard.door import check_array
from normexp.backends.standard.probabilities import prob_of, quiet
from normexp.backends.standard.spaces import Space, name_of
from normexp.backends.standard.state import NAN, is_long, lacking, row_state, summed, two_sum
from normexp.backends.standard.views import from_rows, to_rows
from normexp.base.checks import check_axis, check_number, check_whole
from normexp.base.errors import DtypeError, RangeError, ShapeError

_HALVINGS = 30
_STEPS = 3  # of Newton's method; from the left, where the sum is convex in s, none goes too far
_NARROWEST = 60  # halvings until the interval is as narrow as float64 can say, where it is not convex


@quiet
def sparsemax(logits: Any, /, *, axis: Any = -1) -> Any:
    """Entmax with alpha 2."""
    return _mapped("sparsemax", logits, 2.0, axis)


@quiet
def entmax(logits: Any, /, *, alpha: float = 1.5, axis: Any = -1) -> Any:
    """Between softmax and sparsemax."""
    return _mapped("entmax", logits, check_number(alpha, of="entmax", name="alpha", low=1.0), axis)


def _mapped(of: str, logits: Any, alpha: float, axis: Any) -> Any:
    sp = check_array(logits, of=of)
    axes = check_axis(axis, logits.ndim, of=of)
    state = row_state(sp, to_rows(sp, logits, axes))
    found = prob_of(state)
    if alpha != 1.0 and found.shape[-1]:
        found = sp.choose(state.usable, _entmax(sp, state.gap, alpha), NAN)
    return sp.cast(from_rows(sp, found, logits.shape, axes), sp.result_dtype(logits.dtype))


def _entmax(sp: Space, gap: Any, alpha: float) -> Any:
    """Probabilities [1 + (alpha - 1) (gap - s)]_+ ^ (1 / (alpha - 1)), s by halving, then Newton's method.

    A last step makes alpha = 2 exact, and derivatives through it are those of the answer.
    """
    width = -math.expm1((1.0 - alpha) * math.log(gap.shape[-1])) / (alpha - 1.0)
    s = sp.full((*gap.shape[:-1], 1), 0.0)
    for _ in range(_HALVINGS if alpha <= 2.0 else _NARROWEST):
        width /= 2.0
        over = sp.xp.sum(_powers(sp, gap, s + width, alpha), axis=-1, keepdims=True)
        s = sp.choose(over >= 1.0, s + width, s)
    for _ in range(_STEPS if alpha <= 2.0 else 1):
        p = _powers(sp, gap, s, alpha)
        inside = p > 0.0
        base = sp.choose(inside, (alpha - 1.0) * (sp.choose(inside, gap, 0.0) - s), 0.0)
        s = s + (summed(sp, p) - 1.0) / summed(sp, p / (1.0 + base))
    p = _powers(sp, gap, s, alpha)
    return p / summed(sp, p)  # ties then share exactly


def _powers(sp: Space, gap: Any, s: Any, alpha: float) -> Any:
    base = (alpha - 1.0) * (gap - s)
    inside = base > -1.0
    safe = sp.choose(inside, base, 0.0)
    if alpha == 2.0:
        return sp.choose(inside, 1.0 + safe, 0.0)
    if alpha == 1.5:
        return sp.choose(inside, (1.0 + safe) * (1.0 + safe), 0.0)
    return sp.choose(inside, sp.xp.exp(sp.xp.log1p(safe) / (alpha - 1.0)), 0.0)


@quiet
def segment_softmax(logits: Any, segment_ids: Any, /, *, num_segments: int | None = None) -> Any:
    """Softmax of each group of entries."""
    of = "segment_softmax"
    sp = check_array(logits, of=of)
    xp = sp.xp
    if logits.ndim == 0:
        raise ShapeError(f"{of}: logits are a single number; an array of shape (N, ...) would be right.")
    segment = sp.array(segment_ids, of=of, name="segment_ids", beside=logits)
    if not hasattr(segment_ids, "dtype") and not math.prod(segment.shape):
        segment = sp.cast(segment, sp.index)  # an empty list has no dtype of its own
    if not sp.kind(segment.dtype, "integral"):
        raise DtypeError(f"{of}: segment_ids have dtype {name_of(segment.dtype)}; integers would be right.")
    if tuple(segment.shape) != tuple(logits.shape[:1]):
        raise ShapeError(
            f"{of}: segment_ids have shape {tuple(segment.shape)} and the logits {tuple(logits.shape)}; "
            f"{tuple(logits.shape[:1])} would be right."
        )
    _check_segments(sp, segment, num_segments, of=of)
    if not math.prod(logits.shape):
        return sp.cast(logits, sp.result_dtype(logits.dtype))
    order = xp.argsort(segment, stable=True)
    group = xp.take(segment, order, axis=0)
    columns = xp.take(xp.reshape(logits, (logits.shape[0], -1)), order, axis=0)
    back = xp.argsort(order)
    found = xp.take(_grouped(sp, columns, group), back, axis=0)
    return sp.cast(xp.reshape(found, tuple(logits.shape)), sp.result_dtype(logits.dtype))


def _check_segments(sp: Space, segment: Any, num_segments: Any, *, of: str) -> None:
    """Group numbers of at least 0, and below their number where that is given."""
    wrong, right = sp.cast(segment, sp.index) < 0, "at least 0"
    if num_segments is not None:
        limit = check_whole(num_segments, of=of, name="num_segments", right="a whole number or None")
        if limit < 0:
            raise RangeError(f"{of}: num_segments is {limit}; at least 0 would be right.")
        wrong, right = wrong | (sp.cast(segment, sp.index) >= limit), f"0 to {limit - 1}"
    if math.prod(segment.shape) and sp.any(wrong):
        row = sp.first_true(wrong)
        raise RangeError(f"{of}: segment_ids of row {row} is {int(segment[row])}; {right} would be right.")


def _grouped(sp: Space, columns: Any, group: Any) -> Any:
    """Softmax of columns (N, M) within runs of equal group numbers (N,), by running maxima and sums of doubling reach.

    After the last doubling, the entry that ends a run has seen all of it and nothing else (Hillis and Steele (1986)).
    """
    xp = sp.xp
    count = columns.shape[0]
    ends = xp.concat([group[1:] != group[:-1], xp.ones((1,), dtype=xp.bool, device=sp.device)])
    last = sp.count(count)
    last = xp.where(ends, last, xp.full((count,), count, dtype=sp.index, device=sp.device))
    step = 1
    while step < count:  # the nearest end that is not before
        ahead = xp.concat([last[step:], last[-1:] + xp.zeros((step,), dtype=sp.index, device=sp.device)])
        last = xp.where(ahead < last, ahead, last)
        step *= 2
    top = columns if not sp.kind(columns.dtype, "bool") else sp.cast(columns, sp.wide)
    for same, shifted in _reaches(sp, group):
        before = shifted(top)
        top = xp.where(same & (before > top), before, top)
    top = xp.take(top, last, axis=0)
    if is_long(sp, columns.dtype):
        gap, tail = lacking(sp, columns, top), sp.full(columns.shape, 0.0)
    else:
        gap, tail = two_sum(sp.cast(columns, sp.wide), -sp.cast(top, sp.wide))
    tail = sp.choose(xp.isfinite(gap) & xp.isfinite(tail), tail, 0.0)
    terms = xp.exp(gap)
    terms = terms + terms * tail
    total, lost = terms, xp.zeros_like(terms)
    for same, shifted in _reaches(sp, group):
        more, error = two_sum(total, sp.choose(same, shifted(total), 0.0))
        total, lost = more, lost + sp.choose(same, shifted(lost), 0.0) + sp.choose(xp.isfinite(error), error, 0.0)
    total, lost = xp.take(total, last, axis=0), xp.take(lost, last, axis=0)
    return terms / (total + lost)


def _reaches(sp: Space, group: Any) -> Any:
    """For 1, 2, 4, ...: which entries have one of their own group so far before them, and how to look there."""
    xp, count, step = sp.xp, group.shape[0], 1
    while step < count:
        reach = step

        def shifted(x: Any, reach: int = reach) -> Any:
            return xp.concat([x[:reach, ...], x[:-reach, ...]], axis=0)

        same = (sp.count(count) >= reach) & (shifted(group) == group)
        yield sp.column(same), shifted
        step *= 2
