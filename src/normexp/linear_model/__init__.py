"""Floor 6: estimators with scikit-learn's conventions."""

from normexp.linear_model.softmax_classifier import SoftmaxClassifier as SoftmaxClassifier

__all__ = ["SoftmaxClassifier"]
