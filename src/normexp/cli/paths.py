"""Output files are looked at before the work starts, so that an hour of it is not lost to a missing folder."""

import tempfile
from pathlib import Path

from normexp.base.errors import InputError

_READ_FROM_FOLDERS = (".parquet", ".pq", ".npy")


def require_output(path: Path, /, *, suffixes: tuple[str, ...] = (), inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output file that could not be written, or that would replace what is read.

    Parameters
    ----------
    path : Path
        The file to be written.
    suffixes : tuple of str
        The suffixes that the writer knows; empty when any will do.
    inputs : tuple of Path
        Files that the command reads, and folders of such files.

    Raises
    ------
    InputError
        Naming the file and what to do.
    """
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, and a file is to be written. Give the name of a file.")
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {str(folder)!r} does not exist. Make it first, or write elsewhere.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} is not one of {', '.join(suffixes)}, which tell the format. "
            "Rename the output file."
        )
    for given in inputs:
        if not path.exists() or not given.exists():
            continue
        within = given.is_dir() and path.parent.samefile(given) and path.suffix.lower() in _READ_FROM_FOLDERS
        if within or path.samefile(given):
            raise InputError(f"{path}: this file is read by the same command and would be lost. Write elsewhere.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{path}: the folder {str(folder)!r} is not writable ({error.strerror}). "
            "Allow writing there, or write elsewhere."
        ) from error
