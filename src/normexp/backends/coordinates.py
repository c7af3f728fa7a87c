"""Coordinate descent on a quadratic model, computed by the CPU kernels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.kernels.cpu import coordinates as _coordinates

F64 = NDArray[np.float64]

_NONE = np.empty(0, np.int32)


class Corners(NamedTuple):
    """The part of the model that has corners: weights (J,), and whether a feature's classes are one group."""

    corner: F64
    grouped: bool


class Effort(NamedTuple):
    """When to stop: after so many sweeps, or when one brings at most this share of what all have brought."""

    sweeps: int
    share: float


class Descent(NamedTuple):
    """What a descent over features took, and the curvature along its whole move, move' H move.

    settled: the last sweep brought little enough; curve (J, S): each number's own curvature, or twice that.
    """

    sweeps: int
    settled: bool
    bend: float
    curve: F64


def descend_matrix(
    hessian: F64, slope: F64, bound: F64, coef: F64, corners: Corners, effort: Effort
) -> tuple[int, float]:
    """Descend from coef (J, S), in place, with the Hessian (J S, J S); slope (J S,) is kept up to date.

    bound (J,) is at least the largest eigenvalue of each feature's own block. Returns the sweeps and a lower bound on
    the decrease of the model.
    """
    sweeps, gained = _coordinates.descend_matrix(hessian, slope, bound, coef, *corners, *effort)
    return int(sweeps), float(gained)


def descend_features(
    features: Any,
    prob: NDArray[np.floating],
    weight: F64,
    slope: F64,
    coef: F64,
    ridge: F64,
    corners: Corners,
    effort: Effort,
) -> Descent:
    """Descend from coef (J, S), in place, with the features (J, N) themselves: a dense C-contiguous array, or CSR.

    slope (J, S) is the model's gradient at coef, prob (N, S) the probabilities whose covariance is its curvature.
    Beside the features, memory is one array (N, S).
    """
    stored = (features.data, features.indices, features.indptr) if hasattr(features, "indptr") else (
        features.reshape(-1), _NONE, _NONE,
    )  # fmt: skip
    curve, start = np.empty(coef.shape), coef.copy()
    _coordinates.column_curvature(*stored, prob, weight, curve)
    curve += ridge[:, None]
    scores, mean = np.zeros(prob.shape), np.zeros(len(prob))
    sweeps, _ = _coordinates.descend_columns(
        *stored, prob, weight, slope, curve, coef, start, ridge, *corners, *effort, scores, mean
    )
    along = np.einsum("ik,ik,ik->i", prob, scores, scores) - np.square(mean)
    bend = float(weight @ along) + float(ridge @ np.square(coef - start).sum(axis=1))
    return Descent(int(sweeps), int(sweeps) < effort.sweeps, bend, curve)
