"""Which rows, pairs and points a person is shown."""

import numpy as np
from numpy.typing import NDArray

from normexp.metrics import ConfusionPair, RiskCoverageCurve
from normexp.metrics.door import Rows
from normexp.ops import softmax
from normexp.report.facts import Bar, ConfusionFacts, ExampleFacts, SelectivePoint
from normexp.report.labelled import Labelled

CLASSES_SHOWN = 5  # bars of an example row: the likeliest classes, and the true one
PAIRS_SHOWN = 12
TEXTS_SHOWN = 3
CHARACTERS_SHOWN, LONGER = 90, 160  # one line of a page, and two
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def pick_examples(
    labelled: Labelled, rows: Rows, decision: NDArray[np.intp], log_confidence: NDArray[np.float64]
) -> tuple[ExampleFacts, ...]:
    """Two hits, two mistakes, two that were unsure: at most six rows, none twice, the same ones every time."""
    right = decision == rows.target
    by_confidence = np.argsort(-log_confidence, kind="stable")
    hits, misses = by_confidence[right[by_confidence]], by_confidence[~right[by_confidence]]
    wanted = [
        ("Surest mistake", misses[:1]),
        ("Another sure mistake", misses[1:2]),
        ("Least sure", by_confidence[-1:]),
        ("Also unsure", by_confidence[-2:-1]),
        ("Typical hit", hits[hits.size // 2 : hits.size // 2 + 1]),
        ("Surest hit", hits[:1]),
    ]
    seen: set[int] = set()
    picked = []
    for kind, index in wanted:
        for i in index.tolist():
            if i not in seen:
                seen.add(i)
                picked.append(_example(labelled, i, int(decision[i]), kind))
    return tuple(picked)


def pick_confusions(
    labelled: Labelled,
    pairs: tuple[ConfusionPair, ...],
    decision: NDArray[np.intp],
    log_confidence: NDArray[np.float64],
) -> tuple[ConfusionFacts, ...]:
    """Choose the most frequent pairs, each with its surest rows."""
    wrong = np.flatnonzero(decision != labelled.target)
    surest = wrong[np.argsort(-log_confidence[wrong], kind="stable")]
    picked = []
    for pair in pairs[:PAIRS_SHOWN]:
        of_pair = surest[(labelled.target[surest] == pair.true) & (decision[surest] == pair.decided)]
        texts = tuple(cut(labelled.examples[i]) for i in of_pair[:TEXTS_SHOWN])
        numbers = tuple(of_pair[:TEXTS_SHOWN].tolist())
        true, decided = labelled.classes[pair.true], labelled.classes[pair.decided]
        picked.append(ConfusionFacts(true, decided, round(pair.n_rows), pair.share, texts, numbers))
    return tuple(picked)


def pick_points(curve: RiskCoverageCurve) -> tuple[SelectivePoint, ...]:
    """Points of the risk-coverage curve near round coverages: the largest coverage that is not above each."""
    picked: list[SelectivePoint] = []
    for wanted in COVERAGES:
        place = int(np.searchsorted(curve.coverage, wanted + 1e-12, side="right")) - 1
        if place < 0:
            continue
        point = SelectivePoint(
            float(curve.coverage[place]), 1.0 - float(curve.risk[place]), float(curve.threshold[place])
        )
        if point not in picked:
            picked.append(point)
    return tuple(picked)


def cut(text: str, longest: int = 0) -> str:
    """The beginning of a text, whole words where they are short, with an ellipsis."""
    longest = longest or CHARACTERS_SHOWN
    if len(text) <= longest:
        return text
    head = text[:longest]
    blank = head.rfind(" ", longest - 20)
    return f"{head[: blank if blank > 0 else longest].rstrip(' ,;')}…"


def count_repeats(logits: NDArray[np.float64]) -> int:
    """How many rows have the logits of an earlier row.

    Compared by three of the row's numbers (first, last, largest), which agree by chance only where the row itself
    does; for two classes the comparison is exact.
    """
    key = np.ascontiguousarray(np.stack([logits[:, 0], logits[:, -1], logits.max(axis=1)], axis=1)) + 0.0
    return int(len(key) - np.unique(key.view([("", key.dtype)] * 3)).size)


def _example(labelled: Labelled, row: int, decided: int, kind: str) -> ExampleFacts:
    """One row as bars."""
    logits, true = labelled.logits[row], int(labelled.target[row])
    prob = np.asarray(softmax(logits))
    shown = np.argsort(-logits, kind="stable")[:CLASSES_SHOWN].tolist()
    if true not in shown:
        shown[-1] = true
    bars = tuple(
        Bar(labelled.classes[k], float(logits[k]), float(prob[k]), is_true=k == true, is_decided=k == decided)
        for k in shown
    )
    others = np.ones(prob.size, dtype=bool)
    others[shown] = False
    return ExampleFacts(
        kind,
        row,
        cut(labelled.examples[row], LONGER),
        labelled.classes[true],
        labelled.classes[decided],
        bars,
        int(others.sum()),
        float(prob[others].sum()),
    )
