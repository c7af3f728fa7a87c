"""From the base's logits to honest ones: what fitting did to the shares is undone, then they are calibrated."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from normexp.base.errors import DtypeError, NormexpWarning, RangeError
from normexp.calibration import (
    AutoCalibrator,
    BetaScaling,
    EnsembleTemperatureScaling,
    IsotonicScaling,
    QuadraticScaling,
    ShareMatching,
    StructuredMatrixScaling,
    TemperatureScaling,
    VectorScaling,
)
from normexp.calibration.folds import split_folds
from normexp.calibration.menu import Identity
from normexp.ops import log_softmax

FOLDS: Final = 5
BY_NAME: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "auto": AutoCalibrator,
        "temperature": TemperatureScaling,
        "ensemble_temperature": EnsembleTemperatureScaling,
        "vector": VectorScaling,
        "matrix": StructuredMatrixScaling,
        "beta": BetaScaling,
        "quadratic": QuadraticScaling,
        "isotonic": IsotonicScaling,
    }
)

Floats = NDArray[np.float64]


def read_calibrate(calibrate: Any, /, *, of: str) -> Any:
    """A calibrator that is not fitted, or None for none."""
    if calibrate is None:
        return None
    if isinstance(calibrate, str):
        if calibrate not in BY_NAME:
            raise RangeError(
                f"{of}: calibrate is {calibrate!r}; {', '.join(map(repr, BY_NAME))}, a calibrator or None would be "
                "right."
            )
        return BY_NAME[calibrate]()
    if not (hasattr(calibrate, "fit") and hasattr(calibrate, "transform")) or isinstance(calibrate, type):
        raise DtypeError(
            f"{of}: calibrate is {calibrate!r}; a name such as 'auto', a calibrator with fit and transform, or None "
            "would be right."
        )
    return clone(calibrate)


def moves_shares(base: Any, fitted: Any, /) -> bool:
    """Whether a fit changed the shares of the classes: some class_weight is set, or a step resamples the rows."""
    weights = any(
        value is not None
        for name, value in base.get_params(deep=True).items()
        if name == "class_weight" or name.endswith("__class_weight")
    )
    return weights or any(hasattr(part, "fit_resample") for part in _parts(fitted))


def _parts(model: Any) -> list[Any]:
    """A model and what it is made of."""
    found, waiting = [], [model]
    while waiting:
        part = waiting.pop()
        found.append(part)
        if hasattr(part, "get_params") and not isinstance(part, type):
            waiting.extend(value for value in part.get_params(deep=False).values() if hasattr(value, "get_params"))
            steps = getattr(part, "steps", ())
            waiting.extend(step for _, step in steps if hasattr(step, "get_params") or hasattr(step, "fit_resample"))
    return found


def fit_adjusters(
    logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, calibrator: Any, /, *, moved: bool, counted: bool
) -> list[Any]:
    """Maps from logits to logits, to be applied one after the other.

    Parameters
    ----------
    logits : ndarray, shape (M, K)
        Of rows that the model has not seen.
    target : ndarray of intp, shape (M,)
        Their classes.
    weight : ndarray of float64, shape (M,)
        Their weights.
    calibrator : Calibrator or None
        Not fitted.
    moved : bool
        Whether fitting moved the shares of the classes; then they are matched before and after calibration.
    counted : bool
        Whether the logits are logarithms of probabilities. Where those are counts (the votes of a forest), 0 means "not
        among so few"; it is raised to half of the smallest probability that was seen.

    Returns
    -------
    list of Calibrator
        Fitted.
    """
    adjusters: list[Any] = []
    if calibrator is None and not moved:
        return adjusters

    def add(one: Any, z: NDArray[Any]) -> NDArray[Any]:
        with silent_about_classes():
            adjusters.append(one.fit(z, target, sample_weight=weight))
        return np.asarray(one.transform(z))

    z = logits
    if counted and np.isneginf(logits).any():
        adjusters.append(raised_zeros(logits, target, weight))
        z = np.asarray(adjusters[0].transform(z))
    if moved:
        z = add(ShareMatching(), z)
    if calibrator is not None:
        z = add(calibrator, z)
        if moved and getattr(calibrator, "chosen_", "") != "identity":
            add(ShareMatching(), z)
    return adjusters


def fit_and_hold_out(
    logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, calibrator: Any, /, *, moved: bool, counted: bool
) -> tuple[list[Any], NDArray[Any]]:
    """The maps of `fit_adjusters`, and the logits after maps that were fitted without the row at hand, (M, K).

    An `AutoCalibrator` alone has such logits from the folds that chose; others are fitted again (`adjusted_held_out`).
    """
    alone = isinstance(calibrator, AutoCalibrator) and not moved and not (counted and np.isneginf(logits).any())
    if alone:
        with silent_about_classes():
            return [calibrator], calibrator.fit_held_out(logits, target, sample_weight=weight)
    adjusters = fit_adjusters(logits, target, weight, calibrator, moved=moved, counted=counted)
    return adjusters, adjusted_held_out(adjusters, logits, target, weight)


def adjusted(adjusters: Sequence[Any], logits: NDArray[Any], /) -> NDArray[Any]:
    """Logits after all maps, (N, K)."""
    for adjuster in adjusters:
        logits = adjuster.transform(logits)
    return logits


def adjusted_held_out(
    adjusters: Sequence[Any], logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, /
) -> NDArray[Any]:
    """Logits after maps that were fitted without the row at hand, (M, K).

    What is promised next (sets, thresholds) is set on these, so that no row judges a map that it shaped. The kind of
    map that was chosen is kept; only its numbers are learned anew, five times.
    """
    if not adjusters:
        return logits
    out = np.empty(logits.shape, dtype=np.float64)
    for kept, held in split_folds(target, FOLDS):
        z, rest = logits[kept], logits[held]
        if len(np.unique(target[kept])) < 2:
            return np.asarray(adjusted(adjusters, logits), dtype=np.float64)
        for adjuster in adjusters:
            with silent_about_classes():
                one = adjuster
                if not isinstance(adjuster, Identity):  # which holds one number, the floor under zeros
                    one = clone(getattr(adjuster, "calibrator_", adjuster))
                    one.fit(z, target[kept], sample_weight=weight[kept])
            z, rest = one.transform(z), one.transform(rest)
        out[held] = rest
    return out


def raised_zeros(logits: NDArray[Any], target: NDArray[np.intp], weight: Floats) -> Identity:
    """The logits as they are, but with a floor under probabilities of 0."""
    with silent_about_classes():
        floor = Identity().fit(logits, target, sample_weight=weight)
    if floor.floor_ is None:  # no class happened that was given 0 here; one will elsewhere
        log_prob = np.asarray(log_softmax(logits), dtype=np.float64)
        smallest = float(np.min(log_prob, where=np.isfinite(log_prob), initial=0.0))
        floor.floor_ = float(min(smallest, -np.log(2.0 * len(logits))) - np.log(2.0))
    return floor


@contextmanager
def silent_about_classes() -> Iterator[None]:
    """Without what is said of classes that lack rows: `TrustedClassifier` says it once, by name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\w+\.fit: .* have no row among", category=NormexpWarning)
        yield
