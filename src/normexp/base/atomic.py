"""Files that are either the old one or the new one, never half of one."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from normexp.base.errors import InputError


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str], /) -> Iterator[BinaryIO]:
    """Open a file that takes its place only when everything was written.

    What is written goes into a temporary file in the same folder, is forced to the disk, and then takes the place of
    `path` in one step. After an error, Ctrl-C or a kill, `path` is what it was before.

    Parameters
    ----------
    path : str or path-like
        The file to write. Its folder must exist.

    Yields
    ------
    binary file
        What to write to.

    Raises
    ------
    InputError
        If the folder is missing or not writable, `path` is a folder, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_atomically(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> (folder / "a.txt").read_bytes()
    b'whole'
    """
    place = Path(path)
    folder = place.parent
    if place.is_dir():
        raise InputError(f"{place}: this is a folder, and a file is to be written. Give the name of a file.")
    if place.exists() and not place.is_file():
        raise InputError(f"{place}: this is a device or a pipe, which a file cannot replace. Give the name of a file.")
    if not folder.is_dir():
        raise InputError(f"{place}: the folder {str(folder)!r} does not exist. Make it first, or write elsewhere.")
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{place.name[:100]}.", suffix=".part")
    except OSError as error:
        raise _refusal(place, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _keep_mode(temporary, place)
        os.replace(temporary, place)  # noqa: PTH105  (Path.replace hides that this is one step)
        _sync_folder(folder)
    except OSError as error:
        _remove(temporary)
        if error.errno in _REASONS and error.filename in (None, temporary, str(place)):
            raise _refusal(place, error) from None
        raise
    except BaseException:  # Ctrl-C too
        _remove(temporary)
        raise


_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space, or write elsewhere",
    errno.EDQUOT: "the quota of disk space is used up. Free some space, or write elsewhere",
    errno.EFBIG: "the file is larger than this file system takes. Write elsewhere",
    errno.EACCES: "the folder is not writable. Allow writing there, or write elsewhere",
    errno.EPERM: "the folder is not writable. Allow writing there, or write elsewhere",
    errno.EROFS: "the file system is read-only. Write elsewhere",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
    errno.EIO: "the disk reports an error. Write elsewhere",
}


def _refusal(place: Path, error: OSError) -> InputError:
    """Why a file cannot be written, as a sentence."""
    reason = _REASONS.get(error.errno or 0, f"the system says {error.strerror!r}. Write elsewhere")
    return InputError(f"{place}: the file cannot be written, because {reason}.")


def _remove(temporary: str) -> None:
    """Remove what was half written, if it is still there."""
    with contextlib.suppress(OSError):
        Path(temporary).unlink()


def _keep_mode(temporary: str, place: Path) -> None:
    """Give the new file the permissions of the old one, or those that a new file has here."""
    try:
        mode = place.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    Path(temporary).chmod(mode)


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)
