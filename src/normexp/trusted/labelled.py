"""The former place of `Labelled` and `TrainingFacts`: model files name it, so it stays."""

from normexp.report.labelled import Labelled, TrainingFacts, as_mapping

__all__ = ["Labelled", "TrainingFacts", "as_mapping"]
