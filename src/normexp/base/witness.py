"""A file as it was when it was opened: who reads it many times finds out when it is no longer that."""

from pathlib import Path
from typing import final

from normexp.base.errors import InputError


@final
class Witness:
    """A file as it was when it was opened; tells when it is no longer that.

    Parameters
    ----------
    path : Path
        The file.
    of : str
        Who reads it, for sentences.
    """

    def __init__(self, path: Path, *, of: str) -> None:
        self.path, self._of = path, of
        try:
            self._seen = self._look()
        except OSError as error:
            raise InputError(f"{of}: {str(path)!r} cannot be read ({error.strerror}); give a file that can.") from None

    def check(self) -> None:
        """Refuse to go on with a file that was changed or is gone."""
        try:
            same = self._look() == self._seen
        except OSError as error:
            raise InputError(
                f"{self._of}: {str(self.path)!r} cannot be read any more ({error.strerror}); put it back "
                "and start again."
            ) from None
        if not same:
            raise InputError(
                f"{self._of}: {str(self.path)!r} was changed since it was opened, so the rows are no longer those of "
                "the pass before; put it back as it was, or start again with the new rows."
            )

    def unreadable(self, error: Exception) -> InputError:
        """Say that its content cannot be read, and why."""
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        return InputError(
            f"{self._of}: {str(self.path)!r} cannot be read ({reason}); put a whole file in its place and start again."
        )

    def _look(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_size, found.st_mtime_ns
