"""The report as a page: a jinja2 template, its style sheet, and how numbers are written."""

import math
import re
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from normexp.report.evidence import lost_in_noise
from normexp.report.facts import Bar, ClassFacts, ExampleFacts, Score, Summary
from normexp.report.figures import reliability_figure, selective_figure

CLASSES_SHOWN = 30  # a table of classes that is longer shows the worst and the largest
WORST_SHOWN, LARGEST_SHOWN = 20, 10
WORDS = {"red": "Problem", "amber": "Caution", "green": "Good"}
SIGNS = {"red": "■", "amber": "▲", "green": "●"}
SHARES = {"accuracy", "balanced_accuracy", "top_5_accuracy", "ece", "overconfidence"}
MINUS, THIN, DASH, INFINITY = "\u2212", "\u202f", "\u2013", "\u221e"  # the space does not break


@dataclass(frozen=True)
class BarShape:
    """Where a bar begins and how long it is, in percent of its column, and where its zero lies."""

    start: float
    length: float
    zero: float


def make_page(summary: Summary) -> str:
    """Fill the template."""
    environment = Environment(
        loader=PackageLoader("normexp.report", "templates"),
        autoescape=True,  # class names and rows come from strangers' files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, count=count, logit=logit, breakable=breakable)
    shown, heading = classes_to_show(summary.classes)
    return environment.get_template("report.html.j2").render(
        s=summary,
        style=Markup(environment.get_template("report.css").render()),  # noqa: S704  (our own file)
        words=WORDS,
        signs=SIGNS,
        tally=_tally(summary),
        value_of=value_of,
        reach_of=reach_of,
        gain_of=gain_of,
        gain_reach_of=gain_reach_of,
        gap=gap,
        noise=lost_in_noise(summary),
        logit_bars=logit_bars,
        classes=shown,
        classes_heading=heading,
        reliability=Markup(reliability_figure(summary.reliability)),  # noqa: S704  (drawn from numbers alone)
        selective=Markup(selective_figure(summary.selective)) if len(summary.selective) > 1 else "",  # noqa: S704
    )


def percent(share: float, digits: int = 1) -> str:
    """Write a share: "97.1 %", an en dash where unknown; never 100.0 % for what is not all."""
    if math.isnan(share):
        return DASH
    text = f"{100 * abs(share):.{digits}f}"
    if abs(share) < 1 and float(text) == 100.0:
        return f">{THIN}{100 - 10**-digits:.{digits}f}{THIN}%"
    if share != 0 and float(text) == 0.0:
        return f"<{THIN}{10**-digits:.{digits}f}{THIN}%"
    return f"{MINUS if share < 0 else ''}{text}{THIN}%"


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many decimals; "∞" and an en dash for what has none."""
    if math.isnan(value):
        return DASH
    sign = MINUS if value < 0 else ""
    return sign + (INFINITY if math.isinf(value) else f"{abs(value):,.{digits}f}")


def logit(value: float) -> str:
    """Write a logit: two decimals, none for a large one."""
    return number(value, 2 if abs(value) < 1000 else 0)


def count(value: int) -> str:
    """Write a count with commas between the thousands."""
    return f"{value:,}"


def breakable(name: str) -> Markup:
    """Escape a name, and let it break after an underscore, a slash, a dot or a hyphen."""
    return Markup(re.sub(r"(?<=[_/.\-])(?=[^\s_/.\-])", "<wbr>", str(escape(name))))  # noqa: S704  (escaped just now)


def value_of(score: Score, value: float) -> str:
    """Write a value of a score, as a percentage where the score is a share."""
    return percent(value) if score.name in SHARES else number(value)


def reach_of(score: Score, low: float, high: float) -> str:
    """Write an interval of a score; empty where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    scale, digits, unit = (100, 1, f"{THIN}%") if score.name in SHARES else (1, 3, "")
    between = DASH if low >= 0 else " to "
    return f"{number(scale * low, digits)}{between}{number(scale * high, digits)}{unit}"


def gap(value: float) -> str:
    """Write a calibration error; 0 is not told from what noise adds."""
    return "not told from 0" if value == 0.0 else percent(value)


def gain_of(score: Score, gain: float) -> str:
    """Write a gain over the prior, with its sign; in points where the score is a share."""
    text = f"{number(100 * gain, 1)}{THIN}pts" if score.name in SHARES else number(gain)
    return f"+{text}" if gain > 0 else text


def gain_reach_of(score: Score) -> str:
    """Write the interval of a gain; empty where there is none."""
    low, high = score.gain_low, score.gain_high
    if math.isnan(low) or math.isnan(high):
        return ""
    scale, digits = (100, 1) if score.name in SHARES else (1, 3)
    between = DASH if low >= 0 else " to "
    return f"{number(scale * low, digits)}{between}{number(scale * high, digits)}"


def logit_bars(example: ExampleFacts) -> list[tuple[Bar, BarShape]]:
    """Place the logits of an example on one axis that holds 0 and all of them."""
    finite = [bar.logit for bar in example.bars if math.isfinite(bar.logit)]
    low, high = min(0.0, *finite, 0.0), max(0.0, *finite, 0.0)
    scale = 100.0 / (high - low) if high > low else 0.0
    zero = -low * scale

    def shape(value: float) -> BarShape:
        if not math.isfinite(value):
            return BarShape(zero, 0.0, zero)
        start, end = sorted((0.0, value))
        return BarShape((start - low) * scale, (end - start) * scale, zero)

    return [(bar, shape(bar.logit)) for bar in example.bars]


def classes_to_show(classes: tuple[ClassFacts, ...]) -> tuple[tuple[ClassFacts, ...], str]:
    """Choose the classes of the table, and a sentence about those left out (empty where none are)."""
    if len(classes) <= CLASSES_SHOWN:
        return classes, ""
    judged = sorted((c for c in classes if c.n_rows > 0), key=lambda c: (c.f1, -c.n_rows))
    worst = judged[:WORST_SHOWN]
    named = {id(c) for c in worst}
    rest = sorted((c for c in classes if id(c) not in named), key=lambda c: -c.n_rows)
    shown = (*worst, *rest[:LARGEST_SHOWN])
    return shown, (
        f"The {len(worst)} classes with the lowest F1, then the {len(shown) - len(worst)} largest of the others; "
        f"{len(classes) - len(shown):,} of {len(classes):,} classes are left out here. "
        "The JSON output of the same facts holds all of them."
    )


def _tally(summary: Summary) -> list[tuple[str, int]]:
    """How many verdicts there are of each level, the worst first."""
    return [(level, sum(v.level == level for v in summary.verdicts)) for level in WORDS]
