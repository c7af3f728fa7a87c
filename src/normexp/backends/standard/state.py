"""The state of rows, (largest logit, sum of the others' exponentials), with its rounding errors; classes lie last.

Computed in float64 where the library has it, whatever came, else in float32. Either way the rounding error of ``z - m``
is kept (TwoSum) and carried through exp as ``exp(d) * (1 + tail)``, the largest term is left out of the sum, and the
sum is taken by halving, with its rounding errors (Ogita, Rump and Oishi (2005), alg. 4.4, here as a tree): the bits of
a row depend on the row alone. Everything is written so that derivatives through it (jax.grad) are right as well: the
largest logit is the one at one place, ties included, and its own difference is the constant 0.
"""

from dataclasses import dataclass
from typing import Any

from normexp.backends.standard.spaces import Space

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True, slots=True)
class State:
    """What probabilities are made of; (..., 1), or (..., K) where it says so. Rows without answer count as zeros."""

    sp: Space
    top: Any  # the largest logit, NaN and infinities included
    usable: Any  # whether that is finite, and no logit NaN
    first: Any  # (..., K) True at that one place
    gap: Any  # (..., K) z - top, rounded
    tail: Any  # (..., K) what the rounding took
    terms: Any  # (..., K) exp(z - top)
    rest: Any  # the sum of all terms but one largest
    total: Any  # 1 + rest, rounded
    correction: Any  # what that took

    @property
    def log_sum(self) -> Any:
        """What logsumexp has beyond the largest logit."""
        return self.sp.xp.log1p(self.rest)

    @property
    def nll(self) -> Any:
        """-log p of every class (..., K)."""
        return (self.log_sum - self.tail) - self.gap

    @property
    def shares(self) -> Any:
        """Probabilities (..., K), of rows that have any."""
        quotient = self.terms / self.total
        return quotient - quotient * (self.correction / self.total)

    @property
    def others(self) -> Any:
        """1 - p of every class (..., K), never a difference from 1."""
        missing = self.sp.choose(self.first, self.rest, (self.total - self.terms) + self.correction)
        return missing / self.total

    def answered(self, found: Any) -> Any:
        """NaN for the rows that have no answer."""
        return self.sp.choose(self.usable, found, NAN)

    @property
    def lse(self) -> Any:
        """The log of the sum of exponentials (..., 1)."""
        return self.sp.choose(self.usable, self.sp.choose(self.usable, self.top, 0.0) + self.log_sum, self.top)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Sum rounded, and what the rounding took (Knuth (1998), sec. 4.2.2, theorem B)."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def two_quotient(sp: Space, a: Any, b: Any) -> tuple[Any, Any]:
    """Quotient rounded, and what the rounding took, by the exact product (Dekker (1971), sec. 5)."""
    q = a / b
    factor = 2.0 ** (27 if sp.wide == getattr(sp.xp, "float64", None) else 12) + 1.0
    high_q, high_b = factor * q - (factor * q - q), factor * b - (factor * b - b)
    low_q, low_b = q - high_q, b - high_b
    product = q * b
    error = ((high_q * high_b - product) + high_q * low_b + low_q * high_b) + low_q * low_b
    return q, ((a - product) - error) / b


def fold(sp: Space, x: Any) -> tuple[Any, Any]:
    """Sum along the last axis (..., 1), and what rounding took from it."""
    xp = sp.xp
    if x.shape[-1] == 0:
        nothing = sp.full((*x.shape[:-1], 1), 0.0)
        return nothing, nothing
    lost = None
    while x.shape[-1] > 1:
        width = x.shape[-1]
        half = (width + 1) // 2
        s, error = two_sum(x[..., : width // 2], x[..., half:])
        error = sp.choose(xp.isfinite(error), error, 0.0)
        if lost is not None:
            error = error + (lost[..., : width // 2] + lost[..., half:])
        if half > width // 2:  # the middle one waits for the next round
            s = xp.concat([s, x[..., width // 2 : half]], axis=-1)
            waits = xp.zeros_like(error[..., :1]) if lost is None else lost[..., width // 2 : half]
            error = xp.concat([error, waits], axis=-1)
        x, lost = s, error
    return x, xp.zeros_like(x) if lost is None else lost


def summed(sp: Space, x: Any) -> Any:
    """The sum along the last axis (..., 1), rounded once or nearly."""
    s, lost = fold(sp, x)
    return s + lost


def is_long(sp: Space, dtype: Any) -> bool:
    """Whether integers of this dtype have more digits than the wide floats."""
    return sp.kind(dtype, "integral") and sp.xp.iinfo(dtype).bits >= sp.xp.finfo(sp.wide).bits


def lacking(sp: Space, x: Any, top: Any) -> Any:
    """``x - top`` for long integers, exact before one rounding; top at least x."""
    half = sp.xp.iinfo(x.dtype).bits // 2
    low = sp.xp.asarray((1 << half) - 1, dtype=x.dtype, device=sp.device)
    shift = sp.xp.asarray(half, dtype=x.dtype, device=sp.device)
    highs = sp.cast(x >> shift, sp.index) - sp.cast(top >> shift, sp.index)
    lows = sp.cast(x & low, sp.index) - sp.cast(top & low, sp.index)
    return sp.cast(highs, sp.wide) * 2.0**half + sp.cast(lows, sp.wide)


def floats(sp: Space, rows: Any) -> Any:
    """Wide floats; long integers as what they lack of the row's largest."""
    if is_long(sp, rows.dtype) and rows.shape[-1]:
        return lacking(sp, rows, sp.xp.max(rows, axis=-1, keepdims=True))
    return sp.cast(rows, sp.wide)


def row_state(sp: Space, logits: Any, *, temperature: Any = None, where: Any = None) -> State:
    """The state of rows (..., K); temperature and where broadcastable to them. K may be 0."""
    xp = sp.xp
    base = None
    each = temperature is not None and temperature.ndim and temperature.shape[-1] != 1
    if each and is_long(sp, logits.dtype):  # what is taken off all classes is not taken off each by its own measure
        logits = sp.cast(logits, sp.wide)
    if is_long(sp, logits.dtype) and logits.shape[-1]:
        if where is not None:
            lowest = xp.asarray(xp.iinfo(logits.dtype).min, dtype=logits.dtype, device=sp.device)
            logits = xp.where(where, logits, lowest)
        base = sp.cast(xp.max(logits, axis=-1, keepdims=True), sp.wide)
    z = floats(sp, logits)
    if where is not None:
        z = sp.choose(where, z, -INF)
    if each:
        z, temperature = cooled(sp, z, temperature), None  # each class its own
    if z.shape[-1] == 0:
        nothing = sp.full((*z.shape[:-1], 1), 0.0)
        return State(sp, nothing - INF, nothing > 0.0, z > 0.0, z, z, z, nothing, nothing + 1.0, nothing)
    first = sp.count(z.shape[-1]) == sp.column(xp.argmax(z, axis=-1))
    top = xp.sum(sp.choose(first, z, 0.0), axis=-1, keepdims=True)
    usable = xp.isfinite(top) & ~xp.any(xp.isnan(z), axis=-1, keepdims=True)
    top = sp.choose(xp.any(xp.isnan(z), axis=-1, keepdims=True), NAN, top)
    safe = sp.choose(usable, z, 0.0)
    gap, tail = two_sum(safe, -xp.sum(sp.choose(first, safe, 0.0), axis=-1, keepdims=True))
    gap = sp.choose(first, 0.0, gap)
    if temperature is not None:
        gap, tail = _divided(sp, gap, tail, temperature)
    tail = sp.choose(xp.isfinite(gap) & xp.isfinite(tail) & ~first, tail, 0.0)
    terms = xp.exp(gap)
    terms = terms + terms * tail
    rest, lost = fold(sp, sp.choose(first, 0.0, terms))
    total, correction = two_sum(xp.ones_like(rest), rest)
    top = top if base is None else top + base
    return State(sp, top, usable, first, gap, tail, terms, rest + lost, total, correction + lost)


def _divided(sp: Space, gap: Any, tail: Any, heat: Any) -> tuple[Any, Any]:
    """Differences over the temperature; 0: the largest alone; infinite: all that are possible, alike."""
    xp = sp.xp
    plain = xp.isfinite(heat) & (heat > 0.0)
    safe = sp.choose(plain, heat, 1.0)
    quotient, error = two_quotient(sp, gap, safe)
    ends = sp.choose((gap == 0.0) | ((heat > 0.0) & (gap > -INF)), 0.0, -INF)
    return sp.choose(plain, quotient, ends), sp.choose(plain, error + tail / safe, 0.0)


def cooled(sp: Space, z: Any, heat: Any) -> Any:
    """Z / heat; where heat is infinite 0, and the limits for the classes whose heat sinks to 0, all at one pace.

    If the largest of those is above 0, or no other class is possible, they alone are left, and of them the largest;
    else those at 0 stay, and those below go.
    """
    xp = sp.xp
    if z.shape[-1] == 0:
        return z
    plain, cold = xp.isfinite(heat) & (heat > 0.0), heat == 0.0
    bad = xp.any(~(z < INF), axis=-1, keepdims=True)
    warm = sp.choose(z == -INF, -INF, z * 0.0)
    over = sp.choose(plain, z / sp.choose(plain, heat, 1.0), warm)
    top = xp.max(sp.choose(cold, z, -INF), axis=-1, keepdims=True)
    wins = (top > 0.0) | ~xp.any(~cold & (over > -INF), axis=-1, keepdims=True)
    limit = sp.choose((z == sp.choose(wins, top, 0.0)) & (z > -INF), 0.0, -INF)
    return sp.choose(bad, NAN, sp.choose(cold, limit, sp.choose(wins, -INF, over)))
