"""What only a process of its own can show: signals, closed pipes, full disks, terminals."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from cli.conftest import COMMAND, fruit

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, limits and terminals of POSIX")


@contextmanager
def running(*arguments, **options):
    """A command that is still running; it is ended at the end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen([COMMAND, *map(str, arguments)], **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(condition, process, seconds=60):
    """Wait until something is so, while the process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def one_sentence(err):
    assert "Traceback" not in err, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("normexp: ")
    return lines[0]


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory):
    """A table that takes some seconds to predict."""
    path = tmp_path_factory.mktemp("many") / "many.parquet"
    pl.concat([fruit(2000)] * 150).write_parquet(path)
    return path


def test_a_wrong_file_gives_one_sentence_and_debug_the_traceback(installed, tmp_path):
    plain = installed("evaluate", tmp_path / "none.nx", tmp_path / "none.csv")
    assert (plain.status, plain.out) == (2, "")
    assert "there is no file" in one_sentence(plain.err)
    debugged = installed("evaluate", tmp_path / "none.nx", tmp_path / "none.csv", "--debug")
    assert (debugged.status, debugged.out) == (2, "")
    assert "Traceback (most recent call last)" in debugged.err
    assert "ArtifactError" in debugged.err
    assert plain.err.strip() in debugged.err


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "normexp", "softmax", "0", "0", "--json"], capture_output=True, text=True, check=True
    )
    assert '"probabilities": [0.5, 0.5]' in done.stdout


@pytest.mark.parametrize("delay_seconds", [0.0, 0.4])
def test_ctrl_c_while_predictions_are_written_leaves_nothing(model, many_rows, tmp_path, delay_seconds):
    out = tmp_path / "p.csv"
    out.write_text("old")
    with running("predict", model, many_rows, "-o", out) as process:
        wait_for(lambda: list(tmp_path.glob(".*.part")), process)
        time.sleep(delay_seconds)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "interrupted" in one_sentence(stderr)
    assert stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert out.read_text() == "old"


def test_ctrl_c_during_a_fit_leaves_nothing(many_rows, tmp_path):
    with running("fit", many_rows, "--target", "kind", "-o", tmp_path / "m.nx") as process:
        maps = Path(f"/proc/{process.pid}/maps")
        if maps.exists():  # polars is loaded: the fit has begun
            wait_for(lambda: "polars" in maps.read_text(), process)
        else:
            time.sleep(2.0)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "interrupted" in one_sentence(stderr)
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


LOST = """
import signal, sys, time
from normexp.cli import app

class Part:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work(arguments):
    if "forgotten" in arguments:
        sys.unraisablehook = lambda unraisable: None
    Part()
    for _ in range(100):
        time.sleep(0.02)
    return 0

app._invoke = work
sys.exit(app.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(("how", "status"), [("sent again", 2), ("forgotten", 0)])
def test_ctrl_c_during_a_clean_up_is_not_lost(how, status):
    """Python cannot raise it there, and lets it go: so it does without the hook, and the work goes on."""
    done = subprocess.run([sys.executable, "-c", LOST, how], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert ("interrupted" in done.stderr) is (status == 2)


def test_a_closed_pipe_is_quiet(tmp_path):
    table = tmp_path / "logits.txt"
    table.write_text("1 2 3\n" * 20_000)
    with running("softmax", table) as process:
        assert process.stdout.readline() == "row 0\n"
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_full_standard_output_is_told(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [COMMAND, "softmax", "1", "2"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert "No space left on device" in one_sentence(done.stderr)


@contextmanager
def small_disk(folder, kib=256):
    """A file system of its own with little space, where this user may mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="this system has no mount")
def test_a_full_disk_leaves_the_old_file(installed, call, model, many_rows, tables, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        out = disk / "p.csv"
        out.write_text("old")
        done = installed("predict", model, many_rows, "-o", out)
        assert (done.status, done.out) == (2, "")
        assert "disk is full" in one_sentence(done.err)
        assert str(out) in done.err
        assert out.read_text() == "old"
        assert [path.name for path in disk.iterdir()] == ["p.csv"]
        (disk / "filler").write_bytes(b"x" * 240 * 1024)
        for arguments in (
            ["fit", tables / "fruit.csv", "--target", "kind", "-o", disk / "m.nx"],
            ["report", model, tables / "fruit.csv", "-o", disk / "r.html"],
            ["softmax", "2", "1", "--plot", disk / "b.png"],
        ):
            failed = call(*arguments)
            assert (failed.status, failed.out) == (2, "")
            assert "disk is full" in one_sentence(failed.err)
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "p.csv"]


def test_a_limit_on_file_sizes_leaves_the_old_file(model, many_rows, tmp_path):
    """The same promise where nothing can be mounted."""
    out = tmp_path / "p.csv"
    out.write_text("old")
    limit = 200_000
    done = subprocess.run(
        [COMMAND, "predict", str(model), str(many_rows), "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert str(out) in one_sentence(done.stderr)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


COLOUR = r"\x1b\[[0-9;]*3[0-9]m"  # an escape that sets the colour of what follows


def on_a_terminal(*arguments, **environment):
    """What a command shows on a terminal of 80 columns."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
    }
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**kept, "TERM": "xterm-256color", **environment},
        close_fds=True,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    return process.wait(timeout=60), shown.decode()


def test_colours_come_on_a_terminal_only_and_never_with_no_color(model, tables):
    status, shown = on_a_terminal("evaluate", model, tables / "fruit.csv")
    assert status == 0
    assert re.search(COLOUR, shown)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert max(map(len, plain.splitlines())) <= 80
    status, shown = on_a_terminal("evaluate", model, tables / "fruit.csv", NO_COLOR="1")
    assert status == 0
    assert not re.search(COLOUR, shown)


def test_softmax_on_a_terminal_without_logits_says_what_to_give():
    """It does not wait for somebody to type."""
    status, shown = on_a_terminal("softmax")
    assert status == 2
    assert "give numbers (normexp softmax 2.0 1.0 0.1)" in " ".join(shown.split())


def test_help_starts_quickly_because_it_loads_nothing_heavy():
    heavy = {
        "numba",
        "sklearn",
        "skrub",
        "polars",
        "pyarrow",
        "matplotlib",
        "torch",
        "scipy",
        "pandas",
        "skops",
        "jinja2",
    }
    script = (
        "import sys; from normexp.cli.app import run; status = run(['--help']); "
        f"print(sorted({heavy!r} & set(sys.modules)), status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] 0"


@pytest.mark.parametrize("home", ["/proc/nowhere", "empty"])
def test_no_home_folder_is_needed_and_no_data_folder_is_left_in_one(model, tables, tmp_path, home):
    (tmp_path / "empty").mkdir()
    home = tmp_path / home  # an absolute path stays what it is
    environment = {key: value for key, value in os.environ.items() if key != "SKB_DATA_DIRECTORY"} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "normexp", "predict", model, tables / "fruit.csv", "-o", tmp_path / "p.csv"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "p.csv").exists()
    assert not (home / "skrub_data").exists()
