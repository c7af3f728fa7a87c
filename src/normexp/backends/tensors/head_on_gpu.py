"""The fused linear head on CUDA tensors: which calls the kernels take, ignored rows left out before the product."""

from collections.abc import Callable
from typing import Any

import torch

from normexp.backends.tensors.on_gpu import pulls_of, reduced, taken
from normexp.backends.tensors.targets import check_weights, indices, row_weights
from normexp.backends.tensors.views import INTEGERS

_OF = "linear_cross_entropy"


def linear_cross_entropy(read: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """The loss and the wanted gradients, by the kernels where they take the call; ``read`` names the inputs."""

    def computed(*inputs: Any) -> Any:
        asked = read(*inputs)
        found = _by_kernels(asked)
        return plain(*inputs) if found is None else found

    return computed


def _by_kernels(asked: Any) -> Any:
    fits = asked.target.dtype in INTEGERS and not asked.gamma and asked.x.dtype == asked.projection.dtype
    fits = fits and asked.x.numel() > 0 and asked.projection.numel() > 0 and _is_warm(asked.temperature)
    gpu = taken(asked.x, asked.projection) if fits else None
    if gpu is None:
        return None
    from normexp.backends import gpu_head  # noqa: PLC0415  (only CUDA tensors need it)

    check_weights(asked.weight, of=_OF)
    count, options = len(asked.x), asked.options
    index, counts = indices(asked.target, len(asked.projection), options.ignore_index, of=_OF)
    weights = row_weights(asked.target, asked.weight, options.ignore_index)
    upstream = asked.upstream
    if upstream is None:
        one = torch.ones((), dtype=torch.float64, device=asked.x.device)
        upstream = one.expand(count) if options.reduction == "none" else one
    pulls = pulls_of(upstream, weights, options) if any(asked.wants) else None
    kept = None if bool(counts.all()) else counts.nonzero().reshape(-1)
    if kept is not None and not kept.numel():
        return None

    def rows(x: Any) -> Any:
        return x if x is None or kept is None else x[kept]

    heat = asked.temperature
    heat = None if heat is None else rows(heat.to(torch.float64).reshape(-1).expand(count))
    head = gpu_head.HeadRows(
        rows(asked.x.detach()), asked.projection.detach(), asked.bias, rows(index).contiguous(),
        rows(weights).contiguous(), heat, asked.softcap, options.smoothing, options.z_loss,
    )  # fmt: skip
    losses, found = gpu_head.linear_cross_entropy(head, rows(pulls))
    if kept is not None:
        losses = torch.zeros(count, dtype=losses.dtype, device=losses.device).index_copy_(0, kept, losses)
        if found is not None:
            of_x = torch.zeros(asked.x.shape, dtype=asked.x.dtype, device=losses.device)
            found = (of_x.index_copy_(0, kept, found[0].to(of_x.dtype)), *found[1:])
    back = [
        asked.x.new_empty(0) if found is None or tensor is None or not wanted else part.to(tensor.dtype)
        for tensor, wanted, part in zip(
            (asked.x, asked.projection, asked.bias), asked.wants, found or (None, None, None), strict=True
        )
    ]
    return (reduced(losses, weights, (count,), options, asked.loss_dtype), *back)


def _is_warm(temperature: Any) -> bool:
    """No temperature, or one positive and finite for all rows or for each."""
    if temperature is None:
        return True
    return temperature.shape[1] == 1 and bool(((temperature > 0) & torch.isfinite(temperature)).all())
