"""Folders for rows that do not fit into memory: removed at the end, and by the next one after a kill."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_PREFIX: Final = "normexp-"
_LOCK: Final = "lock"  # held by the process that made the folder; the system gives it free when that ends, however


def scratch_folder() -> Path:
    """Where large temporary files go: TMPDIR, else /var/tmp, since /tmp may be a disk in memory, else the system's."""
    if not os.environ.get("TMPDIR") and os.access("/var/tmp", os.W_OK | os.X_OK):  # noqa: S108  (files there get names of their own)
        return Path("/var/tmp")  # noqa: S108  (files there get names of their own)
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def scratch(place: Path, /) -> Iterator[Path]:
    """A new folder, which lasts as long as the context.

    Parameters
    ----------
    place : Path
        The folder to make it in.

    Yields
    ------
    Path
        The new folder.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / f"{_LOCK}.new").open("wb") as file:
            # under its name only once it is held: a free lock is what tells a folder that nobody needs
            if _locked(file):
                (folder / f"{_LOCK}.new").rename(folder / _LOCK)
            yield folder


def remove_abandoned(place: Path, /) -> int:
    """Remove the folders of processes that were killed.

    Parameters
    ----------
    place : Path
        The folder that they were made in.

    Returns
    -------
    int
        How many there were. Those of other users, and of processes that live, are left alone.
    """
    removed = 0
    if os.name == "nt":  # which has neither such locks nor such owners
        return 0
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r+b") as file:
                if _locked(file):
                    shutil.rmtree(folder)
                    removed += 1
    return removed


def _locked(file: Any) -> bool:
    """Lock an open file; False if another process holds it, or the system has no such locks."""
    try:
        import fcntl  # noqa: PLC0415  (POSIX alone has it)
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
