"""Floor 6: maps from logits to logits that make the probabilities honest."""

from normexp.calibration.auto import AutoCalibrator
from normexp.calibration.ensemble_temperature import EnsembleTemperatureScaling
from normexp.calibration.isotonic import IsotonicScaling
from normexp.calibration.pooling import PooledCalibrator, pool
from normexp.calibration.prior_shift import PriorShift
from normexp.calibration.rows import shared_rows
from normexp.calibration.share_matching import ShareMatching
from normexp.calibration.structured import StructuredMatrixScaling, VectorScaling
from normexp.calibration.temperature import TemperatureScaling
from normexp.calibration.two_classes import BetaScaling, QuadraticScaling

__all__ = [
    "AutoCalibrator",
    "BetaScaling",
    "EnsembleTemperatureScaling",
    "IsotonicScaling",
    "PooledCalibrator",
    "PriorShift",
    "QuadraticScaling",
    "ShareMatching",
    "StructuredMatrixScaling",
    "TemperatureScaling",
    "VectorScaling",
    "pool",
    "shared_rows",
]
