"""The probability mass of classes that were not looked at, estimated from a few of them: an answer and its error."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Strata:
    """Classes in groups alike: members of group h are ``order[begins[h] : begins[h + 1]]``."""

    order: Any  # (K,)
    begins: Any  # (H + 1,)

    @property
    def sizes(self) -> Any:
        """How many classes each group has (H,)."""
        return self.begins.diff()

    @classmethod
    def by_norm(cls, norms: Any, count: int) -> "Strata":
        """Equal parts by rising norm (K,): the longer a class's weights, the more its logit varies."""
        parts = max(1, min(count, len(norms)))
        begins = torch.arange(parts + 1, device=norms.device) * len(norms) // parts
        return cls(torch.argsort(norms, stable=True), begins)

    def draw(self, count: int, generator: Any) -> "Sample":
        """At most about ``count`` distinct classes, as many from each group in the mean; small groups whole.

        Draws with replacement of which each class is kept once: given how many those are, they are a simple random
        sample of their group without replacement (Raj and Khamis (1958)).
        """
        sizes = self.sizes
        groups = len(sizes)
        each = max(2, count // groups)
        device = self.order.device
        place = (torch.rand(groups, each, dtype=torch.float64, device="cpu", generator=generator)).to(device)
        place = (place * sizes[:, None]).to(torch.int64).clamp(max=sizes[:, None] - 1) + self.begins[:-1, None]
        whole = sizes <= each  # as many draws as classes: take these instead
        drawn = place[~whole].reshape(-1)
        kept = [torch.arange(int(self.begins[h]), int(self.begins[h + 1]), device=device) for h in whole.nonzero()]
        place = torch.unique(torch.cat([drawn, *kept]))
        group = torch.bucketize(place, self.begins[1:], right=True)
        return Sample(self.order[place], group, torch.bincount(group, minlength=groups), sizes)


@dataclass(frozen=True)
class Sample:
    """Distinct classes, the group of each, and how many of each group's members they are."""

    classes: Any  # (S,)
    group: Any  # (S,), rising
    taken: Any  # (H,)
    sizes: Any  # (H,)


def estimated_sum(terms: Any, sample: Sample) -> tuple[Any, Any]:
    """The sum over all classes, and its standard error, both (N,), from the terms (N, S) of a sample, float64.

    Sum of ``size * mean`` over the groups; variance ``size^2 (1 - taken / size) s^2 / taken`` each (Cochran (1977),
    eq. 5.3 and 5.7). A group of which one class was taken, of several, has no spread: its error is infinite.
    """
    groups = len(sample.sizes)
    taken, sizes = sample.taken.to(torch.float64), sample.sizes.to(torch.float64)
    sums = terms.new_zeros(len(terms), groups).index_add_(1, sample.group, terms)
    means = sums / taken
    gaps = terms - means[:, sample.group]
    squares = terms.new_zeros(len(terms), groups).index_add_(1, sample.group, gaps.square())
    unseen = 1.0 - taken / sizes
    spread = squares / (taken - 1.0).clamp(min=1.0)
    variance = torch.where(unseen == 0.0, 0.0, sizes.square() * unseen * spread / taken)
    variance = torch.where((taken < 2.0) & (unseen > 0.0), torch.inf, variance)
    return (means * sizes).sum(1), variance.sum(1).sqrt()
