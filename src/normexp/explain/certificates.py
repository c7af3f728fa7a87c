"""How far a row may move before its probabilities or its class do: certificates from softmax's Lipschitz constant."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from normexp.base.checks import check_number
from normexp.base.errors import DtypeError, RangeError
from normexp.explain.flips import contrast, per_column
from normexp.explain.head import Head
from normexp.explain.nearest import NORMS
from normexp.explain.rows import F64

_FARTHEST: Final = np.sqrt(2.0)  # between two corners of the simplex: no two rows of probabilities lie farther apart


class Stability(NamedTuple):
    """What each prediction withstands.

    Parameters
    ----------
    radius : ndarray of float64 (N,)
        Every x' with ||x - x'|| at most this has ||p(x) - p(x')||_2 at most eps.
    label_radius : ndarray of float64 (N,)
        Every x' nearer than this has the same class; exact.
    lipschitz : float
        ||p(x) - p(x')||_2 is at most this times ||x - x'||, for any two rows.
    """

    radius: F64
    label_radius: F64
    lipschitz: float


def stability(model: Any, X: Any, /, *, eps: float = 0.1, norm: float = 2, scale: ArrayLike | None = None) -> Stability:
    r"""Radius within which each prediction stays, certified.

    Parameters
    ----------
    model : classifier
        As for `contributions`; the steps in front of its coefficients must be affine.
    X : array-like, sparse matrix or DataFrame (N, D)
        Finite rows.
    eps : float, default 0.1
        How far the probabilities may move, in Euclidean distance; above 0.
    norm : {1, 2, numpy.inf}
        How a change of a row is measured.
    scale : float, array-like (D,), or None
        What counts as a change of 1 in each column, above 0; None: 1.

    Returns
    -------
    Stability
        ``radius`` (N,), ``label_radius`` (N,) and ``lipschitz``.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        As for `contrast`, and for an eps that is not above 0.

    Notes
    -----
    Softmax is 1/2-Lipschitz in the Euclidean norm [1]_: its Jacobian diag(p) - pp' has absolute row sums
    :math:`2p_k(1-p_k) \le 1/2`. So :math:`\|p(x) - p(x')\| \le \frac12\|W(x - x')\| \le \frac12\|W\|\,\|x - x'\|`, with
    W centred over the classes and its norm from `norm` to 2 (the spectral norm for 2, the longest column for 1, for
    infinity the lesser of the spectral norm times :math:`\sqrt D` and the sum of the columns' lengths).

    Where a prediction is sure, the Jacobian is smaller still. With :math:`m = \min_k |\log(p_k / (1 - p_k))|`, which a
    move of the logits by s lessens by at most :math:`\sqrt2 s`,

    .. math:: \|p(x) - p(x')\| \le \int_0^t 2\sigma'(\max(0, m - \sqrt2 s))\,ds
        = \sqrt2\,(\sigma(m) - \sigma(m - \sqrt2 t)) \quad (t \le m / \sqrt2)

    for logits within t, going on at 1/2 beyond. ``radius`` inverts this; it is never less than ``eps / lipschitz``.
    Cost: one singular value decomposition (K, D), and `contrast`.

    References
    ----------
    .. [1] Gao and Pavel (2017), "On the properties of the softmax function with application in game theory and
       reinforcement learning", arXiv:1704.00805, with the constant 1; the constant 1/2: arXiv:2510.23012 (2025).

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = nx.SoftmaxClassifier().fit(X, y)
    >>> told = nx.explain.stability(model, X[[0, 133]], eps=0.1)  # one that is sure, one that is not
    >>> told.radius.round(2), told.label_radius.round(2), round(told.lipschitz, 2)
    (array([0.26, 0.04]), array([1.41, 0.02]), 2.26)
    """
    size = check_number(eps, of="stability", name="eps", low=0.0)
    if size == 0.0:
        raise RangeError("stability: eps is 0; a distance above 0 that the probabilities may move would be right.")
    if norm not in NORMS:
        raise RangeError(f"stability: norm is {norm!r}; 1, 2 or numpy.inf would be right.")
    head = Head.read(model, of="stability")
    if head.opaque or head.groups is not None:
        raise DtypeError(
            f"stability: the model has a {type(head.opaque[-1]).__name__}, which is not affine, so distances of its "
            "input say nothing; give what comes out of that step and the model behind it."
        )
    rows = head.columns(X)  # complaints of rows name this function
    label_radius = contrast(model, rows, norm=norm, scale=scale).radius
    logits = head.logits(head.features(rows))
    slope = head.column_coef * per_column(scale, 1.0, head, "scale")
    length = operator_norm(slope - slope.mean(axis=0), norm)
    if size >= _FARTHEST or length == 0.0:
        return Stability(np.full(len(logits), np.inf), label_radius, 0.5 * length)
    return Stability(logit_radius(sureness(logits), size) / length, label_radius, 0.5 * length)


def operator_norm(matrix: F64, norm: float, /) -> float:
    """Norm of a matrix (K, D) from `norm` to the Euclidean one: exact for 1 and 2, an upper bound for infinity."""
    columns = np.linalg.norm(matrix, axis=0)
    if norm == 1:
        return float(columns.max(initial=0.0))
    spectral = float(np.linalg.norm(matrix, ord=2)) if matrix.size else 0.0
    return spectral if norm == 2 else min(spectral * float(np.sqrt(matrix.shape[1])), float(columns.sum()))


def sureness(logits: F64, /) -> F64:
    """Least |log-odds of a class against all others together| of each row, (N,), from logits (N, K >= 2).

    Only two classes can have it: the largest, and of the others, whose probabilities are at most 1/2, the largest.
    """
    n_rows = np.arange(len(logits))
    largest = logits.argmax(axis=1)
    rest = logits.copy()
    rest[n_rows, largest] = -np.inf
    second = rest.argmax(axis=1)
    least = np.full(len(logits), np.inf)
    for place in (largest, second):
        rest = logits.copy()
        rest[n_rows, place] = -np.inf
        top = rest.max(axis=1, keepdims=True)
        others = top[:, 0] + np.log(np.exp(rest - top).sum(axis=1))
        least = np.minimum(least, np.abs(logits[n_rows, place] - others))
    return least


def logit_radius(sure: F64, eps: float, /) -> F64:
    """Distance t of the logits within which the bound of the Notes stays below eps, (N,)."""
    before = np.sqrt(2.0) * (expit(sure) - 0.5)  # what the bound reaches where the least log-odds may be 0
    inside = eps <= before
    end = np.where(inside, expit(sure) - eps / np.sqrt(2.0), 0.5)
    return np.asarray((sure - logit(end)) / np.sqrt(2.0) + np.where(inside, 0.0, 2.0 * (eps - before)))
