"""What `import normexp` loads and costs, and which floor may import which."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
HEAVY = ["numba", "torch", "matplotlib", "sklearn", "polars", "pyarrow", "skrub", "scipy", "pandas", "rich", "typer"]
MOST_MS = 60.0


def run_python(code, *paths):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def heavy_imports(package, *paths):
    """The heavy packages that a fresh interpreter has loaded after importing this one."""
    code = f"import sys, {package}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return run_python(code, *paths).split()


def import_ms(package, *paths):
    """The time of an import beyond NumPy's own: the least of five, since other work only adds."""
    code = (
        f"import time, numpy; start = time.perf_counter(); import {package}; print(1e3 * (time.perf_counter() - start))"
    )
    return min(float(run_python(code, *paths)) for _ in range(5))


def test_importing_normexp_loads_no_heavy_package():
    assert heavy_imports("normexp") == []


def test_reading_the_errors_and_the_version_loads_no_heavy_package():
    code = "import sys, normexp; normexp.NormexpError, normexp.__version__, dir(normexp); "
    assert run_python(code + f"print(*[m for m in {HEAVY!r} if m in sys.modules])") == ""


def test_a_softmax_loads_no_package_that_it_does_not_need():
    code = "import sys, normexp; normexp.softmax([1.0, 2.0]); "
    loaded = run_python(code + f"print(*[m for m in {HEAVY!r} if m in sys.modules])").split()
    assert set(loaded) <= {"numba", "scipy"}


SAVE = (
    "import normexp, numpy as np; m = normexp.SoftmaxClassifier().fit(np.eye(4), [0, 1, 0, 1]); normexp.save(m, {!r}); "
)


def test_saving_and_loading_load_no_library_that_scikit_learn_wraps(tmp_path):
    pytest.importorskip("torch", reason="nothing to load by the way")
    path = str(tmp_path / "model.nx")
    seen = "import sys; print(*[m for m in ('torch', 'dask.array') if m in sys.modules]); "
    assert run_python(SAVE.format(path) + seen) == ""
    assert run_python(f"import normexp; normexp.load({path!r}); " + seen) == ""
    after = "import torch, sklearn.externals.array_api_compat.torch as t; print(t.__name__)"
    assert run_python(SAVE.format(path) + after) == "sklearn.externals.array_api_compat.torch"
    assert "torch" in run_python("import skops.io; " + seen)  # what it would load by itself


def test_the_report_and_its_displays_are_imported_without_a_drawing_library():
    code = (
        "import sys, normexp.report, normexp.explain; normexp.report.ReliabilityDisplay, normexp.report.render_html; "
    )
    assert "matplotlib" not in run_python(code + f"print(*[m for m in {HEAVY!r} if m in sys.modules])").split()


def test_importing_normexp_is_quick():
    assert import_ms("normexp") <= MOST_MS


def test_a_planted_heavy_import_is_seen(tmp_path):
    (tmp_path / "planted.py").write_text("import numba\n")
    (tmp_path / "innocent.py").write_text("import json\n")
    assert "numba" in heavy_imports("planted", tmp_path)
    assert heavy_imports("innocent", tmp_path) == []


def test_a_planted_slow_import_is_seen(tmp_path):
    (tmp_path / "planted.py").write_text("import time\ntime.sleep(0.08)\n")
    assert import_ms("planted", tmp_path) > MOST_MS


# ---------------------------------------------------------------- floors


@pytest.fixture
def house(tmp_path):
    """A copy of the package and of its contracts, to plant things in."""
    source = REPO / "src" / "normexp"
    shutil.copytree(source, tmp_path / "normexp", ignore=shutil.ignore_patterns("__pycache__", "*.html", "*.css"))
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house):
    """(exit status, report) of the import linter over the copy."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=house, env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_floors_hold(house):
    status, report = lint(house)
    assert status == 0, report


PLANTS = {
    "upwards": ("base/errors.py", "from normexp.ops import softmax", "what stands lower"),
    "between siblings": ("tables/planted.py", "import normexp.rows", "what stands lower"),
    "past backends to the kernels": ("ops/planted.py", "import normexp.kernels.cpu", "Only backends"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_import_breaks_a_contract(house, plant):
    where, line, contract = PLANTS[plant]
    with (house / "normexp" / where).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    status, report = lint(house)
    assert status == 1, report
    broken = [row for row in report.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), report


def test_a_new_folder_must_take_its_place(house):
    (house / "normexp" / "attic").mkdir()
    (house / "normexp" / "attic" / "__init__.py").write_text('"""Planted."""\n')
    status, report = lint(house)
    assert status == 1
    assert "attic" in report
