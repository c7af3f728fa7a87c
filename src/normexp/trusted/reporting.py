"""What the report reads of a trusted classifier on rows with known classes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d

from normexp.base.errors import InputError, MissingExtraError
from normexp.report.labelled import Labelled

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
        from normexp.report import render_html, summarise  # noqa: PLC0415  (matplotlib and jinja2 are optional)
        from normexp.tables.writing import write_atomically  # noqa: PLC0415  (optional packages too)
    except ModuleNotFoundError:
        raise MissingExtraError("Writing a report", "cli") from None
    target = class_indices(model.classes_, y)
    labelled = Labelled(
        logits=np.asarray(model.logits(X), dtype=np.float64),
        target=target,
        classes=tuple(str(label) for label in model.classes_),
        prior=model.prior_,
        examples=tuple(_examples(X, len(target))),
    )
    page = render_html(summarise(labelled, source=f"{len(target)} rows"))
    with write_atomically(path) as stream:
        stream.write(page.encode())


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
