"""What all pictures of explanations share: colours, axes that are given or made, bars that lie, quiet frames."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import MissingExtraError
from normexp.explain.rows import F64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

FOR: Final = "#2a6f97"  # blue and orange: apart for all eyes, and on paper
AGAINST: Final = "#d9822b"
INK: Final = "#2b2b2b"
QUIET: Final = "#8a8a8a"
BAR_INCHES: Final = 0.3
SMALLEST: Final = 5.0  # points that can still be read
LINE: Final = 1.3  # height of a line of text in units of its size, with the space that keeps lines apart


def matplotlib() -> Any:
    """The package, or a sentence on how to get it."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  (optional, and slow to load)
    except ModuleNotFoundError:
        raise MissingExtraError("Drawing explanations", "cli") from None
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it announces its font cache
    return mpl


def new_axes(rows: int = 1, columns: int = 1, /, *, inches: tuple[float, float]) -> Any:
    """A figure's axes, as an array (rows, columns), shown by notebooks as all others are."""
    matplotlib()
    from matplotlib import pyplot as plt  # noqa: PLC0415  (optional, and slow to load)

    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained")
    figure.patch.set_facecolor("white")
    return axes


def one_axes(ax: Any, /, *, inches: tuple[float, float]) -> Any:
    """The axes that were given, or those of a new figure."""
    return new_axes(inches=inches)[0, 0] if ax is None else ax


def signed_colours() -> "Colormap":
    """From against over white to for."""
    matplotlib()
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415  (optional, and slow to load)

    return LinearSegmentedColormap.from_list("normexp", [AGAINST, "#ffffff", FOR])


def lying_bars(axes: "Axes", labels: Sequence[str], values: F64, /, *, room: float = 0.2) -> None:
    """Bars from 0 to the left and right, the first on top, each with its number at the end in some room."""
    places = np.arange(len(values))
    axes.barh(places, values, color=[FOR if value >= 0 else AGAINST for value in values], height=0.7)
    axes.set_yticks(places, [one.replace("$", r"\$") for one in labels])  # no mathematics in names
    axes.set_ylim(len(values) - 0.4, -0.6)
    reach = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    for place, value in zip(places, values, strict=True):
        end = float(value) + (0.02 if value >= 0 else -0.02) * reach
        side = "left" if value >= 0 else "right"
        axes.text(end, float(place), f"{value:+.2f}", va="center", ha=side, color=INK, fontsize=9)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    axes.set_xlim(low - (room * reach if low < 0 else 0.0), high + (room * reach if high > 0 else 0.0))
    axes.axvline(0, color=INK, linewidth=0.8)
    quieten(axes, keep="bottom")


def readable_labels(axes: "Axes", labels: Sequence[str], places: NDArray[Any], /, *, size: float, rooms: int) -> None:
    """Labels of rows on the left that never run into each other.

    They shrink to the height that a row has; where that is less than `SMALLEST` points only every second, third, ... is
    written.

    Parameters
    ----------
    axes : matplotlib Axes
        With its limits.
    labels : sequence of str
        From the first place to the last.
    places : ndarray (N,)
        Where they stand.
    size : float
        Points, where there is room.
    rooms : int
        Into how many rows the height is divided.
    """
    a_row = 72.0 * axes.get_window_extent().height / axes.figure.dpi / max(rooms, 1) / LINE  # points
    step = int(np.ceil(SMALLEST / a_row)) if a_row < SMALLEST else 1
    names = [one.replace("$", r"\$") for one in labels]
    axes.set_yticks(places[::step], names[::step], fontsize=min(size, max(SMALLEST, a_row)))


def short(name: str, most: int = 28, /) -> str:
    """A name that leaves room for the picture: its middle left out, since endings tell names apart too."""
    if len(name) <= most:
        return name
    front = most // 2
    return f"{name[:front]}…{name[len(name) - (most - 1 - front) :]}"


def quieten(axes: "Axes", /, *, keep: str) -> None:
    """Keep the side with the scale, and fine lines across."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == keep)
        axes.spines[side].set_color(QUIET)
    axes.tick_params(length=0, colors=INK)
    axes.grid(visible=True, axis="x" if keep == "bottom" else "y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def title(axes: "Axes", text: str, /) -> None:
    """Write a title flush left."""
    axes.set_title(text.replace("$", r"\$"), loc="left", fontsize=11, color=INK)
