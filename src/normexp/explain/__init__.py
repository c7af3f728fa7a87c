"""Floor 6: why a linear softmax head decides so: read from its coefficients, exact, in one's own columns."""

from normexp.explain.certificates import Stability, stability
from normexp.explain.class_tree import ClassTreeDisplay
from normexp.explain.flips import Contrast, contrast
from normexp.explain.heat_maps import HeatMapDisplay
from normexp.explain.log_odds import Reasons, contributions, reasons
from normexp.explain.probability import probability_contributions
from normexp.explain.reason_bars import ContributionsDisplay
from normexp.explain.texts import WordReason, words
from normexp.explain.training_rows import LeaveOneOut, influence, leave_one_out
from normexp.explain.word_bars import WordsDisplay
from normexp.explain.worth import Importance, coefficient_importance, importance

__all__ = [
    "ClassTreeDisplay",
    "Contrast",
    "ContributionsDisplay",
    "HeatMapDisplay",
    "Importance",
    "LeaveOneOut",
    "Reasons",
    "Stability",
    "WordReason",
    "WordsDisplay",
    "coefficient_importance",
    "contrast",
    "contributions",
    "importance",
    "influence",
    "leave_one_out",
    "probability_contributions",
    "reasons",
    "stability",
    "words",
]
