"""Model files made by hand, as somebody who knows the format would make them."""

import hashlib
import io
import json
import zipfile

import numpy as np

from normexp.artifact.audit import PROTOCOL
from normexp.artifact.container import SEAL_PREFIX, write_container

PAYLOAD = bytes(np.random.default_rng(7).integers(0, 256, 3000, dtype=np.uint8))


def container(payload=PAYLOAD, **changes):
    """The bytes of a file around any payload."""
    stream = io.BytesIO()
    options = {"model_class": "SoftmaxClassifier", "payload": payload, "versions": {"normexp": "0.1.0"}}
    write_container(stream, **{**options, **changes})
    return stream.getvalue()


def sealed_zip(members, compression=zipfile.ZIP_STORED):
    """A zip of anything with a right seal, as somebody who knows the format would make it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
        archive.comment = SEAL_PREFIX + b"0" * 64
    raw = stream.getvalue()
    return raw[:-64] + hashlib.sha256(raw).hexdigest().encode()


def manifest_of(raw):
    """The manifest of a file, as a dict."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return json.loads(archive.read("manifest.json"))


def node(loader, full_name, **fields):
    """One node of a skops schema."""
    module, _, name = full_name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": name, **fields}


def text(value):
    """A value that JSON can say."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def items(*values):
    """A tuple."""
    return node("TupleNode", "builtins.tuple", content=list(values))


def mapping(**values):
    """A dict with keys of text."""
    key_types = node("ListNode", "builtins.list", content=[node("TypeNode", "builtins.str") for _ in values])
    return node("DictNode", "builtins.dict", content=values, key_types=key_types)


def payload(tree, *, protocol=PROTOCOL, **members):
    """A payload as skops would write it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("schema.json", json.dumps({**tree, "protocol": protocol, "_skops_version": "0.16.0"}))
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()
