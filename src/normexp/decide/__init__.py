"""Floor 6: from probabilities to actions: sets, refusals, costs, unknown and new classes."""

from normexp.decide.conformal import ConformalClassifier, CoverageInterval
from normexp.decide.costs import balanced_decision, cost_decision
from normexp.decide.discovery import propose_classes
from normexp.decide.new_classes import add_class, remove_class
from normexp.decide.open_set import OpenSetDetector
from normexp.decide.selective import SelectiveClassifier
from normexp.decide.shares import threshold_decision
from normexp.decide.zero_shot import add_zero_shot_classes

__all__ = [
    "ConformalClassifier",
    "CoverageInterval",
    "OpenSetDetector",
    "SelectiveClassifier",
    "add_class",
    "add_zero_shot_classes",
    "balanced_decision",
    "cost_decision",
    "propose_classes",
    "remove_class",
    "threshold_decision",
]
