"""What each column did to the probability of a class: the integral of its pull along the way from a baseline."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from normexp.base.errors import DtypeError
from normexp.explain.head import Head, rows_of
from normexp.explain.rivals import choose_rivals
from normexp.explain.rows import F64, Index, Rows, csr, is_sparse, row_slices
from normexp.ops import log_softmax, softmax

_TOLERANCE: Final = 1e-11  # of each piece; a row has some tens of pieces at most
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(10)  # exact for polynomials up to degree 19
_MOST_HALVINGS: Final = 60  # pieces of width 2^-60: below what float64 tells apart near 1
_UNIT: Final = 2.0**-53


def probability_contributions(model: Any, X: Any, /, *, of: Any = None, baseline: ArrayLike | None = None) -> Any:
    r"""Contribution of each column to the probability of a class, beyond its probability at a baseline.

    Parameters
    ----------
    model, X
        As for `contributions`.
    of : label, array-like of labels (N,), or None
        The class; None: the most probable one.
    baseline : float, array-like (D,), or None
        The row to start from. None: the mean of the training rows where the model knows it and X is dense, else 0.

    Returns
    -------
    ndarray (N, D), or csr_matrix (N, D) for sparse X, of float64
        Each row sums to p_c(x) - p_c(baseline) to 1e-9.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        As for `contributions`.

    See Also
    --------
    contributions : To the log-odds, which are additive without an integral.

    Notes
    -----
    Integrated gradients [1]_: with :math:`x(t) = b + t(x - b)`,

    .. math:: \phi_j = (x_j - b_j)\int_0^1 \frac{\partial p_c}{\partial x_j}(x(t))\,dt
        = (x_j - b_j)\sum_k W_{kj} m_k, \qquad m_k = \int_0^1 p_c(\delta_{ck} - p_k)\,dt .

    So a row needs K integrals, not D. The way is first cut where p_c is largest (its log-odds are concave in t), then
    each piece is halved until Gauss and Legendre's 10 points agree with those of its halves to 1e-11 and the piece
    tells the change of p_c, which is known, as exactly. Completeness holds to 1e-9 while logits stay below 1e5.
    Cost: 30 to 1000 softmaxes a row, and one product (N, K) x (K, D).

    References
    ----------
    .. [1] Sundararajan, Taly and Yan (2017), "Axiomatic attribution for deep networks", ICML, eq. 1.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = nx.SoftmaxClassifier().fit(X, y)
    >>> phi = nx.explain.probability_contributions(model, X[100:101], baseline=X.mean(axis=0))
    >>> before, after = model.predict_proba([X.mean(axis=0), X[100]])[:, 2]
    >>> phi.round(2), round(float(after - before), 2)
    (array([[-0.03, -0.01,  0.65,  0.38]]), 0.99)
    """
    head = Head.read(model, of="probability_contributions")
    if head.groups is not None and baseline is not None:
        raise DtypeError(
            "probability_contributions: baseline came for a table model, whose columns have no common scale; leave it "
            "out: numbers start from their mean, categories from their average level, text from no words."
        )
    columns = head.columns(X)
    features = head.features(columns)
    own = choose_rivals(head, features, of=of, against=None)[0]
    point, _ = head.baseline(baseline, is_sparse=is_sparse(columns))
    start = head.logits(head.features(point[None]))[0]
    pull = np.empty((columns.shape[0], len(head.classes)))
    for rows in row_slices(columns.shape[0], 64 * len(head.classes)):
        way = head.logits(features[rows]) - start
        pull[rows] = integrated_pull(np.broadcast_to(start, way.shape), way, own[rows])
    terms = _terms(head.column_coef, columns, pull, point)
    return terms if head.groups is None else head.groups.gather(terms, rows_of(X))


def integrated_pull(start: F64, way: F64, of: Index, /) -> F64:
    """Integrals m_k of p_c (delta_ck - p_k) along start + t way, t in [0, 1]; logits (N, K), of (N,), result (N, K)."""
    here = np.arange(len(of))
    # only differences to the class's own logit count, and these are often smaller
    start, way = start - start[here, of][:, None], way - way[here, of][:, None]
    reach = np.abs(start).max(axis=1) + np.abs(way).max(axis=1)
    tolerance = np.maximum(_TOLERANCE, 16.0 * _UNIT * reach)
    scale = np.maximum(1.0, np.abs(way).max(axis=1))
    top = _top(start, way, of)
    total = np.zeros_like(way)
    row = np.r_[here, here]
    low, high = np.r_[np.zeros(len(of)), top], np.r_[top, np.ones(len(of))]
    wide = high > low
    row, low, high = row[wide], low[wide], high[wide]
    value = _panel(start, way, of, row, low, high)
    for _ in range(_MOST_HALVINGS):
        if not len(row):
            return total
        middle = 0.5 * (low + high)
        left, right = _panel(start, way, of, row, low, middle), _panel(start, way, of, row, middle, high)
        finer = left + right
        risen = _probability(start, way, of, row, high) - _probability(start, way, of, row, low)
        told = np.einsum("nk,nk->n", finer, way[row])
        error = np.maximum(np.abs(finer - value).max(axis=1) * scale[row], np.abs(told - risen))
        done = error <= tolerance[row]
        np.add.at(total, row[done], finer[done])
        row, low, middle, high = (kept[~done] for kept in (row, low, middle, high))
        value = np.vstack([left[~done], right[~done]])
        row, low, high = np.r_[row, row], np.r_[low, middle], np.r_[middle, high]
    np.add.at(total, row, value)
    return total


def _top(start: F64, way: F64, of: Index) -> F64:
    """Where along the way the class is most probable, (N,): its log-odds are concave, so their slope is halved down."""
    low, high = np.zeros(len(of)), np.ones(len(of))
    here = np.arange(len(of))
    for _ in range(50):
        middle = 0.5 * (low + high)
        logits = start + middle[:, None] * way
        logits[here, of] = -np.inf  # the others' mean speed, by their shares among themselves
        rises = np.einsum("nk,nk->n", np.asarray(softmax(logits)), way) < 0.0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return high


def _panel(start: F64, way: F64, of: Index, row: Index, low: F64, high: F64) -> F64:
    """Gauss and Legendre's rule on pieces (P,) of some rows, (P, K)."""
    total = np.zeros((len(row), way.shape[1]))
    half = 0.5 * (high - low)
    here = np.arange(len(row))
    for point, weight in zip(_POINTS, _WEIGHTS, strict=True):
        t = low + half * (1.0 + point)
        prob = np.asarray(softmax(start[row] + t[:, None] * way[row]))
        own = prob[here, of[row]]
        others = prob.copy()
        others[here, of[row]] = 0.0
        pull = -own[:, None] * prob
        pull[here, of[row]] = own * others.sum(axis=1)  # p (1 - p) without cancellation near 1
        total += (weight * half)[:, None] * pull
    return total


def _probability(start: F64, way: F64, of: Index, row: Index, t: F64) -> F64:
    """Probability of the class at points of the way, (P,)."""
    log_prob = np.asarray(log_softmax(start[row] + t[:, None] * way[row]))
    return np.asarray(np.exp(log_prob[np.arange(len(row)), of[row]]))


def _terms(coef: F64, columns: Rows, pull: F64, baseline: F64) -> Rows:
    """Products (x_j - b_j) sum_k W_kj m_k, dense or CSR like the columns."""
    if not is_sparse(columns):
        terms: F64 = np.empty(columns.shape)
        for rows in row_slices(*columns.shape):
            terms[rows] = (columns[rows] - baseline) * (pull[rows] @ coef)
        return terms
    blocks = []
    for rows in row_slices(*columns.shape):
        slope = pull[rows] @ coef
        if baseline.any():
            blocks.append(csr((columns[rows].toarray() - baseline) * slope))
            continue
        part = columns[rows].copy()
        part.data *= slope[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices]
        blocks.append(part)
    return sparse.vstack(blocks, format="csr") if blocks else csr(columns.shape)
