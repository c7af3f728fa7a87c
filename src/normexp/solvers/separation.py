"""Whether rows without a penalty have a finite optimum, decided by a linear program.

Along a direction V the loss of row i falls without end, and never rises, when (V_y - V_k)' x_i >= 0 for its class y
and every other class k, with one inequality strict somewhere: these directions are the recession cone of the objective.
It has none but those that change nothing exactly when the classes overlap, and then the optimum is finite (Albert &
Anderson 1984, theorems 1 to 3). The program, after Konis (2007), asks for as many strict inequalities as there can be:

    maximise sum t_ik  subject to  (V_y - V_k)' x_i >= t_ik,  0 <= t_ik <= 1,  |V| <= 10^4.

All t at 1: complete separation; some: quasi-complete; none: overlap. Columns are standardised, so a gap of less than
1e-4 of a standard deviation is called overlap.

References
----------
Albert & Anderson (1984), "On the existence of maximum likelihood estimates in logistic regression models",
Biometrika 71. Konis (2007), "Linear programming algorithms for detecting separated data in binary logistic regression
models", thesis, Oxford.
"""

from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from normexp.solvers.outcome import Outcome

F64 = NDArray[np.float64]
_sp: Any = sparse  # whose stubs tell apart more kinds of matrices than there are

_MOST_ENTRIES: Final = 500_000  # of the program's matrix: a few seconds
_MOST_STEPS: Final = 50_000  # of the simplex method
_LARGEST: Final = 1e4
_STRICT: Final = 1e-3  # of t, whose vertices are 0 and, where nothing but the bound on V stops it, 1
_SURE: Final = 1e-3  # a row whose other classes together are less probable than this may be one that is separated


class Separation(Enum):
    """How the rows of the classes lie to each other."""

    OVERLAP = "overlap"
    QUASI = "quasi-complete"
    COMPLETE = "complete"
    UNDECIDED = "undecided"


def separation_of(
    X: Any,
    target: NDArray[np.intp],
    weight: F64,
    *,
    n_classes: int,
    fit_intercept: bool,
    centre: F64,
    scale: F64,
) -> Separation:
    """Decide whether some linear rule separates classes, completely or but for ties.

    Parameters
    ----------
    X : ndarray (N, D) or CSR matrix
        The rows.
    target : ndarray (N,) intp
        Class indices.
    weight : ndarray (N,) float64
        Rows of weight 0 do not count.
    n_classes : int
        K; two classes have one score.
    fit_intercept : bool
        Whether a constant belongs to the rule.
    centre, scale : ndarray (D,)
        Of the columns.

    Returns
    -------
    Separation
        ``UNDECIDED`` for tables whose program has more than 500 000 entries.
    """
    counted = np.flatnonzero(weight > 0)
    present, target = np.unique(target[counted], return_inverse=True)
    if len(present) < n_classes:  # the score of a class without rows falls without end
        return Separation.QUASI
    width = X.shape[1] + int(fit_intercept)
    stored = (X.nnz / max(1, X.shape[0]) if hasattr(X, "nnz") else X.shape[1]) + int(fit_intercept)
    if 2 * stored * len(counted) * (n_classes - 1) > _MOST_ENTRIES:
        return Separation.UNDECIDED
    rows = _standardised(X[counted], centre, scale, fit_intercept=fit_intercept)
    blocks = []
    for rival in range(n_classes):  # the last class has the score 0, for a shift of all scores changes nothing
        facing = np.flatnonzero(target != rival)
        sign = np.zeros((len(facing), n_classes))
        sign[np.arange(len(facing)), target[facing]] = 1.0
        sign[:, rival] = -1.0
        parts = [_sp.diags_array(sign[:, k]) @ rows[facing] for k in range(n_classes - 1)]
        blocks.append(_sp.hstack(parts, format="csr"))
    leads = _sp.vstack(blocks, format="csr")
    n_leads, n_coefs = leads.shape[0], width * (n_classes - 1)
    found = linprog(
        np.r_[np.zeros(n_coefs), -np.ones(n_leads)],
        A_ub=_sp.hstack([-leads, _sp.eye_array(n_leads)], format="csr"),
        b_ub=np.zeros(n_leads),
        bounds=[(-_LARGEST, _LARGEST)] * n_coefs + [(0.0, 1.0)] * n_leads,
        method="highs-ds",
        options={"maxiter": _MOST_STEPS, "primal_feasibility_tolerance": 1e-9},
    )
    if found.status != 0 or found.x is None:
        return Separation.UNDECIDED
    strict = found.x[n_coefs:]
    if strict.max() <= _STRICT:
        return Separation.OVERLAP
    return Separation.COMPLETE if strict.min() >= 1.0 - _STRICT else Separation.QUASI


def decided(outcome: Outcome, separation: Separation, *, grows: bool = False) -> Outcome:
    """Say how a fit without a penalty ended, now that it is known how the classes lie.

    Parameters
    ----------
    outcome : Outcome
        What the solver took it for.
    separation : Separation
        What the program found.
    grows : bool
        Whether a Newton step from the end would still move a row's class ahead of the others.

    Returns
    -------
    Outcome
        Where nothing was decided the same, but for coefficients that still grow where the gradient has vanished.
    """
    if separation is Separation.COMPLETE:
        return Outcome.SEPARABLE
    if separation is Separation.QUASI:
        return Outcome.QUASI_SEPARABLE
    if separation is Separation.OVERLAP and outcome is Outcome.GROWING:
        return Outcome.MAX_ITER
    if separation is Separation.UNDECIDED and grows and outcome is Outcome.GRADIENT:
        return Outcome.GROWING
    return outcome


def looks_separated(X: Any, target: NDArray[np.intp], weight: F64, coef: F64, intercept: F64, tol: float) -> bool:
    """Whether some row is so sure at the end of a fit that the classes may be separable.

    Where the coefficients grow without end, Newton's steps shrink the residuals of the separated rows and with them the
    gradient, by a factor e each; a fit that ends at a gradient of tol has left them with no more than about N tol.
    """
    scores = np.asarray(X @ coef) + intercept
    sure = min(0.1, max(_SURE, 10.0 * tol * len(target)))
    return bool(np.any(leads(scores, target)[weight > 0] >= -np.log(sure)))


def leads(scores: NDArray[np.floating], target: NDArray[np.intp]) -> F64:
    """By how much each row's class is ahead of the best other one, (n,); scores (n, S) are overwritten."""
    if scores.shape[1] == 1:
        return np.asarray(np.where(target == 1, scores[:, 0], -scores[:, 0]))
    own = scores[np.arange(len(target)), target]
    scores[np.arange(len(target)), target] = -np.inf
    return np.asarray(own - scores.max(axis=1))


def _standardised(X: Any, centre: F64, scale: F64, *, fit_intercept: bool) -> Any:
    """The rows as a CSR matrix with columns of one size; sparse ones are not centred."""
    if hasattr(X, "nnz"):
        rows = _sp.csr_matrix(X.astype(np.float64)) @ _sp.diags_array(1.0 / scale)
    else:
        rows = _sp.csr_matrix((X.astype(np.float64) - centre) / scale)
    return _sp.csr_matrix(_sp.hstack([rows, np.ones((rows.shape[0], 1))]) if fit_intercept else rows)
