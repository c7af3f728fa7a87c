"""The Triton kernels: on a GPU where there is one, else in Triton's interpreter; and compiled for one in any case."""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
CASES = sorted(path.name for path in HERE.glob("cases_*.py"))
# tests/torch is itself a folder "torch" on the path, so the name alone proves nothing
HAS_TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("torch.library") is not None
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(
    not (HAS_TORCH and HAS_TRITON),
    reason="triton is not installed (there are wheels for Linux only); pip install 'normexp[gpu]'",
)


# The interpreter multiplies by NumPy: with kernels of OpenBLAS that add the terms of all rows in one order, as GPUs do
ALIKE = {"OPENBLAS_CORETYPE": "Nehalem"} if platform.machine() in ("x86_64", "AMD64") else {}


def run(*command, interpret):
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPO, env={**os.environ, "TRITON_INTERPRET": interpret, **ALIKE},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def has_gpu():
    done = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"],
        cwd=REPO, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout.strip() == "True"


@needs_triton
def test_the_kernels_do_what_their_cases_say():
    files = [str(HERE / name) for name in CASES]
    options = ["-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning"]
    done = run(*options, *files, interpret="0" if has_gpu() else "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@needs_triton
def test_every_kernel_compiles_for_a_gpu():
    """Down to the machine's code, which needs no GPU: the interpreter forgives what the compiler does not."""
    done = run(str(HERE / "compiled.py"), interpret="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all kernels compiled" in done.stdout


def test_the_cpu_never_loads_triton():
    code = (
        "import sys, normexp as nx; nx.softmax([1.0, 2.0])\n"
        "try:\n    import torch\nexcept ModuleNotFoundError:\n    pass\n"
        "else:\n    before = 'triton' in sys.modules\n"
        "    nx.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]))\n"
        "    assert before or 'triton' not in sys.modules\n"
        "print([name for name in sys.modules if name.startswith('normexp.kernels.gpu')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO / "src", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_benchmark_refuses_in_a_sentence_without_a_gpu():
    done = subprocess.run(
        [sys.executable, str(REPO / "bench" / "gpu" / "bench_gpu.py")],
        cwd=REPO, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("bench_gpu: ")
    assert len(done.stderr.splitlines()) == 1
