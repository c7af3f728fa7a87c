"""What each column of a row did to the log-odds of its class against a rival: exact, additive, in its own columns."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from normexp.base.errors import DtypeError, NormexpWarning
from normexp.explain.exact import Pair, add, settle
from normexp.explain.head import Head, rows_of
from normexp.explain.rivals import choose_rivals, exact_gaps
from normexp.explain.rows import F64, Index, Rows, csr, is_sparse, padded_blocks, row_slices


class Reasons(NamedTuple):
    """Why a class and not its rival: ``gap = baseline_gap + contributions.sum(axis=1)``.

    Parameters
    ----------
    contributions : ndarray or csr_matrix of float64 (N, D)
        Of each column to the log-odds, in nats, beyond the baseline.
    baseline_gap : ndarray of float64 (N,)
        Log-odds at the baseline.
    gap : ndarray of float64 (N,)
        Log-odds of `of` against `against`.
    of, against : ndarray (N,)
        The classes.
    names : ndarray of str (D,) or None
        Names of the columns, where the model knows them.
    """

    contributions: Any
    baseline_gap: F64
    gap: F64
    of: NDArray[Any]
    against: NDArray[Any]
    names: NDArray[Any] | None


def contributions(
    model: Any, X: Any, /, *, of: Any = None, against: Any = None, baseline: ArrayLike | None = None
) -> Any:
    r"""Contribution of each column to the log-odds of a class against its rival.

    Parameters
    ----------
    model : classifier
        Any fitted classifier with ``coef_``, ``intercept_`` and ``classes_`` (S, D), S = 1 for two classes: of normexp,
        of scikit-learn, a ``Pipeline`` that ends in one, a search with ``best_estimator_``, or a ``TableClassifier``.
    X : array-like, sparse matrix or DataFrame (N, D)
        Finite rows; for a ``TableClassifier`` a block of a source.
    of : label, array-like of labels (N,), or None
        The class; None: the most probable one.
    against : label, array-like of labels (N,), or None
        Its rival; None: the most probable of the other classes.
    baseline : float, array-like (D,), or None
        The row that contributions start from. None: the mean of the training rows where a step of the model noted it
        (``StandardScaler``, ``PCA``) and X is dense, else 0; and **the log-odds there are shared** among the columns in
        proportion to the size of their contributions.

    Returns
    -------
    ndarray (N, D), or csr_matrix (N, D) for sparse X, of float64
        In nats. Each row sums to the log-odds of its class against the rival; with a baseline that you name, to what
        they exceed the baseline's. Columns are those of X when every step in front of the coefficients is affine;
        otherwise those that come out of the last step that is not (words of a ``TfidfVectorizer``). For a
        ``TableClassifier`` of a table they are the columns of the table.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        For a model without coefficients, rows that do not fit or are not finite, labels that the model does not know.

    Warns
    -----
    NormexpWarning
        Where a row equals the default baseline: it has nothing to attribute, and its contributions are 0.

    See Also
    --------
    reasons : The same beside the log-odds of the baseline, which are then not shared.
    probability_contributions : To the probability.

    Notes
    -----
    With d = W_c - W_r: :math:`\phi_j = d_j (x_j - b_j)` and, for ``baseline=None``, the share
    :math:`g_0 |\phi_j| / \sum_i |\phi_i|` of the gap :math:`g_0` at the baseline. These are the Shapley values of the
    log-odds (a linear game) [1]_. Sums: the gap is computed with 106 bits and one contribution takes up what rounding
    lost, so that the exact sum of a row is within max(1e-12 |gap|, half a unit in the last place of its smallest
    contribution) of the gap. Cost: a few passes over the entries of X; memory is that of the result.

    References
    ----------
    .. [1] Lundberg and Lee (2017), "A unified approach to interpreting model predictions", NeurIPS, corollary 1.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = nx.SoftmaxClassifier().fit(X, y)
    >>> nx.explain.contributions(model, X[100:101]).round(2)  # a virginica, against versicolor
    array([[-6.  , -1.58,  9.22,  3.89]])
    """
    head, columns, prepared = _prepare(model, X, of, against, baseline, name="contributions")
    terms, _ = _terms(head, X, columns, prepared)
    if prepared.named:
        return _settle(terms, _minus(prepared.gap, prepared.baseline_gap))
    return _settle(_share(terms, prepared.baseline_gap.high), prepared.gap)


def reasons(
    model: Any, X: Any, /, *, of: Any = None, against: Any = None, baseline: ArrayLike | None = None
) -> Reasons:
    r"""Contributions beside the log-odds of the baseline, with the classes and the names of the columns.

    Parameters
    ----------
    model, X, of, against
        As for `contributions`.
    baseline : float, array-like (D,), or None
        The row that contributions start from. None: the mean of the training rows where the model knows it, else 0.

    Returns
    -------
    Reasons
        ``gap = baseline_gap + contributions.sum(axis=1)``; nothing is shared.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        As for `contributions`.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> why = nx.explain.reasons(nx.SoftmaxClassifier().fit(X, y), X[100:101], baseline=X.mean())
    >>> int(why.of[0]), int(why.against[0]), str(why.names[2])
    (2, 1, 'petal length (cm)')
    >>> float(why.baseline_gap.round(2)[0]), why.contributions.round(2)  # versicolor is likelier at the mean
    (-4.52, array([[-0.29, -0.08,  6.57,  3.86]]))
    """
    head, columns, prepared = _prepare(model, X, of, against, baseline, name="reasons")
    terms, _ = _terms(head, X, columns, prepared)
    return Reasons(
        contributions=_settle(terms, _minus(prepared.gap, prepared.baseline_gap)),
        baseline_gap=prepared.baseline_gap.high,
        gap=prepared.gap.high,
        of=head.classes[prepared.of],
        against=head.classes[prepared.against],
        names=names_of(head),
    )


class _Prepared(NamedTuple):
    """What both functions need of the rows."""

    of: Index
    against: Index
    baseline: F64
    named: bool
    gap: Pair
    baseline_gap: Pair


def names_of(head: Head, /) -> NDArray[Any] | None:
    """Names of the columns that contributions are told for."""
    return head.names if head.groups is None else np.asarray(head.groups.names, dtype=str)


def _prepare(
    model: Any, X: Any, of: Any, against: Any, baseline: ArrayLike | None, *, name: str
) -> tuple[Head, Rows, _Prepared]:
    """Check everything; settle classes, baseline and gaps."""
    head = Head.read(model, of=name)
    if head.groups is not None and baseline is not None:
        raise DtypeError(
            f"{name}: baseline came for a table model, whose columns have no common scale; leave it out: numbers "
            "start from their mean, categories from their average level, text from no words."
        )
    columns = head.columns(X)
    features = head.features(columns)
    own, rival = choose_rivals(head, features, of=of, against=against)
    point, named = head.baseline(baseline, is_sparse=is_sparse(columns))
    gap = exact_gaps(head, features, own, rival)
    start = head.features(point[None])
    pair, which = np.unique(np.column_stack([own, rival]), axis=0, return_inverse=True)
    repeated = np.broadcast_to(start, (len(pair), start.shape[1]))
    high, low = exact_gaps(head, repeated, pair[:, 0], pair[:, 1])
    which = which.reshape(-1)
    return head, columns, _Prepared(own, rival, point, named, gap, Pair(high[which], low[which]))


def _terms(head: Head, X: Any, columns: Rows, prepared: _Prepared) -> tuple[Any, Rows]:
    """Contributions before their sums are settled: (N, D), or (N, C) for a table."""
    terms = linear_terms(head.column_coef, columns, prepared.of, prepared.against, prepared.baseline)
    if head.groups is None:
        return terms, columns
    return head.groups.gather(terms, rows_of(X)), columns


def linear_terms(coef: F64, columns: Rows, of: Index, against: Index, baseline: F64) -> Rows:
    """Products (W_c - W_r)_j (x_j - b_j), dense or CSR like the columns."""
    if not is_sparse(columns):
        terms: F64 = np.empty(columns.shape)
        for rows in row_slices(*columns.shape):
            terms[rows] = (coef[of[rows]] - coef[against[rows]]) * (columns[rows] - baseline)
        return terms
    if not baseline.any():
        row = np.repeat(np.arange(columns.shape[0]), np.diff(columns.indptr))
        values = (coef[of[row], columns.indices] - coef[against[row], columns.indices]) * columns.data
        return csr((values, columns.indices, columns.indptr), shape=columns.shape)
    blocks = []
    for rows in row_slices(*columns.shape):
        dense = columns[rows].toarray()
        blocks.append(csr(linear_terms(coef, dense, of[rows], against[rows], baseline)))
    return sparse.vstack(blocks, format="csr") if blocks else csr(columns.shape)


def _share(terms: Any, baseline_gap: F64) -> Any:
    """Share the gap at the baseline among the contributions of each row, in proportion to their size."""
    size = np.asarray(abs(terms).sum(axis=1)).ravel()
    idle = (size == 0.0) & (baseline_gap != 0.0)
    if idle.any():
        shown = ", ".join(map(str, np.flatnonzero(idle)[:5])) + (", ..." if idle.sum() > 5 else "")
        warnings.warn(
            f"contributions: row {shown} stands at the baseline, where no column moves anything; its contributions are "
            "0 and its log-odds those of the baseline, which reasons() tells.",
            NormexpWarning,
            stacklevel=3,
        )
    factor = np.divide(baseline_gap, size, out=np.zeros_like(size), where=size > 0.0)
    if is_sparse(terms):
        shared = terms.copy()
        shared.data += np.abs(terms.data) * np.repeat(factor, np.diff(terms.indptr))
        return shared
    return terms + np.abs(terms) * factor[:, None]


def _settle(terms: Any, total: Pair) -> Any:
    """Make the rows sum to their totals."""
    if not is_sparse(terms):
        for rows in row_slices(*terms.shape):
            terms[rows] = settle(terms[rows], Pair(total.high[rows], total.low[rows]))
        return terms
    if terms.nnz:
        values = terms.data.copy()
        for block in padded_blocks(terms):
            here = np.where(block.held, terms.data[block.place], 0.0)
            settled = settle(here, Pair(total.high[block.rows], total.low[block.rows]))
            values[block.place[block.held]] = settled[block.held]
        terms.data = values
    return terms


def _minus(left: Pair, right: Pair) -> Pair:
    """Difference of two arrays of pairs."""
    return add(left, Pair(-right.high, -right.low))
