"""Steps in front of a linear head that are affine, so that the head is linear in what goes into them too."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

F64 = NDArray[np.float64]


def _divided(step: Any, coef: F64) -> F64:
    """StandardScaler, RobustScaler, MaxAbsScaler: ``scale_`` divides, where there is one."""
    return coef if step.scale_ is None else coef / step.scale_


def _principal(step: Any, coef: F64) -> F64:
    """PCA, whose components may be scaled to variance 1."""
    if step.whiten:
        coef = coef / np.sqrt(step.explained_variance_)
    return np.asarray(coef @ step.components_)


def _projected(step: Any, coef: F64) -> F64:
    """TruncatedSVD and random projections."""
    return np.asarray(coef @ step.components_)


_MAPS: Mapping[type, Callable[[Any, F64], F64]] = MappingProxyType(
    {
        StandardScaler: _divided,
        RobustScaler: _divided,
        MaxAbsScaler: _divided,
        MinMaxScaler: lambda step, coef: coef * step.scale_,
        PCA: _principal,
        TruncatedSVD: _projected,
        GaussianRandomProjection: _projected,
        SparseRandomProjection: _projected,
    }
)


def flatten(step: Any, /) -> list[Any]:
    """Steps of a pipeline, those of pipelines within it too; those that pass everything through left out."""
    if isinstance(step, Pipeline):
        return [inner for _, member in step.steps for inner in flatten(member)]
    return [] if step is None or isinstance(step, str) else [step]


def is_affine(step: Any, /) -> bool:
    """Whether a fitted step is one of the affine maps that are known here."""
    if getattr(step, "clip", False):
        return False
    return type(step) in _MAPS or isinstance(step, SelectorMixin)


def pull_back(step: Any, coef: F64, /) -> F64:
    """Coefficients (K, D) on what goes into an affine step, from those (K, P) on what comes out."""
    if type(step) in _MAPS:
        return _MAPS[type(step)](step, coef)
    kept = np.asarray(step.get_support())
    pulled = np.zeros((len(coef), len(kept)))
    pulled[:, kept] = coef
    return pulled


def training_mean(steps: tuple[Any, ...], /) -> F64 | None:
    """Mean of the training rows on what goes into the first of some affine steps; None where no step noted it."""
    for position, step in enumerate(steps):
        mean = getattr(step, "mean_", None)
        if mean is not None:
            point = np.asarray(mean, dtype=np.float64)[None]
            for earlier in reversed(steps[:position]):
                if not hasattr(earlier, "inverse_transform"):
                    return None
                point = earlier.inverse_transform(point)
            return np.asarray(point[0], dtype=np.float64)
        if not isinstance(step, (SelectorMixin, MinMaxScaler, MaxAbsScaler, RobustScaler)):
            return None  # what a projection leaves out cannot be told from what it keeps
    return None
