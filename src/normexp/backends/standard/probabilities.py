"""softmax, log_softmax, logsumexp, and products with the Jacobian, of any library's arrays."""

from typing import Any

import numpy as np

from normexp.backends.standard.door import check_array, mask_of, no_out, temperature_of
from normexp.backends.standard.spaces import Space
from normexp.backends.standard.state import INF, NAN, State, row_state, summed
from normexp.backends.standard.views import batch_shape, from_rows, maybe_rows, to_rows
from normexp.base.checks import check_axis
from normexp.base.errors import ShapeError

quiet = np.errstate(all="ignore")  # libraries that stand on NumPy would warn of the infinities that are meant


@quiet
def softmax(logits: Any, /, *, axis: Any = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Any:
    """Probabilities along ``axis``."""
    return _normalised(logits, "softmax", axis, temperature, where, out)


@quiet
def log_softmax(logits: Any, /, *, axis: Any = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Any:
    """Logarithms of the probabilities along ``axis``."""
    return _normalised(logits, "log_softmax", axis, temperature, where, out)


@quiet
def logsumexp(logits: Any, /, *, axis: Any = -1, where: Any = None, keepdims: bool = False) -> Any:
    """Log of the sum of exponentials along ``axis``."""
    of = "logsumexp"
    sp = check_array(logits, of=of)
    axes = check_axis(axis, logits.ndim, of=of)
    mask = maybe_rows(sp, mask_of(sp, where, logits, of=of), logits.shape, axes)
    found = row_state(sp, to_rows(sp, logits, axes), where=mask).lse
    found = sp.xp.reshape(found, batch_shape(logits.shape, axes, keepdims=keepdims))
    return sp.cast(found, sp.loss_dtype(logits.dtype))


def _normalised(logits: Any, of: str, axis: Any, temperature: Any, where: Any, out: Any) -> Any:
    """Check at the door, then probabilities or their logarithms."""
    sp = check_array(logits, of=of)
    axes = check_axis(axis, logits.ndim, of=of)
    no_out(out, logits, of=of)
    heat = maybe_rows(sp, temperature_of(sp, temperature, logits, logits.shape, of=of), logits.shape, axes)
    mask = maybe_rows(sp, mask_of(sp, where, logits, of=of), logits.shape, axes)
    state = row_state(sp, to_rows(sp, logits, axes), temperature=heat, where=mask)
    found = prob_of(state) if of == "softmax" else log_prob_of(state)
    if mask is not None:
        hidden = ~sp.xp.any(sp.xp.broadcast_to(mask, found.shape), axis=-1, keepdims=True)
        found = sp.choose(hidden, 0.0 if of == "softmax" else -INF, found)
    return sp.cast(from_rows(sp, found, logits.shape, axes), sp.result_dtype(logits.dtype))


def prob_of(state: State) -> Any:
    """Probabilities (..., K), NaN where there are none."""
    return state.answered(state.shares)


def log_prob_of(state: State) -> Any:
    """Their logarithms."""
    return state.answered(-state.nll)


@quiet
def softmax_vjp(prob: Any, cotangent: Any, /, *, axis: Any = -1) -> Any:
    """Gradient of the logits from that of their softmax."""
    return _product("softmax_vjp", prob, cotangent, "cotangent", axis)


@quiet
def softmax_jvp(prob: Any, tangent: Any, /, *, axis: Any = -1) -> Any:
    """Change of the softmax when the logits move."""
    return _product("softmax_jvp", prob, tangent, "tangent", axis)


def _likeliest(sp: Space, p: Any) -> Any:
    """True at one largest probability of each row."""
    return sp.count(p.shape[-1]) == sp.column(sp.xp.argmax(p, axis=-1))


def _product(of: str, prob: Any, vector: Any, name: str, axis: Any) -> Any:
    """(diag(p) - p p') v, after the vector's entry at the likeliest class is taken off all."""
    sp = check_array(prob, of=of, name="prob")
    other = sp.array(vector, of=of, name=name, beside=prob)
    check_array(other, of=of, name=name)
    axes = check_axis(axis, prob.ndim, of=of)
    if tuple(other.shape) != tuple(prob.shape):
        raise ShapeError(
            f"{of}: {name} has shape {tuple(other.shape)} and prob {tuple(prob.shape)}; the shape of prob would be "
            f"right."
        )
    p, v = (sp.cast(to_rows(sp, x, axes), sp.wide) for x in (prob, other))
    if p.shape[-1]:
        moved = v - sp.xp.sum(sp.choose(_likeliest(sp, p), v, 0.0), axis=-1, keepdims=True)
        share = summed(sp, sp.choose(p != 0.0, p * moved, 0.0))
        p = sp.choose(p != 0.0, p * (moved - share), 0.0)
    return sp.cast(from_rows(sp, p, prob.shape, axes), sp.result_dtype(prob.dtype))


@quiet
def softmax_jacobian(prob: Any, /) -> Any:
    """diag(p) - p p' of each row, (..., K, K)."""
    of = "softmax_jacobian"
    sp = check_array(prob, of=of, name="prob")
    if prob.ndim == 0:
        raise ShapeError(f"{of}: prob is a single number; probabilities of shape (..., K) would be right.")
    p = sp.cast(prob, sp.wide)
    width = p.shape[-1]
    if not width:
        return sp.xp.zeros((*p.shape, width), dtype=sp.result_dtype(prob.dtype), device=sp.device)
    best = _likeliest(sp, p)
    others = sp.choose(best, summed(sp, sp.choose(best, 0.0, p)), 1.0 - p)
    spot = sp.column(sp.count(width)) == sp.count(width)
    found = sp.choose(spot, sp.column(p * others), -sp.column(p) * sp.xp.expand_dims(p, axis=-2))
    return sp.cast(found, sp.result_dtype(prob.dtype))


def nan_rows(state: State, found: Any) -> Any:
    """One number for each row, without its last axis, NaN for rows without answer."""
    return state.sp.xp.squeeze(state.sp.choose(state.usable, found, NAN), axis=-1)
