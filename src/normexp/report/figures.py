"""Figures of the report as inline SVG, drawn with matplotlib's object-oriented interface.

Colours are placeholders while matplotlib draws and become CSS variables afterwards, so that a figure follows the page
from light to dark. Text stays text in the page's own font. Identifiers get a prefix, since all figures share one page,
and nothing depends on the date or on chance: the same facts give the same bytes.
"""

import io
import re
import threading
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normexp.report.facts import ReliabilityBin, SelectivePoint

# Stand-ins for CSS variables; nearly black, so that a viewer without the style sheet still sees something.
INK, QUIET, RULE, ACCENT, BAND = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "--ink", QUIET: "--quiet", RULE: "--rule", ACCENT: "--accent", BAND: "--band"}
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "normexp", "font.size": 9.0, "path.simplify": True}
DRAWING = threading.Lock()  # rcParams belong to the whole process, so one figure is drawn at a time
LEAST_SPAN = 5.0  # points of accuracy that an axis spans at least: smaller differences should look small
WIDTH = 4.4  # inches, drawn for a phone: 317 points across hardly shrink on 360 pixels, so 9 point stays legible


def reliability_figure(bins: tuple[ReliabilityBin, ...]) -> str:
    """Confidence against accuracy with a band, above a histogram of the confidence."""
    with DRAWING, mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 4.9))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        confidence = np.array([b.confidence for b in bins])
        accuracy = np.array([b.accuracy for b in bins])
        ends = np.array([[b.low, b.high] for b in bins]).T
        upper.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        upper.vlines(confidence, *ends, color=BAND, linewidth=5.0)
        upper.plot(confidence, accuracy, color=ACCENT, linewidth=0.7)
        upper.plot(confidence, accuracy, color=ACCENT, linestyle="none", marker="o", markersize=4.0, clip_on=False)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="how often it was right")
        upper.text(0.04, 0.93, "too timid", color=QUIET, fontsize=8)
        upper.text(0.96, 0.04, "too sure", color=QUIET, fontsize=8, ha="right")
        rows = np.array([b.n_rows for b in bins], dtype=float)
        lower.bar(confidence, 100.0 * rows / rows.sum(), width=0.045, color=ACCENT)
        lower.set(ylabel="% of rows", xlabel="confidence that was stated")
        for axes in (upper, lower):
            _quieten(axes)
        figure.subplots_adjust(left=0.13, right=0.965, top=0.985, bottom=0.1, hspace=0.08)
        return _inline(figure, name="reliability")


def selective_figure(points: tuple[SelectivePoint, ...]) -> str:
    """Accuracy among the rows that are answered, against their share."""
    with DRAWING, mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 2.6))
        axes = figure.subplots()
        share = 100.0 * np.array([p.coverage for p in points])
        accuracy = 100.0 * np.array([p.accuracy for p in points])
        axes.plot(share, accuracy, color=ACCENT, linewidth=1.2, marker="o", markersize=4.0, clip_on=False)
        margin = max(0.4, 0.12 * float(np.ptp(accuracy)))
        low = min(accuracy.min() - margin, accuracy.max() - LEAST_SPAN)
        axes.set(
            xlim=(max(share) + 3, min(share) - 3),
            ylim=(low, min(100.0 + 0.1 * margin, accuracy.max() + margin)),
            xlabel="% of the rows answered, the surest first",
            ylabel="% right among them",
        )
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _quieten(axes)
        figure.subplots_adjust(left=0.13, right=0.965, top=0.97, bottom=0.19)
        return _inline(figure, name="selective")


def _quieten(axes: Axes) -> None:
    """Leave only what is read: thin rules, quiet labels, no box."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(RULE)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=QUIET, labelcolor=INK, width=0.8, length=3, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.patch.set_visible(False)


def _inline(figure: Figure, *, name: str) -> str:
    """Write the figure as an <svg> element fit to stand in a page."""
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, flags=re.DOTALL)  # it would style the whole page
    svg = re.sub(r"\s+xmlns(:\w+)?=\"[^\"]*\"", "", svg)  # HTML needs no namespaces
    svg = re.sub(r"xlink:href=", "href=", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"(font: [^;\"]*?px )[^;\"]*", r"\1var(--sans)", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg, count=1)
    for placeholder, variable in VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
