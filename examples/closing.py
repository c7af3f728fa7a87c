"""How every example ends: its logits are judged on rows that the network was not trained on, and pictures are drawn.

Half of the held-out rows choose and fit a calibrator; the other half settle what is promised: sets of classes that
hold the truth, and a confidence above which answers are right at a stated rate. The test rows, which nothing was
fitted on, judge all of it. Then ``normexp.report.audit`` looks at the test logits as it would at a stranger's, and
writes the page that ``normexp audit`` writes.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opening import plt  # before the others: it says in a sentence what is missing

from normexp import NormexpWarning
from normexp.calibration import AutoCalibrator
from normexp.decide import ConformalClassifier, SelectiveClassifier
from normexp.metrics import accuracy, coverage, ece, log_loss
from normexp.report import ReliabilityDisplay, RiskCoverageDisplay, audit, render_audit

COVERAGE = 0.9  # what the sets promise
BEFORE, AFTER = "#a3261b", "#2c5d86"
Rows = tuple[NDArray[Any], NDArray[Any]]  # logits (N, K) and true classes (N,)


def judge(
    held_out: Rows,
    test: Rows,
    out: Path,
    *,
    classes: tuple[str, ...],
    source: str,
    risk: float = 0.05,
    picture: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Calibrate, promise, judge; print it and write ``audit.html`` and ``audit.png``.

    Parameters
    ----------
    held_out, test : (logits (N, K), true classes (N,))
        Rows that the network was not trained on: those that may be fitted on, and those that judge.
    out : Path
        Folder.
    classes : tuple of str, length K
        Names.
    source : str
        What the rows are.
    risk : float, default 0.05
        Share of wrong answers that is allowed among the rows that get one.
    picture : bool, default True
        Whether to draw ``audit.png``.
    **more : object
        Passed on to ``normexp.report.audit``, such as ``features``.

    Returns
    -------
    dict
        What was measured on the test rows.
    """
    (z_held, y_held), (z_test, y_test) = held_out, test
    fit, promise = np.array_split(np.random.default_rng(0).permutation(len(y_held)), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NormexpWarning)  # a class without a held-out row: the audit says so
        cure = AutoCalibrator().fit(z_held[fit], y_held[fit])
    settled, cured = cure.transform(z_held[promise]), cure.transform(z_test)
    sets = ConformalClassifier(coverage=COVERAGE).fit(settled, y_held[promise])
    inside = sets.predict_set(cured)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NormexpWarning)  # that no row can be answered is said below
        answered = SelectiveClassifier(risk).fit(settled, y_held[promise]).predict(cured)
    wrong = cured.argmax(axis=1) != y_test
    found = {
        "n_test": len(y_test),
        "n_classes": z_test.shape[1],
        "calibrator": cure.chosen_,
        "accuracy": accuracy(y_test, z_test),
        "accuracy_calibrated": accuracy(y_test, cured),
        "log_loss": log_loss(y_test, z_test),
        "log_loss_calibrated": log_loss(y_test, cured),
        "ece": ece(y_test, z_test),
        "ece_calibrated": ece(y_test, cured),
        "set_coverage": coverage(y_test, inside),
        "set_size": float(inside.sum(axis=1).mean()),
        "risk_allowed": risk,
        "answered": float(answered.mean()),
        "risk_answered": float(wrong[answered].mean()) if answered.any() else None,
    }
    _tell(found, source)
    facts = audit(z_test, y_test, classes=classes, source=source, coverage=COVERAGE, target_risk=risk, **more)
    (out / "audit.html").write_text(render_audit(facts), encoding="utf-8")
    for verdict in (v for v in facts.verdicts if v.level != "green"):
        print(f"  {verdict.level:5} {verdict.title}: {verdict.sentence} {verdict.advice}".rstrip())
    green = [verdict.title.lower() for verdict in facts.verdicts if verdict.level == "green"]
    print(f"  green {'; '.join(green)} (more in audit.html)")
    if picture:
        draw_audit(z_test, cured, y_test, out / "audit.png", risk)
    return found


def _tell(found: dict[str, Any], source: str) -> None:
    """Print what was measured."""
    print(f"\n{source}: {found['n_test']:,} rows that nothing was fitted on")
    print(f"  {'':30} {'accuracy':>9} {'log loss':>9} {'calibration error':>18}")
    cure = (
        "nothing to mend" if found["calibrator"] == "identity" else f"{found['calibrator'].replace('_', ' ')} scaling"
    )
    for name, end in (("as trained", ""), (cure, "_calibrated")):
        numbers = (found[f"accuracy{end}"], found[f"log_loss{end}"], found[f"ece{end}"])
        print(f"  {name:30} {numbers[0]:9.4f} {numbers[1]:9.4f} {numbers[2]:18.4f}")
    print(
        f"  sets that promise {100 * COVERAGE:g} % hold the truth in {100 * found['set_coverage']:.1f} %, "
        f"with {found['set_size']:.2f} of {found['n_classes']} classes on average"
    )
    if found["risk_answered"] is None:
        print(f"  no row can be answered with at most {100 * found['risk_allowed']:g} % wrong")
    else:
        print(
            f"  with at most {100 * found['risk_allowed']:g} % wrong promised, {100 * found['answered']:.1f} % of the "
            f"rows are answered, {100 * found['risk_answered']:.2f} % of them wrongly"
        )


def draw_audit(before: NDArray[Any], after: NDArray[Any], y: NDArray[Any], path: Path, risk: float) -> None:
    """Reliability before and after, beside risk against coverage."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    ReliabilityDisplay.from_logits(y, before, ax=left, name="as trained", color=BEFORE)
    ReliabilityDisplay.from_logits(y, after, ax=left, name="calibrated", color=AFTER)
    RiskCoverageDisplay.from_logits(y, after, ax=right, target_risk=risk, color=AFTER)
    save(figure, path)


def draw_confusion(logits: NDArray[Any], y: NDArray[Any], classes: tuple[str, ...], path: Path) -> None:
    """Share of each true class (rows) that was decided for each class (columns), in percent."""
    k = len(classes)
    count = np.bincount(y * k + logits.argmax(axis=1), minlength=k * k).reshape(k, k)
    share = 100.0 * count / np.maximum(1, count.sum(axis=1, keepdims=True))
    off = np.ma.masked_where(np.eye(k, dtype=bool), share)  # hits would outshine what is to be seen
    figure, axes = plt.subplots(figsize=(2.6 + 0.36 * k, 1.9 + 0.33 * k), layout="constrained")
    axes.imshow(off, cmap="Reds", vmin=0.0, vmax=max(1.0, float(off.max())))
    for i, j in np.ndindex(k, k):
        if i == j or share[i, j] >= 1.0:
            dark = i != j and share[i, j] > 0.6 * off.max()
            ink = "white" if dark else "black"
            weight = "bold" if i == j else "normal"
            axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", fontsize=8, color=ink, weight=weight)
    axes.set_xticks(range(k), classes, rotation=90, fontsize=8)
    axes.set_yticks(range(k), classes, fontsize=8)
    axes.set(xlabel="decided", ylabel="true")
    axes.set_title("% of the true class; below 1 % left out", fontsize=9, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture and forget it."""
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_figures(found: dict[str, Any], out: Path) -> None:
    """Write what was measured as ``figures.json``, and name what lies in the folder."""
    (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nwrote {', '.join(sorted(p.name for p in out.iterdir() if p.is_file()))} in {out}")
