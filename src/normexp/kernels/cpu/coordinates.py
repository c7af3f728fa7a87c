"""Coordinate descent on a quadratic model with a corner: one feature after the other, with all its classes.

The model around coef0 is slope' (coef - coef0) + 1/2 (coef - coef0)' H (coef - coef0) + sum_j corner_j |coef_j|, where
|coef_j| is the sum of magnitudes or, when grouped, the length of the feature's row of coefficients. A feature with
corner 0 (the intercept is one) is not penalised. coef is (J, S); it is changed in place, and nothing is checked.

Each kernel sweeps until a sweep brings at most ``share`` of what all sweeps have brought, and returns the number of
sweeps and a lower bound on the decrease of the model.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.flags import FUSED

LEAST = 1e-4


@njit(fastmath=FUSED, inline="always")
def soft(goal, least):
    """The minimiser of 1/2 (x - goal)^2 + least |x|."""
    if goal > least:
        return goal - least
    return goal + least if goal < -least else 0.0


@njit(fastmath=FUSED, inline="always")
def shrinkage(coef, slope, first, curve, corner, classes):
    """How much of a step of all classes of a feature is left by a corner on its length, between 0 and 1."""
    square = 0.0
    for k in range(classes):
        goal = coef[k] - slope[first + k] / curve
        square += goal * goal
    length = curve * np.sqrt(square)
    return 1.0 - corner / length if length > corner else 0.0


@kernel(FUSED)
def descend_matrix(hessian, slope, bound, coef, corner, grouped, sweeps, share):
    """Descend where H is at hand: hessian (J S, J S), feature by feature; slope (J S,) is kept up to date.

    bound (J,) is at least the largest eigenvalue of each feature's own block of H.
    """
    features, classes = coef.shape
    moves = np.empty(classes)
    total = 0.0
    for sweep in range(sweeps):
        gained = 0.0
        for j in range(features):
            first = j * classes
            if grouped and corner[j] > 0.0:
                curve = bound[j]
                if not curve > 0.0:
                    continue
                kept = shrinkage(coef[j], slope, first, curve, corner[j], classes)
                for k in range(classes):
                    moves[k] = kept * (coef[j, k] - slope[first + k] / curve) - coef[j, k]
                for k in range(classes):
                    if moves[k] != 0.0:
                        coef[j, k] = coef[j, k] + moves[k] if kept > 0.0 else 0.0
                        gained += 0.5 * curve * moves[k] * moves[k]
                        slope += moves[k] * hessian[first + k]
                continue
            for k in range(classes):
                curve = hessian[first + k, first + k]
                if not curve > 0.0:
                    continue
                new = soft(coef[j, k] - slope[first + k] / curve, corner[j] / curve)
                move = new - coef[j, k]
                if move != 0.0:
                    coef[j, k] = new
                    gained += 0.5 * curve * move * move
                    slope += move * hessian[first + k]
        total += gained
        if gained <= share * total:
            return sweep + 1, total
    return sweeps, total


@kernel(FUSED)
def column_curvature(values, indices, indptr, prob, weight, out):
    """out[j, k] = the curvature of the model along feature j and class k alone, (J, S), or twice that.

    Features are given as rows of a CSR matrix (J, N); with no indices they are rows of a dense table, one after the
    other. For several classes the covariance of a row of probabilities is at most twice its diagonal, because it is
    the Laplacian of a graph: so twice the diagonal bounds a feature's block. For one score the block is the number.
    Rows that are predicted with certainty have no curvature, and a feature of such rows alone could never come back
    from where it went: none is taken to have less than LEAST of the largest curvature that a row can have, 1/4.
    """
    features, classes = out.shape
    dense = indices.shape[0] == 0
    rows = prob.shape[0]
    factor = 1.0 if classes == 1 else 2.0
    for j in range(features):
        out[j] = 0.0
        first, last = (j * rows, (j + 1) * rows) if dense else (indptr[j], indptr[j + 1])
        square = 0.0
        for entry in range(first, last):
            i = entry - first if dense else indices[entry]
            x = np.float64(values[entry])
            w = factor * weight[i] * x * x
            square += w
            for k in range(classes):
                p = prob[i, k]
                out[j, k] += w * p * (1.0 - p)
        for k in range(classes):
            out[j, k] = max(out[j, k], LEAST * 0.25 * square)


@kernel(FUSED)
def descend_columns(
    values,
    indices,
    indptr,
    prob,
    weight,
    slope,
    curve,
    coef,
    start,
    ridge,
    corner,
    grouped,
    sweeps,
    share,
    scores,
    mean,
):
    """Descend with the features themselves, given as in ``column_curvature``, whose result is ``curve`` plus the ridge.

    slope (J, S) is the model's at start (J, S). scores (N, S) and mean (N,), both 0 at first, hold the move of the
    rows' scores and its average under their probabilities. After a full sweep only features that are at work are
    visited, until they come to rest; then another full sweep decides.
    """
    features, classes = coef.shape
    dense = indices.shape[0] == 0
    rows = prob.shape[0]
    resting = np.zeros(features, np.bool_)
    here, moves = np.empty(classes), np.empty(classes)
    total = 0.0
    full = True
    for sweep in range(sweeps):
        gained = 0.0
        for j in range(features):
            if resting[j] and not full:
                continue
            first, last = (j * rows, (j + 1) * rows) if dense else (indptr[j], indptr[j + 1])
            for k in range(classes):
                here[k] = slope[j, k] + ridge[j] * (coef[j, k] - start[j, k])
            for entry in range(first, last):
                i = entry - first if dense else indices[entry]
                w = weight[i] * np.float64(values[entry])
                for k in range(classes):
                    here[k] += w * prob[i, k] * (scores[i, k] - mean[i])
            steepest = 0.0
            for k in range(classes):
                steepest = max(steepest, curve[j, k])
            if not steepest > 0.0:
                continue
            moved = 0.0
            size = 0.0
            if grouped and corner[j] > 0.0:
                kept = shrinkage(coef[j], here, 0, steepest, corner[j], classes)
                for k in range(classes):
                    new = kept * (coef[j, k] - here[k] / steepest)
                    moves[k] = new - coef[j, k]
                    coef[j, k] = new
                    moved += steepest * moves[k] * moves[k]
                    size += abs(new)
            else:
                for k in range(classes):
                    new = coef[j, k]
                    if curve[j, k] > 0.0:
                        new = soft(coef[j, k] - here[k] / curve[j, k], corner[j] / curve[j, k])
                    moves[k] = new - coef[j, k]
                    coef[j, k] = new
                    moved += curve[j, k] * moves[k] * moves[k]
                    size += abs(new)
            resting[j] = size == 0.0 and corner[j] > 0.0
            if moved == 0.0:
                continue
            gained += 0.5 * moved
            for entry in range(first, last):
                i = entry - first if dense else indices[entry]
                x = np.float64(values[entry])
                shift = 0.0
                for k in range(classes):
                    scores[i, k] += x * moves[k]
                    shift += prob[i, k] * moves[k]
                mean[i] += x * shift
        total += gained
        if gained <= share * total:
            if full:
                return sweep + 1, total
            full = True
        else:
            full = False
    return sweeps, total
