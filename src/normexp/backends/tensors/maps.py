"""Sparse maps, softmax of segments and the full Jacobian of softmax as registered ops."""

from typing import Any

import torch

from normexp.backends import derivatives as _derivatives
from normexp.backends import segments as _segments
from normexp.backends import sparse_maps as _sparse_maps
from normexp.backends.tensors import plain
from normexp.backends.tensors.operation import Derivatives, Operation, along_rows, keep, one_by_one
from normexp.backends.tensors.views import (
    array_of,
    compute_dtype,
    from_rows,
    numpy_dtype,
    result_dtype,
    tensor_of,
    to_rows,
)
from normexp.base.errors import RangeError

# ---------------------------------------------------------------- entmax


def _entmax_on_cpu(logits: Any, alpha: float, axes: Any) -> Any:
    computed = compute_dtype(logits.dtype)
    found = _sparse_maps.entmax(array_of(logits), tuple(axes), None, numpy_dtype(computed), alpha=alpha)
    return tensor_of(found, result_dtype(logits.dtype))


def _entmax_anywhere(logits: Any, alpha: float, axes: Any) -> Any:
    found = plain.entmax(to_rows(logits, axes), alpha)
    return from_rows(found.to(result_dtype(logits.dtype)), logits.shape, axes)


def _fake_map(logits: Any, *_: Any) -> Any:
    return torch.empty_like(logits, dtype=result_dtype(logits.dtype), memory_format=torch.contiguous_format)


def _entmax_keep(ctx: Any, inputs: Any, output: Any) -> None:
    logits, ctx.alpha, ctx.axes = inputs
    keep(ctx, logits, output)


def _entmax_product(ctx: Any, vector: Any) -> Any:
    """S (v - s'v / sum(s)) with s = p^(2 - alpha) on the support; Peters, Niculae and Martins (2019), prop. 2."""
    logits, prob = ctx.saved_tensors
    dims = tuple(ctx.axes)
    support = prob > 0.0
    s = torch.where(support, torch.where(support, prob, 1.0).double().pow(2.0 - ctx.alpha), 0.0)
    v = torch.where(support, vector.double(), 0.0)
    if dims:
        mean = (s * v).sum(dims, keepdim=True) / torch.where(support, s, 0.0).sum(dims, keepdim=True)
    else:
        mean = v
    found = torch.where(support, s * (v - mean), 0.0)
    if logits.numel() and dims:  # rows with NaN or +inf have no support, and no derivative but NaN
        top = logits.amax(dims, keepdim=True)
        found = torch.where(torch.isnan(top) | torch.isposinf(top), torch.nan, found)
    return found.to(prob.dtype)


def _entmax_backward(ctx: Any, upstream: Any) -> Any:
    return _entmax_product(ctx, upstream), None, None


def _entmax_jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
    return _entmax_product(ctx, dlogits)


entmax = Operation(
    "entmax(Tensor logits, float alpha, int[] axes) -> Tensor",
    on_cpu=_entmax_on_cpu,
    anywhere=_entmax_anywhere,
    fake=_fake_map,
    batched=along_rows(axes_at=2),
    derivatives=Derivatives(_entmax_keep, _entmax_backward, _entmax_jvp),
)

# ---------------------------------------------------------------- softmax of segments


def _check_segments(ids: Any, limit: int | None) -> None:
    """Group numbers of at least 0, below the limit; the first that is not is named."""
    wrong = ids < 0
    if limit is not None:
        wrong = wrong | (ids >= limit)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        right = "at least 0" if limit is None else f"0 to {limit - 1}"
        raise RangeError(f"segment_softmax: segment_ids of row {row} is {int(ids[row])}; {right} would be right.")


def _segments_on_cpu(logits: Any, ids: Any, limit: int | None) -> Any:
    _check_segments(ids, limit)
    computed = compute_dtype(logits.dtype)
    found = _segments.segment_softmax(array_of(logits), array_of(ids), None, numpy_dtype(computed))
    return tensor_of(found, result_dtype(logits.dtype))


def _segments_anywhere(logits: Any, ids: Any, limit: int | None) -> Any:
    _check_segments(ids, limit)
    z = logits.double()
    count = int(ids.max()) + 1 if ids.numel() else 0
    index = _as_columns(ids, z)
    top = z.new_full((count, *z.shape[1:]), -plain.INF).scatter_reduce(0, index, z, "amax")
    gap = z - top[ids]
    terms = torch.exp(gap)
    total = torch.zeros_like(top).scatter_add(0, index, terms)
    return (terms / total[ids]).to(result_dtype(logits.dtype)).contiguous()


def _as_columns(ids: Any, like: Any) -> Any:
    """Group numbers (N,) repeated for each column of (N, ...)."""
    return ids.reshape(-1, *(1 for _ in like.shape[1:])).expand(like.shape)


_group_numbers = Operation(
    "group_numbers(Tensor segment_ids) -> Tensor",
    on_cpu=lambda ids: torch.unique(ids, return_inverse=True)[1],
    anywhere=lambda ids: torch.unique(ids, return_inverse=True)[1],
    fake=lambda ids: torch.empty_like(ids, dtype=torch.int64),
    batched=one_by_one(),
)


def _segments_keep(ctx: Any, inputs: Any, output: Any) -> None:
    logits, ids, _ = inputs
    keep(ctx, logits, ids, output)


def _segments_product(ctx: Any, vector: Any) -> Any:
    """P (v - sum of p v in the group); the Jacobian is symmetric."""
    logits, ids, prob = ctx.saved_tensors
    if not prob.numel():
        return prob.clone()
    p = prob.double()
    v = torch.where(p == 0.0, 0.0, vector.double())
    index = _as_columns(_group_numbers(ids), p)  # below N, however large the groups' names are
    means = torch.zeros_like(p).scatter_add(0, index, p * v)
    found = p * (v - means.gather(0, index))
    tops = torch.full_like(p, -plain.INF).scatter_reduce(0, index, logits.double(), "amax")
    return torch.where(torch.isneginf(tops.gather(0, index)), 0.0, found).to(prob.dtype)


def _segments_backward(ctx: Any, upstream: Any) -> Any:
    return _segments_product(ctx, upstream), None, None


def _segments_jvp(ctx: Any, dlogits: Any, *_: Any) -> Any:
    return _segments_product(ctx, dlogits)


segment_softmax = Operation(
    "segment_softmax(Tensor logits, Tensor segment_ids, int? num_segments) -> Tensor",
    on_cpu=_segments_on_cpu,
    anywhere=_segments_anywhere,
    fake=_fake_map,
    batched=one_by_one(),
    derivatives=Derivatives(_segments_keep, _segments_backward, _segments_jvp),
)

# ---------------------------------------------------------------- the Jacobian as a matrix


def _jacobian_on_cpu(prob: Any) -> Any:
    computed = compute_dtype(prob.dtype)
    return tensor_of(_derivatives.jacobian(array_of(prob), numpy_dtype(computed)), result_dtype(prob.dtype))


def _jacobian_anywhere(prob: Any) -> Any:
    p = prob.double()
    others = p.sum(-1, keepdim=True) - p
    if p.shape[-1]:
        best = p.argmax(-1, keepdim=True)
        rest = p.scatter(-1, best, 0.0).sum(-1, keepdim=True)
        others = (1.0 - p).scatter(-1, best, rest)
    found = torch.diag_embed(p * others) - (p[..., :, None] * p[..., None, :]).tril(-1)
    found = found - (p[..., :, None] * p[..., None, :]).triu(1)
    return found.to(result_dtype(prob.dtype)).contiguous()


def _jacobian_fake(prob: Any) -> Any:
    return prob.new_empty((*prob.shape, prob.shape[-1]), dtype=result_dtype(prob.dtype))


def _jacobian_keep(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    keep(ctx, inputs[0])


def _jacobian_backward(ctx: Any, upstream: Any) -> Any:
    (p,) = ctx.saved_tensors
    both = upstream + upstream.transpose(-1, -2)
    return upstream.diagonal(dim1=-2, dim2=-1) - (both @ p.unsqueeze(-1)).squeeze(-1)


def _jacobian_jvp(ctx: Any, dprob: Any) -> Any:
    (p,) = ctx.saved_tensors
    crossed = p[..., :, None] * dprob[..., None, :]
    return torch.diag_embed(dprob) - crossed - crossed.transpose(-1, -2)


jacobian = Operation(
    "softmax_jacobian(Tensor prob) -> Tensor",
    on_cpu=_jacobian_on_cpu,
    anywhere=_jacobian_anywhere,
    fake=_jacobian_fake,
    batched=lambda operation, _, dims, prob: (operation.op(prob.movedim(dims[0], 0)), 0),
    derivatives=Derivatives(_jacobian_keep, _jacobian_backward, _jacobian_jvp),
)
