"""Penalties on the coefficients of a softmax regression: smooth ones, and ones with corners that set some to zero.

With a coefficient row W_j for each feature j, one entry for each score,

    penalty(W) = sum_j corner_j |W_j| + 1/2 sum_j ridge_j |W_j|_2^2,

where |W_j| is the sum of magnitudes ("l1") or the length ("group_lasso": a feature is in or out for all classes). In
scikit-learn's words corner = l1_ratio factor / C and ridge = (1 - l1_ratio) factor / C; glmnet's lambda is
1 / (C sum of weights), its alpha is l1_ratio, and its grouped multinomial penalty is "group_lasso".
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Penalty:
    """Weights of the corner and of the ridge, (D,) each; grouped: the corner is on the length of a feature's row."""

    corner: F64 = field(repr=False)
    ridge: F64 = field(repr=False)
    grouped: bool = False

    @property
    def has_corners(self) -> bool:
        """Whether any coefficient may be exactly zero at the optimum."""
        return bool(np.any(self.corner > 0))

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which features bear no penalty at all, (D,)."""
        return np.asarray((self.corner == 0) & (self.ridge == 0))

    def seen_through(self, scale: F64) -> "Penalty":
        """Return the same penalty on W * scale: what coefficients of columns divided by scale have to bear."""
        return Penalty(self.corner / scale, self.ridge / np.square(scale), self.grouped)

    def of(self, features: NDArray[np.intp]) -> "Penalty":
        """Return the penalty of some features only."""
        return Penalty(self.corner[features], self.ridge[features], self.grouped)

    def size(self, coef: F64) -> F64:
        """|W_j| of each feature: coef (D, S) -> (D,)."""
        if self.grouped:
            return np.asarray(np.sqrt(np.einsum("jk,jk->j", coef, coef)))
        return np.asarray(np.abs(coef).sum(axis=1))

    def dual_size(self, pull: F64) -> F64:
        """The dual norm of each feature's row, (D,): its length when grouped, else its largest magnitude."""
        if self.grouped:
            return self.size(pull)
        return np.asarray(np.abs(pull).max(axis=1, initial=0.0))

    def corner_value(self, coef: F64) -> float:
        """sum_j corner_j |W_j|."""
        return float(self.corner @ self.size(coef))

    def beyond(self, pull: F64) -> F64:
        """What of each feature's row its corner cannot hold, (D, S): pull less its projection on the dual ball."""
        if not self.grouped:
            return np.asarray(np.sign(pull) * np.maximum(np.abs(pull) - self.corner[:, None], 0.0))
        size = self.dual_size(pull)
        kept = np.divide(np.maximum(size - self.corner, 0.0), size, out=np.zeros_like(size), where=size > 0)
        return np.asarray(kept[:, None] * pull)

    def violation(self, coef: F64, grad: F64) -> F64:
        """How far zero is from each feature's subdifferential, (D,); grad (D, S) includes that of the ridge."""
        here = self.size(coef) > 0
        if self.grouped:
            length = np.where(here, self.size(coef), 1.0)[:, None]
            at_work = grad + self.corner[:, None] * coef / length
            return np.where(here, self.size(at_work), self.dual_size(self.beyond(grad)))
        at_work = np.where(coef != 0, grad + self.corner[:, None] * np.sign(coef), self.beyond(grad))
        return np.asarray(np.abs(at_work).max(axis=1, initial=0.0))

    def recentred(self, coef: F64) -> F64:
        """Move all classes of each feature alike, which changes no score, to where the penalty is least.

        With a length or a ridge alone that is the mean. With magnitudes alone it is a median, here the one nearest
        to the present place. With both it is the median of the coefficients and of the mean plus
        corner (S - 2 m) / (S ridge), m = 0 ... S (Li & Osher 2009, proposition 1).
        """
        scores = coef.shape[1]
        if scores == 1:
            return coef
        mean = coef.mean(axis=1, keepdims=True)
        if self.grouped or not self.has_corners:
            return np.asarray(np.where(self.free[:, None], coef, coef - mean))
        ordered = np.sort(coef, axis=1)
        middle = np.clip(0.0, ordered[:, (scores - 1) // 2], ordered[:, scores // 2])[:, None]
        both = (self.ridge > 0)[:, None]
        if np.any(both):
            ridge = np.where(self.ridge > 0, self.ridge, 1.0)
            reach = (self.corner / ridge)[:, None] * (scores - 2 * np.arange(scores + 1)) / scores
            pooled = np.median(np.hstack([coef, mean + reach]), axis=1, keepdims=True)
            middle = np.where(both, pooled, middle)
        # the coefficients that meet the middle become exact zeros: they are the same numbers
        return np.asarray(coef - np.where(self.free[:, None], 0.0, middle))
