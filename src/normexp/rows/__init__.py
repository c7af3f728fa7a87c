"""Floor 4: where blocks of rows come from. A solver sees nothing but ``sum(fn)`` over blocks."""

from normexp.rows.blocks import Block as Block
from normexp.rows.blocks import RowBlocks as RowBlocks
from normexp.rows.memory import DenseRows as DenseRows
from normexp.rows.memory import SparseRows as SparseRows
from normexp.rows.memory import row_blocks as row_blocks

__all__ = ["Block", "DenseRows", "RowBlocks", "SparseRows", "row_blocks"]
