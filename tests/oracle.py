"""The reference that the tests believe.

Two of them, and neither shares a line with the library:

* 60-digit arithmetic (mpmath), one row at a time, written straight from the definitions;
* long double (80 bits) for volume, itself held to the first in ``tests/ops/test_the_oracle.py``.

Beside them the measure: errors in units in the last place (ULP) of a dtype, where ``inf`` means
"not even the right kind of number".
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import mpmath
import numpy as np

DIGITS = 60
MP = mpmath.MPContext()  # a context of our own: nothing else can change its precision
MP.dps = DIGITS
ZERO, ONE, INF, NAN = MP.mpf(0), MP.mpf(1), MP.inf, MP.nan

LONG = np.longdouble
LONG_IS_WIDE = np.finfo(LONG).nmant >= 63  # false where the platform's long double is a plain double


class Format(NamedTuple):
    """A binary floating-point format: significand bits, exponent of the smallest normal, largest finite number."""

    digits: int
    min_exponent: int
    largest: float


FORMATS = {
    np.dtype(np.float16): Format(11, -14, 65504.0),
    np.dtype(ml_dtypes.bfloat16): Format(8, -126, (2 - 2.0**-7) * 2.0**127),
    np.dtype(np.float32): Format(24, -126, (2 - 2.0**-23) * 2.0**127),
    np.dtype(np.float64): Format(53, -1022, float(np.finfo(np.float64).max)),
}


# ---------------------------------------------------------------- the measure


def smallest(dtype: Any) -> Any:
    """The smallest positive (subnormal) number of the dtype."""
    form = FORMATS[np.dtype(dtype)]
    return MP.ldexp(ONE, form.min_exponent - form.digits + 1)


def spacing(value: Any, dtype: Any) -> Any:
    """The distance between neighbouring numbers of the dtype around ``value`` (a subnormal's is the smallest)."""
    form = FORMATS[np.dtype(dtype)]
    magnitude = abs(value)
    exponent = form.min_exponent if magnitude == 0 else max(int(MP.frexp(magnitude)[1]) - 1, form.min_exponent)
    return MP.ldexp(ONE, exponent - form.digits + 1)


def exact(value: Any) -> Any:
    """The number itself, without rounding."""
    if isinstance(value, type(ONE)):
        return value
    if isinstance(value, (bool, int, np.bool_, np.integer)):
        return MP.mpf(int(value))
    return MP.mpf(float(value))


def ulp_error(computed: Any, truth: Any, dtype: Any, *, scale: Any = None) -> float:
    """|computed - truth| in units in the last place at ``truth`` (or at ``scale``, where that is larger)."""
    got, truth = exact(computed), exact(truth)
    form = FORMATS[np.dtype(dtype)]
    if MP.isnan(truth) or MP.isnan(got):
        return 0.0 if MP.isnan(truth) and MP.isnan(got) else np.inf
    limit = MP.mpf(form.largest) + spacing(form.largest, dtype) / 2
    if abs(truth) >= limit:  # rounds to an infinity
        return 0.0 if MP.isinf(got) and (got > 0) == (truth > 0) else np.inf
    if MP.isinf(got):
        return np.inf
    at = truth if scale is None else max(abs(truth), abs(exact(scale)))
    return float(abs(got - truth) / spacing(at, dtype))


def worst_ulp(computed: Any, truth: Sequence[Any], dtype: Any = None) -> float:
    """The largest error of a row of results."""
    values = np.asarray(computed)
    assert values.shape == (len(truth),), f"{values.shape} results for {len(truth)} true values"
    return max((ulp_error(a, b, dtype or values.dtype) for a, b in zip(values, truth, strict=True)), default=0.0)


def nearest(truth: Any, dtype: Any) -> Any:
    """The number of the dtype that is nearest to the truth (float32 and float64; ties to even)."""
    truth = exact(truth)
    if MP.isnan(truth) or MP.isinf(truth) or truth == 0:
        return np.dtype(dtype).type(float(truth))
    step = spacing(truth, dtype)
    return np.dtype(dtype).type(float(MP.nint(truth / step) * step))


# ---------------------------------------------------------------- 60 digits


class State(NamedTuple):
    """What one row comes to; ``others[k]`` is the probability of every class but k, free of cancellation."""

    prob: list
    log_prob: list
    lse: Any
    others: list


def state(row: Any, *, temperature: Any = 1, where: Any = None) -> State:
    """Probabilities, their logs, the log-sum and the complements of one row, all to 60 digits."""
    values = [exact(v) for v in np.ravel(row)] if not isinstance(row, list) else [exact(v) for v in row]
    count = len(values)
    temperatures = [exact(t) for t in np.broadcast_to(temperature, (count,))]
    allowed = [True] * count if where is None else [bool(w) for w in np.broadcast_to(where, (count,))]
    open_classes = [k for k in range(count) if allowed[k]]
    if not open_classes:  # no class at all, or all of them masked
        return State([ZERO] * count, [-INF] * count, -INF, [ZERO] * count)
    if any(MP.isnan(values[k]) for k in open_classes):
        return _undefined(allowed, NAN)
    top = max(values[k] for k in open_classes)
    if MP.isinf(top):
        return _undefined(allowed, top)
    if any(t == 0 for t in temperatures):
        return _limit(values, allowed, top)
    z = [values[k] / temperatures[k] if allowed[k] else -INF for k in range(count)]
    first = max(open_classes, key=lambda k: z[k])
    terms = [MP.exp(v - z[first]) if v > -INF else ZERO for v in z]
    rest = MP.fsum(terms[:first] + terms[first + 1 :])
    total, log_total = 1 + rest, MP.log1p(rest)
    others = [(rest if k == first else total - terms[k]) / total for k in range(count)]
    log_prob = [v - z[first] - log_total if v > -INF else -INF for v in z]
    return State([t / total for t in terms], log_prob, z[first] + log_total, others)


def _undefined(allowed: list, lse: Any) -> State:
    prob = [NAN if a else ZERO for a in allowed]
    return State(prob, [NAN if a else -INF for a in allowed], lse, [NAN] * len(allowed))


def _limit(values: list, allowed: list, top: Any) -> State:
    """Temperature 0: the arg-max, ties sharing equally."""
    wins = [a and v == top for a, v in zip(allowed, values, strict=True)]
    share = ONE / sum(wins)
    log_prob = [MP.log(share) if w else -INF for w in wins]
    return State([share if w else ZERO for w in wins], log_prob, NAN, [ONE - share if w else ONE for w in wins])


def softmax(row: Any, *, temperature: Any = 1, where: Any = None) -> list:
    """exp(z_k / T) over the sum of them."""
    return state(row, temperature=temperature, where=where).prob


def log_softmax(row: Any, *, temperature: Any = 1, where: Any = None) -> list:
    """z_k / T minus the log of the sum of exponentials."""
    return state(row, temperature=temperature, where=where).log_prob


def logsumexp(row: Any, *, where: Any = None) -> Any:
    """The log of the sum of exponentials."""
    return state(row, where=where).lse


class Loss(NamedTuple):
    """Loss, gradient and the share in the mean's denominator, of one row."""

    loss: Any
    grad: list
    share: Any


def cross_entropy_row(
    row: Any,
    target: Any,
    *,
    weight: Any = None,
    label_smoothing: Any = 0,
    ignore_index: int | None = None,
    z_loss: Any = 0,
    focal_gamma: Any = 0,
) -> Loss:
    """-sum_k w q_k log p_k, times (1 - p_y)^gamma, plus z_loss lse^2; ``target``: an index or a row of proportions."""
    count = len(row)
    is_index = np.ndim(target) == 0
    if is_index and ignore_index is not None and int(target) == ignore_index:
        return Loss(ZERO, [ZERO] * count, ZERO)
    weights = [ONE] * count if weight is None else [exact(w) for w in weight]
    share = weights[int(target)] if is_index else ONE
    here = state(row)
    if any(MP.isnan(p) for p in here.prob):
        dead = all(exact(v) == -INF for v in row)
        return Loss(NAN, [ZERO if dead else NAN] * count, share)
    eps, gamma, z_scale = exact(label_smoothing), exact(focal_gamma), exact(z_loss)
    possible = [lp > -INF for lp in here.log_prob]
    hard = [ONE if k == int(target) else ZERO for k in range(count)] if is_index else [exact(t) for t in target]
    spread = [eps / sum(possible) if ok else ZERO for ok in possible]
    q = [(1 - eps) * h + s for h, s in zip(hard, spread, strict=True)]
    inside = [ONE if is_index else w for w in weights]
    terms = [c * t * lp for c, t, lp in zip(inside, q, here.log_prob, strict=True) if t > 0 and c > 0]
    entropy = -MP.fsum(terms)
    mass = MP.fsum([c * t for c, t in zip(inside, q, strict=True)])
    # p - q; as (1 - q) - (1 - p) where p nears 1, so that nothing cancels
    flow = [
        (1 - q[k]) - here.others[k]
        if mass == 1 and inside[k] == 1 and here.prob[k] > MP.mpf("0.5")
        else mass * here.prob[k] - inside[k] * q[k]
        for k in range(count)
    ]
    factor = weights[int(target)] if is_index else ONE
    if is_index and gamma != 0:
        y = int(target)
        miss, hit = here.others[y], here.prob[y]
        if miss == 0:  # a single class: loss and gradient are 0
            entropy, flow = ZERO, [ZERO] * count
        else:
            slope = entropy * gamma * miss ** (gamma - 1) * hit if hit > 0 else ZERO
            jump = [here.others[y] if k == y else -here.prob[k] for k in range(count)]
            flow = [miss**gamma * f - slope * j for f, j in zip(flow, jump, strict=True)]
            entropy = miss**gamma * entropy
    grad = [factor * f + 2 * z_scale * here.lse * p for f, p in zip(flow, here.prob, strict=True)]
    grad = [g if ok else ZERO for g, ok in zip(grad, possible, strict=True)]
    return Loss(factor * entropy + z_scale * here.lse**2, grad, share)


def cross_entropy(logits: Any, target: Any, *, reduction: str = "mean", **options: Any) -> tuple:
    """(loss, gradient) of a batch (N, K); ``mean`` divides by the sum of the true classes' weights."""
    rows = [cross_entropy_row(z, t, **options) for z, t in zip(logits, target, strict=True)]
    if reduction == "none":
        return [r.loss for r in rows], [r.grad for r in rows]
    total = MP.fsum([r.loss for r in rows])
    if reduction == "sum":
        return total, [r.grad for r in rows]
    shares = MP.fsum([r.share for r in rows])
    if shares == 0:
        return ZERO, [[ZERO] * len(z) for z in logits]
    return total / shares, [[g / shares for g in r.grad] for r in rows]


def numerical_gradient(function: Callable[[list], Any], row: Any) -> list:
    """Central differences, computed in 120 digits with a step of 1e-20: 39 digits are right, of small slopes too."""
    with MP.workdps(2 * DIGITS):
        step = MP.mpf(10) ** -20
        base = [exact(v) for v in row]
        slopes = []
        for k in range(len(base)):
            up = [*base[:k], base[k] + step, *base[k + 1 :]]
            down = [*base[:k], base[k] - step, *base[k + 1 :]]
            slopes.append((function(up) - function(down)) / (2 * step))
        return slopes


# ---------------------------------------------------------------- long double, for volume


class LongState(NamedTuple):
    """The same as ``State`` for a batch (N, K) of finite or -inf logits with one finite logit a row at least."""

    prob: np.ndarray
    log_prob: np.ndarray
    lse: np.ndarray
    others: np.ndarray
    top: np.ndarray


def long_state(logits: np.ndarray) -> LongState:
    """Softmax, its log, the log-sum and the complements in long double.

    The rounding error of ``z - max`` is kept (Knuth's two-sum): for float64 logits of spread 700 it
    alone would cost 0.3 ULP of a double.
    """
    assert LONG_IS_WIDE, "this platform's long double is too narrow for a reference"
    z = np.asarray(logits).astype(LONG)
    rows = np.arange(z.shape[0])
    first = z.argmax(axis=1)
    top = z[rows, first][:, None]
    with np.errstate(invalid="ignore", under="ignore", over="ignore"):
        gap = z - top
        back = gap + top
        lost = (z - back) + ((back - gap) - top)
        lost = np.where(np.isfinite(lost), lost, LONG(0))
        terms = np.exp(gap) * (1 + lost)
        without = terms.copy()
        without[rows, first] = 0
        rest = without.sum(axis=1)[:, None]
        total, log_total = 1 + rest, np.log1p(rest)
        others = (total - terms) / total
        others[rows, first] = (rest / total)[:, 0]
        log_prob = (gap - log_total) + lost
    return LongState(terms / total, log_prob, (top + log_total)[:, 0], others, top[:, 0])


def long_ulp_errors(
    computed: np.ndarray, truth: np.ndarray, dtype: Any = None, *, scale: np.ndarray | None = None
) -> np.ndarray:
    """The error of each result in units in the last place, against long-double truth; see ``ulp_error``."""
    got = np.asarray(computed)
    assert got.shape == np.shape(truth), f"{got.shape} results for {np.shape(truth)} true values"
    form = FORMATS[np.dtype(dtype or got.dtype)]
    at = np.abs(truth) if scale is None else np.maximum(np.abs(truth), np.abs(scale))
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.where(at == 0, form.min_exponent, np.frexp(at)[1].astype(np.int64) - 1)
        exponent = np.maximum(exponent, form.min_exponent)
        step = np.ldexp(LONG(1), (exponent - form.digits + 1).astype(np.intc))
        error = np.abs(got.astype(LONG) - truth) / step
    limit = LONG(form.largest) + np.ldexp(LONG(1), int(np.frexp(form.largest)[1]) - 1 - form.digits)
    is_infinite = np.isinf(truth) | (np.abs(truth) >= limit)
    agrees = np.where(is_infinite, np.isinf(got) & (np.sign(got) == np.sign(truth)), np.isnan(truth) & np.isnan(got))
    error = np.where(np.isfinite(truth) & ~is_infinite, error, np.where(agrees, LONG(0), LONG(np.inf)))
    return np.where(np.isfinite(error), error, LONG(np.inf)).astype(np.float64)


# ---------------------------------------------------------------- what is promised

# In ULP of the result's dtype, by kind of result. The 16-bit dtypes get the correctly rounded result of the
# float32 answer: half an ULP of theirs, and three of float32's, which are at most 3 * 2**-13 of theirs.
_HALF = {np.dtype(np.float16): 0.501, np.dtype(ml_dtypes.bfloat16): 0.501}
PROMISED = {
    "prob": {np.dtype(np.float32): 2.2, np.dtype(np.float64): 4.0, **_HALF},
    "log": {np.dtype(np.float32): 2.0, np.dtype(np.float64): 4.0, **_HALF},
    "grad": {np.dtype(np.float32): 3.0, np.dtype(np.float64): 4.0, **_HALF},
}


def assert_within(computed: Any, truth: Any, kind: str, *, extra: float = 0.0, scale: Any = None) -> None:
    """Every result lies within the promised error of the truth; ``extra`` ULP are granted to further roundings."""
    values = np.asarray(computed)
    flat_truth = [truth] if values.ndim == 0 else list(truth)
    assert values.size == len(flat_truth), f"{values.size} results for {len(flat_truth)} true values"
    limit = PROMISED[kind][values.dtype] + extra
    for k, (got, true) in enumerate(zip(values.ravel(), flat_truth, strict=True)):
        error = ulp_error(got, true, values.dtype, scale=scale)
        assert error <= limit, f"entry {k}: {got!r} for {MP.nstr(exact(true), 20)}: {error:.3g} ULP, {limit} promised"
