"""Cross-entropy with and without its gradient: check at the door, delegate, reduce."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import cpu
from normexp.backends.dispatch import by_library
from normexp.backends.masks import Mask
from normexp.base.checks import (
    check_array,
    check_axis,
    check_logits,
    check_number,
    check_reduction,
    check_weight,
    check_whole,
)
from normexp.base.errors import AxisError, DtypeError, RangeError, ShapeError
from normexp.base.precision import compute_dtype, loss_dtype, result_dtype
from normexp.base.types import Array, LossGrad
from normexp.ops.shapes import batch_shape


@by_library
def cross_entropy(
    logits: Array,
    target: Array,
    /,
    *,
    axis: int = -1,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """Negative log-probability of the targets under ``softmax(logits)``.

    Parameters
    ----------
    logits : array, shape (..., K)
        float16, bfloat16, float32, float64, bool or integers; the classes along ``axis``.
    target : array
        Class indices, any integer dtype, in the logits' shape without ``axis``; or class proportions, any
        floating dtype, in the logits' shape, at least 0 and summing to 1 within 1e-3.
    axis : int, default -1
        Where the classes are.
    weight : array, shape (K,), optional
        Class weights, at least 0. With indices, a row's cross-entropy is multiplied by the weight of its true
        class; with proportions, weights stand inside the sum over the classes.
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread evenly over the classes which the row allows (logit above ``-inf``).
    ignore_index : int, optional
        Rows with this target do not count: loss 0, gradient 0, no part in the mean. Indices only.
    z_loss : float, default 0.0
        At least 0; adds ``z_loss * logsumexp(z)**2`` to each row that counts, whatever its weight.
    focal_gamma : float, default 0.0
        At least 0; multiplies a row's cross-entropy by ``(1 - p)**focal_gamma``, p being the true class's
        probability [2]_ (eq. 4); with proportions, each class's term by its own ``(1 - p_k)**focal_gamma``.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the true classes' weights, with proportions by the number of rows. A mean over
        nothing is 0.

    Returns
    -------
    float or array
        One number, or with "none" one for each row. At least float32; float64 for float64, integers and bool.

    Raises
    ------
    ShapeError, RangeError, DtypeError, AxisError
        If an argument does not fit. A target out of range is named with its row, counted from 0.

    See Also
    --------
    cross_entropy_with_grad : the same loss with its gradient, in one pass.

    Notes
    -----
    ``log1p(rest) - (z_y - m)``, with the largest term left out of ``rest`` [1]_ (sec. 3): the loss of a
    confident row keeps its digits where others give 0. Error of a row's loss at most 1 ULP for float32 and 4 for
    float64; a mean or a sum is that of the rows' float64 losses with twice the digits, so it does not depend on their
    order.

    A ``-inf`` logit at the true class gives ``inf``; a row of ``-inf`` gives NaN, as does a row with NaN or ``+inf``.
    ``0 * log 0`` is 0. Extra memory is a few numbers for each row.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330.
    .. [2] Lin, Goyal, Girshick, He and Dollar (2017), "Focal loss for dense object detection", ICCV.

    Examples
    --------
    >>> import normexp as nx
    >>> logits = [[2.0, 1.0, 0.1], [0.5, 2.5, 0.0]]
    >>> float(nx.cross_entropy(logits, [0, 1]).round(6))
    0.306882
    >>> float(nx.cross_entropy(logits, [[0.9, 0.1, 0.0], [0.0, 1.0, 0.0]]).round(6))
    0.356882
    """
    options = (axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy", logits, target, options, wants_grad=False).loss


@by_library
def cross_entropy_with_grad(
    logits: Array,
    target: Array,
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
    """Loss of ``cross_entropy`` and its gradient with respect to the logits, in one pass.

    Parameters
    ----------
    logits : array, shape (..., K)
        As for ``cross_entropy``, and so are all other parameters.
    target : array
        Class indices or class proportions.
    axis : int, default -1
        Where the classes are.
    weight : array, shape (K,), optional
        Class weights.
    label_smoothing : float in [0, 1], default 0.0
        The share of the target that is spread evenly.
    ignore_index : int, optional
        Rows with this target do not count.
    z_loss : float, default 0.0
        Adds ``z_loss * logsumexp(z)**2``.
    focal_gamma : float, default 0.0
        Multiplies by ``(1 - p)**focal_gamma``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Under "none", the gradient of each row's own loss.

    Returns
    -------
    LossGrad
        ``loss`` as from ``cross_entropy``, the same bits; ``grad`` in the logits' shape and dtype (float64 for
        integers and bool).

    Raises
    ------
    ShapeError, RangeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    Notes
    -----
    Plain gradient: ``p_k`` for the other classes; for the true class minus what the others have, not ``p_y - 1``,
    which is falsely 0 in a confident row. Error of each entry at most 1 ULP for float32 and 4 for float64; where an
    option makes terms of opposite sign, relative to the larger term. Exactly 0 at ``-inf`` logits, in ignored rows
    and in rows of ``-inf``. Each logit is read once from memory and each entry written once.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2311-2330, eq. 1.3.

    Examples
    --------
    >>> import numpy as np
    >>> import normexp as nx
    >>> loss, grad = nx.cross_entropy_with_grad(np.float32([[20.0, 0.0]]), [0])
    >>> grad  # p - 1 would be 0 here
    array([[-2.0611537e-09,  2.0611537e-09]], dtype=float32)
    """
    options = (axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("cross_entropy_with_grad", logits, target, options, wants_grad=True)


def _loss(of: str, logits: Any, target: Any, options: tuple[Any, ...], *, wants_grad: bool) -> LossGrad:
    """Check everything, then loss and (if wanted) gradient."""
    axis, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction = options
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    if len(axes) != 1:
        raise AxisError(
            f"{of}: axis is {axis!r} and the logits have shape {array.shape}; one axis of classes is right."
        )
    mask = Mask.of(None, hidden)
    numbers = {
        "smoothing": check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0),
        "z_loss": check_number(z_loss, of=of, name="z_loss", low=0.0),
        "gamma": check_number(focal_gamma, of=of, name="focal_gamma", low=0.0),
    }
    reduction = check_reduction(reduction, of=of)
    shape, classes = batch_shape(array.shape, axes), array.shape[axes[0]]
    class_weight = check_weight(weight, classes, of=of)
    answers = check_array(target, of=of, name="target")
    if answers.size == 0 and answers.dtype == np.float64 and answers.shape == shape != array.shape:
        answers = answers.astype(np.int64)  # an empty list has no dtype of its own
    grad = cpu.empty_like(array, axes, result_dtype(array.dtype)) if wants_grad else None
    if answers.dtype.kind in "iu":
        index, counted = _indices(answers, shape, classes, ignore_index, of=of)
        row_weight = counted.astype(np.float64)
        if class_weight is not None:
            row_weight[counted] = class_weight[index[counted]]
        divisor = cpu.total(row_weight)
        loss = cpu.index_loss(
            array, axes, index, row_weight, **numbers, grad_scale=_scale(reduction, divisor), grad=grad, mask=mask
        )
    else:
        if ignore_index is not None:
            raise RangeError(f"{of}: ignore_index is {ignore_index!r}, but the target holds proportions, not indices.")
        _check_proportions(answers, array.shape, axes[0], of=of)
        divisor = float(prod(shape))
        given = np.empty(0) if class_weight is None else class_weight
        loss = cpu.proportion_loss(
            array, axes, answers, given, **numbers, grad_scale=_scale(reduction, divisor), grad=grad, mask=mask
        )
    if reduction == "none":
        return LossGrad(_narrow(loss, array.dtype), grad)
    value = cpu.total(loss)
    if reduction == "mean":
        value = value / divisor if divisor else value * 0.0
    return LossGrad(_narrow(np.asarray(value), array.dtype), grad)


def _narrow(loss: NDArray[np.float64], dtype: np.dtype[Any]) -> Any:
    """The loss in the dtype promised for such logits; inf where it is too large for that."""
    with np.errstate(over="ignore", under="ignore"):
        return loss.astype(loss_dtype(dtype))[()]


def _scale(reduction: str, divisor: float) -> float:
    """What each row's gradient is multiplied by."""
    return 1.0 if reduction != "mean" or divisor == 0.0 else 1.0 / divisor


def _indices(
    target: NDArray[Any], shape: tuple[int, ...], classes: int, ignore_index: int | None, *, of: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class indices (N,), -1 where the row is ignored, and which rows count."""
    if target.shape != shape:
        raise ShapeError(f"{of}: target has shape {target.shape}; class indices of shape {shape} would be right.")
    if ignore_index is not None:
        ignore_index = check_whole(ignore_index, of=of, name="ignore_index", right="a whole number or None")
    ignored = np.zeros(shape, np.bool_) if ignore_index is None else target == ignore_index
    wrong = ((target < 0) | (target >= classes)) & ~ignored
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        or_ignored = "" if ignore_index is None else f" (or ignore_index, {ignore_index})"
        raise RangeError(
            f"{of}: target of row {row} is {target.reshape(-1)[row]}; with {classes} classes, "
            f"0 to {classes - 1} would be right{or_ignored}."
        )
    index = target.astype(np.int64)
    index[ignored] = -1
    return index, ~ignored


def _check_proportions(target: NDArray[Any], shape: tuple[int, ...], axis: int, *, of: str) -> None:
    """Class proportions in the logits' shape: floats, none negative, summing to 1 along ``axis``."""
    rows = tuple(size for at, size in enumerate(shape) if at != axis)
    if target.dtype.kind == "b" or compute_dtype(target.dtype) is None:
        raise DtypeError(
            f"{of}: target has dtype {target.dtype}; integers (class indices) or floats (proportions) would be right."
        )
    if target.shape != shape:
        raise ShapeError(
            f"{of}: target has shape {target.shape} and the logits {shape}; proportions need the "
            f"logits' shape, class indices {rows} and an integer dtype."
        )
    with np.errstate(invalid="ignore"):  # bfloat16 warns of NaN
        smallest = target.min(axis=axis, initial=0.0)
        negative = ~(smallest >= 0)
    if negative.any():
        row = int(np.flatnonzero(negative)[0])
        held = float(smallest.reshape(-1)[row])
        raise RangeError(f"{of}: target of row {row} holds the proportion {held:g}; at least 0 would be right.")
    sums = target.sum(axis=axis, dtype=np.float64)
    off = np.abs(sums - 1.0) > 1e-3
    if off.any() and shape[axis]:
        row = int(np.flatnonzero(off)[0])
        raise RangeError(
            f"{of}: target of row {row} sums to {sums.reshape(-1)[row]:.6g}; proportions that sum to 1 would be right."
        )
