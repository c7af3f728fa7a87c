"""The functions on arrays, for tensors: the same names, arguments and meaning; ``normexp.ops`` documents them."""

from typing import Any

import numpy as np
import torch

from normexp.backends.tensors import doubt as _doubt
from normexp.backends.tensors import draws as _draws
from normexp.backends.tensors import losses as _losses
from normexp.backends.tensors import maps as _maps
from normexp.backends.tensors import plain
from normexp.backends.tensors import probabilities as _probabilities
from normexp.backends.tensors.door import (
    axes_of,
    check_tensor,
    mask_of,
    name_of,
    numbers,
    one_axis,
    out_of,
    seed_of,
    target_of,
    temperature_of,
    tensor_like,
    weight_of,
)
from normexp.backends.tensors.targets import Options, check_target_shape
from normexp.backends.tensors.views import INTEGERS, result_dtype, spread
from normexp.base.checks import check_number, check_whole
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.types import LossGrad, TopK

GAMMA = 0.1  # Liu, Lochman and Zach (2023), sec. 4.1, as for arrays
LARGEST = 100


def softmax(logits: Any, /, *, axis: Any = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Any:
    """Probabilities."""
    return _map("softmax", logits, axis, temperature, where, out)


def log_softmax(logits: Any, /, *, axis: Any = -1, temperature: Any = 1.0, where: Any = None, out: Any = None) -> Any:
    """Logarithms of the probabilities."""
    return _map("log_softmax", logits, axis, temperature, where, out)


def _map(of: str, logits: Any, axis: Any, temperature: Any, where: Any, out: Any) -> Any:
    check_tensor(logits, of=of)
    axes = axes_of(axis, logits, of=of)
    heat, mask = temperature_of(temperature, logits, logits.shape, of=of), mask_of(where, logits, of=of)
    operation = _probabilities.softmax if of == "softmax" else _probabilities.log_softmax
    if out is None:
        return operation(logits, heat, mask, axes)
    watched = torch.is_grad_enabled() and (logits.requires_grad or out.requires_grad)
    out_of(out, logits.shape, result_dtype(logits.dtype), of=of, watched=watched)
    if not torch.compiler.is_compiling() and logits.device.type == out.device.type == "cpu":
        return _probabilities.fill_on_cpu(of, logits, heat, mask, axes, out)
    return out.copy_(operation(logits, heat, mask, axes))


def logsumexp(logits: Any, /, *, axis: Any = -1, where: Any = None, keepdims: bool = False) -> Any:
    """Log of the sum of exponentials."""
    of = "logsumexp"
    check_tensor(logits, of=of)
    axes = axes_of(axis, logits, of=of)
    found = _probabilities.logsumexp(logits, mask_of(where, logits, of=of), axes)
    return spread(found, axes) if keepdims else found


def softmax_vjp(prob: Any, cotangent: Any, /, *, axis: Any = -1) -> Any:
    """Product with the Jacobian from the left."""
    return _product("softmax_vjp", prob, cotangent, "cotangent", axis)


def softmax_jvp(prob: Any, tangent: Any, /, *, axis: Any = -1) -> Any:
    """Product with the Jacobian from the right."""
    return _product("softmax_jvp", prob, tangent, "tangent", axis)


def _product(of: str, prob: Any, vector: Any, name: str, axis: Any) -> Any:
    check_tensor(prob, of=of, name="prob")
    other = check_tensor(tensor_like(vector, prob, of=of, name=name), of=of, name=name)
    axes = axes_of(axis, prob, of=of)
    if other.shape != prob.shape:
        raise ShapeError(
            f"{of}: {name} has shape {tuple(other.shape)} and prob {tuple(prob.shape)}; the shape of prob would be "
            f"right."
        )
    dtype = result_dtype(prob.dtype)
    return _probabilities.product(prob.to(dtype), other.to(dtype), axes)


def softmax_jacobian(prob: Any, /) -> Any:
    """The Jacobian itself."""
    of = "softmax_jacobian"
    check_tensor(prob, of=of, name="prob")
    if prob.ndim == 0:
        raise ShapeError(f"{of}: prob is a single number; probabilities of shape (..., K) would be right.")
    return _maps.jacobian(prob.to(result_dtype(prob.dtype)))


def segment_softmax(logits: Any, segment_ids: Any, /, *, num_segments: Any = None) -> Any:
    """Softmax of each group."""
    of = "segment_softmax"
    check_tensor(logits, of=of)
    if logits.ndim == 0:
        raise ShapeError(f"{of}: logits are a single number; an array of shape (N, ...) would be right.")
    ids = tensor_like(segment_ids, logits, of=of, name="segment_ids")
    if not isinstance(segment_ids, torch.Tensor) and ids.numel() == 0:
        ids = ids.to(torch.int64)
    if ids.dtype not in INTEGERS:
        raise DtypeError(f"{of}: segment_ids have dtype {name_of(ids.dtype)}; integers would be right.")
    if tuple(ids.shape) != tuple(logits.shape[:1]):
        raise ShapeError(
            f"{of}: segment_ids have shape {tuple(ids.shape)} and the logits {tuple(logits.shape)}; "
            f"{tuple(logits.shape[:1])} would be right."
        )
    limit = None if num_segments is None else check_whole(num_segments, of=of, name="num_segments")
    if limit is not None and limit < 0:
        raise RangeError(f"{of}: num_segments is {limit}; at least 0 would be right.")
    return _maps.segment_softmax(logits, ids.to(torch.int64), limit)


def sparsemax(logits: Any, /, *, axis: Any = -1) -> Any:
    """The nearest probabilities."""
    return _sparse("sparsemax", logits, 2.0, axis)


def entmax(logits: Any, /, *, alpha: Any = 1.5, axis: Any = -1) -> Any:
    """Between softmax and sparsemax."""
    return _sparse("entmax", logits, check_number(alpha, of="entmax", name="alpha", low=1.0), axis)


def _sparse(of: str, logits: Any, alpha: float, axis: Any) -> Any:
    check_tensor(logits, of=of)
    axes = axes_of(axis, logits, of=of)
    if alpha == 1.0:
        return _probabilities.softmax(logits, None, None, axes)
    return _maps.entmax(logits, alpha, axes)


def top_k(logits: Any, k: Any, /, *, axis: Any = -1) -> TopK:
    """The likeliest classes."""
    of = "top_k"
    check_tensor(logits, of=of)
    at = one_axis(axis, logits, of=of)
    count, classes = check_whole(k, of=of, name="k"), logits.shape[at]
    if not 1 <= count <= classes:
        raise RangeError(f"{of}: k is {count}; with {classes} classes, 1 to {classes} would be right.")
    return TopK(*_doubt.top_k(logits, count, at))


# ---------------------------------------------------------------- draws


def _drawing(of: str, logits: Any, axis: Any) -> int:
    check_tensor(logits, of=of)
    return one_axis(axis, logits, of=of) if logits.ndim else 0


def sample(logits: Any, /, *, size: Any = None, replace: bool = True, rng: Any = None, axis: Any = -1) -> Any:
    """Classes drawn at random."""
    of = "sample"
    at = _drawing(of, logits, axis)
    count = 1 if size is None else check_whole(size, of=of, name="size")
    if count < 0:
        raise RangeError(f"{of}: size is {count}; at least 0 would be right.")
    if isinstance(rng, np.random.Generator):
        found = _draws.drawn(logits.detach(), count, bool(replace), at, rng)
    else:
        found = _draws.sample(logits.detach(), seed_of(rng, logits, of=of), count, bool(replace), at)
    return found.squeeze(-1) if size is None else found


def gumbel_softmax(
    logits: Any, /, *, temperature: Any = 1.0, hard: bool = False, rng: Any = None, axis: Any = -1
) -> Any:
    """Softmax with Gumbel noise; with ``hard`` the gradient is that of the soft answer (straight through)."""
    of = "gumbel_softmax"
    at = _drawing(of, logits, axis)
    heat = temperature_of(temperature, logits, logits.shape, of=of)
    if isinstance(rng, np.random.Generator):
        noise = _draws.noise_of(logits.shape, at, rng, logits.device)
    else:
        noise = _draws.gumbel_noise(logits.detach(), seed_of(rng, logits, of=of), at)
    dtype, axes = result_dtype(logits.dtype), [at] if logits.ndim else []
    keys = plain.floats(logits, axes) + noise
    soft = _probabilities.softmax(keys, heat, None, axes)
    if hard:
        cold = torch.zeros([1] * keys.ndim, dtype=torch.float64, device=keys.device)
        chosen = _probabilities.softmax(keys.detach(), cold, None, axes)
        soft = chosen + (soft - soft.detach()) if soft.requires_grad else chosen
    return soft.to(dtype)


# ---------------------------------------------------------------- doubt


def entropy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Shannon's entropy."""
    return _doubtful("entropy", logits, axis, _doubt.entropy)


def margin(logits: Any, /, *, axis: Any = -1) -> Any:
    """Difference of the two largest logits."""
    return _doubtful("margin", logits, axis, _doubt.margin)


def energy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Minus the log-sum."""
    check_tensor(logits, of="energy")
    return -_probabilities.logsumexp(logits, None, axes_of(axis, logits, of="energy"))


def max_logit(logits: Any, /, *, axis: Any = -1) -> Any:
    """The largest logit."""
    return _doubtful("max_logit", logits, axis, _doubt.max_logit)


def generalised_entropy(logits: Any, /, *, axis: Any = -1) -> Any:
    """Generalised entropy."""
    return _doubtful("generalised_entropy", logits, axis, _doubt.generalised_entropy)


def _doubtful(of: str, logits: Any, axis: Any, operation: Any) -> Any:
    check_tensor(logits, of=of)
    return operation(logits, axes_of(axis, logits, of=of), LARGEST, GAMMA)


# ---------------------------------------------------------------- losses


def cross_entropy(
    logits: Any,
    target: Any,
    /,
    *,
    axis: Any = -1,
    weight: Any = None,
    label_smoothing: Any = 0.0,
    ignore_index: Any = None,
    z_loss: Any = 0.0,
    focal_gamma: Any = 0.0,
    reduction: Any = "mean",
) -> Any:
    """Cross-entropy."""
    of = "cross_entropy"
    options = numbers(label_smoothing, ignore_index, z_loss, focal_gamma, reduction, of=of)
    return _losses.cross_entropy(*_asked(of, logits, target, axis, weight, options), *options)


def cross_entropy_with_grad(
    logits: Any,
    target: Any,
    /,
    *,
    axis: Any = -1,
    weight: Any = None,
    label_smoothing: Any = 0.0,
    ignore_index: Any = None,
    z_loss: Any = 0.0,
    focal_gamma: Any = 0.0,
    reduction: Any = "mean",
) -> LossGrad:
    """Cross-entropy and its gradient in one pass; neither can be differentiated further."""
    of = "cross_entropy_with_grad"
    given = numbers(label_smoothing, ignore_index, z_loss, focal_gamma, reduction, of=of)
    z, answers, class_weight, at = _asked(of, logits, target, axis, weight, given)
    with torch.no_grad():
        return LossGrad(*_losses.with_gradient(z, answers, class_weight, at, Options(*given)))


def _asked(of: str, logits: Any, target: Any, axis: Any, weight: Any, options: Any) -> tuple[Any, ...]:
    """The tensors and the axis, checked."""
    check_tensor(logits, of=of)
    at = one_axis(axis, logits, of=of)
    class_weight = weight_of(weight, logits, logits.shape[at], of=of)
    answers = target_of(target, logits, at, of=of)
    check_target_shape(answers, logits.shape, at, options[1], of=of)
    return logits, answers, class_weight, at
