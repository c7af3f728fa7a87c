"""The fused linear head: cross-entropy of ``x @ projection.T + bias``, without these logits in memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.backends import cpu
from normexp.backends.dispatch import by_library
from normexp.backends.linear import Gradients, Head, Loss, linear_loss
from normexp.base.checks import (
    check_array,
    check_logits,
    check_number,
    check_reduction,
    check_temperature,
    check_weight,
)
from normexp.base.errors import RangeError, ShapeError
from normexp.base.precision import compute_dtype, result_dtype
from normexp.base.types import Array, LinearLossGrad
from normexp.ops.losses import _check_proportions, _indices, _narrow, _scale


@by_library
def linear_cross_entropy(
    x: Array,
    projection: Array,
    target: Array,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: float | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """Cross-entropy of the logits ``x @ projection.T + bias``, a block of rows at a time.

    Parameters
    ----------
    x : array, shape (..., D)
        Features, hidden states or embeddings: float16, bfloat16, float32, float64, bool or integers.
    projection : array, shape (K, D)
        The head's weights, one row for each class.
    target : array
        Class indices, any integer dtype, shape (...); or class proportions, any floating dtype, shape (..., K).
    bias : array, shape (K,), optional
        Added to the logits; ``-inf`` forbids a class.
    temperature : float or array, default 1.0
        At least 0, broadcastable to (..., K). The logits are divided by it. 0 is the arg-max limit, with gradient 0.
    softcap : float, optional
        Above 0: logits become ``softcap * tanh(logits / softcap)``, before the temperature.
    weight : array, shape (K,), optional
        Class weights, as for ``cross_entropy``.
    label_smoothing : float in [0, 1], default 0.0
        As for ``cross_entropy``.
    ignore_index : int, optional
        Rows with this target do not count, and what ``x`` holds there never matters.
    z_loss : float, default 0.0
        As for ``cross_entropy``.
    focal_gamma : float, default 0.0
        As for ``cross_entropy``.
    reduction : {"mean", "sum", "none"}, default "mean"
        As for ``cross_entropy``.

    Returns
    -------
    float or array
        One number, or with "none" one for each row; float64 if ``x`` or ``projection`` is float64 or holds integers,
        else float32.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If an argument does not fit. A target out of range is named with its row, counted from 0.

    See Also
    --------
    linear_cross_entropy_with_grad : the same loss with all gradients.
    cross_entropy : from logits.

    Notes
    -----
    The logits of at most 256 rows exist at a time, 64 MiB of them or the logits of 16 rows, whichever is more; this
    is the extra memory. BLAS multiplies in float32 (float64 for float64), float16 and bfloat16 being widened tile by
    tile; a logit's error is that of an inner product of length D, and from the logits on everything is exactly
    ``cross_entropy``, so a confident row keeps its digits. A row's loss is the same to the bit for any batch split
    and row order: products have fixed shapes, the last block being filled up with zeros. A single row therefore costs
    as much as a whole block.

    Never storing the logits of all rows is the idea of [1]_; nothing is left out of the gradients here.

    References
    ----------
    .. [1] Wijmans, Huval, Hertzberg, Koltun and Krähenbühl (2025), "Cut your losses in large-vocabulary language
    models", ICLR.

    Examples
    --------
    >>> import normexp as nx
    >>> x, projection = [[1.0, 2.0], [0.5, -1.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> float(nx.linear_cross_entropy(x, projection, [2, 0]).round(6))
    0.4289
    """
    options = (bias, temperature, softcap, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("linear_cross_entropy", x, projection, target, options, wants_grad=False).loss


@by_library
def linear_cross_entropy_with_grad(
    x: Array,
    projection: Array,
    target: Array,
    /,
    *,
    bias: Any = None,
    temperature: Any = 1.0,
    softcap: float | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
) -> LinearLossGrad:
    """Cross-entropy of the logits ``x @ projection.T + bias``, and its gradients, in one pass over the rows.

    Parameters
    ----------
    x : array, shape (..., D)
        Features, hidden states or embeddings: float16, bfloat16, float32, float64, bool or integers.
    projection : array, shape (K, D)
        The head's weights, one row for each class.
    target : array
        Class indices, any integer dtype, shape (...); or class proportions, any floating dtype, shape (..., K).
    bias : array, shape (K,), optional
        Added to the logits; ``-inf`` forbids a class.
    temperature : float or array, default 1.0
        At least 0, broadcastable to (..., K). The logits are divided by it. 0 is the arg-max limit, with gradient 0.
    softcap : float, optional
        Above 0: logits become ``softcap * tanh(logits / softcap)``, before the temperature.
    weight : array, shape (K,), optional
        Class weights, as for ``cross_entropy``.
    label_smoothing : float in [0, 1], default 0.0
        As for ``cross_entropy``.
    ignore_index : int, optional
        Rows with this target do not count, and what ``x`` holds there never matters.
    z_loss : float, default 0.0
        As for ``cross_entropy``.
    focal_gamma : float, default 0.0
        As for ``cross_entropy``.
    reduction : {"mean", "sum", "none"}, default "mean"
        As for ``cross_entropy``. With "none", ``grad_x`` holds each row's own gradient, and the gradients of
        projection and bias are those of the sum.

    Returns
    -------
    LinearLossGrad
        ``loss`` as ``linear_cross_entropy`` gives it, to the bit; ``grad_x``, ``grad_projection`` and ``grad_bias``
        in the shapes and dtypes of the arguments (float64 for integers); ``grad_bias`` is None without a bias.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If an argument does not fit. A target out of range is named with its row, counted from 0.

    See Also
    --------
    linear_cross_entropy : the loss alone.

    Notes
    -----
    With ``g`` the gradient of the logits, computed as in ``cross_entropy_with_grad`` in place of a block's logits:
    ``grad_x = g @ projection``, ``grad_projection = g.T @ x``, summed over the blocks of rows in their order. Three
    matrix products, as many as without fusion; extra memory is that of ``linear_cross_entropy`` and one tile of the
    projection's gradient. Nothing is filtered out of the gradients [1]_ (sec. 4.3 filters).

    References
    ----------
    .. [1] Wijmans, Huval, Hertzberg, Koltun and Krähenbühl (2025), "Cut your losses in large-vocabulary language
    models", ICLR.

    Examples
    --------
    >>> import normexp as nx
    >>> x, projection = [[1.0, 2.0], [0.5, -1.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> nx.linear_cross_entropy_with_grad(x, projection, [2, 0]).grad_projection.round(6)
    array([[ 0.040002,  0.343879],
           [ 0.130877,  0.16213 ],
           [-0.170879, -0.506009]])
    """
    options = (bias, temperature, softcap, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction)
    return _loss("linear_cross_entropy_with_grad", x, projection, target, options, wants_grad=True)


def _loss(
    of: str, x: Any, projection: Any, target: Any, options: tuple[Any, ...], *, wants_grad: bool
) -> LinearLossGrad:
    """Check everything, then loss and (if wanted) gradients."""
    bias, temperature, softcap, weight, label_smoothing, ignore_index, z_loss, focal_gamma, reduction = options
    head = _head(of, x, projection, bias, temperature, softcap)
    given = head.x.reshape(*head.batch, head.x.shape[1])
    reduction = check_reduction(reduction, of=of)
    classes = len(head.projection)
    class_weight = check_weight(weight, classes, of=of)
    answers = check_array(target, of=of, name="target")
    if answers.size == 0 and answers.dtype == np.float64 and answers.shape == head.batch:
        answers = answers.astype(np.int64)  # an empty list has no dtype of its own
    numbers: dict[str, Any] = {
        "smoothing": check_number(label_smoothing, of=of, name="label_smoothing", low=0.0, high=1.0),
        "z_loss": check_number(z_loss, of=of, name="z_loss", low=0.0),
        "gamma": check_number(focal_gamma, of=of, name="focal_gamma", low=0.0),
    }
    row_weight = np.empty(0)
    if answers.dtype.kind in "iu":
        index, counted = _indices(answers, head.batch, classes, ignore_index, of=of)
        row_weight = counted.astype(np.float64)
        if class_weight is not None:
            row_weight[counted] = class_weight[index[counted]]
        answers, row_weight = index.reshape(-1), row_weight.reshape(-1)
        divisor = cpu.total(row_weight)
    else:
        if ignore_index is not None:
            raise RangeError(f"{of}: ignore_index is {ignore_index!r}, but the target holds proportions, not indices.")
        _check_proportions(answers, (*head.batch, classes), len(head.batch), of=of)
        answers = answers.reshape(len(head.x), classes)
        divisor = float(len(head.x))
    asked = Loss(
        answers,
        row_weight,
        np.empty(0) if class_weight is None else class_weight,
        **numbers,
        grad_scale=_scale(reduction, divisor),
    )
    losses, found = linear_loss(head, asked, wants_grad=wants_grad)
    if reduction == "none":
        value = _narrow(losses.reshape(head.batch), head.dtype)
    else:
        total = cpu.total(losses)
        if reduction == "mean":
            total = total / divisor if divisor else total * 0.0
        value = _narrow(np.asarray(total), head.dtype)
    return LinearLossGrad(value, *_given_back(head, given, found))


def _head(of: str, x: Any, projection: Any, bias: Any, temperature: Any, softcap: Any) -> Head:
    """The head, checked."""
    rows = _plain(x, "x", of=of)
    if rows.ndim == 0:
        raise ShapeError(f"{of}: x is a single number; features of shape (..., D) would be right.")
    weights = _plain(projection, "projection", of=of)
    depth = rows.shape[-1]
    if weights.ndim != 2 or weights.shape[1] != depth:
        raise ShapeError(
            f"{of}: projection has shape {weights.shape} and x {rows.shape}; (K, {depth}), a row for each class, "
            f"would be right."
        )
    batch = rows.shape[:-1]
    offsets = None
    if bias is not None:
        offsets = _plain(bias, "bias", of=of)
        if offsets.shape != (len(weights),):
            raise ShapeError(f"{of}: bias has shape {offsets.shape}; ({len(weights)},), one a class, would be right.")
    cap = None
    if softcap is not None:
        cap = check_number(softcap, of=of, name="softcap", low=0.0)
        if cap == 0.0:
            raise RangeError(f"{of}: softcap is 0; a number above 0, or None for no cap, would be right.")
    heat = check_temperature(temperature, (*batch, len(weights)), of=of)
    computed = np.result_type(*(compute_dtype(a.dtype) or a.dtype for a in (rows, weights)))
    flat = rows.reshape(int(np.prod(batch, dtype=np.int64)), depth)
    return Head(flat, weights, offsets, heat, batch, cap, np.dtype(computed))


def _plain(array: Any, name: str, *, of: str) -> NDArray[Any]:
    """An array of a dtype that can be computed with, without hidden entries."""
    found, hidden = check_logits(array, of=of, name=name)
    if hidden is not None:
        raise RangeError(f"{of}: {name} is a masked array with hidden entries; fill them, or leave their rows out.")
    return found


def _given_back(head: Head, given: NDArray[Any], found: Gradients | None) -> tuple[Any, Any, Any]:
    """The gradients in the shapes and dtypes of what came."""
    if found is None:
        return None, None, None
    with np.errstate(over="ignore", under="ignore"):
        return (
            found.x.reshape(given.shape).astype(result_dtype(head.x.dtype), copy=False),
            found.projection.astype(result_dtype(head.projection.dtype), copy=False),
            None if head.bias is None else found.bias.astype(result_dtype(head.bias.dtype), copy=False),
        )
