"""The whole path as one estimator: a file of rows in, encoded features, a softmax head, probabilities out."""

from normexp.trusted.labelled import Labelled, TrainingFacts
from normexp.trusted.table_classifier import TableClassifier

__all__ = ["Labelled", "TableClassifier", "TrainingFacts"]
