"""The file around a model: every byte of it is watched."""

import io
import json
import os
import tracemalloc
import zipfile

import pytest

import normexp as nx
from artifact.crafted import PAYLOAD, container, manifest_of, sealed_zip
from normexp.artifact.container import FORMAT, PAYLOAD_NAME, SEAL_BYTES, SEAL_PREFIX, read_container
from normexp.base.errors import ArtifactError


def refusal(path):
    """The one sentence with which a file is refused."""
    with pytest.raises(ArtifactError) as caught:
        nx.load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "model.nx"
    path.write_bytes(container())
    manifest, payload = read_container(path)
    assert payload == PAYLOAD
    assert manifest.format == FORMAT
    assert manifest.payload_bytes == len(PAYLOAD)
    assert manifest.model_class == "SoftmaxClassifier"


def test_a_model_file_is_a_zip_that_any_tool_lists():
    with zipfile.ZipFile(io.BytesIO(container())) as archive:
        assert archive.namelist() == ["manifest.json", PAYLOAD_NAME]
        assert archive.testzip() is None


def test_the_same_model_gives_the_same_bytes():
    assert container() == container()


def test_any_altered_byte_is_refused(tmp_path):
    """Every byte outside the payload, and every 97th inside it: headers, dates, flags, directory, comment, seal."""
    raw = container()
    path = tmp_path / "model.nx"
    start = raw.index(PAYLOAD)
    inside = set(range(start, start + len(PAYLOAD)))
    positions = [i for i in range(len(raw)) if i not in inside or i % 97 == 0]
    assert len(positions) > 500
    for position in positions:
        altered = bytearray(raw)
        altered[position] ^= 0x20
        path.write_bytes(altered)
        with pytest.raises(ArtifactError):
            read_container(path)


def test_the_zip_format_alone_would_miss_altered_bytes():
    """Why there is a seal: a date or a flag of a member may change without any checksum of the zip noticing."""
    raw = bytearray(container())
    raw[10] ^= 0x20  # the time in the first local header
    with zipfile.ZipFile(io.BytesIO(bytes(raw))) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("part", [0.001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999])
def test_a_truncated_model_file_is_refused(tmp_path, part):
    raw = container()
    path = tmp_path / "model.nx"
    path.write_bytes(raw[: max(5, int(len(raw) * part))])
    assert "truncated" in refusal(path)


def test_one_missing_byte_is_refused(tmp_path):
    path = tmp_path / "model.nx"
    path.write_bytes(container()[:-1])
    assert "truncated" in refusal(path)


def test_appended_bytes_are_refused(tmp_path):
    path = tmp_path / "model.nx"
    path.write_bytes(container() + b"\n")
    assert "altered at its end" in refusal(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "model.nx"
    path.touch()
    assert "empty" in refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    assert "there is no file" in refusal(tmp_path / "nowhere.nx")


def test_a_folder_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_device_is_refused():
    assert "not a regular file" in refusal("/dev/null")


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "model.nx"
    path.write_text("a,b\n1,2\n")
    assert "not a normexp model file" in refusal(path)


def test_a_foreign_zip_is_refused(tmp_path):
    path = tmp_path / "model.nx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x04N.")
    assert "zip archive, but not a normexp model file" in refusal(path)


def test_a_newer_format_is_refused_with_the_way_out(tmp_path):
    fields = manifest_of(container()) | {"format_version": 2, "normexp_version": "9.1"}
    path = tmp_path / "model.nx"
    path.write_bytes(sealed_zip([("manifest.json", json.dumps(fields)), (PAYLOAD_NAME, PAYLOAD)]))
    message = refusal(path)
    assert "format version 2 (written by normexp 9.1)" in message
    assert "pip install -U normexp" in message


def test_a_newer_format_may_have_other_fields(tmp_path):
    """The version is looked at before anything that a later format may change."""
    path = tmp_path / "model.nx"
    path.write_bytes(
        sealed_zip([("manifest.json", json.dumps({"format": FORMAT, "format_version": 3})), (PAYLOAD_NAME, b"")])
    )
    assert "update normexp" in refusal(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": "1"},
        {"format_version": 0},
        {"format_version": True},
        {"payload_bytes": len(PAYLOAD) + 1},
        {"payload_sha256": "0" * 64},
        {"versions": []},
        {"surprise": 1},
        {"format": "another"},
        {"model_class": "Pipeline"},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_though_the_seal_is_right(tmp_path, change):
    fields = manifest_of(container()) | change
    path = tmp_path / "model.nx"
    path.write_bytes(sealed_zip([("manifest.json", json.dumps(fields)), (PAYLOAD_NAME, PAYLOAD)]))
    refusal(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 60_000, "\ufeff{}"])
def test_a_manifest_that_is_no_object_is_refused(tmp_path, text):
    path = tmp_path / "model.nx"
    path.write_bytes(sealed_zip([("manifest.json", text), (PAYLOAD_NAME, PAYLOAD)]))
    refusal(path)


@pytest.mark.parametrize(
    "names",
    [["manifest.json"], [PAYLOAD_NAME, "manifest.json"], ["manifest.json", PAYLOAD_NAME, "../../evil.py"], []],
)
def test_other_members_than_the_two_are_refused(tmp_path, names):
    path = tmp_path / "model.nx"
    path.write_bytes(sealed_zip([(name, "{}") for name in names]))
    refusal(path)


def test_a_bomb_is_refused_before_it_unfolds(tmp_path):
    """64 MiB of zeros in 64 KiB; with a right seal."""
    fields = manifest_of(container())
    path = tmp_path / "model.nx"
    path.write_bytes(
        sealed_zip(
            [("manifest.json", json.dumps(fields)), (PAYLOAD_NAME, b"\0" * (1 << 26))], compression=zipfile.ZIP_DEFLATED
        )
    )
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    message = refusal(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "claims to hold more than its own" in message
    assert peak_bytes < 1 << 24


def test_the_seal_is_the_last_thing_in_the_file():
    raw = container()
    assert raw[-SEAL_BYTES:].startswith(SEAL_PREFIX)
    assert len(raw[-64:].decode("ascii")) == 64
