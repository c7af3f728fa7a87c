"""What a trusted model promised, and what these rows show of it: facts and their verdicts."""

import math

import numpy as np
from numpy.typing import NDArray

from normexp.metrics import coverage as share_covered
from normexp.metrics import ece, wilson
from normexp.metrics.door import Rows
from normexp.ops import cross_entropy
from normexp.report.evidence import decimal, percent
from normexp.report.facts import TrustFacts, Verdict
from normexp.report.labelled import TrustEvidence

# Standard errors by which a log loss must rise before calibration is blamed: one run in a thousand by chance.
BLAMED = 3.0
# Shares are held against a promise only where their interval of this level lies wholly on the wrong side.
LEVEL = 0.99


def trust_facts(rows: Rows, trust: TrustEvidence, /) -> TrustFacts:
    """Gather the facts.

    Parameters
    ----------
    rows : Rows
        Logits after calibration, with the true classes.
    trust : TrustEvidence
        The rest.

    Returns
    -------
    TrustFacts
        Plain values; NaN where something cannot be told.
    """
    n, k = rows.n_rows, rows.n_classes
    before = np.asarray(cross_entropy(trust.base_logits, rows.target, reduction="none"), dtype=np.float64)
    after = np.asarray(cross_entropy(rows.prediction, rows.target, reduction="none"), dtype=np.float64)
    with np.errstate(invalid="ignore"):  # a class that the base calls impossible costs infinitely much
        change = after - before
    sizes = trust.sets.sum(axis=1)
    covered = share_covered(rows.target, trust.sets)
    covered_ends = _interval(covered, n)
    unknown = float(trust.unknown.mean())
    unknown_ends = _interval(unknown, n)
    probable = rows.prediction.argmax(axis=1)
    right = probable == rows.target
    answered = ~trust.refused
    cost = trust.cost
    return TrustFacts(
        promises=trust.promises,
        loss_before=float(before.mean()),
        loss_after=float(after.mean()),
        loss_change=float(change.mean()),
        loss_error=float(change.std(ddof=1) / math.sqrt(n)) if n > 1 and np.isfinite(change).all() else math.nan,
        ece_before=ece(rows.target, trust.base_logits),
        ece_after=ece(rows.target, rows.prediction),
        coverage_asked=trust.coverage,
        coverage=covered,
        coverage_low=covered_ends[0],
        coverage_high=covered_ends[1],
        mean_set_size=float(sizes.mean()),
        share_single=float((sizes == 1).mean()),
        share_all=float((sizes == k).mean()),
        reject_asked=trust.reject,
        unknown=unknown,
        unknown_low=unknown_ends[0],
        unknown_high=unknown_ends[1],
        refused=float(trust.refused.mean()),
        accuracy=float(right.mean()),
        accuracy_answered=float((trust.decided == rows.target)[answered].mean()) if answered.any() else math.nan,
        rule=trust.rule,
        balanced_accuracy=_balanced(rows.target, probable, k),
        balanced_accuracy_decided=_balanced(rows.target, trust.decided, k),
        cost_probable=math.nan if cost is None else float(cost[rows.target, probable].mean()),
        cost_decided=math.nan if cost is None else float(cost[rows.target, trust.decided].mean()),
    )


def judge_trust(f: TrustFacts, /) -> list[Verdict]:
    """One verdict for calibration, sets, refusals and, where they are moved, decisions."""
    verdicts = [_judge_calibration(f), _judge_sets(f), _judge_refusals(f)]
    return [verdict for verdict in [*verdicts, _judge_decisions(f)] if verdict is not None]


def _judge_calibration(f: TrustFacts) -> Verdict:
    seen = f"Log loss {decimal(f.loss_before)} as the base gives it, {decimal(f.loss_after)} after calibration."
    if not math.isnan(f.loss_error) and f.loss_change > BLAMED * f.loss_error and f.loss_change > 0:
        return Verdict(
            "recalibration",
            "Calibration does not carry over",
            "amber",
            f"{seen} Here it is worse than none.",
            "These rows differ from those it was learned on; calibrate anew on rows like these.",
        )
    helped = not math.isnan(f.loss_error) and f.loss_change < -BLAMED * f.loss_error
    title = "Calibration helps" if helped else "Calibration does no harm"
    return Verdict("recalibration", title, "green", seen, "")


def _judge_sets(f: TrustFacts) -> Verdict:
    seen = (
        f"The sets hold the truth in {percent(f.coverage)} of the rows ({percent(f.coverage_low)} to "
        f"{percent(f.coverage_high)}), and {percent(f.coverage_asked)} were promised; they have {f.mean_set_size:.2f} "
        f"classes on average."
    )
    if f.coverage_high < f.coverage_asked:
        return Verdict(
            "sets",
            "Sets hold the truth too rarely",
            "red",
            seen,
            "Rows like these were not among those that the promise was made on; fit again with some of them.",
        )
    return Verdict("sets", "Sets keep their promise", "green", seen, "")


def _judge_refusals(f: TrustFacts) -> Verdict | None:
    if not f.reject_asked:
        return None
    seen = (
        f"{percent(f.unknown)} of these rows of known classes are called unknown ({percent(f.unknown_low)} to "
        f"{percent(f.unknown_high)}), and {percent(f.reject_asked)} were allowed."
    )
    if f.unknown_low > f.reject_asked:
        return Verdict(
            "unknown",
            "Too many rows look unknown",
            "amber",
            seen,
            "These rows lie elsewhere than those of training: see which, and whether units or sources have changed.",
        )
    return Verdict("unknown", "Few known rows are refused", "green", seen, "")


def _judge_decisions(f: TrustFacts) -> Verdict | None:
    if not math.isnan(f.cost_decided):
        seen = f"It is decided {f.rule}: {f.cost_decided:.4g} a row, and {f.cost_probable:.4g} for the likeliest class."
        worse = f.cost_decided > f.cost_probable
    elif f.rule:
        seen = (
            f"It is decided {f.rule}: balanced accuracy {percent(f.balanced_accuracy_decided)}, and "
            f"{percent(f.balanced_accuracy)} for the likeliest class."
        )
        worse = f.balanced_accuracy_decided < f.balanced_accuracy
    else:
        return None
    if worse:
        return Verdict(
            "decisions", "Moved decisions do not pay here", "amber", seen, "Check the costs, shares or thresholds."
        )
    return Verdict("decisions", "Moved decisions pay", "green", seen, "")


def _interval(share: float, n_rows: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    low, high = wilson(share * n_rows, n_rows, level=LEVEL)
    return float(low), float(high)


def _balanced(target: NDArray[np.intp], decided: NDArray[np.intp], n_classes: int) -> float:
    """Mean recall of the classes that are there."""
    count = np.bincount(target, minlength=n_classes)
    hits = np.bincount(target[decided == target], minlength=n_classes)
    return float((hits[count > 0] / count[count > 0]).mean())
