"""What calibration would mend, judged on rows that the calibrators have not seen."""

import warnings
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from normexp.base.errors import NormexpWarning
from normexp.calibration import AutoCalibrator, TemperatureScaling
from normexp.calibration.folds import split_folds
from normexp.calibration.log_linear import same_method
from normexp.metrics import calibration_test
from normexp.metrics.accuracy import accuracy_form
from normexp.metrics.brier import brier_form
from normexp.metrics.door import Rows
from normexp.metrics.ece import ece_form
from normexp.metrics.interval import quantile_range
from normexp.metrics.log_loss import log_loss_form
from normexp.metrics.sums import Floats, GroupedSums, resampled, weighted_mean
from normexp.ops import cross_entropy
from normexp.report.audit_facts import Cure, CureMethod, CureScore
from normexp.report.facts import ReliabilityBin
from normexp.report.scores import LEVEL, MAX_ROWS_PER_RESAMPLE

FOLDS: Final = 5
MAX_TESTED: Final = 50_000  # rows on which a gap of 0.01 is found for certain
SIMULATIONS: Final = 199  # p-values in steps of 0.005
SCORES: Final = (
    ("log_loss", "Log loss", log_loss_form, 1.0),
    ("brier", "Brier score", brier_form, 1.0),
    ("ece", "Calibration error", ece_form, 1.0),
    ("accuracy", "Accuracy", accuracy_form, -1.0),
)


class OutOfFold(NamedTuple):
    """What cross-fitting found.

    Parameters
    ----------
    rows : Rows
        The same rows, each calibrated by a fit that has not seen it.
    temperature_loss : ndarray, shape (N,)
        Log loss of each row after a temperature that has not seen it.
    temperatures : tuple of float
        On all rows first, then of each fold.
    chosen : str
        Name of the method.
    shares : dict of str to float
        The methods that are mixed, the chosen one among them or alone.
    methods : dict of str to float
        Cross-validated log loss of each method.
    leak : str
        Why the rows look like those that the network was trained on; empty where they do not.
    """

    rows: Rows
    temperature_loss: Floats
    temperatures: tuple[float, ...]
    chosen: str
    shares: dict[str, float]
    methods: dict[str, float]
    leak: str


def calibrate_out_of_fold(rows: Rows) -> OutOfFold:
    """Choose a method on all rows, then fit it, and a temperature, on the folds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NormexpWarning)
        auto = AutoCalibrator(cv=FOLDS).fit(rows.prediction, rows.target)
    leak = next((str(w.message) for w in caught if "trained on" in str(w.message)), "")
    chosen = same_method(auto.calibrator_)
    out: NDArray[Any] = np.empty_like(rows.prediction)
    loss = np.empty(rows.n_rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NormexpWarning)  # classes without a row in a fold: a verdict says it once
        temperatures = [float(TemperatureScaling().fit(rows.prediction, rows.target).temperature_)]
        for kept, held in split_folds(rows.target, FOLDS):
            seen, unseen = rows.prediction[kept], rows.prediction[held]
            single = TemperatureScaling().fit(seen, rows.target[kept])
            temperatures.append(float(single.temperature_))
            loss[held] = cross_entropy(single.transform(unseen), rows.target[held], reduction="none")
            out[held] = clone(chosen).fit(seen, rows.target[kept]).transform(unseen)
    return OutOfFold(
        Rows(rows.target, out, from_logits=True, weight=rows.weight),
        loss,
        tuple(temperatures),
        str(auto.chosen_),
        dict(auto.shares_),
        dict(auto.scores_),
        leak,
    )


def describe_cure(
    rows: Rows, fold: OutOfFold, reliability: tuple[ReliabilityBin, ...], *, seed: int, n_resamples: int
) -> Cure:
    """Scores before and after, with paired intervals."""
    tempered = GroupedSums(weighted_mean, fold.temperature_loss[None])
    pairs = [(form(rows), form(fold.rows)) for _, _, form, _ in SCORES]
    pairs.append((log_loss_form(rows), tempered))
    flat = [statement for pair in pairs for statement in pair]
    replicates = resampled(
        flat,
        rows.weight,
        n_resamples=n_resamples,
        rng=np.random.default_rng([seed, 0]),  # the resamples of the other scores
        rows_per_resample=MAX_ROWS_PER_RESAMPLE,
    )
    shrink = float(np.sqrt(min(1.0, MAX_ROWS_PER_RESAMPLE / rows.n_rows)))
    gains = []
    for place, (before, after) in enumerate(pairs):
        sign = 1.0 if place >= len(SCORES) else SCORES[place][3]
        gains.append(_gain(before, after, replicates[2 * place : 2 * place + 2], rows.weight, sign, shrink))
    scores = tuple(
        CureScore(name, title, *gain) for (name, title, _, _), gain in zip(SCORES, gains[: len(SCORES)], strict=True)
    )
    base = fold.methods["identity"]
    return Cure(
        fold.temperatures[0],
        min(fold.temperatures[1:]),
        max(fold.temperatures[1:]),
        *gains[-1][2:],
        fold.chosen,
        fold.shares,
        tuple(CureMethod(name, loss, _minus(base, loss)) for name, loss in fold.methods.items()),
        scores,
        reliability,
        chance_of(fold.rows, seed),
        FOLDS,
    )


def chance_of(rows: Rows, seed: int) -> float:
    """P-value of the calibration, on a random subset where there are very many rows: it is decided long before."""
    rng = np.random.default_rng([seed, 2])
    some = slice(None) if rows.n_rows <= MAX_TESTED else np.sort(rng.choice(rows.n_rows, MAX_TESTED, replace=False))
    return calibration_test(
        rows.target[some],
        rows.prediction[some],
        n_resamples=SIMULATIONS,
        rng=rng,
        from_logits=rows.from_logits,
    )


def _gain(
    before: GroupedSums, after: GroupedSums, replicates: Floats, weight: Floats, sign: float, shrink: float
) -> tuple[float, float, float, float, float]:
    """(before, after, gain, low, high); an infinite loss that becomes finite is an infinite gain."""
    first, second = before.value(weight), after.value(weight)
    gain = sign * _minus(first, second)
    with np.errstate(invalid="ignore"):
        difference = sign * (replicates[0] - replicates[1])
    low, high = quantile_range(np.where(np.isnan(difference), 0.0, difference), level=LEVEL)
    if np.isfinite([gain, low, high]).all():
        low, high = gain + shrink * (low - gain), gain + shrink * (high - gain)
    return first, second, gain, low, high


def _minus(first: float, second: float) -> float:
    """The difference; 0 where both are infinite."""
    return 0.0 if first == second else first - second
