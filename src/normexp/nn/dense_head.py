"""A head whose logits come from one row of weights for each class: what does not depend on how it is trained."""

from abc import abstractmethod
from typing import Any

import torch
from torch import nn

from normexp.base.types import TopK
from normexp.nn.checks import check_top
from normexp.nn.head import Head
from normexp.nn.tiles import tiled_top_k
from normexp.ops import log_softmax


class DenseHead(Head):
    """Exact answers from the logits of all classes; ``top_k`` holds those of one tile at a time."""

    weight: Any
    mixes_dtypes = True

    @property
    @abstractmethod
    def _offsets(self) -> Any:
        """The offset of each class (K,), or None."""

    def _shaped(self, z: Any) -> Any:
        """Logits of the products with the weights: a softcap and a temperature come here."""
        return z

    def class_weights(self, classes: Any) -> tuple[Any, Any]:
        """Weights (..., D) and offsets (...) or None of some classes: a slice, or indices (...)."""
        return self.weight[classes], None if self._offsets is None else self._offsets[classes]

    def logits_of(self, x: Any, classes: Any) -> Any:
        """Logits of some classes, at least float32: (N, S) of indices (S,) that all rows share, or of (N, S)."""
        weight, bias = self.class_weights(classes)
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        rows, weight = x.to(wide), weight.to(wide)
        z = rows @ weight.T if classes.ndim == 1 else torch.bmm(weight, rows[:, :, None]).squeeze(2)
        return self._shaped(z if bias is None else z + bias.to(wide))

    def _logits(self, x: Any, first: int, last: int, out: Any = None) -> Any:
        """Logits of the classes [first, last) of features (..., D); ``out``, for (N, D) of them, may be filled."""
        weight, bias = self.class_weights(slice(first, last))
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            wide = torch.promote_types(x.dtype, weight.dtype)
            x, weight, bias = x.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
        if out is None:
            return self._shaped(nn.functional.linear(x, weight, bias))
        return self._shaped(torch.mm(x, weight.T, out=out) if bias is None else torch.addmm(bias, x, weight.T, out=out))

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
        room = rows if self._can_be_written(rows) else None
        found = tiled_top_k(lambda *tile: self._logits(rows, *tile), len(rows), self.num_classes, count, room=room)
        return TopK(*(part.reshape(*x.shape[:-1], count) for part in found))

    def _can_be_written(self, rows: Any) -> bool:
        """Whether all tiles may share the memory of one: autocast and torch.func's transforms take no ``out``."""
        is_plain = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())  # noqa: SLF001  (there is no public way to ask)
        return is_plain and not torch.is_autocast_enabled(rows.device.type) and rows.dtype == self.weight.dtype
