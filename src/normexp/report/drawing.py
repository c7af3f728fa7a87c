"""What the displays share: rows from an estimator, axes from matplotlib only when something is drawn, quiet frames."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, InputError, MissingExtraError, RangeError
from normexp.base.plain_arrays import plain_array
from normexp.metrics.door import name_rows

ACCENT, BAND, QUIET, WARM = "#2c5d86", "#b9cfe2", "#6a675f", "#a3261b"


class Judged(NamedTuple):
    """Predictions of an estimator beside the truth.

    Parameters
    ----------
    target : ndarray of intp, shape (N,)
        Class indices.
    prediction : ndarray, shape (N, K)
        Logits, or probabilities.
    from_logits : bool
        Which of the two.
    classes : tuple of str, length K
        Names.
    name : str
        Name of the estimator.
    """

    target: NDArray[np.intp]
    prediction: NDArray[Any]
    from_logits: bool
    classes: tuple[str, ...]
    name: str


def judged_by(estimator: Any, X: Any, y: ArrayLike, *, of: str) -> Judged:
    """Probabilities of a fitted classifier, as logarithms where it gives these, and the truth as indices."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or not hasattr(estimator, "predict_proba"):
        raise InputError(
            f"{of}: {type(estimator).__name__} has no classes_ or no predict_proba; a fitted classifier that gives "
            "probabilities would be right. For plain arrays take from_logits."
        )
    labels, truth = np.asarray(classes), plain_array(y, of=of, name="y")
    place = np.minimum(np.searchsorted(labels, truth), labels.size - 1)
    unknown = labels[place] != truth
    if np.any(unknown):
        raise RangeError(
            f"{of}: {name_rows(np.asarray(unknown))} of y hold classes that the estimator was not fitted on."
        )
    logarithm = getattr(estimator, "predict_log_proba", None)
    with np.errstate(divide="ignore"):  # forests give probabilities of 0, whose logarithm is meant
        prediction = np.asarray(estimator.predict_proba(X) if logarithm is None else logarithm(X))
    names = tuple(str(name) for name in labels.tolist())
    return Judged(place.astype(np.intp), prediction, logarithm is not None, names, type(estimator).__name__)


def names_for(classes: Any, n_classes: int, *, of: str) -> tuple[str, ...]:
    """Names of the classes; their numbers where none were given."""
    if classes is None:
        return tuple(str(k) for k in range(n_classes))
    names = tuple(str(name) for name in classes)
    if len(names) != n_classes:
        raise DtypeError(f"{of}: {len(names)} names of classes came for {n_classes} columns; one for each is right.")
    return names


def axes_for(ax: Any, *, of: str, size: tuple[float, float]) -> Any:
    """The axes that were given, or new ones of pyplot's."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (drawing is asked for here, and nowhere before)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{of}: a picture", "cli") from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def quieten(axes: Any) -> None:
    """Leave only what is read: thin rules, quiet labels, no box."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_linewidth(0.8)
    axes.tick_params(width=0.8, length=3, labelsize=8)
