"""What each decision costs, from a small table with the names of the classes on two sides."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, final

from normexp.base.errors import InputError
from normexp.tables.choosing import enumerate_names
from normexp.tables.small_tables import parse_number, read_lines

REFUSED: Final = "unknown"  # what a row is called that no class is given to
_NAMED: Final = 6  # classes in a sentence


@final
class Costs(dict[str, dict[str, float]]):
    """``costs[true][decided]``, and where in a file they stand.

    Parameters
    ----------
    path : Path
        The file.
    header : tuple of (int, tuple of str)
        Number of the line of the decisions, and these.
    lines : dict of str to int
        Number of the line of each true class, counted from 1.
    """

    def __init__(self, path: Path, header: tuple[int, tuple[str, ...]], lines: dict[str, int]) -> None:
        super().__init__()
        self.path, self.header, self.lines = path, header, lines

    def check(self, classes: Iterable[Any], /) -> None:
        """Refuse costs that are not those of some classes; sentences name the file, the line and the column.

        Parameters
        ----------
        classes : iterable
            The classes of a model.

        Raises
        ------
        InputError
            If a class has no line or no column, a line or column is of no class (but for a column "unknown"), or the
            right decision costs more than a wrong one.
        """
        names = [str(label) for label in classes]
        known = f"the classes are {enumerate_names(names, limit=_NAMED)}"
        at, decisions = self.header
        for true, line in self.lines.items():
            if true not in names:
                raise InputError(
                    f"{self.path}: line {line} is for the true class {true!r}, and {known}. Correct the name."
                )
        for place, decided in enumerate(decisions):
            if decided not in names and decided != REFUSED:
                raise InputError(
                    f"{self.path}: line {at}, column {place + 2} is for the decision {decided!r}, and {known}, or "
                    f"{REFUSED!r} for refusing. Correct the name."
                )
        missing = [name for name in names if name not in self.lines]
        if missing:
            raise InputError(
                f"{self.path}: no line is for the true class {enumerate_names(missing, limit=_NAMED)}. Each class "
                "needs a line, its name first; add it."
            )
        missing = [name for name in names if name not in decisions]
        if missing:
            raise InputError(
                f"{self.path}: line {at}, the header, has no column for the decision "
                f"{enumerate_names(missing, limit=_NAMED)}. Each class needs a column; add it."
            )
        for true, line in self.lines.items():
            right = self[true][true]
            for place, decided in enumerate(decisions):
                if decided in names and self[true][decided] < right:
                    raise InputError(
                        f"{self.path}: line {line}, column {place + 2} says that for the true class {true!r} deciding "
                        f"{decided!r} costs {self[true][decided]:g}, and deciding {true!r} costs {right:g}. The right "
                        "decision must not cost more than a wrong one; lines are true classes, columns decisions: is "
                        "the table transposed?"
                    )


def read_costs(path: Path, /) -> Costs:
    r"""Read a cost matrix: a CSV (or TSV) file with a header of decisions and true classes in the first column.

    Parameters
    ----------
    path : Path
        The file. The cell above the true classes may hold anything.

    Returns
    -------
    Costs
        A dict, ``costs[true][decided]``, as `TrustedClassifier(cost_matrix=...)` takes it, that knows its lines.

    Raises
    ------
    InputError
        If a name comes twice or is missing, a row is too short or too long, or a cost is no number; the sentence names
        the line, counted from 1.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "costs.csv"
    >>> _ = path.write_text("true,ham,spam,unknown\nham,0,10,2\nspam,1,0,0.5\n")
    >>> read_costs(path)["ham"]
    {'ham': 0.0, 'spam': 10.0, 'unknown': 2.0}
    """
    lines = read_lines(path, "costs")
    if len(lines) < 2 or len(lines[0][1]) < 2:
        raise InputError(
            f"{path}: this is no table of costs; a header with the decisions and a row for each true class, its name "
            "first, would be right."
        )
    decisions = lines[0][1][1:]
    _once(path, decisions, "column")
    _once(path, [row[0] for _, row in lines[1:]], "row")
    lines_of = {row[0]: number for number, row in lines[1:]}
    costs = Costs(path, (lines[0][0], tuple(decisions)), lines_of)
    for number, row in lines[1:]:
        if len(row) != len(decisions) + 1:
            raise InputError(
                f"{path}: line {number} holds {len(row) - 1} costs and the header {len(decisions)} decisions; one cost "
                "for each is needed."
            )
        costs[row[0]] = {name: _number(path, number, name, cell) for name, cell in zip(decisions, row[1:], strict=True)}
    return costs


def _once(path: Path, names: list[str], what: str) -> None:
    """Refuse names that are empty or come twice."""
    if "" in names:
        raise InputError(f"{path}: a {what} has no name; each {what} needs the name of its class.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: {enumerate_names(twice)} names more than one {what}; each class has one {what}.")


def _number(path: Path, line: int, name: str, cell: str) -> float:
    """A finite number."""
    cost = parse_number(cell)
    if not math.isfinite(cost):
        raise InputError(
            f"{path}: line {line} holds {cell!r} in the column {name!r}; a finite number, the cost, would be right."
        )
    return cost
