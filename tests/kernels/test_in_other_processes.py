"""The kernels as plain Python, with every index checked, and where no folder can keep the compiled code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PART = "probabilities or many_classes or losses or likeliest or infinities"
PROGRAM = (
    "import hashlib, numpy as np, normexp as nx; "
    "x = (9 * np.random.default_rng(0).standard_normal((5, 301))).astype(np.float32); "
    "print(hashlib.sha256(nx.softmax(x).tobytes()).hexdigest())"
)


def run(arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def subset(**environment):
    """A part of ``test_against_the_oracle.py`` under pytest, in a process of its own."""
    options = ["-k", PART, "-q", "-p", "no:cacheprovider"]
    return run(["-m", "pytest", str(HERE / "test_against_the_oracle.py"), *options], **environment)


def test_without_jit_the_kernels_keep_their_bounds_silently():
    done = subset(NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_with_bounds_checking_no_kernel_reads_outside_its_arrays(tmp_path):
    done = subset(NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_bounds_checking_sees_an_index_outside(tmp_path):
    """The check above can fail: a target beyond the classes, which the door would refuse."""
    code = (
        "import numpy as np; from normexp.kernels.cpu.cross_entropy import index_rows; "
        "index_rows(np.zeros((1, 3)), np.array([3]), np.ones(1), 0.0, 0.0, 0.0, True, 1.0, np.ones(1), np.ones((0, 0)))"
    )
    done = run(["-c", code], NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert "IndexError" in done.stderr


def test_a_cache_folder_that_cannot_be_made_does_no_harm(tmp_path):
    """A file stands where the folder should be: even the superuser cannot write below it."""
    (tmp_path / "file").write_text("")
    expected = run(["-c", PROGRAM])
    done = run(["-W", "error", "-c", PROGRAM], NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == expected.stdout != ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_cache_folder_does_no_harm(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o500)
    expected = run(["-c", PROGRAM])
    done = run(["-W", "error", "-c", PROGRAM], NUMBA_CACHE_DIR=str(folder))
    folder.chmod(0o700)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == expected.stdout != ""


def test_compiled_code_is_kept_and_found_again(tmp_path):
    compiled = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    first = run(["-c", PROGRAM], **compiled)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    again = run(["-c", PROGRAM], **compiled)
    assert first.stdout == again.stdout != ""
    assert any("softmax" in path.name for path in kept)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept
