"""The dense head with its classes split over the ranks of a process group: three collectives, whatever K."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from normexp.base.errors import ArtifactError, RangeError, ShapeError
from normexp.base.types import TopK
from normexp.nn.agreement import agreed
from normexp.nn.checks import FLOATS, check_top
from normexp.nn.head import Asked, Head
from normexp.nn.tiles import tiled_top_k


class ShardedHead(Head):
    """Linear head of which each rank holds a run of the classes; every rank sees all rows.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes, enough that each rank gets one.
    process_group : torch.distributed.ProcessGroup, optional
        Whose ranks share the classes; None takes the default group.
    bias : bool, default True
        Whether the logits have an offset for each class.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit, or no process group is there.

    Notes
    -----
    With ``n = ceil(K / R)``, rank r holds classes ``[r n, (r + 1) n)``, the last rank what is left, as ``torch.chunk``
    parts them. A row's state (m, s) on
    each rank merges by two collectives, the maximum and then the sum of ``s exp(m_r - m)`` [1]_; the third adds up what
    the rank of the true class knows of it. The gradient needs none for the weights, and one sum for ``x``: inputs are
    taken to be the same on all ranks, and so are their gradients then. A check that fails on one rank fails on all:
    ranks agree on it, and on having the same targets, in one more small collective before they wait for each other. A
    rank that never comes ends the wait of the others with a ClusterError after the process group's timeout.

    References
    ----------
    .. [1] Milakov and Gimelshein (2018), "Online normalizer calculation for softmax", arXiv:1805.02867, eq. 4.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        process_group: Any = None,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RangeError(
                "ShardedHead: there is no process group; call torch.distributed.init_process_group first, or take a "
                "SoftmaxHead."
            )

        def made() -> tuple[None, list[int]]:
            self._make(in_features, num_classes, process_group, device=device, dtype=dtype, bias=bias)
            return None, [in_features, num_classes, int(bias), FLOATS.index(self.weight.dtype)]

        _, is_same = agreed(made, 4, of="ShardedHead", device=device, group=process_group)
        if not is_same:
            raise RangeError(
                f"ShardedHead: this rank was told in_features={in_features}, num_classes={num_classes}, bias={bias}, "
                f"dtype={self.weight.dtype} and another rank something else; the same on every rank would be right."
            )

    def _make(
        self, in_features: int, num_classes: int, process_group: Any, *, bias: bool, device: Any, dtype: Any
    ) -> None:
        """Check this rank's arguments, and make its parameters."""
        super().__init__(in_features, num_classes, dtype)
        self.group = process_group
        self.rank, self.world = dist.get_rank(process_group), dist.get_world_size(process_group)
        if self._begin(self.world - 1) >= num_classes:
            raise RangeError(
                f"ShardedHead: {self.world} ranks share {num_classes} classes, {self._begin(1)} each, and the last "
                f"gets none; fewer ranks would be right."
            )
        self.first, self.last = self._begin(self.rank), self._begin(self.rank + 1)
        size = self.last - self.first
        self.weight = nn.Parameter(torch.empty(size, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _begin(self, rank: int) -> int:
        """The first class of a rank."""
        return int(min(rank * -(-self.num_classes // self.world), self.num_classes))

    def reset_parameters(self) -> None:
        """Draw new parameters, uniform within 1 / sqrt(in_features), each rank its own."""
        bound = 1.0 / math.sqrt(self.in_features)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    # ---------------------------------------------------------------- whole weights

    def load_dense(self, weight: Any, bias: Any = None) -> None:
        """Take this rank's classes of a whole projection (K, D) and bias (K,), the same on all ranks."""
        if tuple(weight.shape) != (self.num_classes, self.in_features):
            raise ShapeError(
                f"ShardedHead.load_dense: weight has shape {tuple(weight.shape)}; "
                f"({self.num_classes}, {self.in_features}) would be right."
            )
        if (bias is None) != (self.bias is None):
            raise RangeError("ShardedHead.load_dense: bias is given to a head without one, or missing for one with it.")
        with torch.no_grad():
            self.weight.copy_(weight[self.first : self.last])
            if self.bias is not None:
                self.bias.copy_(bias[self.first : self.last])

    def sharded_state_dict(self) -> dict[str, Any]:
        """The parameters as distributed tensors, for ``torch.distributed.checkpoint.save``.

        What is saved is the whole projection ``weight`` (K, D) and ``bias`` (K,): it loads on any number of ranks, or
        without any into plain tensors of these shapes.
        """
        from torch.distributed.device_mesh import DeviceMesh  # noqa: PLC0415  (slow to import, and not in every build)
        from torch.distributed.tensor import DTensor, Shard  # noqa: PLC0415

        device = self.weight.device.type
        group = self.group if self.group is not None else dist.group.WORLD
        mesh = DeviceMesh.from_group(group, device)
        found = {}
        for name, parameter in self.named_parameters():
            shape = torch.Size((self.num_classes, *parameter.shape[1:]))
            found[name] = DTensor.from_local(
                parameter.detach(), mesh, [Shard(0)], run_check=False, shape=shape, stride=parameter.stride()
            )
        return found

    def load_sharded(self, folder: Any) -> None:
        """Take the parameters from a checkpoint of ``sharded_state_dict``, saved on any number of ranks."""
        from torch.distributed import checkpoint  # noqa: PLC0415  (slow to import)

        try:
            checkpoint.load(self.sharded_state_dict(), checkpoint_id=folder, process_group=self.group)
        except checkpoint.CheckpointException as error:
            why = str(next(iter(error.failures.values()))[0]).split(";", 1)[0]
            raise ArtifactError(
                f"ShardedHead.load_sharded: {folder} holds no head of {self.num_classes} classes and "
                f"{self.in_features} features ({why}); build the head as the one that was saved."
            ) from None

    def gather_dense(self) -> tuple[Any, Any]:
        """The whole projection (K, D) and bias (K,) or None, on every rank."""
        with torch.no_grad():
            return self._gathered(self.weight), None if self.bias is None else self._gathered(self.bias)

    def _gathered(self, mine: Any) -> Any:
        """Shards of all ranks, one after another; shards may differ by a row, so each is filled up to the longest."""
        longest = -(-self.num_classes // self.world)
        padded = mine.new_zeros(longest, *mine.shape[1:])
        padded[: len(mine)] = mine
        every = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(every, padded, group=self.group)
        sizes = [self._begin(r + 1) - self._begin(r) for r in range(self.world)]
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])

    # ---------------------------------------------------------------- probabilities

    def _logits(self, rows: Any) -> Any:
        return nn.functional.linear(rows, self.weight, self.bias)

    def log_prob(self, x: Any) -> Any:
        """Log-probabilities of all classes (..., K), on every rank; without gradients."""
        x, _ = self._asked_of_all(x, "log_prob")
        with torch.no_grad():
            z = self._logits(x.reshape(-1, self.in_features))
            whole = self._gathered(z.T.contiguous()).T
        return torch.log_softmax(whole.to(torch.float64), -1).to(z.dtype).reshape(*x.shape[:-1], self.num_classes)

    def top_k(self, x: Any, k: int) -> TopK:
        """The k likeliest classes, best first: each rank's own k, and the best of these."""
        x, count = self._asked_of_all(x, "top_k", k)
        with torch.no_grad():
            rows = x.reshape(-1, self.in_features)
            z = self._logits(rows)
            mine = min(count, z.shape[1])
            found = tiled_top_k(lambda a, b, _: z[:, a:b], len(rows), z.shape[1], mine)
            values = z.new_full((len(rows), count), -torch.inf, dtype=torch.float64)
            index = torch.zeros(len(rows), count, dtype=torch.int64, device=z.device)
            values[:, :mine], index[:, :mine] = z.gather(1, found.index).double(), found.index + self.first
            lse = z.gather(1, found.index[:, :1]).double() - found.log_prob[:, :1].double()
            every = [[torch.empty_like(part) for _ in range(self.world)] for part in (values, index, lse)]
            for parts, part in zip(every, (values, index, lse), strict=True):
                dist.all_gather(parts, part, group=self.group)
            values, index, lse = (torch.cat(parts, 1) for parts in every)
            best, at = torch.topk(values, count, 1)
            log_prob = (best - torch.logsumexp(lse, 1, keepdim=True)).to(z.dtype)
        shape = (*x.shape[:-1], count)
        return TopK(log_prob.exp().reshape(shape), log_prob.reshape(shape), index.gather(1, at).reshape(shape))

    def predict(self, x: Any) -> Any:
        return self.top_k(x, 1).index.squeeze(-1)

    # ---------------------------------------------------------------- the loss

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Cross-entropy of the targets (...), the same on all ranks."""
        asked = self._agreed(x, target, reduction, weight, label_smoothing, ignore_index)
        rows = _SumOfGradients.apply(asked.rows, self.group)
        z = self._logits(rows)
        return asked.reduced(
            _ShardedLoss.apply(z, asked.target, self.first, self.num_classes, asked.smoothing, self.group)
        )

    def _agreed(self, x: Any, target: Any, *options: Any) -> Asked:
        """Check at the door, all ranks together; that they have the same targets is seen from a sum."""

        def checked() -> tuple[Asked, list[int]]:
            asked = self._asked(x, target, *options)
            place = torch.arange(1, len(asked.target) + 1, device=asked.target.device)
            return asked, [len(asked.target), int((asked.target * (place % 8191)).sum() % (1 << 31))]

        asked: Asked
        asked, is_same = agreed(checked, 2, of="ShardedHead.loss", device=self.weight.device, group=self.group)
        if not is_same:
            raise ShapeError(
                f"ShardedHead.loss: this rank has {len(asked.target)} rows that count, and another rank other rows or "
                f"targets; the same batch on every rank would be right."
            )
        return asked

    def _asked_of_all(self, x: Any, what: str, k: int = 1) -> tuple[Any, int]:
        """Features and k, checked by all ranks together."""
        of = f"ShardedHead.{what}"

        def checked() -> tuple[Any, list[int]]:
            count = check_top(k, self.num_classes, of=of)
            rows = self._features(x, what)
            return rows, [rows[..., 0].numel(), count]

        rows, is_same = agreed(checked, 2, of=of, device=self.weight.device, group=self.group)
        if not is_same:
            raise ShapeError(
                f"{of}: this rank has x of shape {tuple(rows.shape)} and k {k}, and another rank something else; the "
                f"same on every rank would be right."
            )
        return rows, int(k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, classes={self.first}:{self.last}, bias={self.bias is not None}"


class _SumOfGradients(torch.autograd.Function):
    """The identity, whose gradient is summed over the ranks: each has seen a part of the classes."""

    @staticmethod
    def forward(ctx: Any, rows: Any, group: Any) -> Any:
        ctx.group = group
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        total = upstream.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _ShardedLoss(torch.autograd.Function):
    """Losses (n,) of logits of which each rank holds some columns; float64 inside."""

    @staticmethod
    def forward(ctx: Any, z: Any, target: Any, first: int, classes: int, smoothing: float, group: Any) -> Any:
        wide = z.to(torch.float64)
        top = wide.amax(1)
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=group)
        mine = (target >= first) & (target < first + z.shape[1])
        column = torch.where(mine, target - first, 0)[:, None]
        gap = wide - top[:, None]
        terms = torch.exp(gap)
        # what all but the true class have, the true class's gap, the sum of all gaps: one sum over the ranks
        others = terms.scatter(1, column, terms.gather(1, column).masked_fill(mine[:, None], 0.0)).sum(1)
        true = torch.where(mine, gap.gather(1, column).squeeze(1), 0.0)
        parts = torch.stack([others, true, gap.sum(1)])
        dist.all_reduce(parts, group=group)
        others, true, gaps = parts
        total = others + torch.exp(true)
        # log1p of the others where the true class leads, so that a confident row keeps its digits
        nll = torch.where(true == 0.0, torch.log1p(others), torch.log(total) - true)
        losses = nll if smoothing == 0.0 else (1.0 - smoothing) * nll + smoothing * (torch.log(total) - gaps / classes)
        ctx.save_for_backward(terms, total, others, column, mine)
        ctx.given = (smoothing, classes, z.dtype)
        return losses.to(torch.promote_types(z.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        terms, total, others, column, mine = ctx.saved_tensors
        smoothing, classes, dtype = ctx.given
        prob = terms / total[:, None]
        grad = prob if smoothing == 0.0 else prob - smoothing / classes
        own = grad.gather(1, column).squeeze(1)
        true = (1.0 - smoothing) * (-others / total) + smoothing * (prob.gather(1, column).squeeze(1) - 1.0 / classes)
        grad = grad.scatter(1, column, torch.where(mine, true, own)[:, None])
        return (grad * upstream.to(torch.float64)[:, None]).to(dtype), None, None, None, None, None
