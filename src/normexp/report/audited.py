"""From the logits of a stranger's network and the truth to the facts of an audit. Nothing is drawn here."""

import math
import platform
from dataclasses import replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from normexp._version import __version__
from normexp.base.checks import check_number, check_whole
from normexp.base.errors import InputError
from normexp.decide.door import read_features, read_share
from normexp.decide.shares import read_shares
from normexp.metrics import confusion_pairs, per_class, reliability_curve, wilson
from normexp.metrics.brier import Decomposition, decomposition
from normexp.metrics.door import Rows, decided, log_confidence, nll
from normexp.report.audit_cure import calibrate_out_of_fold, chance_of, describe_cure
from normexp.report.audit_doubt import describe_refusal, describe_sets, describe_top_k, describe_unknown
from normexp.report.audit_facts import Audit, AuditClass
from normexp.report.audit_input import read_audit
from normexp.report.audit_verdicts import judge_audit
from normexp.report.evidence import Evidence
from normexp.report.facts import ClassFacts, ReliabilityBin
from normexp.report.labelled import Labelled
from normexp.report.picks import pick_confusions
from normexp.report.scores import LEVEL, score_all
from normexp.report.summary import MAX_DECOMPOSED

RELIABILITY_BINS = 10


def audit(
    prediction: ArrayLike,
    y: ArrayLike,
    /,
    *,
    features: ArrayLike | None = None,
    classes: tuple[str, ...] = (),
    prior: ArrayLike | None = None,
    kind: str | None = None,
    source: str = "logits",
    coverage: float = 0.9,
    target_risk: float = 0.05,
    false_alarm: float = 0.05,
    anyway: bool = False,
    seed: int = 0,
    n_resamples: int = 200,
) -> Audit:
    """All that plain logits and the true classes tell about a network.

    Parameters
    ----------
    prediction : array-like, shape (N, K)
        Logits, log-probabilities or probabilities of rows that the network was not trained on. Which of them is told
        by their values: rows within 0 and 1 that sum to 1 are probabilities.
    y : array-like of int, shape (N,)
        Class indices, 0 to K - 1.
    features : array-like, shape (N, D), optional
        What the last layer reads; makes the unknown score better.
    classes : tuple of str, length K, optional
        Names of the classes; their numbers by default.
    prior : array-like, shape (K,), optional
        Share of each class where the network was trained, above 0: what the network has to beat. By default the shares
        among these rows, which know the answers: with few rows a class that is more than anybody without features
        could know.
    kind : {"logits", "probabilities"}, optional
        What `prediction` holds, where the values mislead.
    source : str, default "logits"
        What the rows are, to be shown.
    coverage : float, default 0.9
        What conformal sets are to promise; within (0, 1).
    target_risk : float, default 0.05
        Error rate among the answered rows that is to be promised; within (0, 1).
    false_alarm : float, default 0.05
        Share of known rows that the unknown score may flag; within (0, 1).
    anyway : bool, default False
        Go on although classes have no row, or many rows are copies of others.
    seed : int, default 0
        Seed of everything that is drawn; the same seed gives the same audit.
    n_resamples : int, default 200
        Bootstrap resamples for the intervals.

    Returns
    -------
    Audit
        The facts, as plain values. ``render_audit`` and ``audit_json`` take it.

    Raises
    ------
    ShapeError, RangeError, DtypeError, InputError
        If the arguments do not fit together, hold NaN, probabilities do not sum to 1, labels are out of range, rows
        are fewer than 20 or of one class only; and, unless `anyway`, if a class has no row or more than a tenth of
        the rows are copies.

    Notes
    -----
    Whatever is fitted (temperature, calibrator, sets, unknown score) is judged on rows that the fit has not seen.
    The calibration method is chosen by cross-validation on all rows, its parameters are fitted out of fold.

    Time is that of ``AutoCalibrator`` and of one fit for each fold; memory a few arrays of the size of the logits.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import audit
    >>> rng = np.random.default_rng(0)
    >>> right = 2.0 * rng.normal(size=(1000, 3))
    >>> y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    >>> found = audit(2.0 * right, y)  # twice too sure
    >>> found.kind, found.cure.chosen, abs(found.cure.temperature - 2.0) < 0.2
    ('logits', 'temperature', True)
    >>> next(v.title for v in found.verdicts if v.name == "calibration")
    'Not quite calibrated'
    """
    for name, value, example in (
        ("coverage", coverage, "0.9"),
        ("target_risk", target_risk, "0.05"),
        ("false_alarm", false_alarm, "0.05"),
    ):
        read_share(value, of="audit", name=name, example=example)
    n_resamples = check_whole(n_resamples, of="audit", name="n_resamples")
    check_number(n_resamples, of="audit", name="n_resamples", low=20)
    seed = check_whole(seed, of="audit", name="seed", right="a whole number of at least 0")
    check_number(seed, of="audit", name="seed", low=0)
    given = read_audit(prediction, y, features=features, classes=tuple(classes), kind=kind, anyway=anyway)
    x = None if features is None else _features(features, given.logits.shape[0])
    rows = Rows(given.target, given.logits, from_logits=True, weight=np.ones(given.target.size))
    frequency = np.bincount(given.target, minlength=rows.n_classes) / rows.n_rows
    rival = frequency if prior is None else read_shares(prior, rows.n_classes, of="audit")
    scores, shortened = score_all(rows, rival, seed=seed, n_resamples=n_resamples)
    fold = calibrate_out_of_fold(rows)
    sets, of_class, on_sets = describe_sets(fold.rows, given.classes, coverage=coverage, seed=seed)
    unknown, on_unknown = describe_unknown(
        rows, given.classes, x, false_alarm=false_alarm, raw=given.kind == "logits", seed=seed
    )
    decision = decided(rows)
    pairs = confusion_pairs(rows.target, rows.prediction)
    labelled = Labelled(rows.prediction, rows.target, given.classes, frequency, ("",) * rows.n_rows)
    parts, on_parts = _decompose(rows, seed)
    found = Audit(
        source=source,
        kind=given.kind,
        told=given.told,
        n_rows=rows.n_rows,
        n_classes=rows.n_classes,
        scores=scores,
        verdicts=(),
        decomposition=parts,
        calibration_p=chance_of(rows, seed),
        reliability=_reliability(rows),
        cure=describe_cure(rows, fold, _reliability(fold.rows), seed=seed, n_resamples=n_resamples),
        classes=_classes(rows, given.classes, of_class),
        confusions=pick_confusions(labelled, pairs, decision, log_confidence(rows, decision)),
        n_confusions=len(pairs),
        refusal=describe_refusal(rows, given.classes, target_risk=target_risk, seed=seed),
        top_k=describe_top_k(rows),
        sets=sets,
        unknown=unknown,
        n_repeated=given.n_repeated,
        level=LEVEL,
        seed=seed,
        n_resamples=n_resamples,
        versions=(
            ("normexp", __version__),
            ("Python", platform.python_version()),
            ("numpy", np.__version__),
            ("scipy", scipy.__version__),
        ),
        notes=tuple(note for note in (shortened, on_parts, on_sets, on_unknown) if note),
    )
    evidence = Evidence(
        n_rows=found.n_rows,
        scores=scores,
        classes=_as_in_reports(found.classes),
        training=None,
        n_repeated=found.n_repeated,
        calibration_p=found.calibration_p,
    )
    return replace(found, verdicts=judge_audit(found, evidence, fold.leak))


def _features(features: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    """Features that tell rows apart."""
    x = read_features(features, of="audit", n_rows=n_rows)
    if (x == x[0]).all():
        raise InputError(
            "audit: every column of the features is constant; they cannot tell any row from another. Give what the "
            "last layer of the network reads."
        )
    return x


def _reliability(rows: Rows) -> tuple[ReliabilityBin, ...]:
    """Points of the reliability diagram."""
    curve = reliability_curve(rows.target, rows.prediction, n_bins=RELIABILITY_BINS, level=LEVEL)
    return tuple(
        ReliabilityBin(round(float(n)), float(c), float(a), float(low), float(high))
        for n, c, a, low, high in zip(*curve, strict=True)
    )


def _decompose(rows: Rows, seed: int) -> tuple[Decomposition, str]:
    """Take the Brier score apart, on a random subset where there are very many probabilities."""
    affordable = max(1, MAX_DECOMPOSED // rows.n_classes)
    if rows.n_rows <= affordable:
        return decomposition(rows.target, rows.prediction), ""
    some = np.sort(np.random.default_rng([seed, 1]).choice(rows.n_rows, affordable, replace=False))
    note = f"The Brier score was taken apart on {affordable:,} of the {rows.n_rows:,} rows, drawn at random."
    return decomposition(rows.target[some], rows.prediction[some]), note


def _classes(rows: Rows, names: tuple[str, ...], covered: NDArray[np.float64]) -> tuple[AuditClass, ...]:
    """Facts of every class."""
    table = per_class(rows.target, rows.prediction)
    low, high = wilson(np.nan_to_num(table.recall) * table.support, table.support, level=LEVEL)
    variance, loss = np.zeros(rows.n_classes), np.bincount(rows.target, nll(rows), rows.n_classes)
    for _, prob in rows.probability_blocks():
        variance += (prob * (1.0 - prob)).sum(axis=0)
    lean = table.mean_probability - table.frequency
    with np.errstate(invalid="ignore", divide="ignore"):
        sigmas = rows.n_rows * lean / np.sqrt(variance)
        mean_loss = loss / table.support
    return tuple(
        AuditClass(
            name=name,
            n_rows=round(float(table.support[k])),
            n_decided=round(float(table.predicted[k])),
            frequency=float(table.frequency[k]),
            mean_probability=float(table.mean_probability[k]),
            lean=float(lean[k]),
            lean_sigmas=_known(sigmas[k]),
            precision=_known(table.precision[k]),
            recall=_known(table.recall[k]),
            recall_low=_known(low[k]) if table.support[k] else math.nan,
            recall_high=_known(high[k]) if table.support[k] else math.nan,
            f1=_known(table.f1[k]),
            log_loss=_known(mean_loss[k]),
            coverage=_known(covered[k]),
        )
        for k, name in enumerate(names)
    )


def _as_in_reports(classes: tuple[AuditClass, ...]) -> tuple[ClassFacts, ...]:
    """The classes as the verdicts of reports look at them."""
    return tuple(
        ClassFacts(
            name=c.name,
            n_rows=c.n_rows,
            n_decided=c.n_decided,
            n_training=None,
            frequency=c.frequency,
            prior=c.frequency,
            mean_probability=c.mean_probability,
            precision=c.precision,
            recall=c.recall,
            recall_low=c.recall_low,
            recall_high=c.recall_high,
            f1=c.f1,
        )
        for c in classes
    )


def _known(value: Any) -> float:
    """A plain float, and any NaN as the one that equals itself by identity."""
    return math.nan if np.isnan(value) else float(value)
