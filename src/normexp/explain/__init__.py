"""Floor 6: why a linear softmax head decides so: read from its coefficients, exact, in one's own columns."""

from normexp.explain.flips import Contrast, contrast
from normexp.explain.log_odds import Reasons, contributions, reasons
from normexp.explain.probability import probability_contributions
from normexp.explain.texts import WordReason, words

__all__ = [
    "Contrast",
    "Reasons",
    "WordReason",
    "contrast",
    "contributions",
    "probability_contributions",
    "reasons",
    "words",
]
