"""The progress bar shows itself only where it helps."""

import io

import pytest

from normexp.cli import progress
from normexp.cli.progress import ProgressBar


class Screen(io.StringIO):
    """A standard error that may be a terminal."""

    def __init__(self, *, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def shown(monkeypatch, clock, *, terminal, seconds):
    """What a bar writes when the work takes some seconds."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("predicting") as bar:
        bar(100, 1000)
        clock[0] += seconds
        bar(700, 1000)
    return screen.getvalue()


def test_long_work_on_a_terminal_shows_a_bar(monkeypatch, clock):
    text = shown(monkeypatch, clock, terminal=True, seconds=2.1)
    assert "predicting" in text
    assert "700/1000" in text


def test_short_work_shows_nothing(monkeypatch, clock):
    assert shown(monkeypatch, clock, terminal=True, seconds=1.9) == ""


def test_nothing_is_drawn_into_a_pipe(monkeypatch, clock):
    assert shown(monkeypatch, clock, terminal=False, seconds=60.0) == ""


def test_work_of_unknown_length_is_shown_too(monkeypatch, clock):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("reading") as bar:
        clock[0] += 3
        bar(5, None)
    assert "5/?" in screen.getvalue()


def test_the_bar_says_what_is_done_now(monkeypatch, clock):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("fitting") as bar:
        bar(1, 10)
        clock[0] += 3.0
        bar.rename("encoding")
        bar(2, 10)
        assert "encoding" in screen.getvalue()
        bar.rename("fitting, pass 3, within 1e-03, 5,000 rows/s")
        bar(4, 10)
        clock[0] += 1.0
    assert "pass 3, within 1e-03, 5,000 rows/s" in screen.getvalue()
