"""Cosine heads that ask the true class for a margin: ArcFace and CosFace."""

import math
from typing import Any

import torch
from torch import nn

from normexp.base.checks import check_number
from normexp.base.errors import RangeError
from normexp.nn.checks import check_positive
from normexp.nn.head import Head
from normexp.ops import cross_entropy, log_softmax

KINDS = ("arcface", "cosface")


class MarginHead(Head):
    """Softmax over scaled cosines; in the loss, the true class's cosine is lowered by a margin.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes.
    kind : {"arcface", "cosface"}, default "arcface"
        ArcFace adds the margin to the angle [1]_, CosFace takes it off the cosine [2]_.
    scale : float, default 64.0
        What cosines are multiplied by.
    margin : float, default 0.5
        At least 0; for ArcFace below pi.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    Notes
    -----
    ``forward``, ``log_prob``, ``predict`` and ``top_k`` know no margin: it is a matter of training. Beyond the angle
    ``pi - margin``, where the cosine of the sum would rise again, ArcFace goes on with ``cos - margin sin(margin)``,
    as its authors' code does, so the loss never rewards a wrong direction. The derivative of the angle is finite even
    where features and weights are parallel, being taken by way of ``sin = sqrt(1 - cos^2)`` held above 1e-4.

    References
    ----------
    .. [1] Deng, Guo, Xue and Zafeiriou (2019), "ArcFace: additive angular margin loss for deep face recognition",
       CVPR, eq. 3.
    .. [2] Wang et al. (2018), "CosFace: large margin cosine loss for deep face recognition", CVPR, eq. 4.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.MarginHead(2, 2, kind="cosface", scale=4.0, margin=0.25)
    >>> with torch.no_grad():
    ...     _ = head.weight.copy_(torch.eye(2))
    >>> head(torch.tensor([[3.0, 0.0]]))
    tensor([[4., 0.]], grad_fn=<MulBackward0>)
    >>> round(head.loss(torch.tensor([[3.0, 0.0]]), torch.tensor([0])).item(), 6)
    0.048587
    """

    mixes_dtypes = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        kind: str = "arcface",
        scale: float = 64.0,
        margin: float = 0.5,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, num_classes, dtype)
        of = type(self).__name__
        if kind not in KINDS:
            raise RangeError(f"{of}: kind is {kind!r}; 'arcface' or 'cosface' would be right.")
        self.kind = kind
        self.scale = check_positive(scale, of=of, name="scale")
        high = 3.14159 if kind == "arcface" else 2.0
        self.margin = check_number(margin, of=of, name="margin", low=0.0, high=high)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new directions, uniform over the sphere."""
        nn.init.normal_(self.weight)

    def _cosines(self, x: Any) -> Any:
        """Cosines (..., K), at least float32 under autocast too: bfloat16 could not tell angles apart."""
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(torch.promote_types(x.dtype, self.weight.dtype), torch.float32)
            rows = nn.functional.normalize(x.to(wide), dim=-1)
            return nn.functional.linear(rows, nn.functional.normalize(self.weight.to(wide), dim=-1))

    def forward(self, x: Any) -> Any:
        """Scaled cosines (..., K), without the margin."""
        return self._cosines(self._features(x, "forward")) * self.scale

    def log_prob(self, x: Any) -> Any:
        return log_softmax(self.forward(self._features(x, "log_prob")))

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Cross-entropy of the targets (...), with the margin."""
        asked = self._asked(x, target, reduction, weight, label_smoothing, ignore_index)
        cosines = self._cosines(asked.rows)
        true = cosines.gather(1, asked.target[:, None])
        logits = self.scale * cosines.scatter(1, asked.target[:, None], self._lowered(true))
        if not len(asked.target):
            return asked.reduced(logits.sum(1))
        return asked.reduced(cross_entropy(logits, asked.target, label_smoothing=label_smoothing, reduction="none"))

    def _lowered(self, cosine: Any) -> Any:
        """The true class's cosine, less the margin."""
        if self.kind == "cosface":
            return cosine - self.margin
        sine = torch.sqrt(torch.clamp(1.0 - cosine.square(), min=1e-8))
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), turned, beyond)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind!r}, scale={self.scale:g}, margin={self.margin:g}"
