"""Dask collections: the answer of memory, from two worker processes, also when one of them is killed."""

import os
import signal

import numpy as np
import pytest
from scipy import sparse

from normexp import NormexpError, SoftmaxClassifier, rows

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")

AGREED = 1e-10
# what a cluster that loses processes on purpose has to say
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.filterwarnings("ignore:.*unclosed.*")]


def table(n_rows=4000, n_features=10, n_classes=4):
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(n_rows, n_features)) + 2.0) * 10.0 ** rng.uniform(-2, 2, size=n_features)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    return X, (Z @ rng.normal(size=(n_features, n_classes)) + 2 * rng.gumbel(size=(n_rows, n_classes))).argmax(axis=1)


def distance(first, second):
    size = max(np.abs(second.coef_).max(), np.abs(second.intercept_).max())
    return max(np.abs(first.coef_ - second.coef_).max(), np.abs(first.intercept_ - second.intercept_).max()) / size


@pytest.fixture(scope="module")
def client():
    """Two worker processes, kept by nannies, as a user's own LocalCluster would be."""
    given = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**given, silence_logs=50) as cluster, distributed.Client(cluster) as client:
        yield client


def test_a_dask_array_gives_the_fit_of_the_array_in_this_process():
    X, y = table()
    whole = SoftmaxClassifier().fit(X, y)
    with_dask = SoftmaxClassifier().fit(da.from_array(X, chunks=(700, 3)), da.from_array(y, chunks=1000))
    assert distance(with_dask, whole) <= AGREED
    assert with_dask.suboptimality_ <= 1e-6


@pytest.mark.parametrize("n_classes", [2, 4])
def test_memory_disk_and_two_worker_processes_agree(client, tmp_path, n_classes):
    X, y = table(n_classes=n_classes)
    np.save(tmp_path / "x.npy", X)
    there = da.from_array(X, chunks=(900, -1)).persist()
    fits = [
        SoftmaxClassifier().fit(X, y),
        SoftmaxClassifier().fit(rows.from_npy(tmp_path / "x.npy", target=y)),
        SoftmaxClassifier().fit(there, da.from_array(y, chunks=900)),
    ]
    assert len({worker for where in client.who_has(there).values() for worker in where}) == 2
    assert distance(fits[1], fits[0]) <= AGREED
    assert distance(fits[2], fits[0]) <= AGREED


def test_a_dataframe_with_names_weights_and_classes_as_text(client):
    import dask.dataframe as dd

    X, y = table(n_rows=1000)
    kinds = np.array(["pear", "fig", "quince", "medlar"])[y]
    weight = np.random.default_rng(0).uniform(0, 2, size=len(y))
    frame = pd.DataFrame(X, columns=[f"x{k}" for k in range(10)]).assign(kind=kinds)
    parts = dd.from_pandas(frame, npartitions=3).persist()
    model = SoftmaxClassifier(class_weight="balanced", fit_intercept=False)
    model.fit(parts[[f"x{k}" for k in range(10)]], parts["kind"], sample_weight=weight)
    whole = SoftmaxClassifier(class_weight="balanced", fit_intercept=False).fit(X, kinds, sample_weight=weight)
    cut = rows.from_dask(parts[["x0", "x1"]]).column(dd.from_pandas(frame, npartitions=2)["kind"], of="y")
    assert [len(part) for part in client.gather(client.compute(cut))] == [len(part) for part in np.array_split(X, 3)]
    assert list(model.feature_names_in_) == [f"x{k}" for k in range(10)]
    found = model.predict(parts[[f"x{k}" for k in range(10)]])
    assert not isinstance(found, np.ndarray)  # nothing is computed before it is asked for
    assert np.array_equal(found.compute(), whole.predict(X))
    with pytest.raises(NormexpError, match="column 'kind' holds no numbers"):
        SoftmaxClassifier().fit(parts, parts["kind"])


def test_coefficients_travel_and_rows_do_not(client):
    """What the workers send for a pass is of the size of the coefficients, however many rows they have."""
    X, y = table(n_rows=40_000)
    there = da.from_array(X, chunks=(10_000, -1)).persist()
    distributed.wait(there)
    classes, streamed = rows.labelled(rows.from_dask(there), y, None, lambda *_: None)
    from normexp.solvers.passes import Evaluate

    parts = streamed.sum(Evaluate(np.zeros((10, 4)), np.zeros(4), np.float64))
    assert sum(np.asarray(part).nbytes for part in parts[:5]) < 1000 < X.nbytes / 1000
    assert parts[5] == []
    assert len(classes) == 4


def counts(n_rows=3000, n_features=60, n_classes=4):
    """A sparse table, rows of no entry among it, and classes that overlap."""
    rng = np.random.default_rng(5)
    X = sparse.random_array((n_rows, n_features), density=0.1, rng=rng, format="csr", data_sampler=rng.exponential)
    scores = X @ (3 * rng.normal(size=(n_features, n_classes))) + 2 * rng.gumbel(size=(n_rows, n_classes))
    return sparse.csr_matrix(X), scores.argmax(axis=1)


def in_chunks(X, size):
    """A Dask array whose chunks are CSR matrices, each made where it is needed."""
    from dask import delayed

    parts = [X[first : first + size] for first in range(0, X.shape[0], size)]
    like = sparse.csr_matrix((0, 0), dtype=X.dtype)
    return da.concatenate([da.from_delayed(delayed(part), part.shape, X.dtype, meta=like) for part in parts])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_sparse_chunks_stay_sparse_and_give_the_fit_of_the_matrix(client, n_classes):
    X, y = counts(n_classes=n_classes)
    whole = SoftmaxClassifier(tol=1e-13).fit(X, y)
    table = rows.from_dask(in_chunks(X, 700))
    assert table.is_sparse
    model = SoftmaxClassifier(tol=1e-13).fit(table, da.from_array(y, chunks=500))
    assert distance(model, whole) <= AGREED
    assert np.abs(model.predict_proba(in_chunks(X, 700)).compute() - whole.predict_proba(X)).max() <= 1e-9
    assert np.array_equal(model.predict(in_chunks(X, 1000)).compute(), whole.predict(X))


def test_an_array_mapped_to_matrices_is_sparse_too_and_keeps_float32(client):
    X, y = counts()
    dense = da.from_array(X.toarray().astype(np.float32), chunks=(800, 25))  # two cuts through the columns
    there = dense.rechunk({1: -1}).map_blocks(sparse.csr_matrix).persist()
    model = SoftmaxClassifier(tol=1e-9).fit(there, y)
    assert model.coef_.dtype == np.float32
    assert distance(model, SoftmaxClassifier(tol=1e-9).fit(X.astype(np.float32), y)) <= 1e-5


def test_matrices_that_dask_does_not_know_of_are_told():
    from dask import delayed

    X, y = counts(n_rows=300)
    hidden = da.from_delayed(delayed(X), X.shape, X.dtype)
    with pytest.raises(NormexpError, match=r"a chunk of X is a SciPy matrix, and X says .* meta=scipy.sparse"):
        SoftmaxClassifier().fit(hidden, y)


def test_predictions_stay_with_the_workers(client):
    X, y = table()
    model = SoftmaxClassifier().fit(X, y)
    there = da.from_array(X, chunks=(900, -1))
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        lazy = getattr(model, name)(there)
        assert isinstance(lazy, da.Array)
        assert lazy.shape == getattr(model, name)(X).shape
        np.testing.assert_allclose(lazy.compute(), getattr(model, name)(X), rtol=1e-9)
    labels, prob = model.predict_top_k(there, 2)
    assert np.array_equal(labels.compute(), model.predict_top_k(X, 2)[0])
    assert prob.shape == (4000, 2)


def test_a_fit_goes_on_when_a_worker_is_killed(client):
    X, y = table()
    there = da.from_array(X, chunks=(500, -1)).persist()
    distributed.wait(there)
    killed = []

    def kill(progress):
        if progress.n_iter == 1 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    model = SoftmaxClassifier().fit(there, y, progress=kill)
    assert killed
    assert distance(model, SoftmaxClassifier().fit(X, y)) <= AGREED


def test_a_cluster_without_workers_ends_the_fit_in_a_sentence_and_the_checkpoint_stands(tmp_path):
    X, y = table()
    given = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**given, silence_logs=50) as cluster, distributed.Client(cluster) as client:
        there = rows.from_dask(da.from_array(X, chunks=(900, -1)), target=y, patience_s=1.0)

        def dismiss(progress):
            if progress.n_iter == 1:
                cluster.scale(0)

        with pytest.raises(NormexpError, match=r"has had no worker for 1 s.*The checkpoint '.*c' stands") as caught:
            SoftmaxClassifier().fit(there, progress=dismiss, checkpoint=tmp_path / "c")
        assert isinstance(caught.value, RuntimeError)
        cluster.scale(1)
        client.wait_for_workers(1, timeout=60)
        model = SoftmaxClassifier().fit(there, checkpoint=tmp_path / "c")
    whole = SoftmaxClassifier().fit(X, y)
    assert model.n_iter_[0] == whole.n_iter_[0]
    assert distance(model, whole) <= AGREED


def test_a_block_that_cannot_be_computed_is_a_sentence(client):
    X, y = table()

    def broken(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][0] == 2:
            raise OSError("the shard is gone")
        return block

    there = da.from_array(X, chunks=(900, -1)).map_blocks(broken, dtype=float, meta=X[:0])
    with pytest.raises(NormexpError, match=r"Dask cluster failed while it went through the rows.*the shard is gone"):
        SoftmaxClassifier().fit(there, y)


def test_what_does_not_fit_is_refused():
    X, y = table(n_rows=50)
    there = da.from_array(X, chunks=(20, -1))
    for call, sentence in (
        (lambda: SoftmaxClassifier().fit(there), "y is None"),
        (lambda: SoftmaxClassifier().fit(there, y[:-1]), "y has 49 rows and X has 50"),
        (lambda: SoftmaxClassifier().fit(there, np.zeros(50)), "one class only"),
        (lambda: SoftmaxClassifier().fit(there, np.where(y == 0, np.nan, y)), "y holds NaN"),
        (lambda: SoftmaxClassifier().fit(there, y, sample_weight=-np.ones(50)), "sample_weight is negative"),
        (lambda: SoftmaxClassifier().fit(there, y, sample_weight=np.zeros(50)), "every sample_weight is zero"),
        (lambda: SoftmaxClassifier().fit(there[:, 0], y), r"X has shape \(50,\)"),
        (lambda: SoftmaxClassifier().fit(X=there.map_blocks(np.log), y=y), "holds NaN or infinity"),
        (lambda: rows.from_dask(X), "X is a ndarray; a Dask array or dataframe"),
        (
            lambda: SoftmaxClassifier().fit(X, y).predict(there[:, :4]),
            "have 4 features, and the model was fitted on 10",
        ),
    ):
        with pytest.raises(NormexpError, match=sentence), np.errstate(all="ignore"):
            call()
