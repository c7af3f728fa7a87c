"""The same rows come out of every format that can hold them."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from normexp.base.errors import InputError
from normexp.tables import Column, open_source

FRAME = pl.DataFrame(
    {
        "mass": [1.5, None, -3.0, 4.0],
        "ripe": [True, False, None, True],
        "picked": ["2024-05-31", "2024-06-01", None, "2023-12-31"],
        "colour": ["red", "grün", "NA", None],
        "kind": ["apple", "lemon", "apple", "lemon"],
    }
)
KINDS = (Column("mass", "number"), Column("ripe", "boolean"), Column("picked", "date"), Column("colour", "text"))


def write(folder, suffix):
    path = folder / f"rows{suffix}"
    plain = suffix.removesuffix(".gz")
    if plain == ".csv":
        content = FRAME.write_csv().encode()
    elif plain == ".tsv":
        content = FRAME.write_csv(separator="\t").encode()
    elif plain in (".ndjson", ".jsonl"):
        content = FRAME.write_ndjson().encode()
    else:
        FRAME.with_columns(pl.col("picked").str.to_date()).write_parquet(path)
        return path
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".ndjson", ".jsonl", ".ndjson.gz", ".parquet"]
)
def test_every_table_format_gives_the_same_schema_rows_and_classes(tmp_path, suffix):
    source = open_source(write(tmp_path, suffix), target="kind")
    schema = source.infer()
    assert schema.columns == KINDS
    block = source.read(schema, with_target=True)
    assert block.target.tolist() == ["apple", "lemon", "apple", "lemon"]
    assert block.features["mass"].to_list() == [1.5, None, -3.0, 4.0]
    assert block.features["ripe"].to_list() == [True, False, None, True]
    assert block.features["picked"].dt.strftime("%Y-%m-%d").to_list() == [
        "2024-05-31",
        "2024-06-01",
        None,
        "2023-12-31",
    ]
    assert [value or "" for value in block.features["colour"].to_list()] == ["red", "grün", "NA", ""]


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_small_batches_hold_the_same_rows_as_one_large_batch(tmp_path, suffix):
    source = open_source(write(tmp_path, suffix), target="kind")
    schema = source.infer()
    blocks = list(source.batches(schema, with_target=True, batch_rows=3))
    assert [block.start for block in blocks] == [0, 3]
    assert pl.concat([block.features for block in blocks]).equals(source.read(schema, with_target=True).features)


def test_patterns_choose_columns_and_keep_the_order_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("emb_1,id,emb_0,y\n1,9,2,a\n3,9,4,b\n")
    assert open_source(path, target="y", features="emb_*").infer().names == ("emb_1", "emb_0")
    assert open_source(path, target="y", features=["id", "emb_0"]).infer().names == ("id", "emb_0")
    assert open_source(path, target="y").infer().names == ("emb_1", "id", "emb_0")


def test_running_text_stands_alone_unless_columns_are_chosen_beside_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("words,price,fine\nhello,1,x\nworld,2,y\n")
    assert open_source(path, target="fine", text="words").infer().names == ("words",)
    assert open_source(path, target="fine", text="words", features="price").infer().names == ("words", "price")


def test_a_column_without_a_name_is_passed_over_with_a_warning(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",mass,kind\n0,1.5,apple\n1,2.5,lemon\n")
    with pytest.warns(UserWarning, match="column 0 .* has no name"):
        assert open_source(path, target="kind").infer().names == ("mass",)


def test_a_mark_of_byte_order_and_quoted_line_breaks_do_no_harm(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffwords,kind\r\n"two\nlines, ""quoted""",a\r\nplain,b\r\n'.encode())
    source = open_source(path, target="kind", text="words")
    block = source.read(source.infer(), with_target=True)
    assert block.features["words"].to_list() == ['two\nlines, "quoted"', "plain"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["1", "10", "2"], [1, 10, 2]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1.0", "2.0", "3.5"], ["1.0", "2.0", "3.5"]),
        ([" a", "a ", "A"], [" a", "a ", "A"]),
        (["true", "false", "true"], ["true", "false", "true"]),
        (["NA", "null", "None"], ["NA", "null", "None"]),
        (["nan", "pita", "roti"], ["nan", "pita", "roti"]),
    ],
)
def test_labels_stay_as_they_stand_in_the_file(tmp_path, written, expected):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"1,{label}\n" for label in written))
    source = open_source(path, target="y")
    assert source.read(source.infer(), with_target=True).target.tolist() == expected


def test_whole_floats_of_parquet_are_whole_numbers_as_labels(tmp_path):
    pl.DataFrame({"x": [1, 2], "y": [3.0, 4.0]}).write_parquet(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", target="y")
    assert source.read(source.infer(), with_target=True).target.tolist() == [3, 4]


def test_values_of_json_keep_their_precision(tmp_path):
    path = tmp_path / "a.ndjson"
    numbers = [0.1 + 0.2, 1e-300, 12345678901234.5]
    path.write_text("".join(json.dumps({"x": x, "y": "ab"[i % 2]}) + "\n" for i, x in enumerate(numbers)))
    source = open_source(path, target="y")
    assert source.read(source.infer(), with_target=True).features["x"].to_list() == numbers


@pytest.mark.parametrize("layout", ["npz", "lower", "named", "npy", "folder"])
def test_arrays_come_from_archives_files_and_folders(tmp_path, layout):
    rows, y = np.arange(12, dtype=np.float32).reshape(3, 4), np.array(["b", "a", "b"])
    options = {}
    if layout == "npz":
        np.savez(tmp_path / "a.npz", X=rows, y=y)
    elif layout == "lower":
        np.savez(tmp_path / "a.npz", x=rows, y=y)
    elif layout == "named":
        np.savez(tmp_path / "a.npz", x_train=rows, y_train=y, x_test=rows)
        options = {"features": "x_train", "target": "y_train"}
    else:
        np.save(tmp_path / "X.npy", rows)
        np.save(tmp_path / "y.npy", y)
    path = {"npy": tmp_path / "X.npy", "folder": tmp_path}.get(layout, tmp_path / "a.npz")
    source = open_source(path, **options)
    block = source.read(source.infer(), with_target=True)
    assert block.features.dtype == np.float32
    assert np.array_equal(block.features, rows)
    assert block.target.tolist() == ["b", "a", "b"]


def test_images_are_flattened_and_small_integers_become_float32(tmp_path):
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.savez(tmp_path / "a.npz", X=images, y=[0, 1])
    source = open_source(tmp_path / "a.npz")
    block = source.read(source.infer(), with_target=True)
    assert block.features.dtype == np.float32
    assert np.array_equal(block.features, images.reshape(2, 9))
    assert source.infer().shape == (3, 3)


def test_npy_files_are_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((5, 2)))
    np.save(tmp_path / "y.npy", np.arange(5))
    assert isinstance(open_source(tmp_path)._x, np.memmap)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("suffix", [".svm", ".libsvm", ".svmlight", ".svm.gz"])
def test_libsvm_counts_features_from_0_or_from_1(tmp_path, suffix, first):
    path = tmp_path / f"a{suffix}"
    content = f"# a comment\n3 {first}:0.5 {first + 2}:2\n\n-1 {first + 1}:1 # note\n".encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    source = open_source(path)
    schema = source.infer()
    assert (schema.shape, schema.first_index) == ((3,), first)
    block = source.read(schema, with_target=True)
    assert block.features.toarray().tolist() == [[0.5, 0, 2], [0, 1, 0]]
    assert block.target.tolist() == [3, -1]


def test_fasttext_lines_are_a_text_and_its_class(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("__label__sport  a goal !\n\n__label__news the vote\n")
    source = open_source(path)
    block = source.read(source.infer(), with_target=True)
    assert block.features["text"].to_list() == ["a goal !", "the vote"]
    assert block.target.tolist() == ["sport", "news"]


def test_fasttext_lines_without_classes_can_be_predicted_but_not_learned_from(tmp_path):
    path = tmp_path / "a.ft"
    path.write_text("a goal !\nthe vote\n")
    source = open_source(path)
    assert source.read(source.infer(), with_target=False).features["text"].to_list() == ["a goal !", "the vote"]
    with pytest.raises(InputError, match=r"row 0 .* no class"):
        source.read(source.infer(), with_target=True)


@pytest.mark.parametrize("length", [3 << 20, 20 << 20])
def test_a_row_longer_than_the_blocks_of_the_parser_is_read_once_and_whole(tmp_path, length):
    path = tmp_path / "a.csv"
    words = [*(f"word {i}" for i in range(100_000)), "x" * length, "last"]
    path.write_text("words,y\n" + "".join(f"{word},{'ab'[i % 2]}\n" for i, word in enumerate(words)))
    source = open_source(path, target="y", text="words")
    assert source.read(source.infer(), with_target=True).features["words"].to_list() == words
