"""Which calls on CUDA tensors the Triton kernels take; all others, and all without triton, go to plain torch.

Each function stands where the plain one of the same arguments stood, and hands on to it what the kernels do not take:
float64 and integer logits, masks, a temperature of its own for each class or one of 0, proportions, focal losses.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

from normexp.backends.tensors.targets import Options, check_weights, indices, row_weights
from normexp.backends.tensors.views import INTEGERS, batch_shape, compute_dtype, from_rows, to_rows


@functools.cache
def _kernels() -> Any:
    """The launches; None without triton."""
    try:
        from normexp.backends import gpu  # noqa: PLC0415  (only CUDA tensors need it)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "triton":
            raise
        return None
    return gpu


def taken(*tensors: Any) -> Any:
    """The launches, where they take such tensors; else None."""
    on_device = all(x.is_cuda for x in tensors) or (
        "triton" in sys.modules and all(x.device.type == "cpu" for x in tensors)
    )
    gpu = _kernels() if on_device else None
    return gpu if gpu is not None and all(gpu.computes(x) for x in tensors) else None


def _rows(logits: Any, axes: Any) -> tuple[Any, tuple[int, ...]]:
    """The logits as (N, K), a view where their strides allow it, and the batch's shape."""
    rows = to_rows(logits.detach(), axes)
    return rows.reshape(-1, rows.shape[-1]) if rows.numel() else rows.new_empty((0, rows.shape[-1])), rows.shape[:-1]


def _warmth(temperature: Any, logits: Any, axes: Any) -> Any:
    """One positive, finite temperature for each row, (N,) float64; None where it is not like that."""
    if any(temperature.shape[axis] > 1 for axis in axes):
        return None
    heat = temperature.detach().to(torch.float64)
    if not bool(((heat > 0.0) & torch.isfinite(heat)).all()):
        return None
    one = to_rows(heat, axes)[..., 0]
    return one.expand(batch_shape(logits.shape, axes)).reshape(-1)


def probabilities(of: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Softmax and log_softmax."""

    def computed(logits: Any, temperature: Any, where: Any, axes: Any) -> Any:
        gpu = taken(logits) if where is None and len(axes) else None
        heat = None
        if gpu is not None and temperature is not None:
            heat = _warmth(temperature, logits, axes)
            gpu = gpu if heat is not None else None
        if gpu is None or logits.numel() == 0:
            return plain(of, logits, temperature, where, axes)
        rows, batch = _rows(logits, axes)
        found = gpu.softmax(rows, heat, log=of == "log_softmax")
        return from_rows(found.reshape(*batch, -1), logits.shape, axes)

    return computed


def logsumexp(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Log-sum-exp."""

    def computed(logits: Any, where: Any, axes: Any) -> Any:
        gpu = taken(logits) if where is None and len(axes) and logits.numel() else None
        if gpu is None:
            return plain(logits, where, axes)
        rows, batch = _rows(logits, axes)
        return gpu.logsumexp(rows).reshape(batch)

    return computed


def top_k(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The k likeliest classes."""

    def computed(logits: Any, k: int, axis: int) -> Any:
        gpu = taken(logits) if logits.numel() else None
        if gpu is None or not 1 <= k <= gpu.MOST_BEST:
            return plain(logits, k, axis)
        rows, batch = _rows(logits, [axis])
        return tuple(part.reshape(*batch, k).movedim(-1, axis).contiguous() for part in gpu.top_k(rows, k))

    return computed


# ---------------------------------------------------------------- losses


def reduced(losses: Any, weights: Any, shape: Any, options: Options, dtype: Any) -> Any:
    """Row losses (N,), or their sum or mean, at least float32; a mean over no weight at all is 0."""
    if options.reduction == "none":
        return losses.reshape(shape).to(dtype)
    total = losses.sum()
    if options.reduction == "mean":
        total = total / _divisor(weights)
    return total.to(dtype)


def _divisor(weights: Any) -> Any:
    found = weights.sum()
    return torch.where(found == 0.0, 1.0, found)


def pulls_of(upstream: Any, weights: Any, options: Options) -> Any:
    """From the gradient of the answer to that of each row's loss, (N,) float64."""
    pull = upstream.detach().to(torch.float64)
    if options.reduction == "none":
        return pull.reshape(-1)
    if options.reduction == "mean":
        pull = pull / _divisor(weights)
    return pull.reshape(1).expand(weights.numel())


def _losses(logits: Any, target: Any, weight: Any, axis: int, options: Options, **asked: Any) -> Any:
    """The answer and the gradient by the kernels; None where they do not take the call. upstream=None: no gradient."""
    gpu = taken(logits) if target.dtype in INTEGERS and not options.gamma and logits.numel() else None
    if gpu is None:
        return None
    check_weights(weight, of="cross_entropy")
    index, _ = indices(target, logits.shape[axis], options.ignore_index, of="cross_entropy")
    weights = row_weights(target, weight, options.ignore_index).reshape(-1)
    upstream, wants_loss = asked["upstream"], asked["wants_loss"]
    rows, batch = _rows(logits, [axis])
    losses, grad = gpu.cross_entropy(
        rows, index.reshape(-1), weights, smoothing=options.smoothing, z_loss=options.z_loss,
        pulls=None if upstream is None else pulls_of(upstream, weights, options), wants_loss=wants_loss,
    )  # fmt: skip
    answer = reduced(losses, weights, batch, options, compute_dtype(logits.dtype)) if wants_loss else None
    return answer, None if grad is None else from_rows(grad.reshape(*batch, -1), logits.shape, [axis])


def cross_entropy(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The loss."""

    def computed(logits: Any, target: Any, weight: Any, axis: int, *given: Any) -> Any:
        found = _losses(logits, target, weight, axis, Options(*given), upstream=None, wants_loss=True)
        return plain(logits, target, weight, axis, *given) if found is None else found[0]

    return computed


def cross_entropy_grad(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient."""

    def computed(logits: Any, target: Any, weight: Any, axis: int, *given: Any) -> Any:
        *options, upstream = given
        found = _losses(logits, target, weight, axis, Options(*options), upstream=upstream, wants_loss=False)
        return plain(logits, target, weight, axis, *given) if found is None else found[1]

    return computed


def cross_entropy_with_grad(
    logits: Any, target: Any, weight: Any, axis: int, options: Options, upstream: Any
) -> tuple[Any, Any] | None:
    """Both in one launch; None where the kernels do not take the call."""
    found: tuple[Any, Any] | None = _losses(logits, target, weight, axis, options, upstream=upstream, wants_loss=True)
    return found
