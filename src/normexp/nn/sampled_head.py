"""The dense head trained on a sample of the classes: sampled softmax, noise contrast, negative sampling."""

import math
from typing import Any

import torch
from torch import nn

from normexp.base.errors import RangeError
from normexp.nn.checks import check_count, check_counts
from normexp.nn.dense_head import DenseHead
from normexp.nn.head import Asked
from normexp.nn.proposals import KINDS, LogUniform, Unigram
from normexp.ops import cross_entropy, linear_cross_entropy

LOSSES = ("softmax", "nce", "negative")


class SampledHead(DenseHead):
    """Linear head whose training loss looks at the true class and at ``num_samples`` others.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    num_classes : int
        Number K of classes.
    num_samples : int
        How many classes are drawn for a batch, with replacement; all its rows share them.
    proposal : {"log_uniform", "unigram", "in_batch", "learned"}, default "log_uniform"
        What they are drawn from: Zipf's law over the ranks, the counts, the batch's own targets (``num_samples`` of
        them at most), or counts that grow with what training meets.
    class_counts : array of shape (K,), optional
        How often each class occurs. "unigram" needs them; "log_uniform" takes class numbers as ranks without them.
    loss : {"softmax", "nce", "negative"}, default "softmax"
        Sampled softmax with log-Q correction [1]_, noise-contrastive estimation [2]_, or negative sampling [3]_.
    bias : bool, default True
        Whether the logits have an offset for each class.
    sparse : bool, default False
        Whether gradients of the weights are sparse tensors: a step then costs nothing for the classes that were not
        drawn, and needs an optimiser that takes them: ``RowAdagrad``, ``SGD``, ``Adagrad`` or ``SparseAdam``.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    Notes
    -----
    In training mode ``loss`` is the sampled one. With S draws, the logit of a drawn class is lowered by ``log(S q)``,
    the log of how often it is expected among them, and left out for the rows whose true class it is; the true class is
    always there, once, and keeps its logit. So the sum of the terms estimates that of all classes without bias, and as
    S grows the loss and its gradient tend to those of the full softmax. Noise contrast lowers both logits and leaves
    nothing out, negative sampling lowers none. In evaluation mode ``loss`` is exact, in tiles
    (``normexp.linear_cross_entropy``), and so are ``log_prob``, ``predict`` and ``top_k`` always. Negative sampling
    does not estimate a probability: after it, ``log_prob`` is a ranking, not a calibrated one.

    References
    ----------
    .. [1] Bengio and Senécal (2008), "Adaptive importance sampling to accelerate training of a neural probabilistic
       language model", IEEE Transactions on Neural Networks 19(4).
    .. [2] Gutmann and Hyvärinen (2010), "Noise-contrastive estimation", AISTATS, eq. 8.
    .. [3] Mikolov et al. (2013), "Distributed representations of words and phrases", NeurIPS, eq. 4.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.SampledHead(8, 100_000, 64)
    >>> loss = head.loss(torch.randn(4, 8), torch.tensor([0, 17, 99_999, 3]))
    >>> loss.shape, bool(loss > 0)
    (torch.Size([]), True)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_samples: int,
        proposal: str = "log_uniform",
        class_counts: Any = None,
        loss: str = "softmax",
        *,
        bias: bool = True,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, num_classes, dtype)
        of = type(self).__name__
        self.num_samples = check_count(num_samples, of=of, name="num_samples")
        if proposal not in KINDS:
            raise RangeError(f"{of}: proposal is {proposal!r}; one of {', '.join(map(repr, KINDS))} would be right.")
        if loss not in LOSSES:
            raise RangeError(f"{of}: loss is {loss!r}; one of {', '.join(map(repr, LOSSES))} would be right.")
        counts = None if class_counts is None else check_counts(class_counts, num_classes, of=of)
        if proposal == "unigram" and counts is None:
            raise RangeError(f"{of}: proposal 'unigram' needs class_counts, how often each class occurs.")
        self.kind, self.proposal_kind, self.sparse = loss, proposal, sparse
        self.proposal = _proposal(proposal, counts, num_classes).to(device)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, 1, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, uniform within 1 / sqrt(in_features); offsets start at 0."""
        bound = 1.0 / math.sqrt(self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    # ---------------------------------------------------------------- exact

    @property
    def _offsets(self) -> Any:
        return None if self.bias is None else self.bias.squeeze(1)

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """The sampled loss in training mode, the exact cross-entropy in evaluation mode."""
        asked = self._asked(x, target, reduction, weight, label_smoothing, ignore_index)
        if self.training and len(asked.target):
            return asked.reduced(self._sampled(asked))
        bias = None if self.bias is None else self.bias.squeeze(1)
        options: dict[str, Any] = {"bias": bias, "label_smoothing": asked.smoothing}
        if asked.is_plain_sum:
            return asked.of_sum(linear_cross_entropy(asked.rows, self.weight, asked.target, reduction="sum", **options))
        return asked.reduced(linear_cross_entropy(asked.rows, self.weight, asked.target, reduction="none", **options))

    # ---------------------------------------------------------------- sampled

    def _sampled(self, asked: Asked) -> Any:
        """Each row's loss (n,)."""
        drawn, log_expected = self._draw(asked.target)
        count = len(asked.target)
        # all classes are picked at once: the gradient of W is then one sparse tensor, not a sum of two
        every = torch.cat([asked.target, drawn])
        weight = nn.functional.embedding(every, self.weight, sparse=self.sparse)
        z_true = (asked.rows * weight[:count].to(asked.rows.dtype)).sum(1)
        z_drawn = nn.functional.linear(asked.rows, weight[count:].to(asked.rows.dtype))
        z_true, z_drawn = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (z_true, z_drawn))
        of_true, of_drawn = 0.0, 0.0
        if self.bias is not None:
            offset = nn.functional.embedding(every, self.bias, sparse=self.sparse).squeeze(1)
            of_true, of_drawn = offset[:count], offset[count:]
        if self.kind != "negative":
            of_drawn = of_drawn - log_expected(drawn).to(z_drawn.dtype)
        if self.kind == "nce":
            of_true = of_true - log_expected(asked.target).to(z_true.dtype)
        z_true, z_drawn = z_true + of_true, z_drawn + of_drawn
        self.proposal.learn(asked.target)
        if self.kind == "nce":
            return _contrast(z_true, z_drawn, asked.smoothing)
        z_drawn = z_drawn.masked_fill_(drawn[None, :] == asked.target[:, None], -torch.inf)
        if self.kind == "negative":
            return _contrast(z_true, z_drawn, asked.smoothing)
        first = torch.zeros(count, dtype=torch.int64, device=z_true.device)
        logits = torch.cat([z_true[:, None], z_drawn], 1)
        return cross_entropy(logits, first, label_smoothing=asked.smoothing, reduction="none")

    def _draw(self, target: Any) -> tuple[Any, Any]:
        """The classes that all rows are compared with, and how often a class is expected among them, as a log."""
        if self.proposal_kind != "in_batch":
            log_samples = math.log(self.num_samples)
            return self.proposal.draw(self.num_samples), lambda classes: log_samples + self.proposal.log_q(classes)
        drawn = target if len(target) <= self.num_samples else target[torch.randperm(len(target))[: self.num_samples]]
        size = math.log(len(drawn))
        return drawn, lambda classes: size + self.proposal.log_q(classes)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, num_samples={self.num_samples}, proposal={self.proposal_kind!r}, "
            f"loss={self.kind!r}, bias={self.bias is not None}"
        )


def _proposal(kind: str, counts: Any, classes: int) -> Any:
    """The proposal of this name; in a batch, a class is expected as often as it has been met."""
    if kind == "log_uniform":
        rank = torch.arange(classes)
        if counts is not None:
            rank = torch.argsort(torch.argsort(counts, descending=True, stable=True))
        return LogUniform(rank)
    start = torch.ones(classes, dtype=torch.float64) if counts is None else counts
    return Unigram(start, learns=kind == "learned" or (kind == "in_batch" and counts is None))


def _contrast(z_true: Any, z_drawn: Any, smoothing: float) -> Any:
    """True against drawn, one yes or no each: ``log(1 + exp(-z)) + sum log(1 + exp(z'))``."""
    softplus = nn.functional.softplus
    yes = (1.0 - smoothing) * softplus(-z_true) + smoothing * softplus(z_true)
    return yes + softplus(z_drawn).sum(1)
