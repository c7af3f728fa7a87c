"""Rows in svmlight files: the fit of the matrix, wherever the blocks are cut."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_svmlight_files

from normexp import NormexpError, SoftmaxClassifier, rows
from normexp.rows import svmlight

AGREED = 1e-10


def counts(n_rows=1500, n_features=40, seed=3):
    rng = np.random.default_rng(seed)
    X = sparse.random_array((n_rows, n_features), density=0.15, rng=rng, format="csr", data_sampler=rng.exponential)
    scores = X @ (3 * rng.normal(size=(n_features, 3))) + 2 * rng.gumbel(size=(n_rows, 3))
    return sparse.csr_matrix(X), 10 * scores.argmax(axis=1) - 10


def shards(folder, X, y, *, count=3, zero_based=False, comment=""):
    for k, part in enumerate(np.array_split(np.arange(X.shape[0]), count)):
        dump_svmlight_file(X[part], y[part], str(folder / f"part-{k}.svm"), zero_based=zero_based, comment=comment)
    return folder


def distance(first, second):
    size = max(np.abs(second.coef_).max(), np.abs(second.intercept_).max())
    return max(np.abs(first.coef_ - second.coef_).max(), np.abs(first.intercept_ - second.intercept_).max()) / size


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(svmlight, "_BLOCK_BYTES", 5_000)


@pytest.mark.parametrize("zero_based", [False, True])
def test_shards_give_the_fit_of_the_matrix(tmp_path, zero_based):
    X, y = counts()
    table = rows.from_svmlight(shards(tmp_path, X, y, zero_based=zero_based))
    assert table.shape == X.shape
    assert table.is_sparse
    assert sum(1 for _ in table.batches()) > 10
    model, whole = SoftmaxClassifier(tol=1e-13).fit(table), SoftmaxClassifier(tol=1e-13).fit(X, y)
    assert model.classes_.tolist() == [-10, 0, 10]
    assert distance(model, whole) <= AGREED
    assert np.abs(model.predict_proba(table) - whole.predict_proba(X)).max() <= 1e-9


@pytest.mark.parametrize("size", [1, 7, 64, 199, 200, 201, 5_000, 10**7])
def test_no_row_is_lost_or_read_twice_wherever_a_block_ends(tmp_path, monkeypatch, size):
    """Blank lines, comments and a last line without an end among them."""
    monkeypatch.setattr(svmlight, "_BLOCK_BYTES", size)
    lines = []
    for k in range(60):
        lines += [f"{k % 3} 1:{k}.5 4:{k + 1}", *["", "# a comment", "  "][: k % 4]]
    (tmp_path / "a.svm").write_text("\n".join(lines))
    (tmp_path / "b.svm").write_text("# nothing but words\n\n")
    (tmp_path / "c.svm").write_text("".join(f"{k} 2:1  # its own\n" for k in range(3)))
    table = rows.from_svmlight(tmp_path)
    read = sparse.vstack(list(table.batches())).toarray()
    expected = load_svmlight_files([str(tmp_path / f"{name}.svm") for name in "ac"])
    assert np.array_equal(read, np.vstack([expected[0].toarray(), expected[2].toarray()]))
    assert table.labels.index.tolist() == [int(k) for k in np.concatenate([expected[1], expected[3]])]


def test_new_rows_are_read_as_wide_as_the_model(tmp_path):
    X, y = counts()
    (tmp_path / "fit").mkdir()
    model = SoftmaxClassifier().fit(rows.from_svmlight(shards(tmp_path / "fit", X, y), dtype=np.float32))
    assert model.coef_.dtype == np.float32
    (tmp_path / "new.svm").write_text("0 3:1.5\n0 \n")
    with pytest.raises(NormexpError, match="3 features, and the model was fitted on 40"):
        model.predict(rows.from_svmlight(tmp_path / "new.svm", zero_based=False))
    new = rows.from_svmlight(tmp_path / "new.svm", n_features=model.n_features_in_, zero_based=False, dtype=np.float32)
    dense = np.zeros((2, 40), np.float32)
    dense[0, 2] = 1.5
    np.testing.assert_allclose(model.predict_proba(new), model.predict_proba(dense), rtol=1e-6)


def test_classes_that_are_no_whole_numbers_stay_what_they_are(tmp_path):
    (tmp_path / "a.svm").write_text("0.5 1:1\n1.5 1:2\n0.5 1:1\n")
    assert rows.from_svmlight(tmp_path / "a.svm").labels.classes.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("0 1:1\n1 2:2\nbad 3\n", {}, r"a.svm' has a line that is not of the format, row 2: 'bad 3'"),
        ("0 1:1\n# no row\n1 2:x\n", {}, "row 1: '1 2:x'"),
        ("0 3:1 2:1\n", {}, "row 0"),
        ("1,2 1:1\n", {}, "row 0"),
        ("0 0:1\n", {"zero_based": False}, "a feature with the number 0, and zero_based is False"),
        ("0 7:1\n", {"n_features": 5}, "n_features is 5, and .* number 7, the 7th; give 7 or more"),
        ("# no row\n", {}, "has no rows"),
        ("0 1:1\n", {"dtype": "int32"}, "dtype is 'int32'"),
    ],
)
def test_bad_lines_and_options_are_told(tmp_path, text, options, sentence):
    (tmp_path / "a.svm").write_text(text)
    with pytest.raises(NormexpError, match=sentence):
        rows.from_svmlight(tmp_path / "a.svm", **options)


def test_files_that_change_or_are_not_there_are_named(tmp_path):
    X, y = counts(n_rows=300)
    table = rows.from_svmlight(shards(tmp_path, X, y))
    with (tmp_path / "part-1.svm").open("a") as file:
        file.write("0 1:1\n")
    with pytest.raises(NormexpError, match=r"part-1.svm' was changed since it was opened"):
        SoftmaxClassifier().fit(table)
    with pytest.raises(NormexpError, match=r"none.svm' cannot be read"):
        rows.from_svmlight(tmp_path / "none.svm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NormexpError, match=r"holds no file '\*.svm' or"):
        rows.from_svmlight(tmp_path / "empty")
    (tmp_path / "a.svm").write_text("0 1:1\n1 1:nan\n")
    with pytest.raises(NormexpError, match="row 1 of X holds NaN or infinity"):
        SoftmaxClassifier().fit(rows.from_svmlight(tmp_path / "a.svm"))
