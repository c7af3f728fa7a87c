"""What a training row did to a softmax regression: one Newton step away from the fit without it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normexp.base.errors import RangeError, ShapeError
from normexp.explain.hessian import EXACT_UP_TO, SoftmaxFit
from normexp.explain.rows import F64, as_dense
from normexp.ops import log_softmax


class LeaveOneOut(NamedTuple):
    """Each row as the model without it sees it: log-probabilities (N, K), log loss (N,), leverage (N,)."""

    log_prob: F64
    loss: F64
    leverage: F64


def influence(
    model: Any,
    X: Any,
    y: ArrayLike,
    X_new: Any,
    y_new: ArrayLike,
    /,
    *,
    sample_weight: ArrayLike | None = None,
) -> F64:
    r"""Change of the log loss on some rows were one training row left out.

    Parameters
    ----------
    model : classifier
        A fitted softmax regression with an L2 penalty: ``SoftmaxClassifier``, ``LogisticRegression``, or a pipeline
        that ends in one; steps in front of it stay as they are.
    X : array-like or sparse matrix (N, D)
        All training rows.
    y : array-like (N,)
        Their classes.
    X_new : array-like or sparse matrix (M, D)
        Rows whose log loss is watched.
    y_new : array-like (M,)
        Their classes.
    sample_weight : array-like (N,) or None
        Weights of the fit.

    Returns
    -------
    ndarray of float64 (N,)
        Mean log loss over the watched rows after leaving row i out, less that before. Below 0: the row did harm; such
        rows are worth a look for wrong labels.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        For models without this objective, and for rows that it was not trained on.

    See Also
    --------
    leave_one_out : Each row as the model without it sees it.

    Notes
    -----
    With the Hessian H at the optimum and the row's own part H_i, one Newton step on the objective without row i moves
    the coefficients by :math:`(H - H_i)^{-1} \nabla\ell_i`; a low-rank update of one factorisation gives all N of them
    [1]_, and the loss at each is computed anew. So up to 4 000 coefficients P = K D, at N P (P + M) + P^3; above, H is
    solved against the watched gradient by conjugate gradients and H_i is left out (influence functions [2]_), which
    understates rows of large leverage.

    References
    ----------
    .. [1] Rad and Maleki (2020), "A scalable estimate of the out-of-sample prediction error via approximate
       leave-one-out cross-validation", JRSS B 82, eq. 9.
    .. [2] Koh and Liang (2017), "Understanding black-box predictions via influence functions", ICML, eq. 2.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> wrong = y.copy()
    >>> wrong[[20, 60, 120]] = [1, 0, 0]  # three labels are mistaken
    >>> model = nx.SoftmaxClassifier().fit(X, wrong)
    >>> harm = nx.explain.influence(model, X, wrong, X, y)
    >>> sorted(harm.argsort()[:3].tolist())
    [20, 60, 120]
    """
    fit = SoftmaxFit(model, X, y, sample_weight, of="influence")
    watched = fit.features_of(X_new)
    labels = fit.index_of(y_new, watched.shape[0], "y_new")
    if not len(labels):
        raise ShapeError("influence: X_new has no rows; at least one row to watch would be right.")
    inverse = fit.inverse_hessian()
    if inverse is not None:
        return fit.changes(inverse, as_dense(watched), labels)
    pull = (fit.probabilities(watched) - fit.members(labels)) / len(labels)
    gradient = np.column_stack([np.asarray(pull.T @ watched), pull.sum(axis=0)])[:, : fit.n_columns]
    seen = fit.linear(fit.features, fit.solve(gradient))
    return np.asarray(np.einsum("nk,nk->n", seen, fit.residual * fit.weight[:, None]))


def leave_one_out(model: Any, X: Any, y: ArrayLike, /, *, sample_weight: ArrayLike | None = None) -> LeaveOneOut:
    r"""Each training row as the model without it sees it, from one factorisation instead of N fits.

    Parameters
    ----------
    model, X, y, sample_weight
        As for `influence`; at most 4 000 coefficients.

    Returns
    -------
    LeaveOneOut
        ``log_prob`` (N, K), ``loss`` (N,) and ``leverage`` (N,). The mean loss estimates that on new rows, as
        cross-validation with N folds does.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        As for `influence`, and for more coefficients.

    Notes
    -----
    The logits of row i move by :math:`A_i (I - M_i A_i)^{-1} (p_i - y_i) w_i` with the weight w_i,
    :math:`M_i = w_i(\mathrm{diag}(p_i) - p_i p_i')` and A_i the inverse Hessian seen from the row: see `influence`. The
    leverage is the trace of M_i A_i; near 1 and above, a single Newton step is coarse.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = nx.SoftmaxClassifier(C=1e-3).fit(X, y)
    >>> told = nx.explain.leave_one_out(model, X, y)
    >>> inside = -model.predict_log_proba(X)[range(178), y].mean()
    >>> round(float(inside), 3), round(float(told.loss.mean()), 3)  # on the training rows, and without each
    (0.435, 0.472)
    """
    fit = SoftmaxFit(model, X, y, sample_weight, of="leave_one_out")
    inverse = fit.inverse_hessian()
    if inverse is None:
        raise RangeError(
            f"leave_one_out: the model has {fit.residual.shape[1] * fit.n_columns} coefficients; at most "
            f"{EXACT_UP_TO} would be right. influence() works with more."
        )
    seen = fit.leverages(inverse)
    scores = fit.scores + np.einsum("nkl,nl->nk", seen, fit.newton_steps(seen))
    logits = np.column_stack([np.zeros(len(scores)), scores]) if scores.shape[1] == 1 else scores
    log_prob = np.asarray(log_softmax(logits))
    leverage = np.einsum("nkl,nlk->n", fit.curvature(), seen)
    return LeaveOneOut(log_prob, -log_prob[np.arange(len(log_prob)), fit.target], leverage)
