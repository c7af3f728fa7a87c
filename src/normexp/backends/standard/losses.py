"""Cross-entropy of rows of logits in the functions of the standard, and its gradient.

With nll_k = -log p_k and o_k = 1 - p_k, a loss sum_k a_k o_k^gamma nll_k + z lse^2 has the gradient
p_j (G - b_j) - b_j o_j + 2 z lse p_j, with b_k = a_k (o_k^gamma + gamma o_k^(gamma - 1) p_k nll_k) and G = sum b_k
(Lin et al. (2017), appendix): both brackets are sums of what the others have, so a confident true class
keeps its digits.
"""

import math
from dataclasses import dataclass
from typing import Any

from normexp.backends.standard.door import (
    check_array,
    check_indices,
    check_proportions,
    loss_numbers,
    one_axis,
    weight_of,
)
from normexp.backends.standard.probabilities import quiet
from normexp.backends.standard.spaces import Space
from normexp.backends.standard.state import INF, NAN, State, row_state, summed
from normexp.backends.standard.views import batch_shape, from_rows, to_rows
from normexp.base.types import LossGrad


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of each row: class indices with a weight for each row, or proportions with one for each class."""

    sp: Space
    target: Any  # (...,) index, 0 where ignored; or (..., K) wide
    counted: Any  # (...,) bool; None with proportions
    weight: Any  # (...,) of the rows, 0 where ignored; or (K,) or None
    divisor: Any  # what a mean divides by
    smoothing: float
    z_loss: float
    gamma: float
    reduction: str

    @property
    def scale(self) -> Any:
        """What each row's gradient is divided by."""
        if self.reduction != "mean":
            return 1.0
        return self.sp.choose(self.divisor == 0.0, 1.0, self.divisor)

    def reduced(self, losses: Any) -> Any:
        """Row losses (...,) to what was asked for."""
        if self.reduction == "none":
            return losses
        sp = self.sp
        total = sp.xp.squeeze(summed(sp, sp.xp.reshape(losses, (math.prod(losses.shape),))), axis=-1)
        if self.reduction == "sum":
            return total
        return sp.choose(self.divisor == 0.0, total * 0.0, total / self.scale)


def asked_of(
    sp: Space, target: Any, logits: Any, shape: tuple[int, ...], axis: int, options: tuple[Any, ...], *, of: str
) -> Asked:
    """Everything but the logits, checked; ``shape`` is theirs, ``logits`` may be the rows that a head makes them of."""
    weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction = options
    numbers = loss_numbers(label_smoothing, z_loss, focal_gamma, reduction, of=of)
    rows, classes = batch_shape(shape, (axis,)), shape[axis]
    class_weight = weight_of(sp, weight, logits, classes, of=of)
    answers = sp.array(target, of=of, name="target", beside=logits)
    if not hasattr(target, "dtype") and not math.prod(answers.shape) and tuple(answers.shape) == rows != shape:
        answers = sp.cast(answers, sp.index)  # an empty list has no dtype of its own
    if not sp.kind(answers.dtype, "integral"):
        check_proportions(sp, answers, shape, axis, ignore_index, of=of)
        given = to_rows(sp, sp.cast(answers, sp.wide), (axis,))
        return Asked(sp, given, None, class_weight, sp.full((), float(math.prod(rows))), *numbers)
    index, counted = check_indices(sp, answers, rows, classes, ignore_index, of=of)
    row_weight = sp.cast(counted, sp.wide)
    if class_weight is not None and classes:
        taken = sp.xp.reshape(sp.xp.take(class_weight, sp.xp.reshape(index, (-1,)), axis=0), rows)
        row_weight = sp.choose(counted, taken, 0.0)
    divisor = sp.xp.squeeze(summed(sp, sp.xp.reshape(row_weight, (math.prod(rows),))), axis=-1)
    return Asked(sp, index, counted, row_weight, divisor, *numbers)


def row_losses(asked: Asked, logits: Any, *, wants_grad: bool) -> tuple[Any, Any]:
    """Losses (...,) of rows (..., K), wide, and their gradients (None when not wanted) divided by what the mean is."""
    sp = asked.sp
    if not logits.shape[-1]:
        empty = sp.cast(logits, sp.wide)
        return sp.full(logits.shape[:-1], 0.0), empty
    state = row_state(sp, logits)
    allowed = sp.xp.broadcast_to(logits > -INF, logits.shape) if sp.kind(logits.dtype, "real floating") else None
    pieces = _index_pieces if asked.counted is not None else _proportion_pieces
    loss, grad = pieces(asked, state, allowed, wants_grad=wants_grad)
    loss = sp.choose(state.usable, loss, NAN)
    if asked.counted is not None:
        loss = sp.choose(sp.column(asked.counted), loss, 0.0)
    if grad is not None:
        empty = sp.xp.all(state.top == -INF, axis=-1, keepdims=True)
        grad = sp.choose(state.usable, grad, sp.choose(empty, 0.0, NAN))
        if allowed is not None:
            grad = sp.choose(state.usable & ~allowed, 0.0, grad)
        if asked.counted is not None:
            grad = sp.choose(sp.column(asked.counted), grad, 0.0)
    return sp.xp.squeeze(loss, axis=-1), grad


def _powers(asked: Asked, others: Any, prob: Any, nll: Any) -> tuple[Any, Any]:
    """(1 - p)^gamma, and what nll times its slope adds to it: gamma (1 - p)^(gamma - 1) p."""
    if asked.gamma == 0.0:
        return 1.0, 0.0
    sp = asked.sp
    some = others > 0.0
    safe = sp.choose(some, others, 1.0)
    power = sp.choose(some, safe ** sp.number(asked.gamma), 0.0)
    slope = sp.choose(some & (nll < INF), asked.gamma * (power / safe) * prob, 0.0)
    return power, slope


def _share(asked: Asked, allowed: Any, like: Any) -> tuple[Any, Any]:
    """How many classes each row allows (..., 1), and each one's share of the smoothing."""
    sp = asked.sp
    count = sp.full((), float(like.shape[-1]))
    if allowed is not None:
        count = sp.xp.sum(sp.cast(allowed, sp.wide), axis=-1, keepdims=True)
    return count, asked.smoothing / sp.choose(count == 0.0, 1.0, count)


def _with_z_loss(asked: Asked, state: State, loss: Any) -> tuple[Any, Any]:
    """The loss with z_loss lse^2, and the factor of p that this adds to the gradient."""
    if asked.z_loss == 0.0:
        return loss, None
    lse = asked.sp.choose(state.usable, state.lse, 0.0)
    return loss + asked.z_loss * lse * lse, 2.0 * asked.z_loss * lse


def _index_pieces(asked: Asked, state: State, allowed: Any, *, wants_grad: bool) -> tuple[Any, Any]:
    """Loss (..., 1) and gradient (..., K) for class indices."""
    sp = asked.sp
    true = sp.count(state.gap.shape[-1]) == sp.column(asked.target)

    def own(x: Any) -> Any:
        return sp.xp.sum(sp.choose(true, x, 0.0), axis=-1, keepdims=True)

    nll, weight = own(state.nll), sp.column(asked.weight)
    others, prob = own(state.others), own(state.shares)
    power, slope = _powers(asked, others, prob, nll)
    smooth = nll
    count, share = _share(asked, allowed, state.gap)
    if asked.smoothing > 0.0:
        spread = state.nll if allowed is None else sp.choose(allowed, state.nll, 0.0)
        smooth = share * summed(sp, spread)
        if asked.smoothing < 1.0:
            smooth = smooth + (1.0 - asked.smoothing) * nll
    loss, from_lse = _with_z_loss(asked, state, weight * (power * smooth))
    if not wants_grad:
        return loss, None
    pull = 0.0 if asked.gamma == 0.0 else sp.choose(slope > 0.0, slope * smooth, 0.0)
    p = state.shares
    if asked.smoothing > 0.0:
        mine = 1.0 - asked.smoothing + share
        there = power * (p * (share * (count - 1.0)) - mine * others) - pull * others
        grad = weight * sp.choose(true, there, power * (p - share) + pull * p)
    else:
        grad = weight * (power + pull) * sp.choose(true, -others, p)
    if from_lse is not None:
        grad = grad + from_lse * p
    return loss, grad / asked.scale


def _proportion_pieces(asked: Asked, state: State, allowed: Any, *, wants_grad: bool) -> tuple[Any, Any]:
    """Loss (..., 1) and gradient (..., K) for proportions."""
    sp = asked.sp
    given = asked.target
    if asked.smoothing > 0.0:
        _, share = _share(asked, allowed, state.gap)
        spread = share if allowed is None else sp.choose(allowed, share, 0.0)
        given = (1.0 - asked.smoothing) * given + spread
    given = given if asked.weight is None else given * asked.weight
    p, nll, others = state.shares, state.nll, state.others
    power, slope = _powers(asked, others, p, nll)
    finite = sp.choose(given > 0.0, nll, 0.0)
    loss, from_lse = _with_z_loss(asked, state, summed(sp, given * power * finite))
    if not wants_grad:
        return loss, None
    pull = 0.0 if asked.gamma == 0.0 else sp.choose(slope > 0.0, slope * finite, 0.0)
    b = given * (power + pull)
    largest = sp.count(b.shape[-1]) == sp.column(sp.xp.argmax(b, axis=-1))
    small = summed(sp, sp.choose(largest, 0.0, b))  # what all but the largest b add up to
    rest = sp.choose(largest, small, small + (sp.xp.max(b, axis=-1, keepdims=True) - b))
    grad = p * rest - b * others
    if from_lse is not None:
        grad = grad + from_lse * p
    return loss, grad / asked.scale


@quiet
def cross_entropy(
    logits: Any,
    target: Any,
    /,
    *,
    axis: int = -1,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Negative log-probability of the targets."""
    options = (weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy", logits, target, axis, options, wants_grad=False).loss


@quiet
def cross_entropy_with_grad(
    logits: Any,
    target: Any,
    /,
    *,
    axis: int = -1,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> LossGrad:
    """The same with the gradient of the logits."""
    options = (weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy_with_grad", logits, target, axis, options, wants_grad=True)


def _loss(of: str, logits: Any, target: Any, axis: Any, options: tuple[Any, ...], *, wants_grad: bool) -> LossGrad:
    """Check everything, then loss and (if wanted) gradient."""
    sp = check_array(logits, of=of)
    axes = one_axis(axis, logits, of=of)
    shape = tuple(logits.shape)
    asked = asked_of(sp, target, logits, shape, axes[0], options, of=of)
    losses, grad = row_losses(asked, to_rows(sp, logits, axes), wants_grad=wants_grad)
    loss = sp.cast(asked.reduced(losses), sp.loss_dtype(logits.dtype))
    if not wants_grad:
        return LossGrad(loss, None)
    return LossGrad(loss, sp.cast(from_rows(sp, grad, shape, axes), sp.result_dtype(logits.dtype)))
