"""The model as bytes and back: skops builds and takes apart, the allow-list rules."""

import io
import json
import sys
import warnings
import zipfile
from typing import Any, Final

from normexp.artifact.allowlist import ENUMS, TRUSTED
from normexp.artifact.audit import SCHEMA_NAME, audit_payload
from normexp.base.errors import ArtifactError, NormexpWarning

_WRAPPERS: Final = tuple(f"sklearn.externals.array_api_compat.{name}" for name in ("torch", "dask", "cupy"))
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def pack(model: Any, /) -> bytes:
    """Take a model apart into bytes that `unpack` accepts.

    Parameters
    ----------
    model : estimator
        A fitted estimator, made only of types on the allow-list.

    Returns
    -------
    bytes
        A zip: the schema compressed, the arrays as they are. The same model gives the same bytes.

    Raises
    ------
    ArtifactError
        Where the model holds something that no file may name; it says what.

    Notes
    -----
    The audit of loading runs here too: a file that could not be read back is never written.
    """
    skops_io = _skops_io()
    from skops.io.exceptions import UnsupportedTypeException  # noqa: PLC0415  (skops loads scikit-learn)

    try:
        payload = _compact(skops_io.dumps(model))
    except (UnsupportedTypeException, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"save: a part of this {type(model).__name__} cannot be written without pickle ({error}); "
            "replace it by a part without functions of your own."
        ) from error
    try:
        audit_payload(payload)
    except ArtifactError as error:
        raise ArtifactError(
            f"save: this {type(model).__name__} holds a part that a model file may not name; replace it. "
            f"What a reader would say: {error}"
        ) from error
    return payload


def unpack(payload: bytes, /) -> Any:
    """Build the model from its bytes, after the audit of every name in it.

    Parameters
    ----------
    payload : bytes
        What `pack` returned, or what somebody claims it did.

    Returns
    -------
    estimator
        The model.

    Raises
    ------
    ArtifactError
        Where the payload names a type outside the allow-list, or is not well-formed.
    """
    audit_payload(payload)
    skops_io = _skops_io()
    from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415  (loads scikit-learn)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = skops_io.loads(payload, trusted=TRUSTED)
        except MemoryError:
            raise
        # The audit has bounded what can happen here to building listed types from hostile attributes; whatever
        # they raise means the same to the reader.
        except Exception as error:
            raise ArtifactError(
                f"load: the payload cannot be built with the installed packages ({type(error).__name__}: {error}); "
                "install the versions that its manifest names, or fit and save the model again."
            ) from error
    for item in caught:
        if isinstance(item.message, InconsistentVersionWarning):
            message = item.message
            warnings.warn(
                f"load: the model was fitted with scikit-learn {message.original_sklearn_version}, and the installed "
                f"one is {message.current_sklearn_version}; predictions may differ, so fit it again where they matter.",
                NormexpWarning,
                stacklevel=3,
            )
            break
    return model


def _skops_io() -> Any:
    """skops.io, without the libraries that it would load by the way: PyTorch alone is 250 MB.

    It lists scikit-learn's estimators, and for that walks through all of its packages, those among them that wrap
    other libraries. The walk passes over what cannot be imported.
    """
    hidden = [name for name in _WRAPPERS if name not in sys.modules] if "skops.io" not in sys.modules else []
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(hidden))  # None: cannot be imported
    try:
        import skops.io  # noqa: PLC0415  (loads scikit-learn)
    finally:
        for name in hidden:
            del modules[name]
    return skops.io


def _compact(dumped: bytes) -> bytes:
    """Rewrite what skops dumped: arrays numbered in order, the schema compressed, the arrays as they are.

    skops names objects by their memory address and members after them, and repeats the description of every number:
    without this the same model would give other bytes in each process, and a vocabulary would take 1 KiB a word.
    Only arrays keep a number: a reader takes a known number for what it built before, whatever else the node says, so
    that numbers elsewhere would let a file show one thing to the audit and build another.
    """
    numbers: dict[Any, int] = {}
    renamed: dict[str, str] = {}

    def renumber(item: Any) -> Any:
        """Rewrite one dict of the schema; called from the leaves up."""
        if not isinstance(item.get("__loader__"), str):  # the content of a dict, with keys of its own
            return item
        identity = item.pop("__id__", None)
        if identity is not None and "file" in item:  # an array that is held twice is built once
            item["__id__"] = numbers.setdefault(identity, len(numbers) + 1)
        if item["__loader__"] == "ObjectNode" and f"{item['__module__']}.{item['__class__']}" in ENUMS:
            # skops notes the attributes of a member, from which no Enum can be rebuilt: its value is enough
            value = item["content"]["content"]["_value_"]
            item["__loader__"] = "ConstructorFromReduceNode"
            item["content"] = {
                "__loader__": "TupleNode",
                "__module__": "builtins",
                "__class__": "tuple",
                "content": [value],
            }
        if isinstance(item.get("file"), str):
            item["file"] = renamed.setdefault(item["file"], f"{len(renamed)}.{item['file'].rpartition('.')[2]}")
        return item

    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(dumped)) as source, zipfile.ZipFile(stream, "w") as target:
        schema = json.loads(source.read(SCHEMA_NAME), object_hook=renumber)
        text = json.dumps(schema, separators=(",", ":"))
        # level 6: the schema of a large vocabulary is tens of MB of repetition, 40 times smaller after it
        target.writestr(zipfile.ZipInfo(SCHEMA_NAME, _EPOCH), text, zipfile.ZIP_DEFLATED, 6)
        for old, new in renamed.items():
            target.writestr(zipfile.ZipInfo(new, _EPOCH), source.read(old), zipfile.ZIP_STORED)
    return stream.getvalue()
