"""The frequency-binned head: frequent classes at full width, rare ones in clusters at smaller widths."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from normexp.backends.tensors.head_loss import loss_of_part, suits
from normexp.base.types import TopK
from normexp.nn.checks import check_counts, check_positive, check_top
from normexp.nn.cutoffs import best_cutoffs, check_cutoffs, zipf_counts
from normexp.nn.head import Asked, Head
from normexp.ops import cross_entropy, linear_cross_entropy, log_softmax

FEW = 1 << 23  # logits, 32 MiB of float32, that may be in memory: the fused loss fills its last block of rows up


class AdaptiveHead(Head):
    """Adaptive softmax: a row pays for a rare class only when it is the true one.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes.
    class_counts : array of shape (K,), optional
        How often each class occurs. Classes are sorted by it inside; None takes the class numbers as ranks and
        expects frequencies proportional to 1 / rank.
    cutoffs : sequence of int, optional
        Ranks at which the clusters begin; None takes those that make a step cheapest under the counts.
    div_value : float, default 4.0
        The width of each cluster is that of the one before, divided by this.
    head_bias : bool, default False
        Whether the frequent classes and the clusters have offsets.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    See Also
    --------
    HierarchicalHead : a tree of any shape.

    Notes
    -----
    The model of [1]_ and of ``torch.nn.AdaptiveLogSoftmaxWithLoss``: ``p(class) = p(cluster) p(class | cluster)``.
    Here class numbers need no order, and targets may have any shape. On the CPU in float32 a part's gradients are made
    in the forward pass from a block of logits, which are not kept; elsewhere a loss with more than 2^23 logits is fused
    (``normexp.linear_cross_entropy``). Label smoothing needs all
    log-probabilities, and costs as much as a dense head. ``predict`` and ``top_k`` are exact; ``predict`` looks into a
    cluster only for rows where it could hold the best class.

    References
    ----------
    .. [1] Grave, Joulin, Cissé, Grangier and Jégou (2017), "Efficient softmax approximation for GPUs", ICML.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.AdaptiveHead(16, 1000, cutoffs=[100, 400])
    >>> head.log_prob(torch.zeros(2, 16)).exp().sum(-1).round(decimals=4)
    tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        class_counts: Any = None,
        cutoffs: Any = None,
        div_value: float = 4.0,
        *,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, num_classes, dtype)
        of = type(self).__name__
        self.div_value = check_positive(div_value, of=of, name="div_value")
        if class_counts is None:
            counts, order = zipf_counts(num_classes), np.arange(num_classes)
        else:
            counts = check_counts(class_counts, num_classes, of=of).numpy()
            order = np.argsort(-counts, kind="stable")
        if cutoffs is None:
            self.cutoffs = best_cutoffs(counts[order], in_features, self.div_value)
        else:
            self.cutoffs = check_cutoffs(cutoffs, num_classes, of=of)
        rank = np.empty(num_classes, np.int64)
        rank[order] = np.arange(num_classes)
        self.register_buffer("rank_of_class", torch.from_numpy(rank).to(device))
        ends = [*self.cutoffs, num_classes]
        self.short = ends[0]  # how many classes stand in the head itself
        self.head_weight = nn.Parameter(
            torch.empty(self.short + self._clusters, in_features, device=device, dtype=dtype)
        )
        bias = torch.empty(self.short + self._clusters, device=device, dtype=dtype) if head_bias else None
        self.head_bias = None if bias is None else nn.Parameter(bias)
        self.down, self.tails = nn.ParameterList(), nn.ParameterList()
        for j in range(self._clusters):
            width = max(1, int(in_features / self.div_value ** (j + 1)))
            self.down.append(nn.Parameter(torch.empty(width, in_features, device=device, dtype=dtype)))
            self.tails.append(nn.Parameter(torch.empty(ends[j + 1] - ends[j], width, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def _clusters(self) -> int:
        return len(self.cutoffs)

    def reset_parameters(self) -> None:
        """Draw new parameters, uniform within 1 / sqrt(width)."""
        for parameter in (self.head_weight, *self.down, *self.tails):
            bound = 1.0 / math.sqrt(parameter.shape[1])
            nn.init.uniform_(parameter, -bound, bound)
        if self.head_bias is not None:
            nn.init.zeros_(self.head_bias)

    def _head(self, rows: Any) -> Any:
        """Log-probabilities of the frequent classes, then of the clusters."""
        return log_softmax(nn.functional.linear(rows, self.head_weight, self.head_bias))

    def _tail(self, rows: Any, j: int) -> Any:
        """Log-probabilities of a cluster's classes, given the cluster."""
        return log_softmax(nn.functional.linear(nn.functional.linear(rows, self.down[j]), self.tails[j]))

    def log_prob(self, x: Any) -> Any:
        x = self._features(x, "log_prob")
        return self._of_rows(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.num_classes)

    def _of_rows(self, rows: Any) -> Any:
        head = self._head(rows)
        parts = [head[:, : self.short]]
        parts += [self._tail(rows, j) + head[:, self.short + j, None] for j in range(self._clusters)]
        return torch.cat(parts, 1)[:, self.rank_of_class]

    def predict(self, x: Any) -> Any:
        x = self._features(x, "predict")
        with torch.no_grad():
            rows = x.reshape(-1, self.in_features)
            head = self._head(rows)
            best, at = head[:, : self.short].max(1)
            for j in range(self._clusters):
                hopeful = (head[:, self.short + j] > best).nonzero().reshape(-1)
                if len(hopeful):
                    tail = self._tail(rows[hopeful], j) + head[hopeful, self.short + j, None]
                    value, index = tail.max(1)
                    wins = value > best[hopeful]
                    best[hopeful[wins]], at[hopeful[wins]] = value[wins], index[wins] + self.cutoffs[j]
            class_of_rank = torch.argsort(self.rank_of_class)
            return class_of_rank[at].reshape(x.shape[:-1])

    def top_k(self, x: Any, k: int) -> TopK:
        return super().top_k(x, check_top(k, self.num_classes, of="AdaptiveHead.top_k"))

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Negative log-likelihood of the targets (...)."""
        asked = self._asked(x, target, reduction, weight, label_smoothing, ignore_index)
        if asked.smoothing:
            return asked.of_log_prob(self._of_rows(asked.rows))
        return self._fused(asked)

    def _fused(self, asked: Asked) -> Any:
        """The head's loss for all rows, each cluster's for its own."""
        if asked.reduction != "none" and suits(asked.rows, self.head_weight):
            total: Any = 0.0
            for here, part in self._parts(asked):
                scale = asked.scale if here is None or asked.scale is None else asked.scale[here]
                total = loss_of_part(*part, scale, asked.factor) + total
            return total
        kind = "sum" if asked.is_plain_sum else "none"
        losses: Any = None
        for here, part in self._parts(asked):
            found = _loss_of(*part, kind)
            losses = found if here is None else losses + found if kind == "sum" else losses.index_add(0, here, found)
        return asked.of_sum(losses) if kind == "sum" else asked.reduced(losses)

    def _parts(self, asked: Asked) -> Iterator[tuple[Any, tuple[Any, Any, Any, Any]]]:
        """What the loss is made of: which rows (None for all); their features, weights, targets, and offsets."""
        rank = self.rank_of_class[asked.target]
        bounds = torch.as_tensor(self.cutoffs, device=rank.device)
        cluster = torch.bucketize(rank, bounds, right=True) - 1  # -1 for a frequent class
        entry = torch.where(cluster < 0, rank, self.short + cluster)
        yield None, (asked.rows, self.head_weight, entry, self.head_bias)
        for j in range(self._clusters):
            here = (cluster == j).nonzero().reshape(-1)
            if len(here):
                low = nn.functional.linear(asked.rows.index_select(0, here), self.down[j])
                yield here, (low, self.tails[j], rank[here] - self.cutoffs[j], None)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, cutoffs={self.cutoffs}, div_value={self.div_value:g}"


def _loss_of(rows: Any, weight: Any, target: Any, bias: Any, reduction: str) -> Any:
    """Cross-entropy of a part of the model; fused where its logits are many."""
    if len(rows) * len(weight) > FEW:
        return linear_cross_entropy(rows, weight, target, bias=bias, reduction=reduction)
    return cross_entropy(nn.functional.linear(rows, weight, bias), target, reduction=reduction)
