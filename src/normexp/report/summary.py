"""From logits and truth to the facts of a report. Nothing is drawn here."""

import math
import platform

import numpy as np
import scipy
from numpy.typing import NDArray

from normexp._version import __version__
from normexp.base.errors import ShapeError
from normexp.metrics import (
    calibration_test,
    confusion_pairs,
    decomposition,
    per_class,
    reliability_curve,
    risk_coverage_curve,
    wilson,
)
from normexp.metrics.brier import Decomposition
from normexp.metrics.classes import PerClass
from normexp.metrics.door import Rows, decided, log_confidence, read_rows
from normexp.report.evidence import Evidence
from normexp.report.facts import ClassFacts, ReliabilityBin, Summary
from normexp.report.labelled import Labelled, TrainingFacts
from normexp.report.picks import count_repeats, pick_confusions, pick_examples, pick_points
from normexp.report.scores import LEVEL, score_all
from normexp.report.trust import judge_trust, trust_facts
from normexp.report.verdicts import in_order, judge

__all__ = ["Summary", "summarise"]

RELIABILITY_BINS = 10
MAX_TESTED = 50_000  # rows on which a gap of 0.01 is found for certain
RESAMPLES, FEWER_RESAMPLES, CHEAP_ROWS = 1000, 200, 20_000  # 1000 take about a second at 20 000 rows
MATRIX_CLASSES = 12  # a wider matrix is not read but searched: then the list of confusions says more
SIMULATIONS = 199  # p-values in steps of 0.005
MAX_DECOMPOSED = 5_000_000  # numbers to be sorted for the Brier score's parts; more rows hardly change them


def summarise(
    labelled: Labelled,
    /,
    training: TrainingFacts | None = None,
    *,
    source: str,
    seed: int = 0,
    n_resamples: int | None = None,
    date: str = "",
) -> Summary:
    """All facts about a model's logits on rows whose classes are known.

    Parameters
    ----------
    labelled : Labelled
        Logits (N, K), the true classes, their names, the training frequencies, and a text for each row.
    training : TrainingFacts, optional
        How the model was fitted.
    source : str
        What the rows are, to be shown: usually a file name.
    seed : int, default 0
        Seed of the bootstrap; the same seed gives the same summary.
    n_resamples : int, optional
        Bootstrap resamples for the intervals; by default 1000 up to 20 000 rows, and 200 beyond.
    date : str, default ""
        When it was judged, to be shown.

    Returns
    -------
    Summary
        The facts, as plain values. ``render_html`` and ``as_json`` take it.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If `labelled` contradicts itself, has no row, or its logits hold NaN.

    Notes
    -----
    Memory beside the logits is O(N + K). Above 100 000 rows each resample draws 100 000, and above 5 million
    probabilities the Brier score is taken apart on a random subset of the rows; the summary's `notes` say so.

    Examples
    --------
    >>> labelled = Labelled(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1]), ("ham", "spam"),
    ...                     np.array([0.5, 0.5]), ("first", "second"))
    >>> summary = summarise(labelled, source="two rows")
    >>> summary.score("accuracy").value, summary.verdicts[0].level
    (1.0, 'red')
    """
    rows = _checked(labelled)
    if n_resamples is None:
        n_resamples = RESAMPLES if rows.n_rows <= CHEAP_ROWS else FEWER_RESAMPLES
    scores, shortened = score_all(rows, labelled.prior, seed=seed, n_resamples=n_resamples)
    decision = decided(rows)
    confidence = log_confidence(rows, decision)
    table = per_class(rows.target, rows.prediction)
    classes = _classes(labelled, table, training)
    pairs = confusion_pairs(rows.target, rows.prediction)
    parts, on_part = _decompose(rows, seed)
    calibration_p = _calibration_p(rows, seed)
    n_repeated = count_repeats(labelled.logits)
    trust = None if labelled.trust is None else trust_facts(rows, labelled.trust)
    verdicts = judge(Evidence(rows.n_rows, scores, classes, training, n_repeated, calibration_p))
    if trust is not None:
        verdicts = in_order([*verdicts, *judge_trust(trust)])
    return Summary(
        source=source,
        n_rows=rows.n_rows,
        n_classes=rows.n_classes,
        scores=scores,
        verdicts=verdicts,
        decomposition=parts,
        calibration_p=calibration_p,
        reliability=_reliability(rows),
        selective=pick_points(risk_coverage_curve(rows.target, rows.prediction)),
        examples=pick_examples(labelled, rows, decision, confidence),
        confusions=pick_confusions(labelled, pairs, decision, confidence),
        n_confusions=len(pairs),
        classes=classes,
        training=training,
        n_repeated=n_repeated,
        level=LEVEL,
        seed=seed,
        n_resamples=n_resamples,
        versions=(
            ("normexp", __version__),
            ("Python", platform.python_version()),
            ("numpy", np.__version__),
            ("scipy", scipy.__version__),
        ),
        notes=tuple(note for note in (shortened, on_part) if note),
        trust=trust,
        date=date,
        matrix=_matrix(rows.target, decision, rows.n_classes),
    )


def _checked(labelled: Labelled) -> Rows:
    """Rows for the metrics, after seeing that the parts of `labelled` belong together."""
    rows = read_rows(labelled.target, labelled.logits, of="summarise", from_logits=True, sample_weight=None)
    if len(labelled.classes) != rows.n_classes or np.shape(labelled.prior) != (rows.n_classes,):
        raise ShapeError(
            f"summarise: labelled has {len(labelled.classes)} names and a prior of shape {np.shape(labelled.prior)}; "
            f"one of each for the {rows.n_classes} columns of its logits would be right."
        )
    if len(labelled.examples) != rows.n_rows:
        raise ShapeError(
            f"summarise: labelled has {len(labelled.examples)} example texts; "
            f"one for each of its {rows.n_rows} rows would be right."
        )
    return rows


def _classes(labelled: Labelled, table: PerClass, training: TrainingFacts | None) -> tuple[ClassFacts, ...]:
    """List the facts of every class."""
    low, high = wilson(np.nan_to_num(table.recall) * table.support, table.support, level=LEVEL)
    unseen = table.support == 0
    low, high = np.where(unseen, np.nan, low), np.where(unseen, np.nan, high)
    counts: tuple[int, ...] | None = None if training is None else training.class_counts
    return tuple(
        ClassFacts(
            name=name,
            n_rows=round(float(table.support[k])),
            n_decided=round(float(table.predicted[k])),
            n_training=None if counts is None or len(counts) != len(labelled.classes) else int(counts[k]),
            frequency=float(table.frequency[k]),
            prior=float(labelled.prior[k]),
            mean_probability=float(table.mean_probability[k]),
            precision=_known(table.precision[k]),
            recall=_known(table.recall[k]),
            recall_low=_known(low[k]),
            recall_high=_known(high[k]),
            f1=_known(table.f1[k]),
        )
        for k, name in enumerate(labelled.classes)
    )


def _matrix(target: NDArray[np.intp], decision: NDArray[np.intp], n_classes: int) -> tuple[tuple[int, ...], ...]:
    """Count rows by true and decided class, where a person can read that."""
    if n_classes > MATRIX_CLASSES:
        return ()
    counts = np.bincount(target * n_classes + decision, minlength=n_classes**2)
    return tuple(tuple(row) for row in counts.reshape(n_classes, n_classes).tolist())


def _known(value: np.float64) -> float:
    """Turn a number into a plain float, and any NaN into the one that equals itself by identity."""
    return math.nan if np.isnan(value) else float(value)


def _reliability(rows: Rows) -> tuple[ReliabilityBin, ...]:
    """List the points of the reliability diagram."""
    curve = reliability_curve(rows.target, rows.prediction, n_bins=RELIABILITY_BINS, level=LEVEL)
    return tuple(
        ReliabilityBin(round(float(n)), float(c), float(a), float(low), float(high))
        for n, c, a, low, high in zip(*curve, strict=True)
    )


def _calibration_p(rows: Rows, seed: int) -> float:
    """Test the calibration, on a random subset where there are very many rows: it is decided long before."""
    rng = np.random.default_rng([seed, 2])
    if rows.n_rows <= MAX_TESTED:
        return calibration_test(rows.target, rows.prediction, n_resamples=SIMULATIONS, rng=rng)
    some = np.sort(rng.choice(rows.n_rows, MAX_TESTED, replace=False))
    return calibration_test(rows.target[some], rows.prediction[some], n_resamples=SIMULATIONS, rng=rng)


def _decompose(rows: Rows, seed: int) -> tuple[Decomposition, str]:
    """Take the Brier score apart, on a random subset where there are very many probabilities; a note says so."""
    affordable = max(1, MAX_DECOMPOSED // rows.n_classes)
    if rows.n_rows <= affordable:
        return decomposition(rows.target, rows.prediction), ""
    some = np.sort(np.random.default_rng([seed, 1]).choice(rows.n_rows, affordable, replace=False))
    note = f"The Brier score was taken apart on {affordable:,} of the {rows.n_rows:,} rows, drawn at random."
    return decomposition(rows.target[some], rows.prediction[some]), note
