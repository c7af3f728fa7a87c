"""The plainest statement of each op in torch's own words, for devices without kernels of ours; rows lie last.

float16, bfloat16 and float32 are computed in float64 and rounded once; float64 carries the rounding error of
``z - max`` through the exponential. The largest term is left out of the sum, as on the CPU: ``z_k - m`` against
``log1p(rest)``, and never ``log(p)``.
"""

from dataclasses import dataclass
from typing import Any

import torch

INF = float("inf")


@dataclass(frozen=True)
class State:
    """What a row's probabilities are made of; top and rest (..., 1), the others (..., K)."""

    top: Any  # the largest logit
    gap: Any  # z - top, rounded
    tail: Any  # what the rounding took
    terms: Any  # exp(z - top)
    rest: Any  # the sum of all terms but one largest

    @property
    def prob(self) -> Any:
        """Probabilities."""
        return self.terms / (1.0 + self.rest)

    @property
    def log_prob(self) -> Any:
        """Their logarithms."""
        return torch.where(torch.isneginf(self.gap), self.gap + self.rest * 0, self.gap - self._log_rest())

    def _log_rest(self) -> Any:
        return torch.log1p(self.rest) - self.tail

    @property
    def lse(self) -> Any:
        """The log of the sum of exponentials (...,)."""
        found = self.top + torch.log1p(self.rest)
        return torch.where(torch.isinf(self.top), self.top, found).squeeze(-1)


def floats(rows: Any, axes: Any = (-1,)) -> Any:
    """Float64 of anything; 64-bit integers as what they lack of the row's largest, which is exact."""
    if rows.dtype == torch.int64 and rows.numel() and len(axes):
        top = rows.amax(tuple(axes), keepdim=True)
        low = (1 << 32) - 1
        return ((rows >> 32) - (top >> 32)).double() * 2.0**32 + ((rows & low) - (top & low)).double()
    return rows.to(torch.float64)


def state(logits: Any, *, temperature: Any = None, where: Any = None) -> State:
    """The state of rows (..., K); temperature and where broadcastable to them."""
    each = temperature is not None and temperature.shape[-1:] != (1,) and temperature.ndim
    z = logits.to(torch.float64) if each else floats(logits)  # what is taken off all, none takes off by its own measure
    if where is not None:
        z = torch.where(where, z, -INF)
    if each:
        z = cooled(z, temperature)  # each class its own
        temperature = None
    if z.shape[-1] == 0:
        nothing = z.new_full((*z.shape[:-1], 1), -INF)
        return State(nothing, z, z, z, torch.zeros_like(nothing))
    top = z.amax(-1, keepdim=True)
    gap = z - top
    back = gap - z  # TwoSum of z and -top (Knuth (1998), sec. 4.2.2, thm. B)
    tail = (z - (gap - back)) + (-top - back)
    if temperature is not None:
        heat = temperature.double()
        limit = torch.where(gap == 0.0, 0.0, torch.where(torch.isnan(gap), gap, -INF))
        warm = torch.where(torch.isneginf(gap), gap, gap * 0.0)
        divided = gap / heat
        gap = torch.where(heat == 0.0, limit, torch.where(torch.isinf(heat), warm, divided))
        tail = tail / heat
    tail = torch.where(torch.isfinite(gap) & torch.isfinite(tail), tail, 0.0)
    terms = torch.exp(gap) * (1.0 + tail)
    first = torch.zeros_like(terms, dtype=torch.bool).scatter_(-1, z.argmax(-1, keepdim=True), value=True)
    rest = torch.where(first & (gap == 0.0), 0.0, terms).sum(-1, keepdim=True)
    return State(top, gap, tail, terms, rest)


def cooled(z: Any, heat: Any) -> Any:
    """Z / heat; where heat is infinite 0, and the limits for the classes whose heat sinks to 0, all at one pace.

    If the largest of those is above 0, or no other class is possible, they alone are left, and of them the largest;
    else those at 0 stay, and those below go.
    """
    heat = heat.double()
    if not z.shape[-1]:
        return z
    cold = heat == 0.0
    bad = ~(z < INF).all(-1, keepdim=True)
    warm = torch.where(torch.isneginf(z), z, z * 0.0)
    over = torch.where(torch.isinf(heat), warm, z / torch.where(cold, 1.0, heat))
    top = torch.where(cold, z, -INF).amax(-1, keepdim=True)
    wins = (top > 0.0) | ~(~cold & (over > -INF)).any(-1, keepdim=True)
    limit = torch.where((z == torch.where(wins, top, 0.0)) & (z > -INF), 0.0, -INF)
    return torch.where(bad, torch.nan, torch.where(cold, limit, torch.where(wins, -INF, over)))


def entropy(logits: Any) -> Any:
    """Shannon's, in nats (...,)."""
    if logits.shape[-1] == 0:
        return floats(logits).sum(-1)
    s = state(logits)
    lost = torch.where(torch.isneginf(s.gap), 0.0, -s.gap - s.tail) * s.prob
    return torch.log1p(s.rest).squeeze(-1) + lost.sum(-1)


def margin(logits: Any) -> Any:
    """Largest minus second largest (...,)."""
    z = floats(logits)
    if z.shape[-1] == 0:
        return z.new_full(z.shape[:-1], torch.nan)
    if z.shape[-1] == 1:
        return (z - torch.full_like(z, -INF)).squeeze(-1)
    best = torch.topk(z, 2, -1).values
    return torch.where(torch.isnan(z).any(-1), torch.nan, best[..., 0] - best[..., 1])


def max_logit(logits: Any) -> Any:
    """Largest (...,)."""
    z = logits.to(torch.float64)
    return z.amax(-1) if z.shape[-1] else z.new_full(z.shape[:-1], -INF)


def generalised_entropy(logits: Any, count: int, gamma: float) -> Any:
    """Sum of (p (1 - p))^gamma over the largest p (...,)."""
    if logits.shape[-1] == 0:
        return floats(logits).sum(-1)
    s = state(logits)
    log_prob = torch.topk(s.log_prob, min(count, logits.shape[-1]), -1).values
    others = -torch.expm1(log_prob)
    log_others = torch.where(log_prob > -0.5, torch.log(others), torch.log1p(-torch.exp(log_prob)))
    powers = torch.exp(gamma * (log_prob + log_others))
    dead = torch.isnan(s.prob).any(-1)
    return torch.where(dead, torch.nan, powers.sum(-1))


def entmax(logits: Any, alpha: float) -> Any:
    """Entmax of rows for alpha > 1, by halving the interval that holds tau; tau is then mended on the support."""
    if logits.shape[-1] == 0:
        return floats(logits)
    z = floats(logits)
    top = z.amax(-1, keepdim=True)
    scaled = (z - top) * (alpha - 1.0)  # the largest is 0, so tau lies in [-1, 0)
    power = 1.0 / (alpha - 1.0)
    low = torch.full_like(top, -1.0)
    width = torch.ones_like(top)
    for _ in range(60):  # until the interval is as narrow as float64 can say
        width = width / 2.0
        middle = low + width
        mass = torch.clamp(scaled - middle, min=0.0).pow(power).sum(-1, keepdim=True)
        low = torch.where(mass >= 1.0, middle, low)
    prob = torch.clamp(scaled - low, min=0.0).pow(power)
    prob = prob / prob.sum(-1, keepdim=True)
    return torch.where(torch.isfinite(top), prob, torch.nan)
