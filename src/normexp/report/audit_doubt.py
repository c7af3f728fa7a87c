"""Which rows to refuse, which sets to give instead of a class, and which rows look like none of the classes."""

import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError, NormexpWarning
from normexp.decide import ConformalClassifier, OpenSetDetector, SelectiveClassifier
from normexp.decide.feature_scores import telling_columns
from normexp.metrics import aurc, auroc, interval, risk_coverage_curve, wilson
from normexp.metrics.accuracy import top_k_form
from normexp.metrics.door import Rows, decided, log_confidence
from normexp.report.audit_facts import DoubtfulRow, Refusal, SetFacts, TopK, Unknown, UnknownScore
from normexp.report.picks import pick_points
from normexp.report.scores import LEVEL

CONFIDENCE: Final = 0.95  # of the promise that goes with the refusal
ROWS_SHOWN: Final = 10
KS: Final = (1, 2, 3, 5, 10, 20)
ROWS_TO_JUDGE: Final = 10  # of a class, before its coverage is called the worst
MAX_SET_ELEMENTS: Final = 20_000_000  # numbers that the sets are judged on: three passes of 160 MB
MAX_FEATURE_ROWS: Final = 50_000  # rows that the unknown score is judged on
AURC_RESAMPLES: Final = 100


def describe_refusal(rows: Rows, classes: tuple[str, ...], *, target_risk: float, seed: int) -> Refusal:
    """Find the threshold for the target risk, the curve, and the least sure rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NormexpWarning)  # that nothing can be promised is a verdict
        chosen = SelectiveClassifier(target_risk, CONFIDENCE).fit(rows.prediction, rows.target)
    decision = decided(rows)
    level = log_confidence(rows, decision)
    error = float((decision != rows.target).mean())
    area = interval(
        aurc, rows.target, rows.prediction, n_resamples=AURC_RESAMPLES, rng=np.random.default_rng([seed, 3])
    )
    order = np.argsort(level, kind="stable")[:ROWS_SHOWN]
    return Refusal(
        target_risk=target_risk,
        confidence=CONFIDENCE,
        threshold=float(np.exp(chosen.threshold_)),
        coverage=float(chosen.coverage_),
        risk=float(chosen.risk_),
        risk_bound=float(chosen.risk_bound_),
        n_refused=round((1.0 - chosen.coverage_) * rows.n_rows),
        error=error,
        aurc=area.value,
        aurc_low=area.low,
        aurc_high=area.high,
        aurc_least=_least_area(error),
        points=pick_points(risk_coverage_curve(rows.target, rows.prediction)),
        least_sure=_doubtful(order, np.exp(level), decision, rows.target, classes),
    )


def describe_top_k(rows: Rows) -> tuple[TopK, ...]:
    """Coverage of the k likeliest classes."""
    found = []
    for k in (k for k in KS if k < rows.n_classes):
        share = top_k_form(rows, k=k).value(rows.weight)
        low, high = wilson(share * rows.n_rows, rows.n_rows, level=LEVEL)
        found.append(TopK(k, share, float(low), float(high)))
    return tuple(found)


def describe_sets(
    rows: Rows, classes: tuple[str, ...], *, coverage: float, seed: int
) -> tuple[tuple[SetFacts, ...], NDArray[np.float64], str]:
    """Sets of the three kinds, the coverage of each class by the smallest ones (K,), and a note on rows left out."""
    affordable = max(ROWS_TO_JUDGE, MAX_SET_ELEMENTS // rows.n_classes)
    rng = np.random.default_rng([seed, 4])
    order = rng.permutation(rows.n_rows)[:affordable]
    note = (
        f"The sets were judged on {order.size:,} of the {rows.n_rows:,} rows, drawn at random."
        if order.size < rows.n_rows
        else ""
    )
    halves = order[::2], order[1::2]
    found = []
    of_class = np.full(rows.n_classes, np.nan)
    for kind in ("lac", "aps", "raps"):
        covered, size = np.zeros(rows.n_rows, dtype=bool), np.zeros(rows.n_rows, dtype=np.intp)
        for fit, judge in (halves, halves[::-1]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NormexpWarning)  # too few rows for the promise shows in the sizes
                model = ConformalClassifier(kind, coverage).fit(rows.prediction[fit], rows.target[fit])
            inside = model.predict_set(rows.prediction[judge])
            covered[judge] = inside[np.arange(judge.size), rows.target[judge]]
            size[judge] = inside.sum(axis=1)
        there = np.bincount(rows.target[order], minlength=rows.n_classes)
        hit = np.bincount(rows.target[order], covered[order], minlength=rows.n_classes)
        share = np.divide(hit, there, out=np.full(rows.n_classes, np.nan), where=there > 0)
        if kind == "lac":
            of_class = share
        judged = np.flatnonzero(there >= ROWS_TO_JUDGE)
        worst = int(judged[share[judged].argmin()]) if judged.size else -1
        total = int(covered[order].sum())
        low, high = wilson(total, order.size, level=LEVEL)
        found.append(
            SetFacts(
                kind,
                coverage,
                total / order.size,
                float(low),
                float(high),
                float(size[order].mean()),
                float((size[order] == 1).mean()),
                classes[worst] if worst >= 0 else "",
                float(share[worst]) if worst >= 0 else float("nan"),
            )
        )
    return tuple(found), of_class, note


def describe_unknown(
    rows: Rows,
    classes: tuple[str, ...],
    features: NDArray[Any] | None,
    *,
    false_alarm: float,
    raw: bool,
    seed: int,
) -> tuple[Unknown, str]:
    """How well unknown scores tell errors, what share of known rows they flag, and the strangest rows."""
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(rows.n_rows)[:MAX_FEATURE_ROWS]
    note = (
        f"The unknown scores were judged on {order.size:,} of the {rows.n_rows:,} rows, drawn at random."
        if order.size < rows.n_rows
        else ""
    )
    halves = order[::2], order[1::2]
    if features is not None:
        told = telling_columns(features[halves[0]]) & telling_columns(features[halves[1]])
        if not told.any():
            raise InputError(
                "audit: every column of the features is constant but for a few rows, so that there are parts of the "
                f"{rows.n_rows:,} rows that see one value only; they cannot tell any row from another. Give what the "
                "last layer of the network reads, or leave the features out."
            )
        features = features[:, told]
    decision = decided(rows)
    wrong = (decision != rows.target)[order]
    found: list[UnknownScore] = []
    strangest: tuple[DoubtfulRow, ...] = ()
    with_features = () if features is None else ("auto", "mahalanobis")
    kinds = (*with_features, "gen", "msp", *(("energy",) if raw else ()))  # without its constant, energy is 0
    for kind in kinds:
        score, flag = np.zeros(rows.n_rows), np.zeros(rows.n_rows, dtype=bool)
        threshold = []
        for fit, judge in (halves, halves[::-1]):
            own = None if features is None else features[fit]
            other = None if features is None else features[judge]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NormexpWarning)  # constant columns are told by the caller
                model = OpenSetDetector(kind, false_alarm).fit(rows.prediction[fit], rows.target[fit], own)
            score[judge] = model.unknown_score(rows.prediction[judge], other)
            flag[judge] = score[judge] > model.threshold_
            threshold.append(model.threshold_)
        flagged = float(flag[order].mean())
        low, high = wilson(flagged * order.size, order.size, level=LEVEL)
        separable = wrong.any() and not wrong.all()
        found.append(
            UnknownScore(
                kind,
                auroc(wrong, score[order]) if separable else float("nan"),
                float(np.mean(threshold)),
                flagged,
                float(low),
                float(high),
            )
        )
        if not strangest:
            top = order[np.argsort(-score[order], kind="stable")[:ROWS_SHOWN]]
            strangest = _doubtful(top, score, decision, rows.target, classes)
    return Unknown(false_alarm, features is not None, tuple(found), strangest), note


def _doubtful(
    index: NDArray[np.intp],
    value: NDArray[np.float64],
    decision: NDArray[np.intp],
    target: NDArray[np.intp],
    classes: tuple[str, ...],
) -> tuple[DoubtfulRow, ...]:
    """Rows with their names."""
    return tuple(DoubtfulRow(int(i), classes[decision[i]], classes[target[i]], float(value[i])) for i in index)


def _least_area(error: float) -> float:
    """Area under the risk-coverage curve when every hit comes before every error (Geifman, Uziel & El-Yaniv 2019)."""
    return error + (1.0 - error) * float(np.log1p(-error)) if error < 1.0 else 1.0
