"""One block of the Hessian for each of many classes: a shared background, the class's own mean, its unsure rows.

Class k has the block sum_i w_ik x_i x_i' + L with w_ik = s_i p_ik (1 - p_ik), over features and shift. Factors of all
blocks take S D^2 numbers; a Kronecker product takes D^2 and forgets where each class is unsure. In between:

    M_k = r_k W + r_k m_k m_k' + sum_{i in U_k} w_ik x_i x_i' + L,

U_k the rows with the largest w_ik, r_k and m_k the weight and the mean of the class's other rows, W the covariance
about these means, pooled over all classes. The mean is what ties a class's shift to its coefficients. With

    L^-1/2 W L^-1/2 = U diag(g) U',  B = L^-1/2 U,

the background r_k W + L is diagonal in the basis B for every class, and the rest is an update of low rank
(Woodbury 1950; docs/decisions/0011-class-rows.md).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from normexp.rows import Block
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

# Numbers of the unsure rows that are kept for all classes together: 96 MB; and rows of one class.
_KEPT_NUMBERS = 3 << 23
_ROWS_OF_A_CLASS = 256
# No more than so many for each row of the table: the next ones weigh too little.
_PAIRS_OF_A_ROW = 2.0
# The background's share of a class's curvature along its shift, which the mean and the rows carry all but alone.
_SHIFT_SHARE = 1e-3
# Bins of weights for each factor of two, and how small a weight may be beside the largest that there is.
_BINS, _OCTAVES = 8, 30
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class ClassRows(Preconditioner):
    """The background of all classes, and the update of each."""

    basis: F64 = field(repr=False)  # B, (D, D)
    background: F64 = field(repr=False)  # r_k g + 1, (D, S), and the shifts' below it
    updates: tuple[tuple[F32, F32], ...] = field(repr=False)  # rows in the basis (m, D + 1); factor (m, m)

    def solve(self, coef: F64, shift: F64) -> tuple[F64, F64]:
        turned = np.vstack([self.basis.T @ _centred(coef), shift - shift.mean()])
        turned /= self.background
        for k, (rows, factor) in enumerate(self.updates):
            here = turned[:, k].astype(np.float32)
            pushed = rows.T @ linalg.cho_solve((factor, True), rows @ here, check_finite=False)
            turned[:, k] -= pushed / self.background[:, k]
        return _centred(self.basis @ turned[:-1]), turned[-1] - turned[-1].mean()


def fit_class_rows(objective: SoftmaxObjective) -> ClassRows:
    """Form the blocks at the objective's current probabilities: one pass over the rows."""
    rows, n_scores = objective.curved_rows, objective.n_scores
    free = 1.0 if objective.fit_intercept else 0.0
    least = _least_weights(objective)

    def part(block: Block) -> tuple[F64, F64, F64, list[tuple[NDArray[np.intp], F32]]]:
        weight = _curvature(objective, block.rows)
        row, label = np.nonzero(weight > least)
        root = np.sqrt(weight[row, label])
        weight[row, label] = 0.0
        sure: list[tuple[NDArray[np.intp], F32]] = []
        if len(row):
            table = block.table()
            unsure = np.empty((len(row), table.shape[1] + 1), np.float32)
            np.multiply(table[row], root[:, None], out=unsure[:, :-1], casting="same_kind")
            unsure[:, -1] = root * free
            sure = [(label, unsure)]
        return weight.sum(axis=0), block.adjoint(weight), block.gram(weight.sum(axis=1)), sure

    rest, sums, moments, unsure = rows.sum(part)
    objective.n_passes += 1
    means = sums / np.maximum(rest, _TINY)
    moments -= (means * rest) @ means.T
    moments /= max(float(rest.sum()), _TINY)
    root = 1.0 / np.sqrt(objective.ridge)
    spectrum, basis = linalg.eigh(moments * np.outer(root, root), overwrite_a=True, check_finite=False)
    basis *= root[:, None]
    labels = np.concatenate([label for label, _ in unsure]) if unsure else np.empty(0, np.intp)
    n_kept = np.bincount(labels, minlength=n_scores)
    background = np.empty((len(basis) + 1, n_scores))
    background[:-1] = np.outer(np.maximum(spectrum, 0.0), rest) + 1.0
    whole = rest.copy()
    for label, found in unsure:
        whole += np.bincount(label, weights=np.square(found[:, -1]), minlength=n_scores)
    background[-1] = np.maximum(_SHIFT_SHARE * whole, 1e-6 * max(float(whole.max()), _TINY)) if free else 1.0
    narrow = basis.astype(np.float32)
    turned_means = (means.T @ basis) * np.sqrt(rest)[:, None]
    own = [np.empty((count + 1, len(basis) + 1), np.float32) for count in n_kept]
    for k in range(n_scores):
        own[k][-1, :-1], own[k][-1, -1] = turned_means[k], np.sqrt(rest[k]) * free
    filled = np.zeros(n_scores, np.intp)
    while unsure:  # block by block, each given up when it is turned
        label, found = unsure.pop()
        found[:, :-1] = found[:, :-1] @ narrow
        for k in np.unique(label):
            mine = found[label == k]
            own[k][filled[k] : filled[k] + len(mine)] = mine
            filled[k] += len(mine)
    return ClassRows(basis, background, tuple(_update(own[k], background[:, k]) for k in range(n_scores)))


def _update(rows: F32, background: F64) -> tuple[F32, F32]:
    """Rows of a class, and the factor of I + rows background^-1 rows'."""
    inner = (rows / background) @ rows.T
    np.einsum("jj->j", inner)[...] += 1.0
    return rows, linalg.cholesky(inner, lower=True, check_finite=False).astype(np.float32)


def _curvature(objective: SoftmaxObjective, rows: slice) -> F64:
    """Curvature w_ik of each class in some rows, (n, S)."""
    p = objective.curved_prob(rows)
    p *= (1.0 - p) * objective.weight[rows, None]
    return p


def _least_weights(objective: SoftmaxObjective) -> F64:
    """The weight w_ik from which rows of each class are kept, (S,): as many as there is room for. No row is read."""
    n_rows, size, n_scores = objective.rows.n_rows, objective.rows.n_features + 1, objective.n_scores
    room = int(min(_KEPT_NUMBERS // size, _PAIRS_OF_A_ROW * n_rows))
    top = float(objective.weight.max()) * 0.25
    if top <= 0.0:
        return np.full(n_scores, np.inf)
    n_bins = _BINS * _OCTAVES
    counts = np.zeros((n_bins, n_scores), np.intp)
    for first in range(0, n_rows, 1024):
        weight = _curvature(objective, slice(first, first + 1024))
        row, label = np.nonzero(weight > top * 2.0**-_OCTAVES)
        bins = np.minimum(np.floor(-np.log2(weight[row, label] / top) * _BINS), n_bins - 1).astype(np.intp)
        counts += np.bincount(np.maximum(bins, 0) * n_scores + label, minlength=counts.size).reshape(counts.shape)
    above = np.cumsum(counts, axis=0)  # rows of each class down to the end of a bin
    bins_of_all = int(np.sum(above.sum(axis=1) <= room))
    bins_of_one = np.sum(above <= min(_ROWS_OF_A_CLASS, size // 2), axis=0)
    least = top * 2.0 ** (-np.minimum(bins_of_all, bins_of_one) / _BINS)
    return np.asarray(np.where(least < top, least, np.inf))


def _centred(table: F64) -> F64:
    """What all classes have in common changes no score; taken out on both sides, M^-1 stays symmetric."""
    return np.asarray(table - table.mean(axis=1, keepdims=True))
