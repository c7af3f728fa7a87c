"""The whole path as one estimator: `TrustedClassifier` around any classifier, `TableClassifier` from files on."""

from typing import TYPE_CHECKING, Any

from normexp.report.labelled import Labelled, TrainingFacts
from normexp.trusted.trusted_classifier import TrustedClassifier

if TYPE_CHECKING:
    from normexp.trusted.table_classifier import TableClassifier

__all__ = ["Labelled", "TableClassifier", "TrainingFacts", "TrustedClassifier"]


def __getattr__(name: str) -> Any:
    """Load what reads files on first use: it needs the table packages, which are optional."""
    if name == "TableClassifier":
        from normexp.trusted.table_classifier import TableClassifier  # noqa: PLC0415  (optional packages)

        return TableClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
