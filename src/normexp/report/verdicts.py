"""One verdict for each risk: what was seen, how bad it is, what to do.

A verdict is red where acting on the model would be a mistake, amber where something should be looked at first, green
where nothing was found.
"""

from normexp.report.evidence import Evidence
from normexp.report.facts import Level, Verdict
from normexp.report.risks_of_model import (
    judge_balance,
    judge_calibration,
    judge_convergence,
    judge_lost_classes,
    judge_perfection,
    judge_usefulness,
)
from normexp.report.risks_of_rows import (
    judge_class_rows,
    judge_drift,
    judge_repeats,
    judge_rows,
    judge_training_rows,
)

ORDER: tuple[Level, ...] = ("red", "amber", "green")


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """All verdicts that the evidence allows, the worst first."""
    verdicts = [
        judge_usefulness(evidence),
        judge_calibration(evidence),
        judge_convergence(evidence),
        judge_balance(evidence),
        judge_lost_classes(evidence),
        judge_training_rows(evidence),
        judge_rows(evidence),
        judge_class_rows(evidence),
        judge_drift(evidence),
        judge_repeats(evidence),
        judge_perfection(evidence),
    ]
    return in_order([v for v in verdicts if v is not None])


def in_order(verdicts: list[Verdict]) -> tuple[Verdict, ...]:
    """Put the worst verdicts first; those of a level stay in their order."""
    return tuple(sorted(verdicts, key=lambda verdict: ORDER.index(verdict.level)))
