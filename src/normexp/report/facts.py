"""The facts of a report, and nothing about how they look.

Frozen dataclasses of plain Python values: a test can compare them, JSON can hold them, a page can be made of them.
A number that cannot be told (an interval from 5 rows, the recall of a class without rows) is NaN: always
the object ``math.nan``, so that two summaries of the same facts compare equal.
"""

from dataclasses import dataclass
from typing import Literal

from normexp.metrics import Decomposition
from normexp.report.labelled import TrainingFacts

Level = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Score:
    """A score with its interval, beside predicting the training frequencies of the classes for every row.

    `gain` is by how much the model is better than that (positive: better, whichever direction the score has), with
    the interval of the paired difference. Scores that do not rank predictions have NaN there.
    """

    name: str
    title: str
    meaning: str
    better: Literal["higher", "lower", "zero"]
    value: float
    low: float
    high: float
    prior: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class Verdict:
    """One risk, judged: how bad, what was seen, and what to do about it (empty where nothing is to be done)."""

    name: str
    title: str
    level: Level
    sentence: str
    advice: str


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose stated confidence is alike: how many, what they claimed, how often they were right."""

    n_rows: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class SelectivePoint:
    """Accuracy among the surest share of the rows, and the least confidence that lets a row be answered."""

    coverage: float
    accuracy: float
    threshold: float


@dataclass(frozen=True)
class ClassFacts:
    """One class: its rows here and in training, and what the model made of it."""

    name: str
    n_rows: int
    n_decided: int
    n_training: int | None
    frequency: float
    prior: float
    mean_probability: float
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float


@dataclass(frozen=True)
class ConfusionFacts:
    """Rows of class `true` decided for `decided`: how many, their share of the class, and a few of them as text."""

    true: str
    decided: str
    n_rows: int
    share: float
    examples: tuple[str, ...]
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bar:
    """One class of an example row."""

    name: str
    logit: float
    probability: float
    is_true: bool
    is_decided: bool


@dataclass(frozen=True)
class ExampleFacts:
    """One row on its way from logits to probabilities; classes without a bar are summed up in `others`."""

    kind: str
    row: int
    text: str
    true: str
    decided: str
    bars: tuple[Bar, ...]
    n_others: int
    others: float


@dataclass(frozen=True)
class TrustFacts:
    """A trusted model's promises beside what came of them.

    Pairs `*_low`, `*_high` are intervals of the share before them. Costs are means over the rows, NaN without a cost
    matrix. `loss_change` is the log loss after calibration less that before, `loss_error` its standard error.
    """

    promises: tuple[tuple[str, str], ...]
    loss_before: float
    loss_after: float
    loss_change: float
    loss_error: float
    ece_before: float
    ece_after: float
    coverage_asked: float
    coverage: float
    coverage_low: float
    coverage_high: float
    mean_set_size: float
    share_single: float
    share_all: float
    reject_asked: float
    unknown: float
    unknown_low: float
    unknown_high: float
    refused: float
    accuracy: float
    accuracy_answered: float
    rule: str
    balanced_accuracy: float
    balanced_accuracy_decided: float
    cost_probable: float
    cost_decided: float


@dataclass(frozen=True)
class Summary:
    """Everything that a report says.

    Parameters
    ----------
    source : str
        What was judged: usually a file name.
    n_rows, n_classes : int
        Sizes N and K.
    scores : tuple of Score
        Accuracy, balanced accuracy, log loss, Brier score, debiased calibration error, overconfidence, and the
        top-5 accuracy where there are more than 10 classes.
    verdicts : tuple of Verdict
        One for each risk, the worst first.
    decomposition : Decomposition
        The Brier score's parts.
    calibration_p : float
        How often a calibrated model shows gaps as large as these by chance.
    reliability : tuple of ReliabilityBin
        Confidence against accuracy.
    selective : tuple of SelectivePoint
        What is gained by leaving the least sure rows to a person.
    examples : tuple of ExampleFacts
        At most six rows.
    confusions : tuple of ConfusionFacts
        The most frequent pairs.
    n_confusions : int
        How many distinct pairs occur.
    classes : tuple of ClassFacts
        All classes, in the model's order.
    training : TrainingFacts or None
        How the model was fitted, where that is known.
    n_repeated : int
        Rows whose logits equal those of an earlier row.
    level : float
        Level of every interval.
    seed, n_resamples : int
        What the bootstrap was run with.
    versions : tuple of (str, str)
        Software that made this summary.
    notes : tuple of str
        What was left out or simplified, as sentences.
    trust : TrustFacts or None
        What a trusted model promised and what came of it.
    date : str
        When it was judged, as 2026-01-31; empty where nobody said.
    matrix : tuple of (tuple of int)
        Rows of each true class (K) decided for each class (K), where there are few classes; else empty.
    """

    source: str
    n_rows: int
    n_classes: int
    scores: tuple[Score, ...]
    verdicts: tuple[Verdict, ...]
    decomposition: Decomposition
    calibration_p: float
    reliability: tuple[ReliabilityBin, ...]
    selective: tuple[SelectivePoint, ...]
    examples: tuple[ExampleFacts, ...]
    confusions: tuple[ConfusionFacts, ...]
    n_confusions: int
    classes: tuple[ClassFacts, ...]
    training: TrainingFacts | None
    n_repeated: int
    level: float
    seed: int
    n_resamples: int
    versions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    trust: TrustFacts | None = None
    date: str = ""
    matrix: tuple[tuple[int, ...], ...] = ()

    def score(self, name: str) -> Score:
        """Look up the score of that name."""
        return next(score for score in self.scores if score.name == name)
