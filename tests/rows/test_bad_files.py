"""Files that are not what they must be: a sentence that names the file, and the checkpoint that stands."""

import numpy as np
import pytest
from scipy import sparse

from normexp import NormexpError, SoftmaxClassifier, rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def shard(path, n_rows=400, **more):
    rng = np.random.default_rng(len(str(path)))
    columns = {"a": rng.normal(size=n_rows), "b": rng.normal(size=n_rows), "y": np.arange(n_rows) % 3, **more}
    pq.write_table(pa.table(columns), path)
    return path


def refused(sentence):
    return pytest.raises(NormexpError, match=f"(?s){sentence}")


def test_a_npy_file_that_is_no_table_is_refused(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.zeros((3, 2))))
    (tmp_path / "noise.npy").write_bytes(b"\x00" * 100)
    for name, sentence in (
        ("flat", r"shape \(3,\).*a table"),
        ("text", "<U1"),
        ("fortran", "Fortran order.*ascontiguousarray"),
        ("noise", "cannot be read"),
        ("none", "cannot be read.*No such file"),
    ):
        with refused(f"from_npy: .*{name}.npy.*{sentence}"):
            rows.from_npy(tmp_path / f"{name}.npy")


def test_a_cut_off_npy_file_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 3)))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-50])
    with refused("ends too early for"):
        rows.from_npy(tmp_path / "x.npy")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(tmp_path, bad):
    X = np.random.default_rng(0).normal(size=(500, 3))
    X[321, 1] = bad
    np.save(tmp_path / "x.npy", X)
    with refused("row 321 of X holds NaN or infinity"):
        SoftmaxClassifier().fit(rows.from_npy(tmp_path / "x.npy"), np.arange(500) % 2)
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(X))
    with refused("row 321 of X holds NaN or infinity"):
        SoftmaxClassifier().fit(rows.from_csr_shards(tmp_path / "x.npz"), np.arange(500) % 2)


def test_columns_that_are_not_there_or_hold_no_numbers_are_named(tmp_path):
    shard(tmp_path / "p.parquet", name=["x"] * 400, e=[[1.0, 2.0]] * 400)
    for given, sentence in (
        ({"target": "z"}, "no column 'z' for target; it has a, b, y"),
        ({"target": "y", "features": ["a", "q*"]}, r"no column 'q\*' for features"),
        ({"target": "y"}, "column 'name' of .*p.parquet' holds string, not numbers"),
        ({"target": "y", "features": ["a", "e"]}, "'e' .* holds lists; it must be the only one"),
    ):
        with refused(sentence):
            rows.from_parquet(tmp_path / "p.parquet", **given)


def test_missing_values_and_classes_are_named_with_shard_and_row(tmp_path):
    values = [0.5] * 400
    values[7] = None
    shard(tmp_path / "p-0.parquet")
    shard(tmp_path / "p-1.parquet", b=pa.array(values, type=pa.float64()))
    with refused("p-1.parquet' has no value in column 'b', row 7"):
        SoftmaxClassifier().fit(rows.from_parquet(tmp_path, target="y"))
    shard(tmp_path / "p-1.parquet", y=pa.array([1, None] * 200, type=pa.int64()))
    with refused("p-1.parquet' has no class in column 'y', row 1"):
        SoftmaxClassifier().fit(rows.from_parquet(tmp_path, target="y"))


def test_a_missing_number_within_a_list_is_named_with_its_row(tmp_path):
    lists = [[1.0, 2.0]] * 5 + [[3.0, None]] + [[1.0, 2.0]] * 4
    pq.write_table(pa.table({"e": lists, "y": [0, 1] * 5}), tmp_path / "p.parquet")
    with refused("p.parquet' has no value in column 'e', row 5"):
        SoftmaxClassifier().fit(rows.from_parquet(tmp_path, target="y"))


def test_shards_of_other_columns_are_refused(tmp_path):
    shard(tmp_path / "p-0.parquet")
    shard(tmp_path / "p-1.parquet", b=np.zeros(400, dtype=np.float32))
    with refused("first shard has double in column 'b' and .*p-1.parquet' has float"):
        rows.from_parquet(tmp_path, target="y")
    sparse.save_npz(tmp_path / "p-0.npz", sparse.csr_matrix((5, 3)))
    sparse.save_npz(tmp_path / "p-1.npz", sparse.csr_matrix((5, 4)))
    with refused("p-1.npz' has 4 columns and .*p-0.npz' has 3"):
        rows.from_csr_shards(tmp_path)
    sparse.save_npz(tmp_path / "p-0.npz", sparse.csc_matrix((5, 3)))
    with refused("holds a 'csc' matrix; CSR would be right"):
        rows.from_csr_shards(tmp_path)


def test_lists_of_unequal_length_are_refused(tmp_path):
    pq.write_table(pa.table({"e": [[1.0, 2.0], [3.0]], "y": [0, 1]}), tmp_path / "p.parquet")
    with refused("p.parquet' has lists of other lengths than 2 in column 'e'"):
        SoftmaxClassifier().fit(rows.from_parquet(tmp_path / "p.parquet", target="y"))


def test_an_empty_folder_is_refused(tmp_path):
    with refused(r"holds no file '\*.parquet'"):
        rows.from_parquet(tmp_path)


def test_labels_and_weights_of_another_length_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 2)))
    table = rows.from_npy(tmp_path / "x.npy")
    with refused(r"labels have shape \(9,\); one for each row, \(10,\)"):
        SoftmaxClassifier().fit(table, np.zeros(9))
    with refused("know no classes and y is None; give y"):
        SoftmaxClassifier().fit(table)
    with refused("one class only"):
        SoftmaxClassifier().fit(table, np.zeros(10))
    with refused(r"sample_weight.shape == \(3,\)"):
        SoftmaxClassifier().fit(table, np.arange(10) % 2, sample_weight=[1.0, 1.0, 1.0])
    with refused("init is 'lda', which needs the rows in memory"):
        SoftmaxClassifier(init="lda").fit(table, np.arange(10) % 2)


def damage(path, how):
    """Change a shard so that a reader of its opened sibling files must notice."""
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-300])
    elif how == "gone":
        path.unlink()
    else:
        shard(path, a=np.linspace(0, 1, 400))


DAMAGES = [
    ("cut off", "was changed|cannot be read"),
    ("gone", "cannot be read any more"),
    ("other rows", "was changed"),
]


@pytest.mark.parametrize(("how", "words"), DAMAGES)
def test_a_shard_damaged_in_the_middle_of_a_fit_is_named_and_the_checkpoint_stands(tmp_path, how, words):
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(3):
        shard(folder / f"p-{k}.parquet")
    kept, checkpoint = (folder / "p-1.parquet").read_bytes(), tmp_path / "fit.checkpoint"
    model = SoftmaxClassifier(tol=1e-12)

    def damaging(progress):
        if progress.n_iter == 2 and (folder / "p-1.parquet").exists():
            damage(folder / "p-1.parquet", how)

    with refused(rf"p-1\.parquet' ({words}).*The checkpoint '.*fit.checkpoint' stands"):
        model.fit(rows.from_parquet(folder, target="y"), checkpoint=checkpoint, progress=damaging)
    assert checkpoint.exists()
    (folder / "p-1.parquet").write_bytes(kept)
    model.fit(rows.from_parquet(folder, target="y"), checkpoint=checkpoint)
    whole = SoftmaxClassifier(tol=1e-12).fit(rows.from_parquet(folder, target="y"))
    assert model.n_iter_[0] == whole.n_iter_[0]
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-10, atol=1e-14)


def test_the_pages_of_a_shard_are_read_anew_in_each_pass(tmp_path):
    """Damage inside a shard of the same size and time is found by the reader itself."""
    path = shard(tmp_path / "p.parquet")
    table = rows.from_parquet(path, target="y")
    list(table.batches())
    seen = path.stat()
    content = bytearray(path.read_bytes())
    content[8:4000] = b"\xff" * 3992
    path.write_bytes(bytes(content))
    import os

    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with refused("p.parquet' cannot be read"):
        list(table.batches())


@pytest.mark.parametrize("other", [np.array(list("012") * 40), np.arange(120) % 2 == 1])
def test_shards_whose_classes_differ_in_type_are_refused(tmp_path, other):
    shard(tmp_path / "p0.parquet", 120)
    shard(tmp_path / "p1.parquet", 120, y=other)
    kind = "string" if other.dtype.kind == "U" else "bool"
    with refused(rf"classes in column 'y' are int64 in '.*p0.parquet' and {kind} in '.*p1.parquet'"):
        rows.from_parquet(tmp_path, target="y")


def test_classes_of_one_sort_may_be_stored_in_different_ways(tmp_path):
    words = pa.array(list("abc") * 40)
    shard(tmp_path / "p0.parquet", 120, y=words)
    shard(tmp_path / "p1.parquet", 120, y=words.dictionary_encode())
    shard(tmp_path / "p2.parquet", 120, y=words.cast(pa.large_string()))
    assert rows.from_parquet(tmp_path, target="y").labels.classes.tolist() == ["a", "b", "c"]


def test_a_shard_without_the_classes_is_refused(tmp_path):
    shard(tmp_path / "p0.parquet", 120, label=np.arange(120) % 2)
    shard(tmp_path / "p1.parquet", 120)
    with refused(r"p1.parquet' lacks the column 'label' for target"):
        rows.from_parquet(tmp_path, target="label", features=["a", "b"])
