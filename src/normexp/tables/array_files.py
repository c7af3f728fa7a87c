"""Named arrays in NumPy's files, never pickles: an archive, or files of one folder mapped into memory."""

import zipfile
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.choosing import enumerate_names, nearest
from normexp.tables.streams import check_file

_FEATURE_NAMES: Final = ("X", "x")
_TARGET_NAMES: Final = ("y", "Y")
_SPLITS: Final = ("", "_train", "_test", "_val", "_valid", "_dev")


class NamedArrays(Protocol):
    """Where arrays are found by name."""

    def pair(self, target: str | None, features: str | None) -> tuple[str, str | None]:
        """Find the names of the arrays with features and classes."""

    def load(self, name: str) -> NDArray[Any]:
        """Read one array."""

    def without_target(self) -> str:
        """Say that there are no classes."""


def open_arrays(path: Path, /) -> NamedArrays:
    """Open an archive, a file or a folder of arrays.

    Parameters
    ----------
    path : Path
        A ``.npz`` archive, a ``.npy`` file, or a folder.

    Returns
    -------
    NamedArrays
        Its arrays.

    Raises
    ------
    InputError
        If there is no such file, or it is broken.
    """
    return _Archive(path) if path.suffix.lower() == ".npz" and not path.is_dir() else _Folder(path)


@final
class _Archive:
    """The arrays of an .npz file."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = [name.removesuffix(".npy") for name in archive.namelist()]
        except (zipfile.BadZipFile, OSError):
            raise InputError(
                f"{path}: the file is not an .npz archive, or it is broken. Give one that numpy.savez wrote "
                "(pickles are never read)."
            ) from None

    def pair(self, target: str | None, features: str | None) -> tuple[str, str | None]:
        """Find the names of the arrays with features and classes."""
        for name, role in ((target, "target"), (features, "features")):
            if name is not None and name not in self.names:
                raise InputError(
                    f"{self.path}: the archive has no array {name!r} ({role}). "
                    f"{nearest(name, self.names).replace('column', 'array')}; correct the name."
                )
        x = features or next((name for name in _FEATURE_NAMES if name in self.names), None)
        if x is None:
            pairs = [
                f"--features {a + split} --target {b + split}"
                for split in _SPLITS
                for a in _FEATURE_NAMES
                for b in _TARGET_NAMES
                if a + split in self.names and b + split in self.names
            ]
            y = target or next((name for name in _TARGET_NAMES if name in self.names), "ARRAY")
            rest = [name for name in self.names if name != y]
            otherwise = f"name them so, or choose with --features {rest[0] if len(rest) == 1 else 'ARRAY'} --target {y}"
            advice = f"choose with {' or '.join(pairs)}" if pairs else f"{otherwise} (in Python features=, target=)"
            raise InputError(
                f"{self.path}: the archive holds {enumerate_names(self.names)}, and arrays called X and y are "
                "expected; "
                f"{advice}."
            )
        return x, target or next((name for name in _TARGET_NAMES if name in self.names), None)

    def load(self, name: str) -> NDArray[Any]:
        """Read one array."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
            raise _unreadable(self.path, name, error) from None

    def without_target(self) -> str:
        """Say that there are no classes."""
        return (
            f"the archive holds {enumerate_names(self.names)} only. Add an array y, or name it with --target (in "
            "Python target=)."
        )


@final
class _Folder:
    """Arrays in .npy files of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.first = None if path.is_dir() else path.name
        if self.first is not None:
            check_file(path)

    def pair(self, target: str | None, features: str | None) -> tuple[str, str | None]:
        """Find the names of the files with features and classes."""
        there = [name for name in ("X.npy", "x.npy") if (self.folder / name).is_file()]
        x = _npy(features) or self.first or next(iter(there), None)
        if x is None or not (self.folder / x).is_file():
            raise InputError(
                f"{self.path}: this is a folder without {x or 'X.npy'}{'' if x else ' and without Parquet files'}. A "
                "file, a folder that holds X.npy and y.npy, or one of .parquet files with the same columns, is "
                "expected; give the name of a file in it."
            )
        wanted = _npy(target)
        if wanted is not None and not (self.folder / wanted).is_file():
            raise InputError(f"{self.path}: there is no {wanted!r} beside {x!r}. Correct the name of the target.")
        return x, wanted or next((n for n in ("y.npy", "Y.npy") if (self.folder / n).is_file() and n != x), None)

    def load(self, name: str) -> NDArray[Any]:
        """Map one array into memory."""
        try:
            return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        except (ValueError, OSError, EOFError) as error:
            raise _unreadable(self.folder / name, name, error) from None

    def without_target(self) -> str:
        """Say that there are no classes."""
        return (
            f"there is no y.npy in the folder {str(self.folder)!r}. Put it there, or name a file of that folder with "
            "--target (in Python target=)."
        )


def _npy(name: str | None) -> str | None:
    """Give a name the suffix of NumPy's files."""
    return name if name is None or name.endswith(".npy") else f"{name}.npy"


def _unreadable(path: Path, name: str, error: Exception) -> InputError:
    """Why an array cannot be read."""
    if "pickle" in str(error).lower():
        return InputError(
            f"{path}: {name!r} holds Python objects (a pickle), which could run code when read. "
            "Save plain numbers or text instead, for example with numpy.savez(path, X=X, y=y.astype(str))."
        )
    return InputError(f"{path}: {name!r} cannot be read ({str(error).splitlines()[0]}). Write the file again.")
