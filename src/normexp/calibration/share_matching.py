"""One number for each class, so that the classes are expected as often as they come."""

from typing import Final

import numpy as np
from scipy.optimize import minimize

from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.ops import cross_entropy, softmax

FARTHEST: Final = 60.0  # e^60: no shift of a share is larger, and the bound keeps a class without rows finite
HALF_A_ROW: Final = 0.5  # what a class without rows is taken to have, as in `PriorShift`
GRADIENT: Final = 1e-9  # largest difference between a mean probability and a share at which the search ends
MOST_STEPS: Final = 500


class ShareMatching(Calibrator):
    r"""Shift the logits so that the mean probability of each class is its share among the rows.

    What class weights and resampling do to a model is, up to the penalty, a shift of its logits by one number for
    each class. This map finds the numbers from rows alone, so it undoes such a shift whoever made it.

    Attributes
    ----------
    shift_ : ndarray, shape (K,)
        Added to the logits; its mean is 0.
    share_ : ndarray, shape (K,)
        Shares of the classes in the rows given to `fit`. A class without a row counts half a row.

    Notes
    -----
    The maximum-likelihood fit of an intercept for each class, with the logits as offset:
    :math:`\min_b \sum_i w_i [\operatorname{lse}(z_i + b) - z_{i y_i} - b_{y_i}]`. Its gradient is the mean probability
    less the share, so both agree at the minimum, here within 1e-6. The problem is convex; L-BFGS reads the rows some
    tens of times. With true class shares :math:`\pi` and weights :math:`c` in training, the exact answer for a
    calibrated model is :math:`b_k = -\log c_k` up to a constant (Saerens et al., 2002, eq. 2.4).

    References
    ----------
    King & Zeng (2001), "Logistic regression in rare events data", Political Analysis 9, eq. 7 (prior correction).

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import ShareMatching
    >>> y = np.array([0] * 90 + [1] * 10)
    >>> model = ShareMatching().fit(np.zeros((100, 2)), y)  # a model that was told the classes are alike
    >>> model.predict_proba([[0.0, 0.0]]).round(6)
    array([[0.9, 0.1]])
    """

    def _fit(self, rows: CalibrationRows) -> None:
        count: Floats = np.bincount(rows.target, rows.weight, minlength=rows.n_classes).astype(np.float64)
        count = np.where(count > 0.0, count, HALF_A_ROW)
        self.share_ = count / count.sum()
        total = float(rows.weight.sum())
        unit = 1.0 / np.sqrt(self.share_)  # rare classes move farther: the curvature is about p (1 - p)

        def loss(scaled: Floats) -> tuple[float, Floats]:
            shift = scaled * unit
            value, mean = 0.0, np.zeros(rows.n_classes)
            for block, z in rows.blocks():
                moved, weight = z + shift, rows.weight[block]
                value += float(weight @ np.asarray(cross_entropy(moved, rows.target[block], reduction="none")))
                mean += weight @ np.asarray(softmax(moved))
            # Written with the shares instead of the rows' own classes, so that a class without rows has its half.
            value = value / total + float((np.bincount(rows.target, rows.weight, rows.n_classes) / total) @ shift)
            return value - float(self.share_ @ shift), (mean / total - self.share_) * unit

        found = minimize(
            loss,
            np.zeros(rows.n_classes),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-FARTHEST / u, FARTHEST / u) for u in unit],
            options={"gtol": GRADIENT, "ftol": 0.0, "maxiter": MOST_STEPS, "maxcor": 20},
        )
        shift = found.x * unit
        self.shift_ = shift - shift.mean()

    def _map(self, z: Floats) -> Floats:
        return np.asarray(z + self.shift_)
