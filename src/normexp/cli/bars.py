"""Logits and probabilities side by side as bars."""

import logging
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from normexp.cli.logits import Row

LOGIT_COLOUR: Final = "#4c6a92"
PROBABILITY_COLOUR: Final = "#d9822b"
INK: Final = "#2b2b2b"
MAX_LABELLED: Final = 16  # classes whose bars lie and carry their numbers; more stand, without numbers
MAX_BARS: Final = 120  # more classes than that: the most probable ones


def draw_bars(rows: Sequence["Row"], stream: IO[bytes], /, *, file_format: str, temperature: float) -> None:
    """Draw one pair of panels for each row.

    Parameters
    ----------
    rows : sequence of Row
        At least one.
    stream : binary file
        Where the picture goes.
    file_format : {"png", "svg", "pdf"}
        Its format.
    temperature : float
        The temperature of the probabilities, for the heading.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it announces its font cache
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    longest = max(len(row.logits) for row in rows)
    lying = longest <= MAX_LABELLED
    height = sum(0.34 * max(len(row.logits), 2) + 1.2 if lying else 3.2 for row in rows)
    width = 8.0 if lying else 11.0
    with rc_context({"font.size": 10, "font.family": "DejaVu Sans", "svg.hashsalt": "normexp"}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(rows), 2, squeeze=False)
        for number, (row, (left, right)) in enumerate(zip(rows, grid, strict=True)):
            shown = _most_probable(row)
            draw = _lying if lying else _standing
            draw(left, shown, row.logits[shown], LOGIT_COLOUR, "{:.6g}")
            draw(right, shown, row.probabilities[shown], PROBABILITY_COLOUR, "{:.4f}")
            name = f"row {number}: " if len(rows) > 1 else ""
            part = "" if len(shown) == len(row.logits) else f", the {len(shown)} most probable of {len(row.logits)}"
            _title(left, f"{name}logits{part}")
            at = "" if temperature == 1.0 else f" at temperature {temperature:g}"
            _title(right, f"probabilities{at}")
            if lying:
                right.set_xlim(0, 1.14)
            else:  # many small probabilities would be a flat line on a scale up to 1
                right.set_ylim(0, min(1.0, 1.1 * float(np.nanmax(row.probabilities[shown], initial=1e-9))))
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(stream, format=file_format, dpi=150, metadata=metadata)


def _most_probable(row: "Row") -> NDArray[np.intp]:
    """Classes to draw, in their own order."""
    if len(row.logits) <= MAX_BARS:
        return np.arange(len(row.logits))
    return np.sort(np.argsort(-row.probabilities, kind="stable")[:MAX_BARS])


def _lying(axes: "Axes", classes: NDArray[np.intp], values: NDArray[np.float64], colour: str, form: str) -> None:
    """Horizontal bars, class 0 on top, each with its number at the end."""
    places = np.arange(len(classes))
    finite = np.where(np.isfinite(values), values, 0.0)
    axes.barh(places, finite, color=colour, height=0.72)
    axes.set_yticks(places, [str(index) for index in classes])
    axes.invert_yaxis()
    reach = max(float(np.ptp(np.append(finite, 0.0))), 1e-9)
    for place, value, length in zip(places, values, finite, strict=True):
        side = -1 if length < 0 else 1
        axes.text(
            length + side * 0.015 * reach,
            float(place),
            form.format(value),
            va="center",
            ha="right" if side < 0 else "left",
            color=INK,
            fontsize=9,
        )
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    axes.set_xlim(low - (0.22 * reach if low < 0 else 0.0), high + (0.22 * reach if high > 0 or low == 0 else 0.0))
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("class")
    _plain_frame(axes, keep="bottom")


def _standing(axes: "Axes", classes: NDArray[np.intp], values: NDArray[np.float64], colour: str, form: str) -> None:
    """Vertical bars without numbers, for many classes."""
    del form
    places = np.arange(len(classes))
    axes.bar(places, np.where(np.isfinite(values), values, 0.0), color=colour, width=0.8)
    step = max(1, int(np.ceil(len(classes) / 12)))
    axes.set_xticks(places[::step], [str(index) for index in classes[::step]])
    axes.set_xlim(-0.8, len(classes) - 0.2)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("class")
    _plain_frame(axes, keep="left")


def _plain_frame(axes: "Axes", *, keep: str) -> None:
    """Keep the side with the scale, and fine lines across."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == keep)
        axes.spines[side].set_color("#9a9a9a")
    axes.tick_params(length=0, colors=INK)
    axes.grid(visible=True, axis="x" if keep == "bottom" else "y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)


def _title(axes: "Axes", text: str) -> None:
    """Write a title flush left."""
    axes.set_title(text, loc="left", fontsize=11, color=INK, fontweight="bold")
