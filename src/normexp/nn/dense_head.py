"""A head whose logits come from one row of weights for each class: what does not depend on how it is trained."""

from abc import abstractmethod
from typing import Any

import torch

from normexp.base.types import TopK
from normexp.nn.checks import check_top
from normexp.nn.head import Head
from normexp.nn.tiles import tiled_top_k
from normexp.ops import log_softmax


class DenseHead(Head):
    """Exact answers from the logits of all classes; ``top_k`` holds those of one tile at a time."""

    weight: Any

    @abstractmethod
    def _logits(self, x: Any, first: int, last: int) -> Any:
        """Logits of the classes [first, last) of features (..., D)."""

    def forward(self, x: Any) -> Any:
        """Logits of all classes (..., K)."""
        return self._logits(self._features(x, "forward"), 0, self.num_classes)

    def log_prob(self, x: Any) -> Any:
        return log_softmax(self._logits(self._features(x, "log_prob"), 0, self.num_classes))

    def predict(self, x: Any) -> Any:
        with torch.no_grad():
            return self.top_k(x, 1).index.squeeze(-1)

    def top_k(self, x: Any, k: int) -> TopK:
        count = check_top(k, self.num_classes, of=f"{type(self).__name__}.top_k")
        x = self._features(x, "top_k")
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return super().top_k(x, count)
        rows = x.reshape(-1, self.in_features)
        found = tiled_top_k(lambda a, b: self._logits(rows, a, b), len(rows), self.num_classes, count)
        return TopK(*(part.reshape(*x.shape[:-1], count) for part in found))
