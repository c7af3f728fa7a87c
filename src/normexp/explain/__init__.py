"""Floor 6: why a linear softmax head decides so: read from its coefficients, exact, in one's own columns."""

from normexp.explain.contributions import Reasons, contributions, reasons
from normexp.explain.probability import probability_contributions
from normexp.explain.words import WordReason, words

__all__ = ["Reasons", "WordReason", "contributions", "probability_contributions", "reasons", "words"]
