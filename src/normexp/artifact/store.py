"""`save` and `load`: models in files that cannot run code."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from normexp._version import __version__
from normexp.artifact.allowlist import MODELS
from normexp.artifact.container import read_container, write_container
from normexp.artifact.payload import pack, unpack
from normexp.base.atomic import write_atomically
from normexp.base.errors import ArtifactError, MissingExtraError

_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "skrub", "polars", "skops")


def save(model: Any, path: str | os.PathLike[str], /) -> None:
    """Write a fitted model to a file that `load` reads back, whole or not at all.

    Parameters
    ----------
    model : SoftmaxClassifier, SoftmaxClassifierCV, TableClassifier, TrustedClassifier, or a part of theirs
        The fitted model.
    path : str or path-like
        The file, in a folder that exists; ``.nx`` is the usual suffix. A file that stands there is replaced.

    Raises
    ------
    ArtifactError
        For other classes, for a model that is not fitted, and for one that holds functions or foreign objects.
    OSError
        Where the file cannot be written; what stood there before is untouched.

    Notes
    -----
    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the place of the old file in
    one step: a crash at any moment leaves the old file or the new one. The file is a zip with a manifest, a payload
    written by skops, and a seal (SHA-256) over every byte. The predictions of the loaded model are bitwise the same.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile, pathlib, normexp as nx
    >>> model = nx.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nx.save(model, pathlib.Path(folder) / "model.nx")
    ...     nx.load(pathlib.Path(folder) / "model.nx").predict([[0.2], [2.9]])
    array([0, 1])
    """
    name = type(model).__name__
    if name not in MODELS or not type(model).__module__.startswith("normexp."):
        raise ArtifactError(
            f"save: a {type(model).__module__}.{name} came; SoftmaxClassifier and TableClassifier can be saved, and "
            "the closed-form heads, calibrators and deciders of normexp. Put other estimators into "
            "TableClassifier(estimator=...), or use the persistence of their own library."
        )
    if not any(attribute.endswith("_") and not attribute.startswith("_") for attribute in vars(model)):
        raise ArtifactError(f"save: this {name} is not fitted; call fit before save.")
    _require_skops()
    payload = pack(model)
    with write_atomically(path) as stream:
        write_container(stream, model_class=name, payload=payload, versions=_versions())


def load(path: str | os.PathLike[str], /) -> Any:
    """Read a model that `save` wrote; no file can make it run code.

    Parameters
    ----------
    path : str or path-like
        The model file.

    Returns
    -------
    SoftmaxClassifier or TableClassifier
        The model as it was saved; its predictions are bitwise the same.

    Raises
    ------
    ArtifactError
        For a file that is missing, empty, truncated, altered, of a newer format, a pickle, or one that names any type
        outside a fixed list.

    Notes
    -----
    Three doors, each closed before the next is tried: the seal over all bytes; the manifest; and an audit of every
    name in the payload against a list that is part of normexp. Only then is anything built. A file from a stranger is
    safe to load; whether its predictions are any good is another question.

    See Also
    --------
    save : Writes such files.

    Examples
    --------
    >>> import tempfile, pathlib, normexp as nx
    >>> model = nx.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nx.save(model, pathlib.Path(folder) / "model.nx")
    ...     nx.load(pathlib.Path(folder) / "model.nx").predict([[0.2], [2.9]])
    array([0, 1])
    """
    _require_skops()
    manifest, payload = read_container(path)
    if manifest.model_class not in MODELS:
        raise ArtifactError(
            f"load: {path} holds a {manifest.model_class[:60]!r}; this normexp loads its own estimators."
        )
    try:
        model = unpack(payload)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    if type(model).__name__ != manifest.model_class:
        raise ArtifactError(
            f"load: {path} says it holds a {manifest.model_class} and holds a {type(model).__name__}; save it again."
        )
    return model


def _require_skops() -> None:
    """Say in one sentence how to get what is missing."""
    try:
        import skops  # noqa: F401, PLC0415  (asked only whether it is there: an optional package)
    except ModuleNotFoundError:
        raise MissingExtraError("Saving and loading models", "cli") from None


def _versions() -> dict[str, str]:
    """Versions of what the model was made with."""
    found = {"normexp": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the table packages are optional
            continue
    return found
