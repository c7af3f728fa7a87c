"""Which preconditioner a problem gets, and when it is fitted anew."""

import numpy as np
from numpy.typing import NDArray

from normexp.solvers.class_blocks import ROWS_PER_FEATURE, ClassBlocks, fit_class_blocks
from normexp.solvers.class_diagonals import fit_class_diagonals
from normexp.solvers.class_rows import ClassRows, fit_class_rows
from normexp.solvers.kronecker import fit_kronecker, plain_moments, rows_for_moments
from normexp.solvers.objective import SoftmaxObjective
from normexp.solvers.preconditioner import Preconditioner, fit_hessian, is_sampled

# Beyond this many features a dense (D, D) factor costs more than the iterations it saves: use its diagonal.
_MAX_DENSE_FEATURES = 2500
# The Hessian of S (D + 1) unknowns needs some rows for each of them. Forming it, S^2 D^2 operations a row, must
# not cost more than the conjugate-gradient passes of 4 N D S that it saves, unless it is cheap in itself.
_ROWS_PER_UNKNOWN = 20
_PASSES_SAVED = 30
_CHEAP_OPERATIONS = 2e8
_MAX_UNKNOWNS = 2000
# After a step of more inner iterations than this, the classes' own blocks are formed (anew) if their S (D + 1)^2
# numbers stay below 256 MB. Of more classes each keeps its unsure rows (again) after a step of more than so many.
_PATIENCE = 25
_FIRST_PATIENCE, _NEXT_PATIENCE = 1, 3
# After a step of more inner iterations than one for each 30 unknowns, the Hessian of a sample is formed from all rows:
# one product of matrices, which takes as long as so many passes.
_UNKNOWNS_PER_PASS, _LEAST_PATIENCE = 30, 8
_MAX_BLOCK_NUMBERS = 1 << 25
# After a step of more than so many, or one that rounding ended, blocks are no guide either: the Hessian is formed from
# all rows wherever it fits (docs/decisions/0017-faint-penalties.md).
_FORMING_PATIENCE, _UNKNOWNS_PER_LONG_PASS = 50, 10
# Along a path a fit whose steps were hard before begins with the blocks, if these cost no more than so many passes.
_CHEAP_PASSES = 40
# From so many classes on sparse rows get a diagonal for each: turning the classes costs more than their products.
_MANY_CLASSES = 100


class Metric:
    """Fits the preconditioner that suits the objective's size to its current probabilities."""

    def __init__(self, objective: SoftmaxObjective, rng: np.random.Generator) -> None:
        self._objective, self._rng = objective, rng
        rows = objective.rows
        self._sample, fits_hessian = _hessian_plan(rows.n_rows, rows.n_features, objective.n_scores)
        self._use_hessian = fits_hessian and not rows.is_sparse
        self._unknowns = objective.n_scores * (rows.n_features + 1)
        self._may_form = self._unknowns <= _MAX_UNKNOWNS and not rows.is_sparse
        self._dense = rows.n_features <= _MAX_DENSE_FEATURES
        self._may_block = (
            self._dense
            and not rows.is_sparse
            and objective.n_scores > 1
            and objective.n_scores * (rows.n_features + 1) ** 2 <= _MAX_BLOCK_NUMBERS
        )
        drawn = min(rows.n_rows, 2 * ROWS_PER_FEATURE * rows.n_features)
        self.blocks_are_cheap = (
            self._may_block and not self._use_hessian and drawn * rows.n_features <= 2 * _CHEAP_PASSES * rows.n_rows
        )
        self.may_keep_rows = (  # from all rows alone: those of a sample are too few for each of many classes
            self._dense
            and not rows.is_sparse
            and not self._use_hessian
            and not self._may_block
            and objective.n_scores > 2
            and bool(np.all(objective.ridge > 0))
        )
        self._class_rows: ClassRows | None = None
        self.blocks: ClassBlocks | None = None  # once they were needed, they stay
        self._floor: NDArray[np.float64] | None = None

    def fit(self, last_inner: int = 0) -> Preconditioner:
        """Fit at the probabilities that the objective holds; last_inner: inner iterations of the step before."""
        objective = self._objective
        if self._may_form and last_inner > max(_FORMING_PATIENCE, self._unknowns // _UNKNOWNS_PER_LONG_PASS):
            self._use_hessian, self._sample, self.blocks = True, objective.rows.n_rows, None
        if self._may_block and not self._use_hessian and last_inner > _PATIENCE:
            self.blocks = fit_class_blocks(objective, self._rng)
        if self.blocks is not None:
            return self.blocks
        patience = _FIRST_PATIENCE if self._class_rows is None else _NEXT_PATIENCE
        if self.may_keep_rows and last_inner > patience:
            self._class_rows = None  # two at a time would be the largest thing in memory
            self._class_rows = fit_class_rows(objective)
        if self._class_rows is not None:
            return self._class_rows
        if self._objective.rows.is_sparse and not self._dense and objective.n_scores >= _MANY_CLASSES:
            return fit_class_diagonals(objective)
        if self._use_hessian and last_inner > max(_LEAST_PATIENCE, self._unknowns // _UNKNOWNS_PER_PASS):
            self._sample = objective.rows.n_rows  # rare features make a sample a poor guide
        wanted = self._sample if self._use_hessian else rows_for_moments(objective.rows.n_features)
        if self._dense and self._floor is None and is_sampled(objective, wanted):
            self._floor = plain_moments(objective)
        if self._use_hessian:
            return fit_hessian(objective, self._rng, wanted, self._floor)
        return fit_kronecker(objective, self._rng, dense=self._dense, floor=self._floor)


def rows_to_draw(n_rows: int, n_features: int, n_scores: int, *, is_sparse: bool) -> int:
    """How many rows of a table a preconditioner is estimated from; 0 for its diagonal, which takes them all."""
    sample, fits_hessian = _hessian_plan(n_rows, n_features, n_scores)
    if fits_hessian and not is_sparse:
        return sample
    return rows_for_moments(n_features) if n_features <= _MAX_DENSE_FEATURES else 0


def _hessian_plan(n_rows: int, n_features: int, n_scores: int) -> tuple[int, bool]:
    """Rows that the Hessian itself would be estimated from, and whether forming it pays."""
    unknowns = n_scores * (n_features + 1)
    sample = int(max(_ROWS_PER_UNKNOWN * unknowns, _CHEAP_OPERATIONS / unknowns**2))
    forming = unknowns**2 * min(n_rows, sample)
    saved = _PASSES_SAVED * 4 * n_rows * unknowns
    return sample, unknowns <= _MAX_UNKNOWNS and forming <= max(saved, _CHEAP_OPERATIONS)
