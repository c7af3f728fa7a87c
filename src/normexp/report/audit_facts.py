"""The facts of an audit, and nothing about how they look.

Frozen dataclasses of plain Python values, as in :mod:`~normexp.report.facts`; a number that cannot be told is NaN.
"""

from dataclasses import dataclass

from normexp.metrics import Decomposition
from normexp.report.facts import ConfusionFacts, ReliabilityBin, Score, SelectivePoint, Verdict


@dataclass(frozen=True)
class AuditClass:
    """One class: how often it comes, how often it is found, and how far it is over- or under-rated.

    `lean` is the mean probability less the frequency; `lean_sigmas` that difference in units of its standard
    deviation were the probabilities right. `coverage` is that of the conformal sets.
    """

    name: str
    n_rows: int
    n_decided: int
    frequency: float
    mean_probability: float
    lean: float
    lean_sigmas: float
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    log_loss: float
    coverage: float


@dataclass(frozen=True)
class CureScore:
    """A score before and after calibration, out of fold, and the gain with the interval of the paired difference."""

    name: str
    title: str
    before: float
    after: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class CureMethod:
    """One way to calibrate: its cross-validated log loss and the gain over the logits as they are."""

    name: str
    log_loss: float
    gain: float


@dataclass(frozen=True)
class Cure:
    """What calibration would mend.

    `temperature` is fitted on all rows, `temperature_low` and `temperature_high` are the least and largest of the
    folds; `temperature_gain` is the gain in log loss that it brings out of fold. `chosen` is the method that
    cross-validation prefers, "identity" where none is better beyond doubt; `shares` are those of the methods that are
    mixed, the chosen one alone where nothing is; `scores` judge the mixture out of fold.
    """

    temperature: float
    temperature_low: float
    temperature_high: float
    temperature_gain: float
    temperature_gain_low: float
    temperature_gain_high: float
    chosen: str
    shares: dict[str, float]
    methods: tuple[CureMethod, ...]
    scores: tuple[CureScore, ...]
    reliability: tuple[ReliabilityBin, ...]
    calibration_p: float
    n_folds: int

    def score(self, name: str) -> CureScore:
        """Look up the score of that name."""
        return next(score for score in self.scores if score.name == name)


@dataclass(frozen=True)
class DoubtfulRow:
    """A row for a person to look at: what was decided, how surely, and what it is."""

    row: int
    decided: str
    true: str
    value: float


@dataclass(frozen=True)
class Refusal:
    """Which rows to refuse.

    Answer the rows whose confidence (as the network states it) is at least `threshold`: then a share `coverage` of
    the rows is answered, `risk` of them wrongly here and, with probability `confidence`, at most `target_risk` of
    new ones. `threshold` is infinite where nothing can be promised. `aurc` is the mean risk over all coverages,
    `aurc_least` that of a perfect ranking with the same errors.
    """

    target_risk: float
    confidence: float
    threshold: float
    coverage: float
    risk: float
    risk_bound: float
    n_refused: int
    error: float
    aurc: float
    aurc_low: float
    aurc_high: float
    aurc_least: float
    points: tuple[SelectivePoint, ...]
    least_sure: tuple[DoubtfulRow, ...]


@dataclass(frozen=True)
class TopK:
    """How often the true class is among the k likeliest."""

    k: int
    coverage: float
    low: float
    high: float


@dataclass(frozen=True)
class SetFacts:
    """Conformal sets of one kind, fitted on one half of the rows and judged on the other, both ways.

    `worst_class` is the class of at least ten rows that is covered least.
    """

    name: str
    wanted: float
    coverage: float
    low: float
    high: float
    mean_size: float
    single: float
    worst_class: str
    worst_coverage: float


@dataclass(frozen=True)
class UnknownScore:
    """One unknown score: how well it ranks errors before hits, and the share of known rows that it flags.

    `threshold` is for `false_alarm`; `flagged` is measured on the half of the rows that the fit has not seen.
    """

    name: str
    auroc_of_errors: float
    threshold: float
    flagged: float
    flagged_low: float
    flagged_high: float


@dataclass(frozen=True)
class Unknown:
    """Which rows look like none of the classes; `strangest` by the first of `scores`."""

    false_alarm: float
    with_features: bool
    scores: tuple[UnknownScore, ...]
    strangest: tuple[DoubtfulRow, ...]


@dataclass(frozen=True)
class Audit:
    """Everything that an audit says; the fields that a report has too mean the same as there."""

    source: str
    kind: str
    told: str
    n_rows: int
    n_classes: int
    scores: tuple[Score, ...]
    verdicts: tuple[Verdict, ...]
    decomposition: Decomposition
    calibration_p: float
    reliability: tuple[ReliabilityBin, ...]
    cure: Cure
    classes: tuple[AuditClass, ...]
    confusions: tuple[ConfusionFacts, ...]
    n_confusions: int
    refusal: Refusal
    top_k: tuple[TopK, ...]
    sets: tuple[SetFacts, ...]
    unknown: Unknown
    n_repeated: int
    level: float
    seed: int
    n_resamples: int
    versions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def score(self, name: str) -> Score:
        """Look up the score of that name."""
        return next(score for score in self.scores if score.name == name)
