"""The dense head: one row of weights for each class."""

import math
from typing import Any

import torch
from torch import nn

from normexp.base.checks import check_number
from normexp.base.errors import RangeError, ShapeError
from normexp.nn.checks import check_ignored, check_positive, check_target
from normexp.nn.dense_head import DenseHead
from normexp.ops import linear_cross_entropy


class SoftmaxHead(DenseHead):
    """Linear head over all classes, with the loss fused into the product.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes.
    bias : bool, default True
        Whether the logits have an offset for each class.
    temperature : float, default 1.0
        Above 0; the logits are divided by it.
    softcap : float, optional
        Logits become ``softcap * tanh(logits / softcap)``, before the temperature.
    z_loss : float, default 0.0
        Adds ``z_loss * logsumexp**2`` to each row of the loss.
    tied_to : torch.nn.Parameter of shape (K, D), optional
        Weights that another module owns, such as an embedding's; shared, not copied.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    See Also
    --------
    AdaptiveHead, HierarchicalHead, SampledHead : for more classes than a dense head bears.

    Notes
    -----
    ``loss`` never holds the logits of all rows (``normexp.linear_cross_entropy``). ``top_k`` without gradients goes
    through the classes in tiles, once, and holds 16 MiB of logits at a time; ``log_prob`` holds them all.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.SoftmaxHead(2, 3, bias=False)
    >>> with torch.no_grad():
    ...     _ = head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> head.predict(x)
    tensor([2])
    >>> round(head.loss(x, torch.tensor([2])).item(), 4)
    0.5514
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = True,
        temperature: float = 1.0,
        softcap: float | None = None,
        *,
        z_loss: float = 0.0,
        tied_to: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, num_classes, dtype)
        of = type(self).__name__
        self.temperature = check_positive(temperature, of=of, name="temperature")
        self.softcap = None if softcap is None else check_positive(softcap, of=of, name="softcap")
        self.z_loss = check_number(z_loss, of=of, name="z_loss", low=0.0)
        self.is_tied = tied_to is not None
        if tied_to is None:
            self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        else:
            if not isinstance(tied_to, nn.Parameter):
                raise RangeError(
                    f"{of}: tied_to is a {type(tied_to).__name__}; a parameter of a module would be right."
                )
            if tuple(tied_to.shape) != (num_classes, in_features):
                raise ShapeError(
                    f"{of}: tied_to has shape {tuple(tied_to.shape)}; ({num_classes}, {in_features}) would be right."
                )
            self.weight = tied_to
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters, uniform within 1 / sqrt(in_features); tied weights stay as they are."""
        bound = 1.0 / math.sqrt(self.in_features)
        if not self.is_tied:
            nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def _offsets(self) -> Any:
        return self.bias

    def _shaped(self, z: Any) -> Any:
        if self.softcap is not None:
            z = self.softcap * torch.tanh(z / self.softcap)
        return z if self.temperature == 1.0 else z / self.temperature

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Cross-entropy of the targets: class indices (...), or proportions (..., K)."""
        x, target = self._features(x, "loss"), check_target(target, of="SoftmaxHead.loss")
        return linear_cross_entropy(
            x,
            self.weight,
            target,
            bias=self.bias,
            temperature=self.temperature,
            softcap=self.softcap,
            weight=weight,
            label_smoothing=label_smoothing,
            ignore_index=None if target.dtype.is_floating_point else check_ignored(ignore_index, of="SoftmaxHead.loss"),
            z_loss=self.z_loss,
            reduction=reduction,
        )

    def extra_repr(self) -> str:
        told = [f"bias={self.bias is not None}"]
        if self.temperature != 1.0:
            told.append(f"temperature={self.temperature:g}")
        if self.softcap is not None:
            told.append(f"softcap={self.softcap:g}")
        if self.is_tied:
            told.append("tied")
        return ", ".join([super().extra_repr(), *told])
