"""One verdict for each risk of a stranger's network: what was seen, how bad it is, what to do.

Those that a report has too are judged as there; every further threshold is named with its reason.
"""

from math import isfinite, isnan, sqrt
from typing import Final

from scipy.stats import norm

from normexp.report.audit_facts import Audit, Cure
from normexp.report.evidence import Evidence, decimal, name_classes, percent
from normexp.report.facts import Level, Verdict
from normexp.report.risks_of_model import (
    CALIBRATION_CHANCE,
    judge_balance,
    judge_calibration,
    judge_lost_classes,
    judge_perfection,
    judge_usefulness,
)
from normexp.report.risks_of_rows import judge_class_rows, judge_repeats, judge_rows
from normexp.report.verdicts import ORDER

# A gain below a thousandth of a nat changes no probability by more than a few percent of itself.
WORTH: Final = 0.001
# Chance that some class among all looks over- or under-rated though none is (Bonferroni over the classes).
LEAN_CHANCE: Final = 0.01
# A lean of a tenth of the class's own frequency is what a person would notice.
LEAN_SHARE: Final = 0.1
# With a class covered in fewer than this share of the promise, its sets should not be trusted.
CLASS_SHORTFALL: Final = 0.15
# An unknown score that ranks errors no better than this tells little more than chance.
WEAK_AUROC: Final = 0.6
NAMES: Final = {
    "identity": "leave it as it is",
    "temperature": "one temperature",
    "ensemble_temperature": "a mixture of temperatures",
    "vector": "vector scaling",
    "matrix": "structured matrix scaling",
    "beta": "beta scaling",
    "quadratic": "quadratic scaling",
    "isotonic": "isotonic scaling",
}


def cure_name(cure: Cure) -> str:
    """The method that is judged; of a mixture the largest part, and how many there are beside it."""
    if len(cure.shares) == 1:
        (name,) = cure.shares
        return NAMES.get(name, name)
    name, share = max(cure.shares.items(), key=lambda part: part[1])
    others = len(cure.shares) - 1
    rest = "another method" if others == 1 else f"{others} other methods"
    return f"a mean of {NAMES.get(name, name)} ({percent(share, 0)}) and {rest}"


def judge_audit(audit: Audit, evidence: Evidence, leak: str) -> tuple[Verdict, ...]:
    """All verdicts, the worst first."""
    verdicts = [
        judge_usefulness(evidence),
        _calibration(audit, evidence),
        _cure(audit),
        _leak(leak),
        _leans(audit),
        _refusal(audit),
        _sets(audit),
        _unknown(audit),
        judge_balance(evidence),
        judge_lost_classes(evidence),
        judge_rows(evidence),
        judge_class_rows(evidence),
        judge_repeats(evidence),
        judge_perfection(evidence),
    ]
    return tuple(sorted((v for v in verdicts if v is not None), key=lambda verdict: ORDER.index(verdict.level)))


def _calibration(audit: Audit, evidence: Evidence) -> Verdict:
    """The report's verdict, with the test's answer and the temperature instead of the advice to find one."""
    found = judge_calibration(evidence)
    p = audit.calibration_p
    test = (
        f"A calibrated network would show such gaps in {'less than ' if p <= 0.005 else ''}"
        f"{percent(max(p, 0.005))} of the cases."
        if p <= CALIBRATION_CHANCE
        else f"A calibrated network would show such gaps in {percent(p, 0)} of the cases."
    )
    advice = found.advice
    if found.level != "green" and p <= CALIBRATION_CHANCE:
        advice = f"Divide the logits by {audit.cure.temperature:.3g}, or better, see the cure below."
    return Verdict(found.name, found.title, found.level, f"{found.sentence} {test}", advice)


def _cure(audit: Audit) -> Verdict:
    """What calibration would win."""
    cure = audit.cure
    loss = cure.score("log_loss")
    change = (
        f"changes the log loss by {_signed(-cure.temperature_gain)}"
        if isfinite(cure.temperature_gain)
        else "makes the infinite log loss finite"
    )
    single = (
        f"The temperature {cure.temperature:.3g} ({cure.temperature_low:.3g} to {cure.temperature_high:.3g} over "
        f"{cure.n_folds} folds) {change} out of fold"
    )
    if cure.chosen == "identity":
        return Verdict(
            "cure",
            "No cure needed",
            "green",
            f"{single}; no method is better than the logits as they are beyond doubt.",
            "",
        )
    what = cure_name(cure)
    infinite = isfinite(loss.after) and not isfinite(loss.before)
    seen = (
        f"{single}. Cross-validation prefers {what}: log loss {decimal(loss.before)} becomes {decimal(loss.after)}"
        f"{'' if infinite else f' (a gain of {loss.gain:.4f}, between {loss.gain_low:.4f} and {loss.gain_high:.4f})'}, "
        f"calibration error {percent(cure.score('ece').before)} becomes {percent(cure.score('ece').after)}."
    )
    level: Level = "amber" if infinite or loss.gain_low > WORTH else "green"
    advice = (
        ""
        if level == "green"
        else "Fit normexp.calibration.AutoCalibrator on rows like these, and save it beside the network."
    )
    return Verdict("cure", "A cure is known", level, seen, advice)


def _leak(leak: str) -> Verdict | None:
    """Rows that the network was trained on."""
    if not leak:
        return None
    seen = leak.split(": ", 1)[-1]
    return Verdict(
        "leak",
        "Rows from training?",
        "red",
        f"{seen[0].upper()}{seen[1:].split('. ')[0]}.",
        "Audit on rows that the network has never seen; nothing on this page holds for others.",
    )


def _leans(audit: Audit) -> Verdict:
    """Classes that come more often, or less often, than the network says."""
    judged = [c for c in audit.classes if not isnan(c.lean_sigmas)]
    limit = float(norm.isf(LEAN_CHANCE / (2 * max(1, len(judged)))))
    leaning = sorted(
        (c for c in judged if abs(c.lean_sigmas) > limit and abs(c.lean) > LEAN_SHARE * c.frequency),
        key=lambda c: -abs(c.lean_sigmas),
    )
    if not leaning:
        return Verdict(
            "leans",
            "No class over- or under-rated",
            "green",
            "The mean probability of each class agrees with how often it comes, as far as chance allows.",
            "",
        )
    over = [c.name for c in leaning if c.lean > 0]
    under = [c.name for c in leaning if c.lean < 0]
    parts = [
        f"over-rated: {name_classes(over)}" if over else "",
        f"under-rated: {name_classes(under)}" if under else "",
    ]
    worst = leaning[0]
    return Verdict(
        "leans",
        "Classes over- or under-rated",
        "amber",
        f"{len(leaning)} of {audit.n_classes} classes; {'; '.join(part for part in parts if part)}. “{worst.name}” "
        f"gets {percent(worst.mean_probability)} on average and comes in {percent(worst.frequency)} of the rows.",
        "A temperature cannot mend that; vector or matrix scaling can, or a prior shift where only the frequencies "
        "moved.",
    )


def _refusal(audit: Audit) -> Verdict:
    """Which rows to refuse for the target risk."""
    r = audit.refusal
    promise = f"with confidence {percent(r.confidence, 0)}"
    if not isfinite(r.threshold):
        return Verdict(
            "refusal",
            "No rows can be promised",
            "amber",
            f"An error rate of {percent(r.target_risk)} cannot be promised {promise} for any share of the rows; all "
            f"together are wrong in {percent(r.error)}.",
            "Ask for less (--target-risk), give more rows, or find a better network.",
        )
    title = "Nearly all rows can be answered" if r.coverage >= 0.95 else "Refuse the least sure rows"
    return Verdict(
        "refusal",
        title,
        "green" if r.coverage >= 0.5 else "amber",
        f"Answer where the stated confidence is at least {percent(r.threshold, 2)}: that is {percent(r.coverage)} of "
        f"the rows, {percent(r.risk, 2)} of them wrong here and at most {percent(r.target_risk)} of new ones "
        f"{promise}. All together are wrong in {percent(r.error)}.",
        "" if r.coverage >= 0.5 else "Give the other rows to a person.",
    )


def _sets(audit: Audit) -> Verdict:
    """What sets promise and hold."""
    best = audit.sets[0]
    top = audit.top_k[-1] if audit.top_k else None
    tops = f"The {top.k} likeliest classes hold the truth in {percent(top.coverage)}. " if top and top.k > 1 else ""
    seen = (
        f"{tops}Conformal sets that promise {percent(best.wanted, 0)} hold it in {percent(best.coverage)} (between "
        f"{percent(best.low)} and {percent(best.high)}) with {best.mean_size:.2f} classes on average."
    )
    expected = best.wanted - 2.5 * sqrt(2.0 * best.wanted * (1.0 - best.wanted) / audit.n_rows)
    if best.coverage < expected:
        return Verdict(
            "sets",
            "Sets hold less than they promise",
            "red",
            seen,
            "The rows are not exchangeable (sorted, repeated, or from several sources); audit each source by itself.",
        )
    if best.worst_class and best.worst_coverage < best.wanted - CLASS_SHORTFALL:
        return Verdict(
            "sets",
            "Some classes are covered less",
            "amber",
            f"{seen} Of class “{best.worst_class}” only {percent(best.worst_coverage, 0)} are covered.",
            'Use groups="class" or "cluster" of ConformalClassifier where every class counts.',
        )
    return Verdict("sets", "Sets hold what they promise", "green", seen, "")


def _unknown(audit: Audit) -> Verdict | None:
    """Whether doubt knows the errors."""
    best = audit.unknown.scores[0]
    if isnan(best.auroc_of_errors):
        return None
    seen = (
        f"The unknown score ({best.name}) ranks an error above a hit in {percent(best.auroc_of_errors, 0)} of the "
        f"pairs and flags {percent(best.flagged)} of these rows, {percent(audit.unknown.false_alarm)} being allowed."
    )
    if best.auroc_of_errors < WEAK_AUROC:
        return Verdict(
            "unknown",
            "Doubt tells little",
            "amber",
            seen,
            "Do not rely on a refusal by confidence; give the features of the last layer (--features).",
        )
    return Verdict("unknown", "Doubt knows the errors", "green", seen, "")


def _signed(value: float) -> str:
    """A number with its sign."""
    return f"{value:+.4f}".replace("-", "\u2212")
