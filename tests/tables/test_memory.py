"""Memory of a prediction does not depend on the number of rows; reading the whole file would show."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")

CODE = """
import sys
from normexp.tables import open_source
schema_of, path, streaming = sys.argv[1:]
source = open_source(path)
schema = open_source(schema_of).infer()
for _ in open_source(schema_of).batches(schema, with_target=False):
    pass
def peak_kib():
    # not ru_maxrss, which a child takes over from the process that started it
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
before = peak_kib()
rows = 0
if streaming == "yes":
    for block in source.batches(schema, with_target=False):
        rows += block.n_rows
else:
    rows = source.read(schema, with_target=False).n_rows
print(rows, peak_kib() - before)
"""
ROWS = 25_000
TIMES = 8
COLUMNS = 40
LARGE_BYTES = ROWS * TIMES * COLUMNS * 8  # 64 MB
BOUND = 0.4 * LARGE_BYTES


def write(folder, times, suffix):
    rng = np.random.default_rng(0)
    path = folder / f"rows{times}{suffix}"
    frame = pl.DataFrame({f"x{i}": rng.normal(size=ROWS).round(3) for i in range(COLUMNS)})
    whole = pl.concat([frame] * times)
    if suffix == ".parquet":
        whole.write_parquet(path, row_group_size=10_000)
    elif suffix == ".ndjson":
        whole.write_ndjson(path)
    elif suffix == ".csv.gz":
        import gzip

        path.write_bytes(gzip.compress(whole.write_csv().encode(), 1))
    else:
        whole.write_csv(path)
    return path


def growth_bytes(small, large, *, streaming):
    """Peak memory of a process for the large file above that for the small one."""
    command = [sys.executable, "-c", CODE, str(small), str(large), "yes" if streaming else "no"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, kib = (int(word) for word in done.stdout.split())
    assert rows == ROWS * TIMES
    return kib * 1024


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".ndjson"])
def test_streaming_eight_times_the_rows_takes_no_more_memory(tmp_path, suffix):
    growth = growth_bytes(write(tmp_path, 1, suffix), write(tmp_path, TIMES, suffix), streaming=True)
    assert growth < BOUND


def test_reading_all_rows_would_break_that_bound(tmp_path):
    growth = growth_bytes(write(tmp_path, 1, ".csv"), write(tmp_path, TIMES, ".csv"), streaming=False)
    assert not growth < BOUND
