"""Rows on disk: the fit in memory to the last bits, bounded memory, one chunk ahead, progress."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from normexp import SoftmaxClassifier, rows
from normexp.rows import StreamedRows, stored
from normexp.solvers.fit import column_map

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

AGREED = 1e-10  # what memory, disk and cluster promise each other in float64


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 1 000 rows or so, so that the tables of the tests have several."""
    monkeypatch.setattr(stored, "_CHUNK_NUMBERS", 12_000)


def table(n_rows=5000, n_features=12, n_classes=4, dtype=np.float64, seed=0):
    """Columns of several units with means, and classes that overlap."""
    rng = np.random.default_rng(seed)
    unit = 10.0 ** rng.uniform(-2, 2, size=n_features)
    X = (rng.normal(size=(n_rows, n_features)) + rng.normal(size=n_features)) * unit
    scores = (X / unit) @ rng.normal(size=(n_features, n_classes)) + 2 * rng.gumbel(size=(n_rows, n_classes))
    return X.astype(dtype), scores.argmax(axis=1)


def parquet(folder, X, labels, *, shards=3, group=700):
    """The table in several shards, with the classes as text in the middle column."""
    names = [f"x{k}" for k in range(X.shape[1])]
    for k, part in enumerate(np.array_split(np.arange(len(X)), shards)):
        columns = {name: X[part, j] for j, name in enumerate(names)}
        columns["kind"] = labels[part]
        pq.write_table(pa.table(columns), folder / f"part-{k}.parquet", row_group_size=group)
    return names


def distance(first, second):
    """Largest relative difference of coefficients and intercepts."""
    size = max(np.abs(second.coef_).max(), np.abs(second.intercept_).max())
    return max(np.abs(first.coef_ - second.coef_).max(), np.abs(first.intercept_ - second.intercept_).max()) / size


# ---------------------------------------------------------------- agreement


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_npy_file_gives_the_bits_of_the_array(tmp_path, dtype, n_classes):
    X, y = table(dtype=dtype, n_classes=n_classes)
    np.save(tmp_path / "x.npy", X)
    in_memory = SoftmaxClassifier().fit(X, y)
    on_disk = SoftmaxClassifier().fit(rows.from_npy(tmp_path / "x.npy", target=y))
    assert on_disk.coef_.dtype == dtype
    assert np.array_equal(on_disk.coef_, in_memory.coef_)
    assert on_disk.suboptimality_ == in_memory.suboptimality_


def test_a_read_only_memory_map_is_fitted_like_the_array(tmp_path):
    X, y = table()
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(SoftmaxClassifier().fit(mapped, y).coef_, SoftmaxClassifier().fit(X, y).coef_)


def test_parquet_shards_give_the_fit_of_the_array_and_the_names_of_their_columns(tmp_path):
    X, y = table()
    kinds = np.array(["pear", "fig", "quince", "medlar"])[y]
    names = parquet(tmp_path, X, kinds)
    model = SoftmaxClassifier().fit(rows.from_parquet(tmp_path, target="kind"))
    in_memory = SoftmaxClassifier().fit(X, kinds)
    assert list(model.feature_names_in_) == names
    assert list(model.classes_) == ["fig", "medlar", "pear", "quince"]
    assert distance(model, in_memory) <= AGREED


def test_a_column_of_embeddings_is_a_table(tmp_path):
    X, y = table(dtype=np.float32)
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 12)):
        embedding = pa.array(list(X), type=kind)
        pq.write_table(pa.table({"embedding": embedding, "topic": y}), tmp_path / "t.parquet", row_group_size=999)
        stored_rows = rows.from_parquet(tmp_path / "t.parquet", target="topic", features="embedding")
        assert stored_rows.dtype == np.float32
        assert np.array_equal(np.concatenate(list(stored_rows.batches())), X)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_csr_shards_give_the_fit_of_the_matrix(tmp_path, n_classes):
    X, y = table(n_features=40, n_classes=n_classes)
    thin = sparse.csr_matrix(X * (np.random.default_rng(1).random(X.shape) < 0.2))
    for k in range(3):
        sparse.save_npz(tmp_path / f"part-{k}.npz", thin[k * 1667 : (k + 1) * 1667])
    np.save(tmp_path.with_suffix(".npy"), y)
    streamed = rows.from_csr_shards(tmp_path, target=tmp_path.with_suffix(".npy"))
    assert distance(SoftmaxClassifier().fit(streamed), SoftmaxClassifier().fit(thin, y)) <= AGREED


def test_shards_of_very_many_features_take_the_diagonal_of_all_rows(tmp_path, monkeypatch):
    from normexp.solvers import metric

    monkeypatch.setattr(metric, "_MAX_DENSE_FEATURES", 30)
    X, y = table(n_rows=3000, n_features=40)
    thin = sparse.csr_matrix(X * (np.random.default_rng(1).random(X.shape) < 0.2))
    for k in range(3):
        sparse.save_npz(tmp_path / f"part-{k}.npz", thin[k * 1000 : (k + 1) * 1000])
    streamed = SoftmaxClassifier().fit(rows.from_csr_shards(tmp_path, target=y))
    assert distance(streamed, SoftmaxClassifier().fit(thin, y)) <= AGREED


def test_a_model_fitted_on_shards_is_saved_and_loaded(tmp_path):
    import normexp as nx

    X, y = table(n_rows=600)
    (tmp_path / "shards").mkdir()
    parquet(tmp_path / "shards", X, np.array(["pear", "fig", "quince", "medlar"])[y])
    on_disk = rows.from_parquet(tmp_path / "shards", target="kind")
    model = SoftmaxClassifier().fit(on_disk)
    nx.save(model, tmp_path / "model.nx")
    assert np.array_equal(nx.load(tmp_path / "model.nx").predict_proba(on_disk), model.predict_proba(on_disk))


def test_the_agreement_can_fail():
    """Another penalty, or one row less, is farther away than the agreement allows."""
    X, y = table()
    whole = SoftmaxClassifier().fit(X, y)
    assert distance(SoftmaxClassifier().fit(X[:-1], y[:-1]), whole) > AGREED
    assert distance(SoftmaxClassifier(C=1.001).fit(X, y), whole) > AGREED


@pytest.mark.parametrize("n_classes", [2, 6])
def test_rows_drawn_for_the_preconditioner_lead_to_the_same_optimum(tmp_path, monkeypatch, n_classes):
    """More rows than the preconditioner takes: disk draws other rows than memory, and both end at one point."""
    from normexp.solvers import metric

    monkeypatch.setattr(metric, "_MAX_UNKNOWNS", 0)  # not the Hessian itself
    X, y = table(n_rows=20_000, n_classes=n_classes)
    np.save(tmp_path / "x.npy", X)
    drawn = SoftmaxClassifier(tol=1e-13).fit(rows.from_npy(tmp_path / "x.npy", target=y))
    whole = SoftmaxClassifier(tol=1e-13).fit(X, y)
    assert distance(drawn, whole) <= AGREED
    assert drawn.solution_.n_passes <= 1.5 * whole.solution_.n_passes


def test_probabilities_that_are_not_kept_are_computed_anew_to_the_same_bits(tmp_path, monkeypatch):
    from normexp.solvers import streamed_objective

    X, y = table()
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(streamed_objective, "_KEPT_NUMBERS", 0)
    on_disk = SoftmaxClassifier().fit(rows.from_npy(tmp_path / "x.npy", target=y))
    assert np.array_equal(on_disk.coef_, SoftmaxClassifier().fit(X, y).coef_)


def test_weights_start_and_missing_intercept_mean_what_they_mean_in_memory(tmp_path):
    X, y = table()
    np.save(tmp_path / "x.npy", X)
    on_disk = rows.from_npy(tmp_path / "x.npy")
    weight = np.random.default_rng(3).uniform(0, 2, size=len(y))
    given = {"class_weight": "balanced", "fit_intercept": False, "C": 0.1, "init": np.full((4, 12), 0.01)}
    streamed = SoftmaxClassifier(**given).fit(on_disk, y, sample_weight=weight)
    assert distance(streamed, SoftmaxClassifier(**given).fit(X, y, sample_weight=weight)) <= AGREED
    again = SoftmaxClassifier(warm_start=True).fit(on_disk, y)
    assert again.fit(on_disk, y).n_iter_[0] <= 1


def test_separable_classes_without_a_penalty_are_found_out(tmp_path):
    X = np.linspace(-1, 1, 300)[:, None]
    np.save(tmp_path / "x.npy", X)
    with pytest.warns(UserWarning, match="separable"):
        SoftmaxClassifier(C=np.inf).fit(rows.from_npy(tmp_path / "x.npy", target=(X[:, 0] > 0)))


# ---------------------------------------------------------------- prediction


def test_predictions_over_rows_on_disk_are_those_of_the_array(tmp_path):
    X, y = table()
    names = parquet(tmp_path, X, y.astype(str))
    on_disk = rows.from_parquet(tmp_path, target="kind")
    model = SoftmaxClassifier(tol=1e-3).fit(on_disk)
    bare = SoftmaxClassifier(tol=1e-3).fit(X, y.astype(str))
    np.testing.assert_allclose(model.predict_proba(on_disk), bare.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(model.predict_log_proba(on_disk), bare.predict_log_proba(X), rtol=1e-9)
    assert np.array_equal(model.predict(on_disk), bare.predict(X))
    assert model.score(on_disk, y.astype(str)) == bare.score(X, y.astype(str))
    labels, prob = model.predict_top_k(on_disk, 2)
    assert np.array_equal(labels, bare.predict_top_k(X, 2)[0])
    assert prob.shape == (5000, 2)
    parts = list(on_disk.map(model.predict_proba))
    assert len(parts) > 2
    np.testing.assert_allclose(np.concatenate(parts), bare.predict_proba(X), rtol=1e-12)
    other = rows.from_parquet(tmp_path, features=names[::-1])
    with pytest.raises(ValueError, match=r"have the columns in another order.*features=list"):
        model.predict(other)


# ---------------------------------------------------------------- memory, reading ahead, progress

BOUNDED = """
import pathlib, sys, numpy as np
from normexp import SoftmaxClassifier, rows
X, y = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32), np.arange(400) % 2
np.save(sys.argv[2], X)
SoftmaxClassifier().fit(rows.from_npy(sys.argv[2], target=y))  # all that is loaded once
def peak_kb():  # of this program alone: ru_maxrss would begin with that of the parent
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak_kb()
table = rows.from_npy(sys.argv[1], target=sys.argv[3])
model = SoftmaxClassifier(max_iter=1).fit(table)
assert model.solution_.n_passes >= 4
print((peak_kb() - before) / 1024)
held = np.load(sys.argv[1])
print((peak_kb() - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_fit_of_a_file_takes_a_fraction_of_its_size_in_memory(tmp_path):
    """512 MB of rows; and the same measure sees it when they are loaded."""
    n_rows = 500_000
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(n_rows, 256))
    y = np.empty(n_rows, dtype=bool)
    part = rng.normal(size=(50_000, 256)).astype(np.float32)
    for first in range(0, n_rows, 50_000):
        X[first : first + 50_000] = np.roll(part, first // 50_000, axis=1)
        y[first : first + 50_000] = X[first : first + 50_000, 0] + rng.logistic(size=50_000) > 0
    X.flush()
    del X
    np.save(tmp_path / "y.npy", y)
    given = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        BOUNDED,
        tmp_path / "x.npy",
        tmp_path / "small.npy",
        tmp_path / "y.npy",
    ]
    done = subprocess.run(given, capture_output=True, text=True, check=True, timeout=300)
    fitted_mb, loaded_mb = map(float, done.stdout.split())
    assert fitted_mb < 160
    assert loaded_mb > 450


def test_the_next_chunk_is_read_while_one_is_at_work():
    read, second = [], threading.Event()

    def chunks():
        for k in range(4):
            read.append(k)
            if k == 1:
                second.set()
            yield k

    ahead = stored.read_ahead(chunks())
    assert next(ahead) == 0
    assert second.wait(timeout=30)  # nobody has asked for it yet
    assert read == [0, 1]  # one ahead, not more
    assert list(ahead) == [1, 2, 3]


def test_a_reader_that_fails_fails_the_fit_and_leaves_no_thread():
    def chunks():
        yield 1
        raise OSError("the disk is gone")

    ahead = stored.read_ahead(chunks())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert not [t for t in threading.enumerate() if t.name.startswith("normexp-reader")]


def test_progress_tells_rows_their_rate_and_the_certified_gap(tmp_path):
    X, y = table()
    np.save(tmp_path / "x.npy", X)
    told = []
    model = SoftmaxClassifier().fit(rows.from_npy(tmp_path / "x.npy", target=y), progress=told.append)
    assert {p.n_rows for p in told} == {5000}
    before_a_step = [p.rows_done for p in told if p.n_iter == 0]
    assert len(before_a_step) > 2
    assert before_a_step == sorted(before_a_step)
    assert told[-1].n_passes == model.solution_.n_passes
    assert told[-1].n_iter == model.n_iter_[0]
    assert np.isinf(told[0].suboptimality)
    assert min(p.suboptimality for p in told) < 1.0
    assert all(p.rows_per_s > 0 for p in told)
    in_memory = []
    SoftmaxClassifier().fit(X, y, progress=in_memory.append)
    assert in_memory[-1].n_passes == told[-1].n_passes


def test_blocks_of_disk_and_memory_have_the_same_boundaries_and_sums(tmp_path):
    X, y = table(n_rows=9000)
    np.save(tmp_path / "x.npy", X)
    weight = np.ones(9000)
    streamed = StreamedRows(rows.from_npy(tmp_path / "x.npy"), y.astype(np.intp), weight, n_classes=4)
    in_memory = rows.row_blocks(X, 4)
    assert [b.rows for b in streamed.blocks()] == [b.rows for b in in_memory.blocks()]
    centre, scale = column_map(in_memory, weight, centred=True)
    coef = np.random.default_rng(0).normal(size=(12, 4))

    def part(block):
        return block.affine(coef, np.zeros(4)).sum(axis=0), block.gram(weight[block.rows])

    for first, second in zip(
        streamed.seen_through(centre, scale).sum(part), in_memory.seen_through(centre, scale).sum(part), strict=True
    ):
        assert np.array_equal(first, second)


# ---------------------------------------------------------------- some of the rows


@pytest.mark.parametrize("kind", ["npy", "csr"])
def test_some_of_the_rows_are_fitted_as_if_they_were_all(tmp_path, kind):
    X, y = table(n_rows=4000)
    index = np.flatnonzero((np.arange(len(X)) % 3 != 1) & (y != 2))  # a class goes missing with its rows
    if kind == "npy":
        np.save(tmp_path / "x.npy", X)
        whole = rows.from_npy(tmp_path / "x.npy", target=y)
    else:
        for k, part in enumerate(np.array_split(np.arange(len(X)), 5)):
            sparse.save_npz(tmp_path / f"{k}.npz", sparse.csr_matrix(X[part]))
        whole = rows.from_csr_shards(tmp_path, target=y)
    some = whole.subset(index)
    assert some.shape == (len(index), X.shape[1])
    model = SoftmaxClassifier(tol=1e-13).fit(some)
    held = X[index] if kind == "npy" else sparse.csr_matrix(X[index])
    expected = SoftmaxClassifier(tol=1e-13).fit(held, y[index])
    assert model.classes_.tolist() == [0, 1, 3]
    assert distance(model, expected) <= AGREED
    assert np.array_equal(model.predict(some), model.predict(X[index]))


@pytest.mark.parametrize("kind", ["npy", "csr"])
def test_rows_are_taken_in_the_order_of_their_numbers(tmp_path, kind):
    X, _ = table(n_rows=3000)
    if kind == "npy":
        np.save(tmp_path / "x.npy", X)
        whole = rows.from_npy(tmp_path / "x.npy")
    else:
        for k, part in enumerate(np.array_split(np.arange(len(X)), 5)):
            sparse.save_npz(tmp_path / f"{k}.npz", sparse.csr_matrix(X[part]))
        whole = rows.from_csr_shards(tmp_path)
    index = np.random.default_rng(0).permutation(3000)[:900]
    for wanted in (index, np.array([7, 2999, 0]), np.arange(32), np.zeros(0, np.intp)):
        taken = whole.take(wanted)
        taken = taken.toarray() if kind == "csr" else taken
        assert taken.tobytes() == X[wanted].tobytes()


def test_taking_the_first_rows_does_not_read_the_last(tmp_path):
    X, _ = table()
    np.save(tmp_path / "x.npy", X)
    whole = rows.from_npy(tmp_path / "x.npy")
    read = []
    chunks = whole.chunks

    def counted(n_rows):
        for chunk in chunks(n_rows):
            read.append(len(chunk))
            yield chunk

    whole.chunks = counted
    whole.take(np.arange(32))
    assert sum(read) < len(X) // 2
