"""Where words go: results to standard output, everything else to standard error."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(sentence: str, /) -> None:
    """Write one line to standard error, whatever line breaks the sentence holds.

    Parameters
    ----------
    sentence : str
        What to say.
    """
    try:
        typer.echo(f"normexp: {' '.join(sentence.split())}", err=True)
    except BrokenPipeError:  # nobody listens; the exit status says it too
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  (closed by the end of the process)


def write_json(value: Any, /) -> None:
    """Write one JSON object to standard output; numbers that JSON lacks become "NaN", "Infinity", "-Infinity".

    Parameters
    ----------
    value : object
        Mappings, sequences, texts, numbers, booleans and None.
    """
    typer.echo(json.dumps(_plain(value), allow_nan=False, ensure_ascii=False))


def console(*, stderr: bool = False) -> "Console":
    """Make a rich console: colours only on a terminal and without NO_COLOR, 80 columns in a pipe.

    Parameters
    ----------
    stderr : bool
        Whether it writes to standard error.

    Returns
    -------
    rich.console.Console
        The console.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def new_table(*columns: str, title: str | None = None) -> "Table":
    """Start a table: the first column is text on the left, the others are numbers on the right.

    Parameters
    ----------
    *columns : str
        The headings.
    title : str or None
        What stands above.

    Returns
    -------
    rich.table.Table
        The table, still without rows.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False, show_edge=False
    )
    for position, heading in enumerate(columns):
        table.add_column(heading, justify="left" if position == 0 else "right", overflow="fold")
    return table


def today() -> str:
    """Today's date as 2026-01-31, that of SOURCE_DATE_EPOCH where that is set."""
    from datetime import UTC, datetime

    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(given), UTC) if given.isdigit() else datetime.now(UTC)
    return moment.date().isoformat()


def discard_stdout() -> None:
    """Send what is still in the buffers of standard output nowhere: its reader went away."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # standard output is no file, as under a test
        return


def _plain(value: Any) -> Any:
    """Turn NumPy values and non-finite numbers into what JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
