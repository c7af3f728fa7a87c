"""An audit as a page: the template of its own, in the style sheet and with the figures of the report."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from normexp.report.audit_facts import Audit, AuditClass, CureScore
from normexp.report.audit_verdicts import NAMES
from normexp.report.figures import reliability_figure, selective_figure
from normexp.report.page import (
    MINUS,
    SIGNS,
    THIN,
    WORDS,
    breakable,
    count,
    number,
    percent,
    reach_of,
    value_of,
)

CLASSES_SHOWN = 30  # a table of classes that is longer shows the worst
SHARES = {"ece", "accuracy"}
SET_NAMES = {"lac": "least ambiguous (lac)", "aps": "adaptive (aps)", "raps": "regularised adaptive (raps)"}
SCORE_NAMES = {
    "auto": "entropy + Mahalanobis (auto)",
    "mahalanobis": "relative Mahalanobis distance",
    "gen": "generalised entropy (gen)",
    "msp": "largest probability (msp)",
    "energy": "energy",
}


def make_audit_page(audit: Audit) -> str:
    """Fill the template."""
    environment = Environment(
        loader=PackageLoader("normexp.report", "templates"),
        autoescape=True,  # class names and file names come from strangers
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, count=count, breakable=breakable)
    shown, heading = classes_to_show(audit.classes)
    cured = audit.cure.chosen != "identity"
    return environment.get_template("audit.html.j2").render(
        s=audit,
        style=Markup(environment.get_template("report.css").render()),  # noqa: S704  (our own file)
        words=WORDS,
        signs=SIGNS,
        tally=[(level, sum(v.level == level for v in audit.verdicts)) for level in WORDS],
        value_of=value_of,
        reach_of=reach_of,
        cure_value=cure_value,
        cure_gain=cure_gain,
        method_name=lambda name: NAMES.get(name, name),
        set_name=lambda name: SET_NAMES.get(name, name),
        score_name=lambda name: SCORE_NAMES.get(name, name),
        classes=shown,
        classes_heading=heading,
        reliability=_renamed(reliability_figure(audit.reliability), "before"),
        cured_reliability=_renamed(reliability_figure(audit.cure.reliability), "after") if cured else "",
        selective=_renamed(selective_figure(audit.refusal.points), "s") if len(audit.refusal.points) > 1 else "",
    )


def cure_value(score: CureScore, value: float) -> str:
    """Write a score of the cure."""
    return percent(value) if score.name in SHARES else number(value, 4)


def cure_gain(score: CureScore, value: float) -> str:
    """Write a gain with its sign; in points where the score is a share."""
    write: Callable[[float], str] = (
        (lambda v: f"{number(100 * v, 1)}{THIN}pts") if score.name in SHARES else lambda v: number(v, 4)
    )
    text = write(value)
    return text if text.startswith(MINUS) or value <= 0 else f"+{text}"


def classes_to_show(classes: tuple[AuditClass, ...]) -> tuple[tuple[AuditClass, ...], str]:
    """Sort the classes from the worst on, and cut a long table; with a sentence about what is left out."""
    ordered = tuple(sorted(classes, key=lambda c: (c.n_rows == 0, -c.log_loss if c.n_rows else 0.0)))
    if len(classes) <= CLASSES_SHOWN:
        return ordered, "The worst first, by log loss."
    return ordered[:CLASSES_SHOWN], (
        f"The {CLASSES_SHOWN} worst of {len(classes):,} classes, by log loss. The JSON output holds all of them."
    )


def _renamed(svg: str, name: str) -> Markup:
    """Give the identifiers of a figure a prefix of its own, since two of a kind share the page."""
    for attribute in ('id="', "url(#", 'href="#'):
        svg = svg.replace(attribute, f"{attribute}{name}-")
    return Markup(svg)  # noqa: S704  (drawn from numbers alone)
