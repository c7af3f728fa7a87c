"""What the report reads of a trusted classifier on rows with known classes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d

from normexp.base.errors import InputError, MissingExtraError
from normexp.calibration import ShareMatching
from normexp.calibration.menu import Identity
from normexp.report.labelled import Labelled, TrustEvidence
from normexp.trusted.options import in_words, read_cost

_SHOWN = 6  # columns of a row that is shown
_CHARACTERS = 120


def write_report(model: Any, X: Any, y: ArrayLike, path: str | Path, /) -> None:
    """Write the page of `TrustedClassifier.report`.

    Parameters
    ----------
    model : TrustedClassifier
        Fitted.
    X : rows, length N
        Rows that it was not fitted on.
    y : array-like, shape (N,)
        Their classes.
    path : str or path-like
        The page to write, whole or not at all.

    Raises
    ------
    InputError
        If a class was not seen at the fit.
    MissingExtraError
        Where the packages of the page are not installed.
    """
    try:
        from normexp.base.atomic import write_atomically  # noqa: PLC0415  (optional packages too)
        from normexp.report import render_html, summarise  # noqa: PLC0415  (matplotlib and jinja2 are optional)
    except ModuleNotFoundError:
        raise MissingExtraError("Writing a report", "cli") from None
    target = class_indices(model.classes_, y)
    logits = np.asarray(model.logits(X), dtype=np.float64)
    labelled = Labelled(
        logits=logits,
        target=target,
        classes=tuple(str(label) for label in model.classes_),
        prior=model.prior_,
        examples=tuple(_examples(X, len(target))),
        trust=gather(model, X, logits),
    )
    page = render_html(summarise(labelled, source=f"{len(target)} rows", date=date.today().isoformat()))  # noqa: DTZ011
    with write_atomically(path) as stream:
        stream.write(page.encode())


def gather(model: Any, X: Any, logits: NDArray[Any], /) -> TrustEvidence:
    """What a trusted model says of rows beside their honest logits.

    Parameters
    ----------
    model : TrustedClassifier
        Fitted.
    X : rows, length N
        The rows.
    logits : ndarray, shape (N, K)
        Their honest logits.

    Returns
    -------
    TrustEvidence
        For these rows.
    """
    score = model.score_unknown(X, logits)
    return TrustEvidence(
        base_logits=model.base_logits(X),
        sets=model.conformal_.predict_set(logits),
        unknown=score > model.detector_.threshold_,
        refused=model.refuses(logits, score, X),
        decided=model.decide(logits, X),
        coverage=float(model.coverage),
        reject=float(model.reject or 0.0),
        rule=in_words(model),
        cost=read_cost(model, len(model.classes_), of="TrustedClassifier.report"),
        promises=promises(model),
    )


def joined(parts: Sequence[TrustEvidence], /) -> TrustEvidence:
    """Evidence of blocks of rows as one."""
    return replace(
        parts[0],
        base_logits=np.concatenate([part.base_logits for part in parts]),
        sets=np.concatenate([part.sets for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
        refused=np.concatenate([part.refused for part in parts]),
        decided=np.concatenate([part.decided for part in parts]),
    )


def promises(model: Any, /) -> tuple[tuple[str, str], ...]:
    """What was settled at the fit of a `TrustedClassifier`, as pairs of a title and a sentence.

    Parameters
    ----------
    model : TrustedClassifier
        Fitted.

    Returns
    -------
    tuple of (str, str)
        Calibration, sets, unknown rows, and decisions where they are moved.
    """
    folds = model.n_fits_ - 1
    where = "one hold-out" if folds == 1 else f"{folds} folds"
    methods = [one for one in model.adjusters_ if not isinstance(one, (Identity, ShareMatching))]
    method = methods[-1] if methods else None
    names = [getattr(one, "chosen_", type(one).__name__) for one in methods]
    how = f"{names[-1]}" if names and names[-1] != "identity" else "none needed" if names else "none"
    shares = getattr(method, "shares_", {})
    if len(shares) > 1:
        parts = sorted(shares.items(), key=lambda part: -part[1])
        how = f"a mixture of {', '.join(f'{name} {share:.0%}' for name, share in parts)}"
    temperature = getattr(getattr(method, "calibrator_", method), "temperature_", None)
    if temperature is not None:
        how = f"temperature {float(temperature):.3g}"
    held = f"{model.n_held_out_} held-out rows of {where}"
    learned = (
        f"{how}, {f'as {held} show' if how == 'none needed' else f'learned on {held}'}; their log loss: "
        f"{model.loss_before_:.4g} before, {model.loss_after_:.4g} after"
    )
    told = [("calibration", learned), ("sets", model.conformal_.statement_)]
    if model.moved_:
        told.append(("shares", "what class weights or resampling did to the probabilities is undone"))
    elif getattr(model, "matched_", False):
        sentence = "held-out rows showed that some classes were named too often, others too rarely, which is mended"
        told.append(("shares", sentence))
    if model.reject:
        finite = np.isfinite(model.detector_.threshold_)
        sentence = f"at most {100 * float(model.reject):g} % of the rows of known classes are called unknown"
        told.append(("unknown", sentence if finite else "no row, since too few rows were held out to set a threshold"))
    rule = in_words(model)
    if rule:
        second = getattr(model, "balanced_", None)
        if model.objective == "balanced" and second is not None:
            rule += _by_second(second)
        told.append(("decisions", rule))
    return tuple(told)


def _by_second(second: Any) -> str:
    """Which fit decides, and what that is worth on held-out rows."""
    if second.share_ == 1.0:
        return ", by moved logits, which beat a second fit with balanced classes"
    which = "by a second fit with balanced classes"
    if second.share_:
        which += f" pooled with {100 * second.share_:g} % of the first"
    recall = second.recall_[round(second.share_ * (len(second.recall_) - 1))]
    return f", {which}; mean recall of held-out rows: {recall:.4g}, and {second.recall_[-1]:.4g} by moved logits"


def class_indices(classes: NDArray[Any], y: ArrayLike, /) -> NDArray[np.intp]:
    """Index of each label among the classes, (N,)."""
    labels = column_or_1d(y)
    place = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    unseen = classes[place] != labels
    if unseen.any():
        at = int(np.argmax(unseen))
        raise InputError(
            f"TrustedClassifier.report: y holds {labels[at]!r} in row {at}, which is none of the {len(classes)} "
            "classes of the fit; leave such rows out, or fit again with rows of this class."
        )
    return np.asarray(place, dtype=np.intp)


def _examples(X: Any, n_rows: int) -> list[str]:
    """A short text for each row: a text itself, or its first columns."""
    if hasattr(X, "columns") and hasattr(X, "iloc"):  # pandas
        names = [str(name) for name in X.columns[:_SHOWN]]
        rows = X.iloc[:, :_SHOWN].itertuples(index=False, name=None)
        return [", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True)) for row in rows]
    first = X[0] if isinstance(X, (list, tuple, np.ndarray)) and len(X) else None
    if isinstance(first, str):
        return [" ".join(str(text).split())[:_CHARACTERS] for text in X]
    return [f"row {at}" for at in range(n_rows)]
