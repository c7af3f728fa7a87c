"""Entropy, margin, energy, the largest logit, generalised entropy, and the k likeliest classes."""

from collections.abc import Callable
from typing import Any

from normexp.backends.standard.door import check_array, one_axis
from normexp.backends.standard.probabilities import log_prob_of, nan_rows, prob_of, quiet
from normexp.backends.standard.spaces import Space
from normexp.backends.standard.state import INF, NAN, floats, row_state, summed
from normexp.backends.standard.views import batch_shape, from_rows, to_rows
from normexp.base.checks import check_axis, check_whole
from normexp.base.errors import RangeError
from normexp.base.types import TopK

GAMMA = 0.1  # Liu et al. (2023), sec. 4.1
LARGEST = 100  # likewise: of 1 000 classes; fewer classes are all taken


@quiet
def entropy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Shannon's, in nats."""
    return _reduced("entropy", logits, axis, _entropy)


@quiet
def margin(logits: Any, /, *, axis: Any = -1) -> Any:
    """Largest minus second largest."""
    return _reduced("margin", logits, axis, _margin)


@quiet
def energy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Minus the log-sum."""
    return _reduced("energy", logits, axis, lambda sp, rows: -sp.xp.squeeze(row_state(sp, rows).lse, axis=-1))


@quiet
def max_logit(logits: Any, /, *, axis: Any = -1) -> Any:
    """The largest."""
    return _reduced("max_logit", logits, axis, _max_logit)


@quiet
def generalised_entropy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Sum of (p (1 - p))^0.1 over the 100 largest p."""
    return _reduced("generalised_entropy", logits, axis, _generalised_entropy)


def _reduced(of: str, logits: Any, axis: Any, compute: Callable[[Space, Any], Any]) -> Any:
    """Check at the door, compute a number for each row, give it the batch's shape."""
    sp = check_array(logits, of=of)
    axes = check_axis(axis, logits.ndim, of=of)
    found = sp.xp.reshape(compute(sp, to_rows(sp, logits, axes)), batch_shape(logits.shape, axes))
    return sp.cast(found, sp.loss_dtype(logits.dtype))


def _entropy(sp: Space, rows: Any) -> Any:
    """log1p(rest) + sum p (m - z): no term is negative."""
    if not rows.shape[-1]:
        return sp.full(rows.shape[:-1], 0.0)
    s = row_state(sp, rows)
    lost = sp.choose(s.gap > -INF, -s.gap - s.tail, 0.0) * s.shares
    return nan_rows(s, s.log_sum + summed(sp, lost))


def _margin(sp: Space, rows: Any) -> Any:
    if not rows.shape[-1]:
        return sp.full(rows.shape[:-1], NAN)
    z = floats(sp, rows)
    first = sp.count(z.shape[-1]) == sp.column(sp.xp.argmax(z, axis=-1))
    return sp.xp.max(z, axis=-1) - sp.xp.max(sp.choose(first, -INF, z), axis=-1)


def _max_logit(sp: Space, rows: Any) -> Any:
    if not rows.shape[-1]:
        return sp.full(rows.shape[:-1], -INF)
    plain = sp.cast(rows, sp.wide) if sp.kind(rows.dtype, "bool") else rows
    return sp.cast(sp.xp.max(plain, axis=-1), sp.wide)


def _generalised_entropy(sp: Space, rows: Any) -> Any:
    """Each power is taken of a logarithm; 1 - p never as a difference."""
    if not rows.shape[-1]:
        return sp.full(rows.shape[:-1], 0.0)
    s = row_state(sp, rows)
    nll = sp.xp.sort(sp.choose(s.usable, s.nll, 0.0), axis=-1)[..., : min(LARGEST, rows.shape[-1])]
    some = (nll > 0.0) & (nll < INF)
    safe = sp.choose(some, nll, 1.0)
    near = safe < 0.5  # each branch sees what it can bear, so that derivatives are finite too
    others = sp.xp.log(-sp.xp.expm1(-sp.choose(near, safe, 0.5)))
    log_others = sp.choose(near, others, sp.xp.log1p(-sp.xp.exp(-sp.choose(near, 0.5, safe))))
    return nan_rows(s, summed(sp, sp.choose(some, sp.xp.exp(GAMMA * (log_others - safe)), 0.0)))


@quiet
def top_k(logits: Any, k: int, /, *, axis: int = -1) -> TopK:
    """The k likeliest classes, best first, of equal logits the earlier first."""
    of = "top_k"
    sp = check_array(logits, of=of)
    axes = one_axis(axis, logits, of=of)
    count, classes = check_whole(k, of=of, name="k"), logits.shape[axes[0]]
    if not 1 <= count <= classes:
        raise RangeError(f"{of}: k is {count}; with {classes} classes, 1 to {classes} would be right.")
    rows = to_rows(sp, logits, axes)
    order = sp.cast(rows, sp.wide) if sp.kind(rows.dtype, "bool") else rows
    index = sp.xp.argsort(order, axis=-1, descending=True, stable=True)[..., :count]
    s = row_state(sp, rows)
    shape = tuple(count if at == axes[0] else size for at, size in enumerate(logits.shape))
    dtype = sp.result_dtype(logits.dtype)
    prob, log_prob = (from_rows(sp, picked(sp, x, index), shape, axes) for x in (prob_of(s), log_prob_of(s)))
    return TopK(sp.cast(prob, dtype), sp.cast(log_prob, dtype), from_rows(sp, sp.cast(index, sp.index), shape, axes))


def picked(sp: Space, x: Any, index: Any) -> Any:
    """The entries of rows (..., K) at index (..., k)."""
    flat = sp.xp.reshape(sp.cast(index, sp.index), (-1, index.shape[-1]))
    starts = sp.column(sp.count(flat.shape[0])) * x.shape[-1]
    taken = sp.xp.take(sp.xp.reshape(x, (-1,)), sp.xp.reshape(starts + flat, (-1,)), axis=0)
    return sp.xp.reshape(taken, tuple(index.shape))
