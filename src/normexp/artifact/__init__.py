"""Save and load models, without pickle: loading can never run code."""

from normexp.artifact.store import load as load
from normexp.artifact.store import save as save

__all__ = ["load", "save"]
