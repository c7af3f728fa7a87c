"""What logits say about doubt: entropy, margin, energy, the largest logit, generalised entropy."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from normexp.backends import cpu
from normexp.backends import doubt as _backend
from normexp.backends.dispatch import by_library
from normexp.backends.masks import Mask
from normexp.base.checks import check_axis, check_logits
from normexp.base.precision import loss_dtype
from normexp.base.types import Array, Axis
from normexp.ops.shapes import batch_shape

GAMMA = 0.1  # Liu et al. (2023), sec. 4.1
LARGEST = 100  # likewise: of 1 000 classes; fewer classes are all taken


@by_library
def entropy(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Shannon entropy of ``softmax(logits)`` in nats: 0 for a certain row, ``log K`` for one that cannot choose.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    generalised_entropy : a score that looks at small probabilities more closely.

    Notes
    -----
    ``-sum_k p_k log p_k`` [1]_ (sec. 6), computed as ``log1p(rest) + sum_k p_k (m - z_k)`` with m the largest logit
    and ``rest`` the other terms' sum. No term is negative, so nothing cancels: a row whose leader is 60 ahead has
    entropy 5e-25, where ``-p log p`` gives 0 for the leader. At most 1 ULP for float32, 5 for float64.

    ``0 * log 0`` is 0: classes at ``-inf`` do not count. A row of ``-inf``, with NaN or with ``+inf`` gives NaN; a
    row without classes, or that a masked array hides wholly, 0. Extra memory is one number for each row. Reproducible
    to the bit, as ``softmax`` is.

    References
    ----------
    .. [1] Shannon (1948), "A mathematical theory of communication", Bell System Technical Journal 27, 379-423.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.entropy([[0.0, 0.0], [50.0, 0.0]])
    array([6.93147181e-01, 9.83662422e-21])
    """
    return _reduced("entropy", logits, axis, _backend.entropy)


@by_library
def margin(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Difference of the two largest logits: how far the decision is from another one.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool. Not negative; 0 for a tie.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    Notes
    -----
    The log of the ratio of the two largest probabilities [1]_, rounded once. ``inf`` where one class alone is
    possible (the others ``-inf``, or absent); NaN for a row of ``-inf`` or ``+inf`` twice, with NaN, or without
    classes. One read, extra memory one number for each row.

    References
    ----------
    .. [1] Scheffer, Decomain and Wrobel (2001), "Active hidden Markov models for information extraction", IDA, 309-318.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.margin([[1.0, 4.0, 2.5], [7.0, 7.0, 0.0]])
    array([1.5, 0. ])
    """
    return _reduced("margin", logits, axis, _backend.margin)


@by_library
def energy(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Free energy ``-logsumexp(logits)``: the larger, the stranger the row.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    logsumexp : the same with the other sign; its bound, edge cases and cost hold here.

    Notes
    -----
    Equation 4 of [1]_ at temperature 1; their detector calls a row strange when this exceeds a threshold. A row of
    ``-inf`` gives ``inf``, as does one without classes.

    References
    ----------
    .. [1] Liu, Wang, Owens and Li (2020), "Energy-based out-of-distribution detection", NeurIPS.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.energy([[0.0, 0.0], [8.0, 1.0]]).round(6)
    array([-0.693147, -8.000911])
    """
    return _reduced("energy", logits, axis, _energy)


@by_library
def max_logit(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Largest logit: the smaller, the stranger the row.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    Notes
    -----
    The score of [1]_ without its sign, exact. NaN for a row with NaN; ``-inf`` for a row without classes.

    References
    ----------
    .. [1] Hendrycks et al. (2022), "Scaling out-of-distribution detection for real-world settings", ICML.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.max_logit([[1.0, 4.0, 2.5], [7.0, 7.0, 0.0]])
    array([4., 7.])
    """
    return _reduced("max_logit", logits, axis, _backend.max_logit)


@by_library
def generalised_entropy(logits: Array, /, *, axis: Axis = -1) -> Array:
    """Generalised entropy of the 100 largest probabilities: the larger, the stranger the row.

    Parameters
    ----------
    logits : array, any shape
        As for ``softmax``.
    axis : int, tuple of int or None, default -1
        Where the classes are. None takes the whole array as one row.

    Returns
    -------
    array
        The batch's shape; at least float32, float64 for float64, integers and bool.

    Raises
    ------
    ShapeError, DtypeError, AxisError
        If an argument does not fit; the message says which, and what would be right.

    See Also
    --------
    entropy : Shannon's, which small probabilities hardly move.

    Notes
    -----
    ``sum_k (p_k (1 - p_k))**0.1`` over the 100 largest probabilities, all of them when there are fewer [1]_ (eq. 3,
    sec. 4.1). The exponent lifts small numbers, so ``1 - p`` of the leader is the sum of the others, never a
    difference from 1, and each power is taken of a logarithm, so that probabilities which underflow still count.
    Relative error at most 1e-6 for float32 and 1e-13 for float64. A row of ``-inf``, with NaN or with ``+inf`` gives
    NaN; a row without classes 0. One read; extra memory a few numbers for each row.

    References
    ----------
    .. [1] Liu, Lochman and Zach (2023), "GEN: pushing the limits of softmax-based out-of-distribution detection", CVPR.

    Examples
    --------
    >>> import normexp as nx
    >>> nx.generalised_entropy([[0.0, 0.0], [50.0, 0.0]]).round(6)
    array([1.741101, 0.013476])
    """
    return _reduced("generalised_entropy", logits, axis, _generalised_entropy)


def _reduced(of: str, logits: Any, axis: Axis, compute: Callable[..., NDArray[Any]]) -> Any:
    """Check at the door, compute a number for each row, give it the batch's shape."""
    array, hidden = check_logits(logits, of=of)
    axes = check_axis(axis, array.ndim, of=of)
    mask = Mask.of(None, hidden)
    return compute(array, axes, mask, loss_dtype(array.dtype)).reshape(batch_shape(array.shape, axes))[()]


def _energy(array: NDArray[Any], *rest: Any) -> NDArray[Any]:
    """Minus the log-sum."""
    negated: NDArray[Any] = -cpu.logsumexp(array, *rest)
    return negated


def _generalised_entropy(array: NDArray[Any], *rest: Any) -> NDArray[Any]:
    """With the constants of the paper."""
    return _backend.generalised_entropy(array, *rest, count=LARGEST, gamma=GAMMA)
