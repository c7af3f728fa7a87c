"""A file is the old one or the new one; predictions are written as they are made."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from normexp.base.errors import InputError
from normexp.tables import Predictions, write_atomically, write_predictions


def block(n=3, *, top=False, labels=None):
    prob = np.linspace(0.5, 0.9, n)
    label = np.array((labels or ["a", 'b,"\n', "ü"])[:n] if labels is None else labels)
    ranked = np.column_stack([label, label])
    return Predictions(
        label, prob, np.log(prob), 1 - prob, ranked if top else None, np.column_stack([prob, 1 - prob]) if top else None
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
def test_predictions_read_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    seen = []
    written = write_predictions(
        iter([block(top=True), block(top=True)]), path, progress=lambda done, total: seen.append((done, total))
    )
    frame = pl.read_csv(path) if suffix.lower() == ".csv" else pl.read_parquet(path)
    assert (written, seen) == (6, [(3, None), (6, None)])
    assert frame.columns == [
        *["label", "probability", "log_probability", "entropy"],
        *["top_1", "top_1_probability", "top_2", "top_2_probability"],
    ]
    assert frame["label"].to_list() == ["a", 'b,"\n', "ü"] * 2
    assert frame["log_probability"].to_list() == np.log(np.linspace(0.5, 0.9, 3)).tolist() * 2  # to the last bit


def test_whole_number_labels_stay_numbers(tmp_path):
    path = tmp_path / "out.parquet"
    write_predictions(iter([block(2, labels=[7, 10])]), path)
    assert pl.read_parquet(path)["label"].to_list() == [7, 10]


def test_an_unknown_suffix_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match=r"\.csv or \.parquet, and the suffix is '\.xlsx'"):
        write_predictions(iter([block()]), tmp_path / "out.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, suffix, error):
    path = tmp_path / f"out{suffix}"
    path.write_text("old")

    def broken():
        yield block()
        raise error

    with pytest.raises(error):
        write_predictions(broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_and_a_folder_as_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere' does not exist"), write_atomically(tmp_path / "nowhere" / "a"):
        pass
    with pytest.raises(InputError, match="this is a folder"), write_atomically(tmp_path):
        pass


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "not writable"), (errno.EROFS, "read-only")],
)
def test_a_disk_that_refuses_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, code, words):
    def refuse(handle):
        raise OSError(code, os.strerror(code))

    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=words), write_atomically(path) as file:
        file.write(b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_a_disk_that_is_full_in_truth_is_a_sentence(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "t.part")))
    with pytest.raises(InputError, match="the disk is full"), write_atomically(tmp_path / "a") as file:
        file.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="not writable"), write_atomically(tmp_path / "a"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_an_error_of_other_work_inside_is_not_mistaken_for_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a"):
        (tmp_path / "absent").read_text()


def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path):
    path = tmp_path / "a"
    with write_atomically(path) as file:
        file.write(b"1")
    (tmp_path / "b").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode
    path.chmod(0o640)
    with write_atomically(path) as file:
        file.write(b"2")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_in_the_middle_of_writing_leaves_the_old_file(tmp_path, sign):
    path = tmp_path / "a.csv"
    path.write_text("old")
    code = (
        "import sys, time\n"
        "from normexp.tables import write_atomically\n"
        "with write_atomically(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout.readline() == b"writing\n"
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file is there: the kill does come in the middle
        began = time.monotonic()
        child.send_signal(sign)
        child.wait(timeout=30)
        assert time.monotonic() - began < 30
    assert path.read_text() == "old"
    if sign == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [path]


def test_a_plain_write_would_have_lost_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def write_plainly():
        with path.open("w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plainly()
    assert path.read_text() == "half"


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="a device or a pipe"), write_atomically(pipe):
        pass
    assert pipe.is_fifo()
