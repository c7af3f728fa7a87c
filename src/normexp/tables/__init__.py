"""Floor 4: files of rows in, encoded features out, and files that are written whole or not at all."""

from normexp.base.atomic import write_atomically
from normexp.tables.costs import read_costs
from normexp.tables.encoding import TableEncoder
from normexp.tables.opening import open_source
from normexp.tables.predictions import Predictions
from normexp.tables.source import Block, Column, Progress, Schema, Source
from normexp.tables.words import TextEncoder
from normexp.tables.writing import write_predictions

__all__ = [
    "Block",
    "Column",
    "Predictions",
    "Progress",
    "Schema",
    "Source",
    "TableEncoder",
    "TextEncoder",
    "open_source",
    "read_costs",
    "write_atomically",
    "write_predictions",
]
