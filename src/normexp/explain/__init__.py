"""Floor 6: why a linear softmax head decides so: read from its coefficients, exact, in one's own columns."""

from normexp.explain.certificates import Stability, stability
from normexp.explain.flips import Contrast, contrast
from normexp.explain.log_odds import Reasons, contributions, reasons
from normexp.explain.probability import probability_contributions
from normexp.explain.texts import WordReason, words
from normexp.explain.training_rows import LeaveOneOut, influence, leave_one_out
from normexp.explain.worth import Importance, coefficient_importance, importance

__all__ = [
    "Contrast",
    "Importance",
    "LeaveOneOut",
    "Reasons",
    "Stability",
    "WordReason",
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
