"""Bytes of text files, decompressed on the way and checked to be UTF-8, with the place where they are not."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from normexp.base.errors import InputError

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")  # the byte order marks of both of its kinds
_LOOKED_AT: Final = 4096  # bytes of the beginning
BOM: Final = codecs.BOM_UTF8
_CHUNK_BYTES: Final = 1 << 20


class TextBytes(io.RawIOBase):
    """The bytes of a text file, plain or gzip, with the byte-order mark left out.

    Parameters
    ----------
    path : Path
        The file; a suffix ``.gz`` says that it is compressed.

    Raises
    ------
    InputError
        On reading: if the bytes are not UTF-8 (with the position), or the compressed file is broken.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file: io.BufferedIOBase = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._position = 0
        self.quotes = 0

    def readable(self) -> bool:
        """Say that it can be read: always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes.

        Parameters
        ----------
        size : int
            Number of bytes, -1 for all.

        Returns
        -------
        bytes
            What was read; empty at the end.
        """
        chunk = self._take(size)
        if self._position == 0 and chunk.startswith(BOM):
            self._position = len(BOM)
            chunk = chunk[len(BOM) :] or self._take(size)
        if self._position == 0 and (chunk.startswith(_UTF16) or b"\0" in chunk[:_LOOKED_AT]):
            raise InputError(f"{self._path}: {_not_text(chunk)}")
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            position = self._position - pending + error.start
            raise InputError(
                f"{self._path}: byte {position} is not UTF-8 (0x{error.object[error.start]:02x}). "
                f"Text files must be UTF-8; save the file as UTF-8 (for example with: iconv -f latin1 -t utf-8)."
            ) from None
        self._position += len(chunk)
        self.quotes += chunk.count(b'"')
        return chunk

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read into a buffer, as `io.BufferedReader` wants it.

        Parameters
        ----------
        buffer : memoryview
            Where the bytes go.

        Returns
        -------
        int
            Number of bytes read.
        """
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _take(self, size: int) -> bytes:
        """Bytes of the file, decompressed."""
        try:
            return self._file.read(size)
        except gzip.BadGzipFile:
            raise InputError(
                f"{self._path}: the name ends in .gz and the file is not gzip. Compress it, or take .gz off its name."
            ) from None
        except (EOFError, zlib.error):
            raise InputError(
                f"{self._path}: the compressed file is broken or ends too early. Copy or compress it again."
            ) from None


def _not_text(chunk: bytes) -> str:
    """What begins as no text in UTF-8 does, and what is to be done about it."""
    if chunk.startswith(_UTF16):
        return (
            "this is UTF-16 text, as some spreadsheets save it. Text files must be UTF-8; save it as UTF-8 (for "
            "example with: iconv -f utf-16 -t utf-8)."
        )
    return (
        "the file holds zero bytes, which no text does: it is of another kind than its name says. Give a text file, or "
        "the file its right suffix."
    )


def lines(path: Path, /) -> Iterator[str]:
    r"""Give the lines of a text file, plain or gzip, without their ends.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    str
        One line after the other; only ``\n`` and ``\r\n`` end a line.

    Raises
    ------
    InputError
        If the file is not UTF-8, or the compressed file is broken.
    """
    with io.BufferedReader(TextBytes(path), buffer_size=_CHUNK_BYTES) as file:
        for line in file:
            yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")


def check_file(path: Path, /) -> None:
    """Refuse what is not a file with something in it.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If it is missing, a folder, empty or not readable.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: this is a folder, and a file is expected. Give the name of a file in it.")
        if not path.exists():
            folder = path.parent
            hint = _neighbour(path) if folder.is_dir() else f"The folder {str(folder)!r} does not exist either"
            raise InputError(f"{path}: there is no such file. {hint}; correct the name.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except PermissionError:
        raise InputError(f"{path}: the file may not be read. Allow reading it, or give another file.") from None
    if size == 0:
        raise InputError(
            f"{path}: the file is empty (0 bytes). A header and rows are expected; give a file that has them."
        )


def _neighbour(path: Path) -> str:
    """Find the file in the folder whose name is most like the one asked for."""
    from difflib import get_close_matches  # noqa: PLC0415  (needed on this path only)

    names = sorted(other.name for other in path.parent.iterdir())
    close = get_close_matches(path.name, names, n=1)
    return f"The nearest name in its folder is {close[0]!r}" if close else "No file in its folder has a name like it"
