"""Floor 6: from probabilities to actions: sets, refusals, costs, unknown and new classes."""

from normexp.decide.conformal import ConformalClassifier, CoverageInterval
from normexp.decide.costs import balanced_decision, cost_decision
from normexp.decide.discovery import propose_classes
from normexp.decide.open_set import OpenSetDetector
from normexp.decide.selective import SelectiveClassifier
from normexp.decide.shares import threshold_decision

__all__ = [
    "ConformalClassifier",
    "CoverageInterval",
    "OpenSetDetector",
    "SelectiveClassifier",
    "balanced_decision",
    "cost_decision",
    "propose_classes",
    "threshold_decision",
]
