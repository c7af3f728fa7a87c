"""What all heads share: from features to log-probabilities, decisions, and a loss."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from normexp.base.checks import check_number, check_reduction
from normexp.base.types import TopK
from normexp.nn.checks import (
    check_classes,
    check_count,
    check_features,
    check_match,
    check_top,
    check_weights_dtype,
    class_weights,
)


class Head(nn.Module, ABC):
    """An output layer over ``num_classes`` classes, numbered from 0 in any order.

    A head says how likely each class is (``log_prob``), which is likeliest (``predict``), which k are (``top_k``), and
    what a batch of true classes costs (``loss``).
    """

    mixes_dtypes = False  # whether features may have another dtype than the weights

    def __init__(self, in_features: int, num_classes: int, dtype: Any = None) -> None:
        super().__init__()
        of = type(self).__name__
        check_weights_dtype(dtype, of=of)
        self.in_features = check_count(in_features, of=of, name="in_features")
        self.num_classes = check_count(num_classes, of=of, name="num_classes")

    @abstractmethod
    def log_prob(self, x: Any) -> Any:
        """Log-probabilities of all classes (..., K), of features (..., D)."""

    def predict(self, x: Any) -> Any:
        """Likeliest class (...,) of features (..., D); of equally likely ones, one of them."""
        return self.log_prob(x).argmax(-1)

    def top_k(self, x: Any, k: int) -> TopK:
        """The k likeliest classes, best first: probabilities, their logarithms, and class indices, (..., k) each."""
        count = check_top(k, self.num_classes, of=f"{type(self).__name__}.top_k")
        log_prob, index = torch.topk(self.log_prob(x), count, -1)
        return TopK(log_prob.exp(), log_prob, index)

    @abstractmethod
    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Negative log-likelihood of the targets (...), of features (..., D)."""

    def extra_repr(self) -> str:
        """What the constructor was told."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}"

    # ---------------------------------------------------------------- for the heads

    def _features(self, x: Any, what: str) -> Any:
        """Check the features."""
        of = f"{type(self).__name__}.{what}"
        x = check_features(x, self.in_features, of=of)
        return check_match(x, next(self.parameters()), mixes=self.mixes_dtypes, of=of)

    def _asked(
        self, x: Any, target: Any, reduction: str, weight: Any, label_smoothing: float, ignore_index: int | None
    ) -> "Asked":
        """Check everything that a loss is given; rows that are ignored are left out."""
        of = f"{type(self).__name__}.loss"
        x = self._features(x, "loss")
        index, counts = check_classes(target, x.shape[:-1], self.num_classes, ignore_index, of=of)
        weights = class_weights(weight, self.num_classes, x, of=of)
        smoothing = check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0)
        rows = x.reshape(-1, self.in_features)
        kept = None if bool(counts.all()) else counts.nonzero().reshape(-1)
        if kept is not None:
            rows, index = rows[kept], index[kept]
        scale = None if weights is None else weights[index]
        return Asked(rows, index, scale, smoothing, check_reduction(reduction, of=of), kept, tuple(x.shape[:-1]))


class Asked:
    """The rows of a batch that count, what they are asked for, and the way back to the batch."""

    def __init__(
        self, rows: Any, target: Any, scale: Any, smoothing: float, reduction: str, kept: Any, batch: tuple[int, ...]
    ) -> None:
        self.rows = rows  # (n, D)
        self.target = target  # (n,)
        self.scale = scale  # (n,), the weight of each row's true class, or None
        self.smoothing = smoothing
        self.reduction = reduction
        self.kept = kept  # which rows of the batch these are, or None for all
        self.batch = batch

    @property
    def is_plain_sum(self) -> bool:
        """Whether the answer is a sum of row losses times one number: then each part may sum for itself."""
        return self.reduction != "none" and self.scale is None

    @property
    def factor(self) -> float:
        """What the sum of the weighted row losses is multiplied by; 0 rows cost 0."""
        if self.reduction != "mean":
            return 1.0
        divisor = float(len(self.target)) if self.scale is None else float(self.scale.sum())
        return 1.0 / divisor if divisor else 1.0

    def of_sum(self, total: Any) -> Any:
        """The answer, from the sum over the rows."""
        return total / max(1, len(self.target)) if self.reduction == "mean" else total

    def reduced(self, losses: Any) -> Any:
        """The answer, from each row's loss (n,)."""
        if self.scale is not None:
            losses = losses * self.scale.to(losses.dtype)
        if self.reduction == "none":
            if self.kept is None:
                return losses.reshape(self.batch)
            every = losses.new_zeros(torch.Size(self.batch).numel())
            return every.index_copy(0, self.kept, losses).reshape(self.batch)
        if self.reduction == "sum":
            return losses.sum()
        if self.scale is None:
            return losses.sum() / max(1, len(losses))
        divisor = self.scale.sum()
        return losses.sum() / torch.where(divisor == 0.0, 1.0, divisor).to(losses.dtype)

    def of_log_prob(self, log_prob: Any) -> Any:
        """The answer, from the log-probabilities of all classes (n, K): label smoothing needs them all."""
        true = -log_prob.gather(1, self.target[:, None]).squeeze(1)
        if self.smoothing:
            possible = ~torch.isneginf(log_prob)
            spread = torch.where(possible, -log_prob, 0.0).sum(1) / possible.sum(1).clamp(min=1)
            true = (1.0 - self.smoothing) * true + self.smoothing * spread
        return self.reduced(true)
