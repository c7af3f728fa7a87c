"""Look through a payload before anything of it is built, and refuse what is not on the list.

The payload is a zip: ``schema.json`` (a tree of nodes) and arrays in NumPy's own formats. The audit reads all of it as
plain text and headers. It imports nothing that the file names and builds nothing but dicts, lists and strings.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from normexp.artifact.allowlist import ALLOWED
from normexp.base.errors import ArtifactError

PROTOCOL: Final = 2  # of skops; the builders of older protocols were written with fewer precautions
SCHEMA_NAME: Final = "schema.json"
UNFOLD_LIMIT: Final = 200  # times its own size: the JSON of real models unfolds 10 to 40 times, a bomb 1000 times
UNFOLD_FLOOR_BYTES: Final = 64 << 20  # small files may unfold to this much in any case
MAX_DEPTH: Final = 200  # nodes inside nodes; fitted TableVectorizers stay under 60
_PLAIN_KINDS: Final = frozenset("biufSU")  # booleans, numbers and texts: the only dtypes an array may have
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def audit_payload(payload: bytes, /) -> None:
    """Refuse a payload that names anything outside the allow-list or would unfold beyond measure.

    Parameters
    ----------
    payload : bytes
        A zip with ``schema.json`` and arrays.

    Raises
    ------
    ArtifactError
        Naming the first thing that is not allowed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            names = _audit_members(archive, len(payload))
            schema = json.loads(archive.read(SCHEMA_NAME))
            _audit_nodes(schema, names)
            for name in sorted(names - {SCHEMA_NAME}):
                _audit_array(archive.read(name), name)
    except ArtifactError:
        raise
    except RecursionError:
        raise ArtifactError(
            "load: the payload has objects inside objects beyond any real model; it is not opened."
        ) from None
    # zipfile: BadZipFile, RuntimeError (encryption, unknown compression), EOFError, KeyError; json and NumPy's array
    # headers: ValueError, KeyError, OSError. Anything else is an error of ours and shall be seen.
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"load: the payload is not well-formed ({error}); save the model again.") from error


def _audit_members(archive: zipfile.ZipFile, size: int) -> set[str]:
    """Bound what the archive unfolds to, and return the names of its members."""
    members = archive.infolist()
    _check_unfolding(sum(member.file_size for member in members), size)
    names = {member.filename for member in members}
    if len(names) != len(members) or SCHEMA_NAME not in names:
        raise ArtifactError("load: the payload has no schema or has a member twice; save the model again.")
    foreign = sorted(name for name in names - {SCHEMA_NAME} if not name.endswith((".npy", ".npz")))
    if foreign:
        raise ArtifactError(
            f"load: the payload holds {foreign[0]!r}; a model file holds a schema and arrays, so it is not opened."
        )
    return names


def _check_unfolding(unfolded: int, size: int) -> None:
    """Refuse what claims to unfold to far more than its size. The zip reader holds members to their claim."""
    limit = max(UNFOLD_LIMIT * size, UNFOLD_FLOOR_BYTES)
    if unfolded > limit:
        raise ArtifactError(
            f"load: {size} bytes claim to unfold to {unfolded}, more than the limit of {limit}; "
            "the file may be made to exhaust the memory, so it is not opened."
        )


def _audit_nodes(schema: Any, names: set[str]) -> None:
    """Check the loader, the type and the member of every node."""
    if not isinstance(schema, dict) or schema.get("protocol") != PROTOCOL:
        found = schema.get("protocol") if isinstance(schema, dict) else None
        raise ArtifactError(
            f"load: the payload is in protocol {found!r} of skops and this normexp reads {PROTOCOL}; "
            "install a normexp of the time, or save the model again."
        )
    arrays: dict[int, tuple[object, ...]] = {}
    for node in _nodes(schema):
        loader, module, name = node["__loader__"], node.get("__module__"), node.get("__class__")
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ArtifactError("load: a node of the payload has no module or class; save the model again.")
        if f"{module}.{name}" not in ALLOWED.get(loader, frozenset()):
            raise ArtifactError(
                f"load: the payload names {module}.{name} (as a {loader}), which is not on normexp's list of harmless "
                "types; it could run code, so it is not opened."
            )
        if "file" in node and node["file"] not in names:
            raise ArtifactError(f"load: the payload lacks its member {node['file']!r}; save the model again.")
        if "__id__" in node:
            _audit_number(node, arrays)
        if module == "sklearn.feature_extraction.text":
            _audit_text_encoder(node)


def _audit_number(node: dict[str, Any], arrays: dict[int, tuple[object, ...]]) -> None:
    """Allow numbers on arrays only, one number for one array.

    The builder takes a number that it knows for what it built before, whatever else the node says: elsewhere, or on two
    different arrays, a number would let a file show one thing to this audit and build another.
    """
    number, kind = node["__id__"], (node["__loader__"], node.get("type"))
    if type(number) is not int or kind not in (("NdArrayNode", "numpy"), ("SparseMatrixNode", "scipy")):
        raise ArtifactError("load: the payload numbers an object that is no array; it is not opened.")
    what = (*kind, node["__module__"], node["__class__"], node.get("file"))
    if arrays.setdefault(number, what) != what:
        raise ArtifactError("load: the payload has two different arrays of one number; it is not opened.")


def _audit_text_encoder(node: dict[str, Any]) -> None:
    """Refuse text encoders that would read files named by the rows they are given."""
    try:
        option = node["content"]["content"].get("input")
    except (KeyError, TypeError, AttributeError):
        raise ArtifactError("load: the payload has a text encoder without its options; save the model again.") from None
    if option is None:  # a TfidfTransformer
        return
    if not isinstance(option, dict) or (option.get("__loader__"), option.get("content")) != ("JsonNode", '"content"'):
        raise ArtifactError(
            "load: the payload has a text encoder that would open files which a table names; only input='content' is "
            "loaded."
        )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dict with a loader, at any depth, without recursion."""
    waiting = [(tree, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > 4 * MAX_DEPTH:  # a node is up to four levels of JSON
            raise RecursionError
        if isinstance(item, dict):
            if isinstance(item.get("__loader__"), str):  # a column may be called __loader__ too: then it is a dict
                yield item
            waiting.extend((value, depth + 1) for value in item.values())
        elif isinstance(item, list):
            waiting.extend((value, depth + 1) for value in item)


def _audit_array(raw: bytes, name: str) -> None:
    """Check that an array file holds a plain dtype and exactly as many bytes as its shape needs."""
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            _check_unfolding(sum(member.file_size for member in members), len(raw))
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise ArtifactError(f"load: {name} holds {member.filename!r}, which is not an array.")
                _audit_array(archive.read(member), f"{name}/{member.filename}")
        return
    stream = io.BytesIO(raw)
    read_header = _HEADERS.get(np.lib.format.read_magic(stream))
    if read_header is None:
        raise ArtifactError(f"load: the array {name} is of a NumPy format that this version does not read.")
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or dtype.kind not in _PLAIN_KINDS:
        raise ArtifactError(
            f"load: the array {name} has the dtype {dtype}, which can hold pickles; only numbers, booleans and texts "
            "are loaded."
        )
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != len(raw) - stream.tell():
        raise ArtifactError(f"load: the array {name} has not the size that its shape {shape} needs.")
