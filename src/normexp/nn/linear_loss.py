"""The fused linear head as a module: a projection and its cross-entropy, without logits in memory."""

import math
from typing import Any

import torch
from torch import nn

from normexp.base.checks import check_number, check_reduction
from normexp.nn.checks import check_count, check_ignored, check_target, check_weights_dtype
from normexp.ops import linear_cross_entropy


class LinearCrossEntropyLoss(nn.Module):
    """Cross-entropy of ``x @ weight.T + bias``, in tiles over rows and classes, with exact gradients.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes.
    bias : bool, default True
        Whether the logits have an offset for each class.
    temperature : float, default 1.0
        The logits are divided by it.
    softcap : float, optional
        Logits become ``softcap * tanh(logits / softcap)``, before the temperature.
    weight : tensor of shape (K,), optional
        Class weights, kept as a buffer.
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread evenly.
    ignore_index : int or None, default -100
        Rows with this target do not count.
    z_loss : float, default 0.0
        Adds ``z_loss * logsumexp**2`` to each row.
    focal_gamma : float, default 0.0
        Multiplies a row's loss by ``(1 - p)**focal_gamma``.
    reduction : {"mean", "sum", "none"}, default "mean"
        As for ``normexp.linear_cross_entropy``.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    See Also
    --------
    SoftmaxHead : the same with probabilities and decisions.

    Notes
    -----
    The loss of [1]_ with nothing left out of the gradients; ``normexp.linear_cross_entropy`` states the bounds. Extra
    memory is the gradients and a block's logits; with bfloat16 parameters the projection's gradient is summed in
    float32. The projection is the parameter ``projection`` (K, D), initialised as ``torch.nn.Linear`` is.

    References
    ----------
    .. [1] Wijmans, Huval, Hertzberg, Koltun and Krähenbühl (2025), "Cut your losses in large-vocabulary language
       models", ICLR.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> loss = nx.nn.LinearCrossEntropyLoss(4, 3, bias=False)
    >>> with torch.no_grad():
    ...     _ = loss.projection.zero_()
    >>> round(loss(torch.ones(2, 4), torch.tensor([0, 2])).item(), 6)
    1.098612
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = True,
        temperature: float = 1.0,
        softcap: float | None = None,
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
        z_loss: float = 0.0,
        focal_gamma: float = 0.0,
        reduction: str = "mean",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        of = type(self).__name__
        self.in_features = check_count(in_features, of=of, name="in_features")
        self.num_classes = check_count(num_classes, of=of, name="num_classes")
        self.temperature = check_number(temperature, of=of, name="temperature", low=0.0)
        self.softcap = None if softcap is None else check_number(softcap, of=of, name="softcap", low=0.0)
        self.label_smoothing = check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0)
        self.ignore_index = check_ignored(ignore_index, of=of)
        check_weights_dtype(dtype, of=of)
        self.z_loss = check_number(z_loss, of=of, name="z_loss", low=0.0)
        self.focal_gamma = check_number(focal_gamma, of=of, name="focal_gamma", low=0.0)
        self.reduction = check_reduction(reduction, of=of)
        self.projection = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype)) if bias else None
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters, uniform within 1 / sqrt(in_features)."""
        bound = 1.0 / math.sqrt(self.in_features)
        for parameter in (self.projection, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Any, target: Any) -> Any:
        """The loss of features (..., D) for class indices (...) or proportions (..., K)."""
        target = check_target(target, of="LinearCrossEntropyLoss.forward")
        ignored = None if target.dtype.is_floating_point else self.ignore_index
        return linear_cross_entropy(
            x,
            self.projection,
            target,
            bias=self.bias,
            temperature=self.temperature,
            softcap=self.softcap,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=ignored,
            z_loss=self.z_loss,
            focal_gamma=self.focal_gamma,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """What differs from the plain loss."""
        plain = {"temperature": 1.0, "softcap": None, "label_smoothing": 0.0, "z_loss": 0.0, "focal_gamma": 0.0}
        told = [f"{name}={getattr(self, name)}" for name, usual in plain.items() if getattr(self, name) != usual]
        return ", ".join(
            [
                f"in_features={self.in_features}, num_classes={self.num_classes}, bias={self.bias is not None}",
                *told,
                f"reduction={self.reduction!r}",
            ]
        )
