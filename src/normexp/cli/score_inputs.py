"""The scores, labels and features of `normexp audit`, each from a file or by its name in the first one."""

from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from normexp.base.errors import InputError


class ScoreInputs(NamedTuple):
    """What was read.

    Parameters
    ----------
    scores : ndarray, shape (N, K)
        Logits or probabilities.
    labels : ndarray of int64, shape (N,)
        Class indices, unchecked.
    features : ndarray, shape (N, D), or None
        Features.
    classes : tuple of str, length K
        Names of the classes.
    source : str
        What the scores are, to be shown.
    told : str
        How labels and columns were matched; empty where nothing was to be decided.
    """

    scores: NDArray[Any]
    labels: NDArray[Any]
    features: NDArray[Any] | None
    classes: tuple[str, ...]
    source: str
    told: str


def read_scores(
    path: Path, labels: str, /, *, features: str | None, classes: Path | None, take: tuple[str, ...]
) -> ScoreInputs:
    """Read the three, and match labels with columns.

    Parameters
    ----------
    path : Path
        The file with the scores.
    labels, features : str
        A file, or a name within the first file.
    classes : Path or None
        A file with the names of the classes.
    take : tuple of str
        Which array or columns hold the scores.

    Returns
    -------
    ScoreInputs
        What was read.

    Raises
    ------
    InputError
        For files or names that are not there, or of another kind.
    """
    from normexp.tables.class_indices import index_labels
    from normexp.tables.score_files import names_in, read_entries, read_matrix

    names = names_in(path)
    own = tuple(name for name in (labels, features) if name is not None and name in names)
    given = read_matrix(path, take=take, leave=own)
    if labels in names:
        entries = read_entries(path, labels)
    else:
        entries = read_entries(_file(labels, path, names, option="--labels"))
    x = None
    if features is not None:
        inside = features in names
        place = path if inside else _file(features, path, names, option="--features")
        x = read_matrix(place, take=(features,) if inside else ()).values
    ordered = () if classes is None else tuple(str(name) for name in read_entries(classes).tolist())
    indexed = index_labels(entries, given.values.shape[1], columns=given.columns, classes=ordered)
    source = f"{path.name}, {given.name}" if given.name else path.name
    return ScoreInputs(given.values, indexed.place, x, indexed.classes, source, indexed.told)


def _file(given: str, path: Path, names: tuple[str, ...], *, option: str) -> Path:
    """The file that an option names, if there is one."""
    from normexp.tables.choosing import nearest

    found = Path(given)
    if found.exists() or found.suffix:
        return found
    inside = f" {nearest(given, names).replace('column', 'name')};" if names else ""
    raise InputError(
        f"{path}: {option} {given!r} is neither a file nor the name of an array or column in it.{inside} correct it."
    )
