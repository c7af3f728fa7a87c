"""Floor 6: estimators with scikit-learn's conventions."""

from normexp.linear_model.generative import LinearDiscriminant as LinearDiscriminant
from normexp.linear_model.generative import NaiveBayesSoftmax as NaiveBayesSoftmax
from normexp.linear_model.intervals import CoefIntervals as CoefIntervals
from normexp.linear_model.penalty_path import SoftmaxPath as SoftmaxPath
from normexp.linear_model.penalty_path import alpha_max as alpha_max
from normexp.linear_model.penalty_path import softmax_path as softmax_path
from normexp.linear_model.softmax_classifier import SoftmaxClassifier as SoftmaxClassifier
from normexp.linear_model.softmax_classifier_cv import SoftmaxClassifierCV as SoftmaxClassifierCV

__all__ = [
    "CoefIntervals",
    "LinearDiscriminant",
    "NaiveBayesSoftmax",
    "SoftmaxClassifier",
    "SoftmaxClassifierCV",
    "SoftmaxPath",
    "alpha_max",
    "softmax_path",
]
