"""A report on a fitted classifier: its facts (:mod:`~normexp.report.summary`) apart from their look.

:func:`summarise` gathers facts as frozen dataclasses; :func:`as_json` writes them for machines and :func:`render_html`
for people, as one HTML file that needs no network. What is shown is decided in the template and its style sheet; what
is true is decided in ``summary``, ``scores``, ``verdicts`` (with the risks they judge) and ``picks``. Whoever adds a
section adds facts first, then a test of them, then the section.

:func:`audit` does the same for a stranger's logits, with :func:`audit_json` and :func:`render_audit`. The
displays draw single pictures the way those of scikit-learn do; matplotlib is loaded when something is drawn.
"""

from normexp.report.audit_facts import Audit
from normexp.report.audit_plain import audit_json
from normexp.report.audit_render import render_audit
from normexp.report.audited import audit
from normexp.report.coverage_displays import RiskCoverageDisplay, SetCoverageDisplay
from normexp.report.facts import Score, Summary, Verdict
from normexp.report.plain import as_json
from normexp.report.reliability_display import ReliabilityDisplay
from normexp.report.render import render_html
from normexp.report.summary import summarise

__all__ = [
    "Audit",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "Score",
    "SetCoverageDisplay",
    "Summary",
    "Verdict",
    "as_json",
    "audit",
    "audit_json",
    "render_audit",
    "render_html",
    "summarise",
]
