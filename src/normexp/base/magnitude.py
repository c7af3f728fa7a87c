"""How large the cells of a table may be: their squares, and the sums of these, must be numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError

# Squares of 1e150 are 1e300, and 1e8 rows of them can be added: the largest float64 is 1.8e308.
LARGEST: Final = 1e150


class Cell(NamedTuple):
    """A cell of a table: its row and column, both counted from 0, and what it holds."""

    row: int
    column: int
    value: float


class LargeCellError(InputError):
    """A cell whose square is no number; it may be raised again with the name of its column."""

    def __init__(self, cell: Cell, of: str = "fit", name: Any = None) -> None:
        column = f"column {cell.column} of X" if name is None else f"column {str(name)!r}"
        super().__init__(
            f"{of}: {column} holds {cell.value:g} in row {cell.row} (rows count from 0); numbers up to {LARGEST:g} in "
            "magnitude can be computed with, as their squares must not overflow: mend the cell, leave the column out, "
            "or take its logarithm."
        )
        self.cell, self.of, self.name = cell, of, name

    def named(self, names: Any) -> "LargeCellError":
        """Return the same with the column's name, where there are names (D,)."""
        return self if names is None else LargeCellError(self.cell, self.of, names[self.cell.column])

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to rebuild it in another process."""
        return type(self), (self.cell, self.of, self.name)


@contextmanager
def naming_columns(names: Any, *, of: str | None = None) -> Iterator[None]:
    """Give the column of a cell that is refused inside its name, where there are names (D,); of: who was called."""
    try:
        yield
    except LargeCellError as error:
        raise (error if of is None else LargeCellError(error.cell, of, error.name)).named(names) from None


def large_cell(rows: Any, columns: NDArray[np.intp] | None = None, *, first: int = 0) -> Cell | None:
    """Return the largest cell of rows (n, D) or of some of their columns, an array or a CSR matrix, if it is too large.

    ``first`` is the number of the first row. NaN is passed over.
    """
    if hasattr(rows, "indptr"):
        kept = np.abs(rows.data)
        if columns is not None:
            kept = np.where(np.isin(rows.indices, columns), kept, 0.0)
        if not kept.size or not float(np.fmax.reduce(kept)) > LARGEST:
            return None
        entry = int(np.nanargmax(kept))
        line = int(np.searchsorted(rows.indptr, entry, side="right")) - 1
        return Cell(first + line, int(rows.indices[entry]), float(rows.data[entry]))
    chosen = rows if columns is None else rows[:, columns]
    if not chosen.size or not max(float(np.fmax.reduce(chosen, None)), -float(np.fmin.reduce(chosen, None))) > LARGEST:
        return None
    row, place = np.unravel_index(int(np.nanargmax(np.abs(chosen))), chosen.shape)
    column = int(place) if columns is None else int(columns[place])
    return Cell(first + int(row), column, float(chosen[row, place]))


def suspects(squares: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.intp]:
    """Columns (of D) whose weighted sum of squares leaves room for a cell that is too large in a row that counts."""
    counted = weight[weight > 0]
    least = float(counted.min()) if counted.size else 1.0
    return np.flatnonzero(~(squares <= LARGEST * LARGEST * min(least, 1.0)))
