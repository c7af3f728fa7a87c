"""From logits to predictions, from labels to class indices, and a short text to show which row it is."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.ops import log_softmax, softmax
from normexp.tables import Block, Predictions, Schema, Source
from normexp.tables.choosing import nearest
from normexp.tables.predictions import Trust
from normexp.tables.source import EXAMPLE_CHARACTERS
from normexp.trusted.options import UNKNOWN


def judge(logits: NDArray[np.float64], classes: NDArray[Any], /, *, top_k: int | None) -> Predictions:
    """Tell what logits say about each row.

    Parameters
    ----------
    logits : ndarray of float64, shape (N, K)
        The logits.
    classes : ndarray, shape (K,)
        The classes.
    top_k : int or None
        How many classes to rank; more than K means K.

    Returns
    -------
    Predictions
        Label, probability, log-probability, entropy, and the ranking where asked for.
    """
    log_prob = np.asarray(log_softmax(logits))
    prob = np.asarray(softmax(logits))
    best = logits.argmax(axis=1)
    row = np.arange(len(best))
    # 0 log 0 = 0: a class without probability adds no doubt
    entropy = -np.sum(np.where(prob > 0, prob * np.where(prob > 0, log_prob, 0.0), 0.0), axis=1)
    top_labels = top_probabilities = None
    if top_k is not None:
        order = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
        top_labels, top_probabilities = classes[order], np.take_along_axis(prob, order, axis=1)
    return Predictions(
        label=classes[best],
        probability=prob[row, best],
        log_probability=log_prob[row, best],
        entropy=np.maximum(entropy, 0.0),
        top_labels=top_labels,
        top_probabilities=top_probabilities,
    )


def trust_of(
    model: Any, rows: Any, logits: NDArray[Any], classes: NDArray[Any], reason: NDArray[np.str_] | None, /
) -> Trust:
    """Tell what a trusted model says of rows beside its probabilities.

    Parameters
    ----------
    model : TrustedClassifier
        Fitted on encoded rows.
    rows : ndarray or csr_matrix, shape (N, D)
        Encoded rows.
    logits : ndarray, shape (N, K)
        Their honest logits.
    classes : ndarray, shape (K,)
        The classes.
    reason : ndarray of str, shape (N,), or None
        What spoke loudest.

    Returns
    -------
    Trust
        Decision, set, unknown score and reason of each row.
    """
    names = np.array([str(label) for label in classes])
    score = model.score_unknown(rows, logits)
    decision = names[model.decide(logits, rows)].astype(object)
    decision[model.refuses(logits, score, rows)] = UNKNOWN
    escaped = [name.replace("\\", "\\\\").replace("|", "\\|") for name in names.tolist()]
    order = np.argsort(-logits, axis=1, kind="stable")
    inside = np.take_along_axis(model.conformal_.predict_set(logits), order, axis=1)
    sets = ["|".join(escaped[k] for k in row[held]) for row, held in zip(order, inside, strict=True)]
    return Trust(
        decision=decision.astype(str),
        sets=np.array(sets, dtype=str),
        unknown_score=score,
        reason=np.full(len(score), "", dtype=str) if reason is None else reason,
    )


def class_index(source: Source, block: Block, classes: NDArray[Any], /) -> NDArray[np.intp]:
    """Index of the class of each row.

    Parameters
    ----------
    source : Source
        The file, for sentences.
    block : Block
        Rows with their classes.
    classes : ndarray of str or int64, shape (K,)
        The classes of the fit, sorted.

    Returns
    -------
    ndarray of intp, shape (N,)
        The indices.

    Raises
    ------
    InputError
        If a class was not seen at the fit; the sentence names it and its row.
    """
    if block.target is None:
        raise InputError(f"{source.path}: the classes are needed to evaluate. Name the target column.")
    known, labels = classes, block.target
    if known.dtype.kind != labels.dtype.kind:  # 1 in a file with other labels than numbers stands there as text
        known, labels = known.astype(str), labels.astype(str)
    order = np.argsort(known)
    place = np.searchsorted(known, labels, sorter=order)
    index = order[np.minimum(place, len(known) - 1)]
    unseen = known[index] != labels
    if unseen.any():
        at = int(np.argmax(unseen))
        label = str(labels[at])
        hint = nearest(label, [str(name) for name in known]).replace("column", "class")
        raise InputError(
            f"{source.path}: the class {label!r} in row {block.start + at} (rows count from 0 after the header) was "
            f"not seen when the model was fitted. {hint.replace('The classs are', 'The classes are')}; correct the "
            "label, "
            "leave the row out, or fit again with rows of this class."
        )
    return index.astype(np.intp)


def examples(block: Block, schema: Schema, /) -> list[str]:
    """Make a short text for each row, to show a person which row it is.

    Parameters
    ----------
    block : Block
        Some rows.
    schema : Schema
        What they hold.

    Returns
    -------
    list of str, length N
        The running text, or ``name=value`` of the first columns, or the number of the row.
    """
    features = block.features
    if not isinstance(features, pl.DataFrame):
        return [f"row {block.start + at}" for at in range(block.n_rows)]
    if schema.text:
        columns = [features[name].fill_null("").to_list() for name in schema.text]
        return [_short(" ".join(row)) for row in zip(*columns, strict=True)]
    names = schema.names[:12]
    return [
        _short(", ".join(f"{name}={_brief(value)}" for name, value in zip(names, row, strict=True)))
        for row in features.select(names).iter_rows()
    ]


def _brief(value: Any) -> str:
    """Write a value as a person would write it."""
    if value is None:
        return "missing"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")  # a day has no time
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    """One line of text, cut with an ellipsis."""
    line = " ".join(text[: 4 * EXAMPLE_CHARACTERS].split())
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[: EXAMPLE_CHARACTERS - 1]}…"
