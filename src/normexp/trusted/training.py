"""Classes of a training file, and the facts of a fit."""

import platform
import time
import warnings
from importlib.metadata import version
from typing import Any, Final
from warnings import WarningMessage

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError, NormexpWarning, RangeError
from normexp.report.labelled import TrainingFacts
from normexp.tables import Schema, Source
from normexp.tables.choosing import enumerate_names
from normexp.trusted.reporting import promises
from normexp.trusted.trusted_classifier import TrustedClassifier

_MOST_NUMBERS: Final = 20  # numbers of which more, most of them rare, are measured and no classes


def count_classes(
    source: Source, classes: NDArray[Any], index: NDArray[np.intp], /, *, at_least: int
) -> NDArray[np.intp]:
    """Count the rows of each class of a training file, and refuse what cannot be learned from.

    Parameters
    ----------
    source : Source
        The file, for sentences.
    classes : ndarray of str or int64, shape (K,)
        Sorted.
    index : ndarray of intp, shape (N,)
        Into the classes, for each row.
    at_least : int
        The fewest rows of a class.

    Returns
    -------
    ndarray of intp, shape (K,)
        Rows of each class.

    Raises
    ------
    InputError
        If there is only one class, or a class has too few rows.
    """
    counts = np.bincount(index, minlength=len(classes))
    if len(classes) < 2:
        raise InputError(
            f"{source.path}: the target column {source.target!r} holds one class only, {str(classes[0])!r}, in all "
            f"{counts[0]} rows. At least two classes are needed; name another column, or add rows of other classes."
        )
    if counts.min() < at_least:
        rare = [str(label) for label in classes[counts < at_least]]
        if len(classes) > _MOST_NUMBERS and 2 * len(rare) > len(classes) and _are_numbers(classes):
            raise InputError(
                f"{source.path}: {_place(source)}{len(classes)} different numbers stand in {len(index)} rows, as of "
                "something measured or of names of the rows, and classes are expected. Cut the numbers into ranges "
                "(such as low, middle and high), or name the column that holds the classes."
            )
        first = int(np.argmax(counts < at_least))
        row = int(np.argmax(index == first))
        several = f"{len(rare)} classes ({enumerate_names(rare, limit=3)}) have"
        named = f"the class {rare[0]!r} has" if len(rare) == 1 else several
        raise InputError(
            f"{source.path}: {_place(source)}{named} fewer than {at_least} rows (the first in "
            "row "
            f"{row}, rows count from 0). Nothing could be held out to check such a class; add rows, join it with "
            "another class, leave it out, or allow it with --min-class-rows 1 (in Python min_class_rows=1)."
        )
    return counts


def _place(source: Source) -> str:
    """Say where the classes stand."""
    return "" if source.target is None else f"in the target column {source.target!r} "


def _are_numbers(classes: NDArray[Any]) -> bool:
    """Whether each class is a number, if only by its spelling."""
    try:
        return bool(np.isfinite(classes.astype(np.float64)).all())
    except ValueError:
        return False


def columns_in_words(schema: Schema, /) -> tuple[str, ...]:
    """Say what a model reads, for people.

    Parameters
    ----------
    schema : Schema
        What the rows hold.

    Returns
    -------
    tuple of str
        Names of the columns, or one entry that tells the shape.
    """
    if schema.layout == "table":
        return schema.names
    shape = " x ".join(str(size) for size in schema.shape)
    return (f"array of {shape}" if schema.layout == "dense" else f"{shape} sparse features",)


def fit_telling(
    source: Source, estimator: Any, rows: Any, labels: NDArray[Any] | None, /, **fit_params: Any
) -> tuple[Any, list[WarningMessage]]:
    """Fit an estimator; pass on what normexp warns of, and keep what others do.

    Parameters
    ----------
    source : Source
        The file, for sentences.
    estimator : estimator
        Not fitted.
    rows : ndarray, csr_matrix or StoredRows, shape (N, D)
        Encoded rows.
    labels : ndarray, shape (N,), or None
        Their classes; None for stored rows, which know them.
    **fit_params : dict
        Passed to the fit.

    Returns
    -------
    estimator : estimator
        Fitted.
    caught : list of WarningMessage
        What was warned of.

    Raises
    ------
    InputError
        If a `TrustedClassifier` cannot make promises with these rows; the sentence says why and what to do.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator.fit(rows, labels, **fit_params)
        except RangeError as error:
            if not isinstance(estimator, TrustedClassifier):
                raise
            sentence = str(error).removeprefix("TrustedClassifier.fit: ")
            raise InputError(
                f"{source.path}: {sentence.rstrip('.')}. The bare model, without promises, is fitted with --plain (in "
                "Python trusted=None)."
            ) from error
    for item in caught:
        if issubclass(item.category, NormexpWarning):
            sentence = str(item.message).removeprefix("TrustedClassifier.fit: ")
            warnings.warn(f"{source.path}: {sentence}", NormexpWarning, stacklevel=3)
    return estimator, caught


def training_facts(
    source: Source,
    schema: Schema,
    estimator: Any,
    caught: list[WarningMessage],
    counts: NDArray[np.intp],
    /,
    *,
    width: int,
    began: float,
    seed: int,
) -> TrainingFacts:
    """Gather the facts of a fit that has just ended.

    Parameters
    ----------
    source : Source
        The file.
    schema : Schema
        What its rows hold.
    estimator : estimator
        Fitted.
    caught : list of WarningMessage
        What it warned of.
    counts : ndarray of intp, shape (K,)
        Rows of each class.
    width : int
        Number of features after encoding.
    began : float
        `time.monotonic` at the start.
    seed : int
        The seed.

    Returns
    -------
    TrainingFacts
        The facts.
    """
    outcome, converged = _outcome(estimator, caught)
    suboptimality = getattr(estimator, "suboptimality_", None)
    return TrainingFacts(
        rows=int(counts.sum()),
        features=width,
        classes=len(counts),
        class_counts=tuple(int(count) for count in counts),
        seconds=time.monotonic() - began,
        outcome=outcome,
        converged=converged,
        suboptimality=None if suboptimality is None else float(suboptimality),
        n_iter=int(np.max(getattr(estimator, "n_iter_", 0))),
        source=source.name,
        target=source.target or "y",
        columns=columns_in_words(schema),
        estimator=" ".join(repr(estimator).split()),
        seed=seed,
        versions=_versions(),
        promises=promises(estimator) if isinstance(estimator, TrustedClassifier) else (),
    )


def _outcome(estimator: Any, caught: list[WarningMessage]) -> tuple[str, bool]:
    """How the solver ended, in its own words where it has some."""
    solution = getattr(estimator, "solution_", None)
    if solution is not None:
        outcome = solution.outcome
        return str(getattr(outcome, "value", outcome)), bool(solution.converged)
    complaints = [str(item.message).splitlines()[0] for item in caught if "Convergence" in item.category.__name__]
    if complaints:
        return complaints[0], False
    return "The solver reached its tolerance.", True


def _versions() -> dict[str, str]:
    """Versions of what took part."""
    packages = ("normexp", "numpy", "scipy", "scikit-learn", "polars", "skrub")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
