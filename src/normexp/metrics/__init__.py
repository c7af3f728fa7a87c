"""Numbers and curves that judge probabilities; no drawing.

All take ``(y, prediction, /, *, from_logits=True, sample_weight=None)``: class indices (N,), and logits or, with
``from_logits=False``, probabilities (N, K). Nothing is guessed and nothing is clipped.

- Proper scores: :func:`log_loss`, :func:`brier`, :func:`decomposition`.
- Decisions: :func:`accuracy`, :func:`balanced_accuracy`, :func:`top_k_accuracy`, :func:`per_class`,
  :func:`confusion_pairs`.
- Calibration: :func:`ece`, :func:`overconfidence`, :func:`calibration_test`, :func:`mean_calibration_test`,
  :func:`reliability_curve`.
- Doubt: :func:`aurc`, :func:`risk_coverage_curve`, :func:`auroc`, :func:`fpr_at_tpr`, :func:`coverage`.
- How sure the number itself is: :func:`interval`, :func:`wilson`.
"""

from normexp.metrics.accuracy import accuracy, balanced_accuracy, top_k_accuracy
from normexp.metrics.brier import Decomposition, brier, decomposition
from normexp.metrics.calibration_test import calibration_test
from normexp.metrics.classes import ConfusionPair, PerClass, confusion_pairs, per_class
from normexp.metrics.detection import auroc, coverage, fpr_at_tpr
from normexp.metrics.ece import ece, overconfidence
from normexp.metrics.interval import Interval, interval
from normexp.metrics.log_loss import log_loss
from normexp.metrics.mean_calibration_test import mean_calibration_test
from normexp.metrics.reliability import ReliabilityCurve, reliability_curve, wilson
from normexp.metrics.selective import RiskCoverageCurve, aurc, risk_coverage_curve

__all__ = [
    "ConfusionPair",
    "Decomposition",
    "Interval",
    "PerClass",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "accuracy",
    "aurc",
    "auroc",
    "balanced_accuracy",
    "brier",
    "calibration_test",
    "confusion_pairs",
    "coverage",
    "decomposition",
    "ece",
    "fpr_at_tpr",
    "interval",
    "log_loss",
    "mean_calibration_test",
    "overconfidence",
    "per_class",
    "reliability_curve",
    "risk_coverage_curve",
    "top_k_accuracy",
    "wilson",
]
