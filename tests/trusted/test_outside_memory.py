"""Rows that stay outside memory give the model that they give in memory; what goes wrong on the way is a sentence."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from normexp import NormexpError, SoftmaxClassifier, TrustedClassifier, rows
from normexp.base.errors import InputError, RangeError
from normexp.base.memory import available_bytes, in_words, read_size
from normexp.tables import open_source
from normexp.trusted import TableClassifier, outside_memory
from normexp.trusted.scratch import remove_abandoned

SMALL = 100_000  # bytes: less than any table here takes
AGREED = 1e-6


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory, monkeypatch):
    """A scratch folder of its own, which each test must leave empty."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []


def mixed(n_rows=1500, seed=0):
    """Numbers in several units with gaps, dates, few and many words, and classes that overlap."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4))
    colour = rng.choice(["red", "green", "blue"], n_rows)
    scores = X @ rng.normal(size=(4, 3)) + (colour == "red")[:, None] * [1.0, 0.0, -1.0]
    kind = np.array(["p", "q", "r"])[(scores + 1.5 * rng.gumbel(size=scores.shape)).argmax(axis=1)]
    columns = {f"x{k}": 10.0 ** (k - 1) * X[:, k] + 5 for k in range(4)}
    columns["x1"] = [None if i % 9 == 0 else x for i, x in enumerate(columns["x1"].tolist())]
    day = np.datetime64("2024-01-01") + rng.integers(0, 300, n_rows)
    return pl.DataFrame(columns | {"colour": colour, "day": day, "kind": kind})


def shards(folder, frame, count=3):
    folder.mkdir(exist_ok=True)
    for k, part in enumerate(np.array_split(np.arange(frame.height), count)):
        frame[part.tolist()].write_parquet(folder / f"part-{k}.parquet")
    return folder


def both(source, **options):
    """The model in memory and the one outside, each with the sentences that were said."""
    said = [], []
    models = [
        TableClassifier(**options).fit(source, max_memory=limit, on_outside=heard.append)
        for limit, heard in zip((1 << 40, SMALL), said, strict=True)
    ]
    assert said[0] == []
    assert len(said[1]) == 1
    assert str(source.path) in said[1][0]
    assert "\n" not in said[1][0]
    return models


def predictions(model, source):
    return pl.concat([part.to_frame() for part in model.predict_batches(source, top_k=2)])


def test_a_table_gives_the_model_that_it_gives_in_memory(tmp_path):
    source = open_source(shards(tmp_path / "t", mixed()), target="kind")
    inside, outside = both(source)
    assert outside.estimator_.C == inside.estimator_.C
    assert outside.classes_.tolist() == inside.classes_.tolist()
    assert outside.prior_.tolist() == inside.prior_.tolist()
    size = np.abs(inside.estimator_.coef_).max()
    assert np.abs(outside.estimator_.coef_ - inside.estimator_.coef_).max() <= AGREED * size
    assert np.abs(outside.estimator_.intercept_ - inside.estimator_.intercept_).max() <= AGREED * size
    assert outside.estimator_.suboptimality_ <= 1e-6
    assert outside.training_.outcome == inside.training_.outcome
    assert outside.training_.class_counts == inside.training_.class_counts
    assert inside.encoder_.whole_.any()
    assert not inside.encoder_.whole_.all()
    for name in ("lowest_", "highest_", "whole_"):
        assert getattr(outside.encoder_, name).tolist() == getattr(inside.encoder_, name).tolist()


def test_a_trusted_model_makes_the_same_promises(tmp_path):
    source = open_source(shards(tmp_path / "t", mixed()), target="kind")
    inside, outside = both(source, trusted=TrustedClassifier(cv="auto", random_state=0))
    first, second = predictions(inside, source), predictions(outside, source)
    assert first.columns == second.columns
    for name, kind in first.schema.items():
        if kind == pl.Float64:
            assert np.abs(first[name].to_numpy() - second[name].to_numpy()).max() <= AGREED, name
        elif name != "reason":
            assert (first[name] == second[name]).mean() >= 0.999, name
    mine, its = outside.estimator_, inside.estimator_
    assert (mine.n_fits_, mine.n_held_out_) == (its.n_fits_, its.n_held_out_)
    assert abs(mine.loss_after_ - its.loss_after_) <= AGREED
    assert abs(mine.detector_.threshold_ - its.detector_.threshold_) <= AGREED * abs(its.detector_.threshold_)


@pytest.mark.parametrize("kind", ["text", "arrays", "libsvm", "csv.gz"])
def test_text_arrays_sparse_rows_and_compressed_tables_too(tmp_path, kind):
    rng = np.random.default_rng(0)
    n = 700
    y = rng.integers(0, 3, n)
    if kind == "text":
        words = np.array([["win", "cash", "now"], ["see", "you", "at"], ["buy", "sell", "now"]])
        said = [" ".join(rng.choice(words[k], 6)) for k in np.where(rng.random(n) < 0.8, y, rng.integers(0, 3, n))]
        pl.DataFrame({"text": said, "kind": y}).write_csv(tmp_path / "t.csv")
        source = open_source(tmp_path / "t.csv", target="kind", text="text")
    elif kind == "arrays":
        np.save(tmp_path / "X.npy", (rng.normal(size=(n, 5)) + 2 * np.eye(3, 5)[y]).astype(np.float32))
        np.save(tmp_path / "y.npy", y)
        source = open_source(tmp_path)
    elif kind == "libsvm":
        X = rng.random((n, 12)) * (rng.random((n, 12)) < 0.4) + np.eye(3, 12)[y]
        lines = [
            " ".join([str(k), *(f"{j + 1}:{v}" for j, v in enumerate(row) if v)]) for k, row in zip(y, X, strict=True)
        ]
        (tmp_path / "t.svm").write_text("\n".join(lines) + "\n")
        source = open_source(tmp_path / "t.svm")
    else:
        import gzip

        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(mixed(n).write_csv().encode()))
        source = open_source(tmp_path / "t.csv.gz", target="kind")
    inside, outside = both(source, estimator=SoftmaxClassifier(C=2.0, tol=1e-12))
    for name in ("lowest_", "highest_", "whole_"):
        np.testing.assert_equal(getattr(outside.encoder_, name), getattr(inside.encoder_, name))
    size = np.abs(inside.estimator_.coef_).max()
    assert inside.estimator_.coef_.dtype == outside.estimator_.coef_.dtype
    bound = 1e-5 if inside.estimator_.coef_.dtype == np.float32 else AGREED
    assert np.abs(outside.estimator_.coef_ - inside.estimator_.coef_).max() <= bound * size


def test_the_penalty_is_chosen_on_the_same_rows_of_an_array(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    np.savez(tmp_path / "t.npz", X=37.0 * (rng.normal(size=(900, 5)) + np.eye(3, 5)[y]), y=y)
    inside, outside = both(open_source(tmp_path / "t.npz"))
    assert outside.estimator_.C == inside.estimator_.C


def test_a_saved_model_comes_back(tmp_path):
    import normexp as nx

    source = open_source(shards(tmp_path / "t", mixed(400)), target="kind")
    model = TableClassifier().fit(source, max_memory=SMALL)
    nx.save(model, tmp_path / "m.nx")
    assert predictions(nx.load(tmp_path / "m.nx"), source).equals(predictions(model, source))


def test_rows_on_disk_can_be_trusted_from_python_too(tmp_path):
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[rng.integers(0, 3, 900)]
    X = rng.normal(size=(900, 4)) + 1.5 * np.eye(3, 4)[np.searchsorted(["a", "b", "c"], y)]
    np.save(tmp_path / "x.npy", X)
    stored = rows.from_npy(tmp_path / "x.npy", target=y)
    inside, outside = TrustedClassifier().fit(X, y), TrustedClassifier().fit(stored)
    assert np.abs(inside.predict_proba(X) - outside.predict_proba(stored)).max() <= AGREED
    assert inside.predict_or_reject(X).tolist() == outside.predict_or_reject(X).tolist()
    named = TrustedClassifier().fit(rows.from_npy(tmp_path / "x.npy"), y)
    assert np.array_equal(named.predict_proba(X), outside.predict_proba(X))
    with pytest.raises(InputError, match="LogisticRegression needs them in memory"):
        TrustedClassifier(LogisticRegression()).fit(stored)
    with pytest.raises(InputError, match="know no classes and y is None"):
        TrustedClassifier().fit(rows.from_npy(tmp_path / "x.npy"))


def test_many_rows_outside_memory_are_held_out_once(tmp_path, monkeypatch):
    from normexp.trusted import cross_fit

    monkeypatch.setattr(cross_fit, "MOST_ROWS", 200)
    source = open_source(shards(tmp_path / "t", mixed()), target="kind")
    model = TableClassifier(trusted=TrustedClassifier(cv="auto")).fit(source, max_memory=SMALL)
    assert (model.estimator_.n_fits_, model.estimator_.n_held_out_) == (2, 200)


# ---------------------------------------------------------------- what goes wrong


class Meddler:
    """Does something once, when a phase begins."""

    def __init__(self, phase, act):
        self.phase, self.act, self.heard = phase, act, []

    def __call__(self, phase):
        self.heard.append(phase)
        if phase.startswith(self.phase) and self.act is not None:
            act, self.act = self.act, None
            act()


def refusal(source, phase, act, **options):
    with pytest.raises(NormexpError) as caught:
        TableClassifier().fit(source, max_memory=SMALL, on_phase=Meddler(phase, act), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shard_that_changes_between_the_passes_is_named(tmp_path):
    folder = shards(tmp_path / "t", mixed(600))
    target = folder / "part-1.parquet"
    told = refusal(open_source(folder, target="kind"), "encoding", lambda: mixed(200, seed=9).write_parquet(target))
    assert "part-1.parquet' was changed since it was opened" in told
    shards(folder, mixed(600))
    told = refusal(open_source(folder, target="kind"), "counting", target.unlink)
    assert "part-1.parquet' cannot be read any more" in told


def test_a_shard_that_is_broken_inside_is_named(tmp_path):
    folder = shards(tmp_path / "t", mixed(600))
    target = folder / "part-1.parquet"
    source = open_source(folder, target="kind")
    raw, seen = bytearray(target.read_bytes()), target.stat()
    raw[4:3000] = b"\xff" * 2996
    target.write_bytes(raw)
    os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert "part-1.parquet: the Parquet file is broken" in refusal(source, "never", None)


def test_a_disk_without_room_is_told_before_the_work_and_in_the_middle(tmp_path, monkeypatch):
    source = open_source(shards(tmp_path / "t", mixed(600)), target="kind")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(outside_memory.shutil, "disk_usage", lambda _: usage)
        heard = Meddler("never", None)
        with pytest.raises(InputError, match=r"1\.0 KB are free\. Set the variable TMPDIR"):
            TableClassifier().fit(source, max_memory=SMALL, on_phase=heard)
    assert heard.heard == []
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(outside_memory.np.lib.format, "write_array_header_1_0", lambda *_: (_ for _ in ()).throw(full))
        assert "Set the variable TMPDIR" in refusal(source, "never", None)


def test_estimators_that_need_memory_and_rare_classes_are_told_before_encoding(tmp_path):
    frame = mixed(600)
    source = open_source(shards(tmp_path / "t", frame), target="kind")
    with pytest.raises(InputError, match="LogisticRegression needs them in memory"):
        TableClassifier(estimator=LogisticRegression()).fit(source, max_memory=SMALL)
    alone = frame.with_columns(kind=pl.Series([*frame["kind"].to_list()[:-1], "alone"]))
    heard = Meddler("never", None)
    with pytest.raises(InputError, match="the class 'alone' has fewer than 2 rows"):
        TableClassifier().fit(
            open_source(shards(tmp_path / "a", alone), target="kind"), max_memory=SMALL, on_phase=heard
        )
    assert "encoding" not in heard.heard


# ---------------------------------------------------------------- checkpoints


def test_a_fit_goes_on_from_its_checkpoint_and_every_sentence_says_that_it_stands(tmp_path):
    folder = shards(tmp_path / "t", mixed())
    source, path = open_source(folder, target="kind"), tmp_path / "fit.checkpoint"
    whole = TableClassifier().fit(source, max_memory=SMALL)

    def stop():
        raise KeyboardInterrupt

    class AfterSteps(Meddler):
        def __call__(self, phase):
            super().__call__(phase if path.exists() else "")

    with pytest.raises(KeyboardInterrupt):
        TableClassifier().fit(source, max_memory=SMALL, checkpoint=path, on_phase=AfterSteps("fitting, pass", stop))
    assert path.exists()
    told = refusal(source, "encoding", (folder / "part-0.parquet").touch, checkpoint=path)
    assert "was changed" in told
    assert f"The checkpoint {str(path)!r} stands" in told
    source = open_source(folder, target="kind")
    again = TableClassifier().fit(source, max_memory=SMALL, checkpoint=path)
    assert np.abs(again.estimator_.coef_ - whole.estimator_.coef_).max() <= AGREED
    assert again.estimator_.n_iter_ == whole.estimator_.n_iter_
    other = TableClassifier(estimator=SoftmaxClassifier(C=0.123))
    with pytest.raises(InputError, match="belongs to another problem"):
        other.fit(source, max_memory=SMALL, checkpoint=path)


COMMAND = Path(sys.executable).parent / "normexp"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_installed_command_goes_on_after_a_kill(tmp_path, scratch):
    if not COMMAND.exists():
        pytest.skip(f"normexp is not installed beside {sys.executable}")
    folder, path = shards(tmp_path / "t", mixed(3000)), tmp_path / "fit.checkpoint"
    arguments = [COMMAND, "fit", folder, "--target", "kind", "-o", tmp_path / "m.nx", "--max-memory", "200kB"]
    arguments += ["--plain", "-C", "1"]
    arguments += ["--checkpoint", path]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 100
        while not path.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert path.exists()
    assert not (tmp_path / "m.nx").exists()
    assert len(list(scratch.glob("normexp-*"))) == 1  # of the process that was killed; the next one removes it
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.nx").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.nx", "t"]
    lines = [line for line in done.stderr.splitlines() if "read in blocks" in line]
    assert len(lines) == 1
    assert done.stderr.strip() == lines[0]


HOLD = """
import sys, time
from pathlib import Path
from normexp.trusted.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "X.npy").write_bytes(b"rows")
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(os.name == "nt", reason="locks and signals of POSIX")
def test_scratch_folders_of_killed_processes_alone_are_removed(scratch):
    """What is no folder of ours, and what a living process uses, stays."""
    (scratch / "normexp-notes").mkdir()
    (scratch / "other").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, scratch], stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        (scratch / "normexp-link").symlink_to(folder)
        try:
            assert remove_abandoned(scratch) == 0
            assert (folder / "X.npy").exists()
        finally:
            process.send_signal(signal.SIGKILL)
    assert folder.exists()  # nobody was left to remove it
    assert remove_abandoned(scratch) == 1
    assert sorted(entry.name for entry in scratch.iterdir()) == ["normexp-link", "normexp-notes", "other"]
    (scratch / "normexp-link").unlink()
    (scratch / "normexp-notes").rmdir()
    (scratch / "other").rmdir()
    assert remove_abandoned(scratch / "nowhere") == 0


# ---------------------------------------------------------------- sizes


def test_sizes_are_read_and_written():
    assert read_size("300MB", of="x") == 300_000_000
    assert read_size("1.5 GiB", of="x") == 3 << 29
    assert read_size("7", of="x") == 7
    for bad in ("", "many", "0", "-3GB", "3 apples", "4iB", "nan"):
        with pytest.raises(RangeError, match="no amount of memory"):
            read_size(bad, of="x")
    assert [in_words(n) for n in (1, 999, 1000, 9_940, 9_960, 3e11)] == [
        "1 B", "999 B", "1.0 KB", "9.9 KB", "10 KB", "300 GB",
    ]  # fmt: skip
    assert available_bytes() is None or available_bytes() > 0


MEASURE = """
import sys
from normexp.base.memory import read_size
from normexp.tables import open_source
from normexp.trusted import TableClassifier, TrustedClassifier
small, large, limit = sys.argv[1:]
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
model = TableClassifier(trusted=TrustedClassifier(cv="auto", random_state=0))
model.fit(open_source(small, target="kind"), max_memory=100_000)
before = peak()
model.fit(open_source(large, target="kind"), max_memory=int(limit))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_the_memory_of_a_real_process_stays_within_the_limit(tmp_path):
    """And the same table read at once breaks it: the test of the test."""
    rng = np.random.default_rng(0)
    n, d = 400_000, 30
    X = rng.normal(size=(n, d)).astype(np.float64)
    kind = (X[:, :3] + rng.gumbel(size=(n, 3))).argmax(axis=1)
    frame = pl.DataFrame({f"x{k}": X[:, k] for k in range(d)} | {"kind": kind})
    frame.write_parquet(tmp_path / "large.parquet", row_group_size=50_000)
    frame[:3000].write_parquet(tmp_path / "small.parquet")
    del X, frame
    limit = 250_000_000  # the solver alone takes some 150 MB, whatever the rows
    grown = []
    for room in (limit, 1 << 40):
        command = [sys.executable, "-c", MEASURE, tmp_path / "small.parquet", tmp_path / "large.parquet", str(room)]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        grown.append(int(done.stdout))
    assert grown[0] <= limit
    assert not grown[1] <= limit
