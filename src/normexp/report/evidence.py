"""What the verdicts look at, and how they name things."""

from dataclasses import dataclass
from math import isfinite

from normexp.report.facts import ClassFacts, Score, Summary
from normexp.report.labelled import TrainingFacts

NAMES_SHOWN = 5


@dataclass(frozen=True)
class Evidence:
    """What the verdicts look at."""

    n_rows: int
    scores: tuple[Score, ...]
    classes: tuple[ClassFacts, ...]
    training: TrainingFacts | None
    n_repeated: int
    calibration_p: float

    def score(self, name: str) -> Score:
        """Look up the score of that name."""
        return next(score for score in self.scores if score.name == name)


def lost_in_noise(summary: Summary) -> bool:
    """Whether the calibration error comes out as 0: what noise adds was more than what there is."""
    return summary.score("ece").value == 0.0


def percent(share: float, digits: int = 1) -> str:
    """Write a share as a percentage, with a space that does not break: "97.1 %"."""
    return f"{100 * share:.{digits}f}\u00a0%"


def decimal(value: float) -> str:
    """Write a score with three decimals, or the word "infinite"."""
    return f"{value:.3f}" if isfinite(value) else "infinite"


def name_classes(names: list[str]) -> str:
    """Name the first few classes: "a, b and 3 more"."""
    shown = ", ".join(f"“{name}”" for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
