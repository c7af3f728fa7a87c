"""The account of a row as a picture: bars of its columns, and of the words of its text."""

from typing import IO

import numpy as np

from normexp.explain.account import Account, shown
from normexp.explain.canvas import BAR_INCHES, lying_bars, matplotlib, title
from normexp.explain.reason_bars import ContributionsDisplay


def draw_account(told: Account, stream: IO[bytes], /, *, file_format: str, top: int) -> None:
    """Draw the account of a row: its columns, and its words where there are any.

    Parameters
    ----------
    told : Account
        The account.
    stream : binary file
        Where the picture goes.
    file_format : {"png", "svg", "pdf"}
        Its format.
    top : int
        How many columns and words have a bar of their own.
    """
    package = matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow to load)

    with package.rc_context({"font.size": 10, "font.family": "DejaVu Sans", "svg.hashsalt": "normexp"}):
        bars = min(len(told.contributions), top) + 2
        spoken = told.words[:top]
        sizes = [bars + 3, *([len(spoken) + 3] if spoken else [])]
        figure = Figure(figsize=(8.0, BAR_INCHES * sum(sizes) + 0.4), layout="constrained", facecolor="white")
        panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
        names = [f"{one.column} = {shown(one.value)[:28]}" for one in told.contributions]
        values = [one.contribution for one in told.contributions]
        ContributionsDisplay(
            names, values, baseline=told.baseline, of=told.label, against=told.rival
        ).plot(top=top, ax=panels[0])  # fmt: skip
        if spoken:
            lying_bars(
                panels[1], [one.word or "(beginning)" for one in spoken], np.array([w.contribution for w in spoken])
            )
            title(panels[1], f"the words, for and against {told.label}")
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(stream, format=file_format, dpi=150, metadata=metadata)
