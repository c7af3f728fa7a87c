"""Rows in memory, in a .npy file, in Parquet and in a memory map: time, peak memory beyond the start, passes.

    python bench/out_of_core.py [--output bench/results/out_of_core.md]
    python bench/out_of_core.py --only memory --classes 1000

The sizes by default are 50 000 x 768 float32 (154 MB) with 100 classes for the first four ways, and 200 000 rows of
40 numbers and two columns of words (68 MB) with 4 classes for the last two, which are what `normexp fit --plain -C 1`
does; they are meant for six minutes on two quiet cores. What was measured is kept in a .jsonl file beside the output
after each way, and the same command goes on where it was stopped.

Prediction, written before the first run: reading 150 MB of float32 a pass costs 0.05 s from a .npy file in the page
cache and 0.3 s from Parquet, against 0.5 s of products on two cores; so disk is 1.2 and 1.6 times as slow as memory,
and twice where probabilities are computed anew. Peak memory beyond X: in memory 100 MB (K = 100) and 300 MB (K = 1 000,
of which 200 MB are the probabilities); on disk 150 MB and X not at all. At most 60 passes. The table takes 500 MB in
memory and 250 MB with a limit of 100 MB (the solver's own part does not shrink with it), and twice the time: it is read
three times, and its encoded rows are written once.

Each way runs in a process of its own; peaks are VmHWM of /proc (Linux), counted from after the imports and, in memory,
after X is loaded.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

WAYS = ("memory", "npy", "parquet", "memmap", "table", "table, 100 MB")
TABLE_ROWS, TABLE_NUMBERS, TABLE_LIMIT = 200_000, 40, 100_000_000


def make(folder: Path, n_rows: int, n_features: int, n_classes: int, separation: float) -> None:
    """Clusters of unit spread around random centres, in float32; classes overlap."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    centres = separation * rng.standard_normal((n_classes, n_features), dtype=np.float32)
    y = rng.integers(0, n_classes, n_rows)
    X = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(n_rows, n_features))
    (folder / "shards").mkdir()
    for k, first in enumerate(range(0, n_rows, 10_000)):
        here = slice(first, min(first + 10_000, n_rows))
        X[here] = rng.standard_normal((here.stop - first, n_features), dtype=np.float32) + centres[y[here]]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(X[here].ravel()), n_features)
        pq.write_table(pa.table({"embedding": vectors, "label": y[here]}), folder / "shards" / f"part-{k:04}.parquet")
    X.flush()
    np.save(folder / "y.npy", y)


def make_table(folder: Path, n_rows: int) -> None:
    """Numbers in several units and two columns of words, in four Parquet files."""
    import polars as pl

    rng = np.random.default_rng(1)
    slope = 0.3 * rng.normal(size=(TABLE_NUMBERS, 4))
    folder.mkdir()
    for k in range(4):
        X = rng.normal(size=(n_rows // 4, TABLE_NUMBERS))
        kind = (X @ slope + rng.gumbel(size=(n_rows // 4, 4))).argmax(axis=1)
        columns = {f"x{j}": 10.0 ** (j % 5) * X[:, j] for j in range(TABLE_NUMBERS)}
        columns["colour"] = rng.choice(["red", "green", "blue"], n_rows // 4)
        columns["shop"] = rng.choice([f"shop {j}" for j in range(200)], n_rows // 4)
        frame = pl.DataFrame(columns | {"kind": kind})
        frame.write_parquet(folder / f"part-{k}.parquet", row_group_size=20_000)
        if k == 0:
            frame[:2000].write_parquet(folder.with_name("small.parquet"))


def measure_table(way: str, folder: Path) -> dict[str, object]:
    """Fit a table in this process, all rows in memory or with a limit."""
    from normexp import SoftmaxClassifier
    from normexp.tables import open_source
    from normexp.trusted import TableClassifier

    model = TableClassifier(estimator=SoftmaxClassifier())
    model.fit(open_source(folder / "small.parquet", target="kind"), max_memory=TABLE_LIMIT)  # kernels are loaded
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory_mb("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    model.fit(open_source(folder / "table", target="kind"), max_memory=TABLE_LIMIT if "," in way else 1 << 40)
    return result(way, model.estimator_, began, cpu, before)


def result(way: str, model: object, began: float, cpu: float, before: float) -> dict[str, object]:
    """What was measured of a fit."""
    return {
        "way": way,
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": memory_mb("VmHWM") - before,
        "passes": model.solution_.n_passes,
        "steps": int(model.n_iter_[0]),
        "suboptimality": model.suboptimality_,
        "objective": model.solution_.objective,
    }


def memory_mb(what: str) -> float:
    """One of Linux's counts of this process, in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1e3


def measure(way: str, folder: Path) -> dict[str, object]:
    """Fit in this process."""
    from normexp import SoftmaxClassifier, rows

    small = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    SoftmaxClassifier().fit(small, np.arange(300) % 3)  # kernels are loaded
    y = np.load(folder / "y.npy")
    X = None
    if way == "memory":
        X = np.load(folder / "x.npy")
    elif way == "memmap":
        X = np.load(folder / "x.npy", mmap_mode="r")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory_mb("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    if X is not None:
        model = SoftmaxClassifier().fit(X, y)
    elif way == "npy":
        model = SoftmaxClassifier().fit(rows.from_npy(folder / "x.npy", target=y))
    else:
        model = SoftmaxClassifier().fit(rows.from_parquet(folder / "shards", target="label", features="embedding"))
    return result(way, model, began, cpu, before)


def main() -> None:
    """Measure every way in an interpreter of its own and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--separation", type=float, default=0.1, help="spread of the centres, that of rows being 1")
    parser.add_argument("--table-rows", type=int, default=TABLE_ROWS)
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    parser.add_argument("--one", nargs=2, help="measure this way in this folder (used by the command itself)")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.one:
        how = measure_table if given.one[0].startswith("table") else measure
        print(json.dumps(how(given.one[0], Path(given.one[1]))))
        return
    names = ("normexp", "numpy", "scipy", "numba", "pyarrow")
    size_mb = given.rows * given.features * 4 / 1e6
    lines = [
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + f". {given.rows} x {given.features} float32 ({size_mb:.0f} MB), K = {given.classes}, separation "
        f"{given.separation:g}; the table has {given.table_rows} rows.",
        "",
        "| rows from | wall, s | CPU, s | peak beyond start and X, MB | passes | steps | certified | objective |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept = None if given.output is None else given.output.with_suffix(".jsonl")
    done = {}
    if kept is not None and kept.exists():
        stored = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
        done = {row["way"]: row for row in stored if row["what"] == lines[0]}
    with tempfile.TemporaryDirectory() as temporary:
        missing = [way for way in given.only if way not in done]
        if any(not way.startswith("table") for way in missing):
            make(Path(temporary), given.rows, given.features, given.classes, given.separation)
        if any(way.startswith("table") for way in missing):
            make_table(Path(temporary) / "table", given.table_rows)
        for way in given.only:
            if way not in done:
                child = subprocess.run(
                    [sys.executable, __file__, "--one", way, temporary], capture_output=True, text=True, check=True
                )
                done[way] = json.loads(child.stdout.splitlines()[-1]) | {"what": lines[0]}
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[way]) + "\n")
            row = done[way]
            lines.append(
                f"| {row['way']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f} | {row['passes']} "
                f"| {row['steps']} | {row['suboptimality']:.1e} | {row['objective']:.8g} |"
            )
            print(lines[-1], flush=True)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
