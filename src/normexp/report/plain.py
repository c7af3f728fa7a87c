"""A summary as plain values that JSON can hold."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

from normexp.report.facts import ClassFacts, Summary
from normexp.report.labelled import as_mapping


def as_json(summary: Summary, /) -> dict[str, Any]:
    """Turn a summary into a dictionary that ``json.dumps(..., allow_nan=False)`` takes.

    Parameters
    ----------
    summary : Summary
        The facts.

    Returns
    -------
    dict of str to object
        The scores by name ("accuracy", "balanced_accuracy", "log_loss", "brier", "ece", "overconfidence", ...), "n",
        "intervals" and "gain_intervals" (pairs), "prior" and "gain" (by score), "verdicts", "per_class",
        "decomposition", "calibration_p", "reliability", "selective", "confusions", "examples", "training", "versions",
        "seed", "trust" (promises of a trusted model and what came of them, else None) and more.
        A number that is not finite (unknown, or an infinite loss) is None.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import summarise
    >>> from normexp.report.labelled import Labelled
    >>> labelled = Labelled(np.eye(2), np.array([0, 1]), ("a", "b"), np.array([0.5, 0.5]), ("first", "second"))
    >>> facts = as_json(summarise(labelled, source="two rows"))
    >>> facts["accuracy"], facts["prior"]["accuracy"], facts["intervals"]["accuracy"]
    (1.0, 0.5, [None, None])
    """
    compared = [score for score in summary.scores if not math.isnan(score.prior)]
    return {
        **{score.name: _plain(score.value) for score in summary.scores},
        "n": summary.n_rows,
        "n_classes": summary.n_classes,
        "source": summary.source,
        "intervals": {score.name: _plain((score.low, score.high)) for score in summary.scores},
        "level": summary.level,
        "prior": {score.name: _plain(score.prior) for score in compared},
        "gain": {score.name: _plain(score.gain) for score in compared},
        "gain_intervals": {score.name: _plain((score.gain_low, score.gain_high)) for score in compared},
        "decomposition": {key: _plain(value) for key, value in summary.decomposition._asdict().items()},
        "verdicts": _plain(summary.verdicts),
        "per_class": [_class_row(entry) for entry in summary.classes],
        "calibration_p": _plain(summary.calibration_p),
        "reliability": _plain(summary.reliability),
        "selective": _plain(summary.selective),
        "confusions": _plain(summary.confusions),
        "n_confusions": summary.n_confusions,
        "examples": _plain(summary.examples),
        "n_repeated": summary.n_repeated,
        "training": None if summary.training is None else _plain(as_mapping(summary.training)),
        "versions": dict(summary.versions),
        "seed": summary.seed,
        "n_resamples": summary.n_resamples,
        "notes": list(summary.notes),
        "date": summary.date,
        "confusion_matrix": _plain(summary.matrix),
        "trust": None if summary.trust is None else _plain(summary.trust),
    }


def _class_row(entry: ClassFacts) -> dict[str, Any]:
    """One class, under the names that are usual in tables of classes."""
    row = _plain(entry)
    return {"label": row.pop("name"), "support": row.pop("n_rows"), **row}


def _plain(value: Any) -> Any:
    """Dataclasses to dictionaries, tuples to lists, numbers that are not finite to None."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
