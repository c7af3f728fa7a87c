"""From the base's logits to honest ones: what fitting did to the shares is undone, and they are calibrated."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, NamedTuple

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
from normexp.metrics import log_loss, mean_calibration_test
from normexp.ops import log_softmax

FOLDS: Final = 5
MATCHING_STEPS: Final = 12
MATCHED: Final = 1e-7  # of a logit
MISSED: Final = 0.01  # the chance with which shares that are right are taken to be missed, at most
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
        Whether the shares of the classes are missed; then they are matched before and after calibration.
    counted : bool
        Whether the logits are logarithms of probabilities. Where those are counts (the votes of a forest), 0 means "not
        among so few"; it is raised to half of the smallest probability that was seen.

    Returns
    -------
    list of Calibrator
        Fitted.
    """
    if calibrator is None and not moved:
        return []
    if not (counted and np.isneginf(logits).any()):
        return _fit_maps(logits, target, weight, calibrator, moved=moved)
    floor = raised_zeros(logits, target, weight)
    return [floor, *_fit_maps(np.asarray(floor.transform(logits)), target, weight, calibrator, moved=moved)]


def _fit_maps(
    logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, calibrator: Any, /, *, moved: bool
) -> list[Any]:
    """Shares matched, calibration, and shares matched again where that missed them."""
    first = ShareMatching()
    with silent_about_rows():
        z = first.fit(logits, target, sample_weight=weight).transform(logits) if moved else logits
        before = [first] if moved else []
        if calibrator is None:
            return before
        calibrator.fit(z, target, sample_weight=weight)
        one = getattr(calibrator, "calibrator_", calibrator)
        if not moved or isinstance(one, Identity):
            return [*before, calibrator]
        if isinstance(one, (TemperatureScaling, EnsembleTemperatureScaling)):
            exact = isinstance(one, TemperatureScaling)
            if _match_through(first, calibrator, float(one.temperature_), exact, logits, target, weight):
                return [first, calibrator]
        second = ShareMatching().fit(calibrator.transform(z), target, sample_weight=weight)
    return [first, calibrator, second]


def _match_through(
    matching: ShareMatching,
    calibrator: Any,
    temperature: float,
    exact: bool,
    logits: NDArray[Any],
    target: NDArray[np.intp],
    weight: Floats,
) -> bool:
    """Shift logits so that shares are matched after a map that keeps their order; says whether it could be done.

    What is shifted first decides as what comes out, so that explanations of decisions need no more than the shift. A
    shift of s after a temperature T is one of T s before it (`exact`); other maps stretch the logits by some other
    number, which each step tells.
    """
    step, rest = (temperature if exact else min(temperature, 1.0)), np.zeros(0)
    start = matching.shift_
    for _ in range(MATCHING_STEPS):
        late = calibrator.transform(matching.transform(logits))
        missed = ShareMatching().fit(late, target, sample_weight=weight).shift_
        if rest.size and float(rest @ rest) > 0.0:  # missed is about rest (1 - step / stretch)
            step /= min(max(1.0 - float(missed @ rest) / float(rest @ rest), 0.25), 4.0)
        matching.shift_ = matching.shift_ + step * missed
        if exact or float(np.abs(missed).max()) < MATCHED:
            return True
        rest = missed
    matching.shift_ = start
    return False


class Adjustment(NamedTuple):
    """The maps, the logits after maps that were fitted without the row at hand, (M, K), and whether shares are matched.

    Shares are matched where fitting moved them, and where held-out rows show it beyond doubt.
    """

    adjusters: list[Any]
    held_out: NDArray[Any]
    matched: bool


def fit_and_hold_out(
    logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, calibrator: Any, /, *, moved: bool, counted: bool
) -> Adjustment:
    """The maps of `fit_adjusters`, and the logits after maps that were fitted without the row at hand.

    Where a calibrator is to be fitted and its held-out probabilities miss the shares of the classes (p < 0.01 by
    `normexp.metrics.mean_calibration_test`), they are matched as if class weights had moved them, unless that has the
    larger held-out log loss. A strong penalty does that to classes with few rows.
    """
    found = _fit_and_hold_out(logits, target, weight, calibrator, moved=moved, counted=counted)
    if moved or calibrator is None:
        return Adjustment(*found, moved)
    if mean_calibration_test(target, found[1], sample_weight=weight) >= MISSED:
        return Adjustment(*found, False)
    other = _fit_and_hold_out(logits, target, weight, clone(calibrator), moved=True, counted=counted)
    better = log_loss(target, other[1], sample_weight=weight) < log_loss(target, found[1], sample_weight=weight)
    return Adjustment(*other, True) if better else Adjustment(*found, False)


def _fit_and_hold_out(
    logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, calibrator: Any, /, *, moved: bool, counted: bool
) -> tuple[list[Any], NDArray[Any]]:
    """Maps, and logits that they give to rows they were not fitted on.

    An `AutoCalibrator` alone has such logits from the folds that chose; others are fitted again (`adjusted_held_out`).
    """
    alone = isinstance(calibrator, AutoCalibrator) and not moved and not (counted and np.isneginf(logits).any())
    if alone:
        with silent_about_rows():
            return [calibrator], calibrator.fit_held_out(logits, target, sample_weight=weight)
    adjusters = fit_adjusters(logits, target, weight, calibrator, moved=moved, counted=counted)
    return adjusters, adjusted_held_out(adjusters, logits, target, weight)


def adjusted(adjusters: Sequence[Any], logits: NDArray[Any], /) -> NDArray[Any]:
    """Logits after all maps, (N, K)."""
    for adjuster in adjusters:
        logits = adjuster.transform(logits)
    return logits


def class_shift(adjusters: Sequence[Any], n_classes: int, /) -> Floats | None:
    """What all maps together add to the logits of each class, in the unit of the base's; what keeps their order apart.

    Parameters
    ----------
    adjusters : sequence of Calibrator
        Fitted.
    n_classes : int
        K.

    Returns
    -------
    ndarray of float64, shape (K,), or None
        None where some map is neither a shift nor keeps the order of the logits in each row: no such numbers exist.
    """
    shift, scale = np.zeros(n_classes), 1.0
    for adjuster in adjusters:
        one = getattr(adjuster, "calibrator_", adjuster)
        if isinstance(one, ShareMatching) and np.isfinite(scale):
            shift += one.shift_ / scale
        elif isinstance(one, TemperatureScaling):
            scale /= one.temperature_
        elif isinstance(one, EnsembleTemperatureScaling):
            scale = np.nan  # it keeps the order of logits, but a shift that comes after it is none before it
        elif not isinstance(one, Identity):
            return None
    return shift


def adjusted_held_out(
    adjusters: Sequence[Any], logits: NDArray[Any], target: NDArray[np.intp], weight: Floats, /
) -> NDArray[Any]:
    """Logits after maps that were fitted without the row at hand, (M, K).

    What is promised next (sets, thresholds) is set on these, so that no row judges a map that it shaped. The kind of
    map that was chosen is kept; only its numbers are learned anew, five times.
    """
    if not adjusters:
        return logits
    floors = [one for one in adjusters[:1] if isinstance(one, Identity) and len(adjusters) > 1]  # one number each
    maps = adjusters[len(floors) :]
    moved = isinstance(maps[0], ShareMatching)
    chosen = [getattr(one, "calibrator_", one) for one in maps if not isinstance(one, ShareMatching)]
    z = adjusted(floors, logits)
    out = np.empty(logits.shape, dtype=np.float64)
    for kept, held in split_folds(target, FOLDS):
        if len(np.unique(target[kept])) < 2:
            return np.asarray(adjusted(adjusters, logits), dtype=np.float64)
        one = clone(chosen[0]) if chosen else None
        again = _fit_maps(z[kept], target[kept], weight[kept], one, moved=moved)
        out[held] = adjusted(again, z[held])
    return out


def raised_zeros(logits: NDArray[Any], target: NDArray[np.intp], weight: Floats) -> Identity:
    """The logits as they are, but with a floor under probabilities of 0."""
    with silent_about_rows():
        floor = Identity().fit(logits, target, sample_weight=weight)
    if floor.floor_ is None:  # no class happened that was given 0 here; one will elsewhere
        log_prob = np.asarray(log_softmax(logits), dtype=np.float64)
        smallest = float(np.min(log_prob, where=np.isfinite(log_prob), initial=0.0))
        floor.floor_ = float(min(smallest, -np.log(2.0 * len(logits))) - np.log(2.0))
    return floor


@contextmanager
def silent_about_rows() -> Iterator[None]:
    """Without what is said of classes that lack rows, and of copies: `TrustedClassifier` says it once, by name."""
    with warnings.catch_warnings():
        for said in (r"\w+\.fit: .* have no row among", r"\w+\.fit: .* rows have the logits of another row"):
            warnings.filterwarnings("ignore", message=said, category=NormexpWarning)
        yield
