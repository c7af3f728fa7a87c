"""What an estimator's ``penalty``, ``C``, ``l1_ratio`` and ``penalty_factor`` mean; and which solver can do it."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import RangeError, ShapeError
from normexp.solvers import Penalty

_PENALTIES = ("l2", "l1", "elasticnet", "group_lasso", None)
_SOLVERS = ("auto", "newton", "proximal_newton")


def check_penalty(model: Any, *, of: str) -> None:
    """Refuse a penalty, a ratio, a solver or a pair of them that has no meaning; of: the function called."""
    name, penalty, ratio, solver = of, model.penalty, model.l1_ratio, model.solver
    if not (penalty is None or isinstance(penalty, str)) or penalty not in _PENALTIES:
        raise RangeError(f"{name}: penalty is {penalty!r}; it must be 'l2', 'l1', 'elasticnet', 'group_lasso' or None.")
    if penalty == "elasticnet" and not _is_share(ratio):
        raise RangeError(
            f"{name}: l1_ratio is {ratio!r}; with penalty='elasticnet' it must lie between 0 (all L2) and 1 (all L1)."
        )
    if penalty == "group_lasso" and not (ratio is None or (_is_share(ratio) and ratio > 0)):
        raise RangeError(
            f"{name}: l1_ratio is {ratio!r}; with penalty='group_lasso' it is the share of the lengths, above "
            "0 and at most 1 (None: 1), the rest being L2."
        )
    allowed = {"l1": {None, 1}, "l2": {None, 0}, None: {None, 0}}.get(penalty)
    if allowed is not None and not (ratio is None or (isinstance(ratio, numbers.Real) and ratio in allowed)):
        raise RangeError(
            f"{name}: l1_ratio is {ratio!r}; with penalty={penalty!r} it must be "
            f"{' or '.join(repr(value) for value in sorted(allowed, key=str, reverse=True))}; a mixture is "
            "penalty='elasticnet'."
        )
    if not isinstance(solver, str) or solver not in _SOLVERS:
        raise RangeError(f"{name}: solver is {solver!r}; it must be one of {', '.join(map(repr, _SOLVERS))}.")
    if solver == "newton" and penalty in {"l1", "elasticnet", "group_lasso"}:
        raise RangeError(
            f"{name}: solver 'newton' does smooth penalties ('l2', None), and penalty is {penalty!r}; "
            "solver='proximal_newton' or 'auto' does it."
        )
    if solver == "proximal_newton" and (penalty is None or np.isinf(model.C)):
        raise RangeError(
            f"{name}: solver 'proximal_newton' needs a penalty, and there is none (penalty is {penalty!r}, C is "
            f"{model.C!r}); solver='newton' or 'auto' does it."
        )


def penalty_of(model: Any, n_features: int, *, of: str | None = None) -> Penalty:
    """Return the penalty on the coefficients of the table as it comes, in units of the sum of losses."""
    name = of or f"{type(model).__name__}.fit"
    factor = _factors(model, n_features, name)
    strength = 0.0 if model.penalty is None else 1.0 / float(model.C)
    ratio = {"l2": 0.0, "l1": 1.0, None: 0.0}.get(model.penalty, 1.0 if model.l1_ratio is None else model.l1_ratio)
    penalty = Penalty(factor * (strength * ratio), factor * (strength * (1.0 - ratio)), model.penalty == "group_lasso")
    if model.solver == "newton" and np.any(penalty.free) and not np.all(penalty.free):
        raise RangeError(
            f"{name}: solver 'newton' does penalties on all features or none, and penalty_factor "
            f"is 0 for feature {int(np.argmax(penalty.free))}; solver='proximal_newton' or 'auto' does it."
        )
    return penalty


def _factors(model: Any, n_features: int, name: str) -> NDArray[np.float64]:
    """Return the factor of each feature, (D,): ones when none are given."""
    if model.penalty_factor is None:
        return np.ones(n_features)
    factor = np.asarray(model.penalty_factor, dtype=np.float64)
    if factor.shape != (n_features,):
        raise ShapeError(
            f"{name}: penalty_factor has shape {factor.shape}; {(n_features,)} is needed: one factor for each feature."
        )
    bad = np.flatnonzero(~np.isfinite(factor) | (factor < 0))
    if bad.size:
        raise RangeError(
            f"{name}: penalty_factor of feature {bad[0]} is {factor[bad[0]]}; factors are finite and not negative (0 "
            "for a feature without penalty; leave a feature out of X instead of an infinite factor)."
        )
    return factor


def _is_share(value: Any) -> bool:
    return isinstance(value, numbers.Real) and 0.0 <= float(value) <= 1.0
