"""Where a sampled head draws its classes from, and how likely each is to be drawn."""

import math
from typing import Any

import torch
from torch import nn

KINDS = ("log_uniform", "unigram", "in_batch", "learned")


class LogUniform(nn.Module):
    """Rank r with probability ``log((r + 2) / (r + 1)) / log(K + 1)``: what Zipf's law makes of frequencies."""

    def __init__(self, rank_of_class: Any) -> None:
        super().__init__()
        self.register_buffer("rank_of_class", rank_of_class)
        self.register_buffer("class_of_rank", torch.argsort(rank_of_class), persistent=False)
        self.total = math.log(len(rank_of_class) + 1.0)

    def draw(self, count: int) -> Any:
        """Class indices (count,), with replacement."""
        device = self.class_of_rank.device
        drawn = torch.rand(count, dtype=torch.float64, device=device) * self.total
        rank = torch.expm1(drawn).to(torch.int64).clamp(0, len(self.class_of_rank) - 1)
        return self.class_of_rank[rank]

    def log_q(self, classes: Any) -> Any:
        """The log of their probabilities, float64."""
        rank = self.rank_of_class[classes].to(torch.float64)
        return torch.log(torch.log1p(1.0 / (rank + 1.0)) / self.total)

    def learn(self, target: Any) -> None:
        """Nothing to learn."""

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self.class_of_rank.copy_(torch.argsort(self.rank_of_class))


class Unigram(nn.Module):
    """Each class with the probability of its count; a class never seen counts as half an occurrence.

    ``learned`` starts from such counts and adds what it meets in training.
    """

    def __init__(self, counts: Any, *, learns: bool) -> None:
        super().__init__()
        self.register_buffer("counts", torch.where(counts > 0, counts, 0.5))
        self.learns = learns
        self._cumulative: Any = None

    def _sums(self) -> Any:
        if self._cumulative is None or self._cumulative.device != self.counts.device:
            self._cumulative = self.counts.cumsum(0)
        return self._cumulative

    def draw(self, count: int) -> Any:
        """Class indices (count,), with replacement; torch.multinomial stops at 2^24 classes."""
        sums = self._sums()
        drawn = torch.rand(count, dtype=torch.float64, device=sums.device) * sums[-1]
        return torch.searchsorted(sums, drawn, right=True).clamp(max=len(sums) - 1)

    def log_q(self, classes: Any) -> Any:
        """The log of their probabilities, float64."""
        return torch.log(self.counts[classes] / self._sums()[-1])

    def learn(self, target: Any) -> None:
        """Count these classes."""
        if self.learns and len(target):
            self.counts.index_add_(0, target, torch.ones_like(target, dtype=torch.float64))
            self._cumulative = None

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._cumulative = None
