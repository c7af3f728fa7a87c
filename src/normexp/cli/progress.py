"""A progress bar that shows itself only where it helps: on a terminal, after two seconds."""

import sys
import time
from types import TracebackType
from typing import Any, Final, Self, final

from normexp.cli.console import console

PATIENCE_SECONDS: Final = 2.0


@final
class ProgressBar:
    """Call it with the rows done and the rows in all; it draws on standard error.

    Parameters
    ----------
    what : str
        A word or two in front of the bar, such as "fitting".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._start = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, done_rows: int, total_rows: int | None) -> None:
        """Tell how far the work is; the bar appears at the first call after two seconds."""
        if not self._on_terminal or time.monotonic() - self._start < PATIENCE_SECONDS:
            return
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(self._what, total=total_rows)
            self._bar.start()
        self._bar.update(self._task, completed=done_rows, total=total_rows, description=self._what)

    def rename(self, what: str) -> None:
        """Say that something else is done now; its rows are told with the next call."""
        self._what = what

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _new_bar() -> Any:
    """Make a bar with the rows done, their number and the time left; it vanishes when done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
