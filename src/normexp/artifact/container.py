"""The file around a model: a zip with a manifest, a payload and a seal.

A model file is a plain zip archive (any zip tool lists it) with two members and a comment:

- ``manifest.json``: what the file is (format, versions, class of the model, SHA-256 and size of the payload);
- ``payload.skops``: the model, as `normexp.artifact.payload` writes and checks it;
- the archive's comment, the very last bytes of the file, is the **seal**: the SHA-256 of the whole file with zeros in
  the place of these 64 digits.

The members are stored, not compressed, so this layer cannot unfold into more than its own size. The seal covers
also what the checksums of a zip leave out (dates, flags, the directory), so that no altered byte passes. It tells
accidents, not malice: whoever rewrites a file can seal it again. What a resealed file may contain is the business of
the payload's allow-list. The place and the form of the seal stay the same in all later versions of the format.
"""

import hashlib
import json
import os
import stat
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, cast, final

from normexp.base.errors import ArtifactError

FORMAT: Final = "normexp model"
FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
PAYLOAD_NAME: Final = "payload.skops"
MAX_MANIFEST_BYTES: Final = 1 << 16  # ours has under 1 KiB; a larger one is not ours
SEAL_PREFIX: Final = b"normexp seal sha256:"
SEAL_BYTES: Final = len(SEAL_PREFIX) + 64
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date a zip can say: the same model gives the same bytes
_CHUNK_BYTES: Final = 1 << 20
_NO_DIGITS: Final = b"0" * 64  # stands where the seal's digits come, while they are computed


@dataclass(frozen=True)
class Manifest:
    """What a model file says about itself.

    Parameters
    ----------
    format : str
        Always "normexp model".
    format_version : int
        Version of this layout; a reader refuses versions above its own.
    normexp_version : str
        The normexp that wrote the file.
    model_class : str
        Name of the class of the model, such as "SoftmaxClassifier".
    payload_sha256 : str
        SHA-256 of the payload, 64 hexadecimal digits.
    payload_bytes : int
        Size of the payload.
    versions : dict of str to str
        Versions of the packages that the model was made with.
    """

    format: str
    format_version: int
    normexp_version: str
    model_class: str
    payload_sha256: str
    payload_bytes: int
    versions: dict[str, str]


@final
class _HashingWriter:
    """A stream that only goes forward and hashes what passes; the zip writer then never seeks back."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def write(self, piece: bytes) -> int:
        """Pass a piece on."""
        self.digest.update(piece)
        return self._stream.write(piece)

    def flush(self) -> None:
        """Pass it on."""
        self._stream.flush()


def write_container(stream: IO[bytes], *, model_class: str, payload: bytes, versions: dict[str, str]) -> None:
    """Write manifest, payload and seal to an empty stream.

    Parameters
    ----------
    stream : binary file
        Open for writing, seekable, at its start.
    model_class : str
        Name of the class of the model.
    payload : bytes
        What `normexp.artifact.payload.pack` returned.
    versions : dict of str to str
        Versions of the packages in use; "normexp" must be among them.
    """
    manifest = Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        normexp_version=versions["normexp"],
        model_class=model_class,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        payload_bytes=len(payload),
        versions=versions,
    )
    hashing = _HashingWriter(stream)
    with zipfile.ZipFile(cast("IO[bytes]", hashing), "w", compression=zipfile.ZIP_STORED) as archive:
        text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
        archive.writestr(zipfile.ZipInfo(MANIFEST_NAME, _EPOCH), text)
        archive.writestr(zipfile.ZipInfo(PAYLOAD_NAME, _EPOCH), payload)
        archive.comment = SEAL_PREFIX + _NO_DIGITS
    stream.seek(-len(_NO_DIGITS), os.SEEK_END)
    stream.write(hashing.digest.hexdigest().encode())


def read_container(path: str | os.PathLike[str]) -> tuple[Manifest, bytes]:
    """Read a model file and check everything that this layer knows; nothing of the payload is interpreted.

    Parameters
    ----------
    path : str or path-like
        The model file.

    Returns
    -------
    tuple of (Manifest, bytes)
        The manifest and the payload, whole and unaltered.

    Raises
    ------
    ArtifactError
        For anything that is not an unaltered model file of this format version or an older one.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ArtifactError(f"load: {path} is not a regular file; give the path of a file that nx.save wrote.")
            return _read(stream, path)
    except FileNotFoundError:
        raise ArtifactError(f"load: there is no file {path}; give the path of a file that nx.save wrote.") from None
    except IsADirectoryError:
        raise ArtifactError(f"load: {path} is a folder; give the path of a file that nx.save wrote.") from None


def _read(stream: IO[bytes], path: Path) -> tuple[Manifest, bytes]:
    """Check the seal first, then the manifest, then the payload."""
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise ArtifactError(f"load: {path} is empty (0 bytes); copy the file again or save the model again.")
    stream.seek(0)
    head = stream.read(4)
    if head != b"PK\x03\x04":
        raise ArtifactError(f"load: {path} is {_what_it_looks_like(head)}; give a file that nx.save wrote.")
    stream.seek(max(size - SEAL_BYTES, 0))
    seal = stream.read(SEAL_BYTES)
    if len(seal) != SEAL_BYTES or not seal.startswith(SEAL_PREFIX):
        stream.seek(0)
        if MANIFEST_NAME.encode() not in stream.read(64):
            raise ArtifactError(
                f"load: {path} is a zip archive, but not a normexp model file; give a file that nx.save wrote."
            )
        raise ArtifactError(
            f"load: {path} is truncated or was altered at its end: the seal that closes a model file is not there; "
            "copy the file again or save the model again."
        )
    if seal[len(SEAL_PREFIX) :] != _digest(stream, size).encode():
        raise ArtifactError(
            f"load: {path} was altered or damaged after it was saved: its SHA-256 is not the one in its seal; "
            "copy the file again or save the model again."
        )
    try:
        with zipfile.ZipFile(stream) as archive:
            return _read_members(archive, path, size)
    # What zipfile raises on a sealed file that is no archive of ours: RuntimeError for encryption and (as its subclass)
    # unknown compression, EOFError and KeyError for members cut short or absent; UnicodeError is a manifest's.
    except (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, UnicodeError) as error:
        raise ArtifactError(f"load: {path} is not a well-formed model file ({error}); save the model again.") from error


def _read_members(archive: zipfile.ZipFile, path: Path, size: int) -> tuple[Manifest, bytes]:
    """Read both members; they must be the only ones, stored, and no larger than the file itself."""
    members = archive.infolist()
    if [member.filename for member in members] != [MANIFEST_NAME, PAYLOAD_NAME]:
        raise ArtifactError(
            f"load: {path} is a zip archive, but not a normexp model file; give a file that nx.save wrote."
        )
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > size or members[0].file_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(
            f"load: {path} claims to hold more than its own {size} bytes, as no file of nx.save does; "
            "it may be made to exhaust the memory, so it is not opened."
        )
    manifest = _parse_manifest(archive.read(members[0]), path)
    payload = archive.read(members[1])
    if len(payload) != manifest.payload_bytes or hashlib.sha256(payload).hexdigest() != manifest.payload_sha256:
        raise ArtifactError(f"load: the payload of {path} is not the one its manifest describes; save the model again.")
    return manifest, payload


def _parse_manifest(text: bytes, path: Path) -> Manifest:
    """Turn the manifest's JSON into a `Manifest`, version first, then every field and type."""
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ArtifactError(f"load: {path} has no manifest of a normexp model; give a file that nx.save wrote.")
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise ArtifactError(f"load: the manifest of {path} has the format version {version!r}; save the model again.")
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"load: {path} has format version {version} (written by normexp {str(fields.get('normexp_version'))[:40]}) "
            f"and this normexp reads up to {FORMAT_VERSION}; update normexp with: pip install -U normexp."
        )
    expected: dict[str, type] = {
        "format": str,
        "normexp_version": str,
        "model_class": str,
        "payload_sha256": str,
        "versions": dict,
    }
    expected |= {"format_version": int, "payload_bytes": int}
    wrong = [name for name, kind in expected.items() if type(fields.get(name)) is not kind]
    if wrong or set(fields) != set(expected):
        raise ArtifactError(f"load: the manifest of {path} is incomplete or has fields it should not have.")
    fields["versions"] = {str(name): str(version) for name, version in fields["versions"].items()}
    return Manifest(**fields)


def _digest(stream: IO[bytes], size: int) -> str:
    """Hash a file of ``size`` bytes in pieces, with zeros in the place of the seal's digits."""
    digest = hashlib.sha256()
    stream.seek(0)
    left = size - len(_NO_DIGITS)
    while left > 0 and (piece := stream.read(min(_CHUNK_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    digest.update(_NO_DIGITS)
    return digest.hexdigest()


def _what_it_looks_like(head: bytes) -> str:
    """Name what a file that is no model probably is, by its first bytes."""
    if head[:1] == b"\x80":
        return "a pickle, and loading a pickle can run any code, so normexp never opens one"
    if head == b"\x93NUM":
        return "a NumPy array, not a normexp model file"
    return "not a normexp model file"
