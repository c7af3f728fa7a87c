"""Risks that lie in the model: useless, miscalibrated, unfinished, blind to small classes.

Every threshold is named with its reason, so that it can be argued with.
"""

from math import isfinite, isnan

from normexp.report.evidence import Evidence, decimal, name_classes, percent
from normexp.report.facts import Verdict

# Calibration: with a gap of 0.02 a stated 90 % means 88 to 92 %, which changes hardly any decision; with 0.10 a stated
# 90 % may mean 80 %, twice the errors that were promised.
SMALL_GAP, LARGE_GAP = 0.02, 0.10
# A gap that a calibrated model shows in more than one of a hundred tables of this size is not held against it.
CALIBRATION_CHANCE = 0.01
# Accuracy above balanced accuracy: 0.05 is common among honest models on uneven classes; 0.20 means that the large
# classes carry the accuracy and the small ones are lost.
UNEVEN, VERY_UNEVEN = 0.05, 0.20
# A class of which less than one row in five is found is as good as not modelled; 5 rows are the fewest on which
# "none found" is unlikely (below 3 %) for a recall of one half.
LOST_RECALL, ROWS_TO_CALL_LOST = 0.2, 5
# On real problems hardly anything is never wrong in 200 rows; a column that holds the answer is the usual cause.
ROWS_TO_DOUBT_PERFECTION = 200


def judge_usefulness(e: Evidence) -> Verdict:
    """Judge whether the model is better than predicting the training frequencies."""
    loss, accuracy = e.score("log_loss"), e.score("accuracy")
    seen = (
        f"Log loss {decimal(loss.value)} against {decimal(loss.prior)} of predicting the class frequencies for every "
        f"row; accuracy {percent(accuracy.value)} against {percent(accuracy.prior)}."
    )
    title = "Better than the prior"
    if not loss.gain > 0:
        return Verdict(
            "prior",
            "No better than the prior",
            "red",
            seen,
            "Do not use these probabilities. Look for features that say something about the target, check that rows "
            "and labels belong together, and if accuracy is fine, calibrate: a few certain errors ruin the log loss.",
        )
    if isnan(loss.gain_low):
        return Verdict("prior", title, "amber", f"{seen} Too few rows to be sure of it.", "Judge it on more rows.")
    if loss.gain_low <= 0 < accuracy.gain_low:
        return Verdict(
            "prior",
            "Decisions better than the prior, probabilities perhaps not",
            "amber",
            f"{seen} The gain in log loss could be chance: its interval reaches below 0.",
            "Calibrate before the probabilities are used: a few certain errors ruin the log loss of good decisions.",
        )
    if loss.gain_low <= 0:
        return Verdict(
            "prior",
            "Perhaps no better than the prior",
            "amber",
            f"{seen} The gain could be chance: its interval reaches below 0.",
            "Judge it on more rows, or find better features.",
        )
    if accuracy.gain_low <= 0:
        return Verdict(
            "prior",
            "Decides no better than the prior",
            "amber",
            f"{seen} The probabilities carry information, but the decisions are hardly better than always naming the "
            "commonest class.",
            "Use the probabilities to rank rows, or decide with costs instead of by the likeliest class.",
        )
    return Verdict("prior", title, "green", seen, "")


def judge_calibration(e: Evidence) -> Verdict:
    """Judge whether the probabilities mean what they say."""
    gap, lean = e.score("ece"), e.score("overconfidence")
    if isnan(gap.low):
        return Verdict(
            "calibration",
            "Calibration unknown",
            "amber",
            f"{e.n_rows} rows are too few to tell whether the probabilities mean what they say.",
            "Judge it on some hundred rows before probabilities are acted on.",
        )
    right = e.score("accuracy").value
    claim = f"on average it claims {percent(right + lean.value)} and is right on {percent(right)}"
    reach = f"between {percent(gap.low)} and {percent(gap.high)}"
    if e.calibration_p > CALIBRATION_CHANCE:
        direction = "A perfectly calibrated model shows as much on so few rows."
    elif lean.low > 0:
        direction = f"It is over-confident: {claim}."
    elif lean.high < 0:
        direction = f"It is under-confident: {claim}."
    else:
        direction = "It leans neither way on the whole."
    seen = f"Confidence and accuracy typically differ by {percent(gap.value)} ({reach})."
    if gap.value == 0.0:
        seen = (
            f"The gap between confidence and accuracy is not distinguishable from 0 with {e.n_rows:,} rows ({reach})."
        )
    chance = e.calibration_p > CALIBRATION_CHANCE
    if gap.low > LARGE_GAP and not chance:
        return Verdict(
            "calibration",
            "Badly calibrated",
            "red",
            f"{seen} {direction}",
            "Do not take the probabilities at their word. Fit a temperature on rows that training has not seen.",
        )
    if gap.value > SMALL_GAP and not chance:
        return Verdict(
            "calibration",
            "Not quite calibrated",
            "amber",
            f"{seen} {direction}",
            "Fit a temperature on rows that training has not seen before thresholds or costs are set.",
        )
    if max(gap.high, gap.value) > LARGE_GAP:
        return Verdict(
            "calibration",
            "Calibration uncertain",
            "amber",
            f"No miscalibration can be shown, but {e.n_rows} rows could hide a gap up to {percent(gap.high)}.",
            "Judge it on more rows before thresholds or costs are set.",
        )
    return Verdict("calibration", "Calibrated, as far as can be told", "green", f"{seen} {direction}", "")


def judge_convergence(e: Evidence) -> Verdict | None:
    """Judge whether the fit ended at its optimum."""
    if e.training is None:
        return None
    bound = e.training.suboptimality
    within = f" The objective is within {bound:.1e} of its minimum." if bound is not None and isfinite(bound) else ""
    seen = f"{e.training.outcome.rstrip('. ')}.{within}"
    if e.training.converged:
        return Verdict("convergence", "Fit converged", "green", seen, "")
    return Verdict(
        "convergence",
        "Fit not finished",
        "amber",
        seen,
        "Raise max_iter and fit again; until then another run may give other probabilities.",
    )


def judge_balance(e: Evidence) -> Verdict:
    """Judge whether the large classes carry the accuracy."""
    accuracy, balanced = e.score("accuracy").value, e.score("balanced_accuracy").value
    present = [c for c in e.classes if c.n_rows > 0]
    largest, smallest = max(present, key=lambda c: c.n_rows), min(present, key=lambda c: c.n_rows)
    seen = (
        f"Accuracy is {percent(accuracy)}, and {percent(balanced)} where every class counts alike. "
        f"The largest class has {largest.n_rows:,} rows and the smallest {smallest.n_rows:,}."
    )
    gap = accuracy - balanced
    advice = (
        "Judge by balanced accuracy and the table of classes. If rare classes matter, move the decision (costs, "
        "another prior) rather than weight the rows, which would distort the probabilities."
    )
    if gap > VERY_UNEVEN:
        return Verdict("balance", "Small classes lose", "red", seen, advice)
    if gap > UNEVEN:
        return Verdict("balance", "Small classes do worse", "amber", seen, advice)
    return Verdict("balance", "Classes served alike", "green", seen, "")


def judge_lost_classes(e: Evidence) -> Verdict:
    """Judge whether there is a class that the model hardly ever finds."""
    judged = [c for c in e.classes if c.n_rows >= ROWS_TO_CALL_LOST]
    lost = sorted((c for c in judged if c.recall < LOST_RECALL), key=lambda c: (c.recall, -c.n_rows))
    if lost:
        return Verdict(
            "lost_classes",
            "Classes that are not found",
            "red",
            f"{len(lost)} of {len(e.classes)} classes are found in less than {percent(LOST_RECALL, 0)} of their rows: "
            f"{name_classes([c.name for c in lost])}.",
            "See with which classes they are confused; give them more training rows, merge them, or lower the bar for "
            "deciding for them.",
        )
    if not judged:
        return Verdict(
            "lost_classes",
            "Recall unknown",
            "amber",
            f"No class has {ROWS_TO_CALL_LOST} rows here, so none can be judged by itself.",
            "Judge it on more rows of each class.",
        )
    worst = min(judged, key=lambda c: (c.recall, -c.n_rows))
    return Verdict(
        "lost_classes",
        "Every class is found",
        "green",
        f"The worst class with at least {ROWS_TO_CALL_LOST} rows is “{worst.name}”: {percent(worst.recall, 0)} of its "
        f"{worst.n_rows:,} rows are found.",
        "",
    )


def judge_perfection(e: Evidence) -> Verdict | None:
    """Judge whether it is too good to be true."""
    if e.n_rows < ROWS_TO_DOUBT_PERFECTION or e.score("accuracy").value < 1.0 or len(e.classes) < 2:
        return None
    return Verdict(
        "perfection",
        "Too good to be true?",
        "amber",
        f"Not one of {e.n_rows:,} rows is decided wrongly.",
        "Make sure that no column gives the answer away and that these rows were not trained on.",
    )
