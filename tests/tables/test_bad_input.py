"""Each bad input gives one sentence that names the thing, what was expected, and what to do."""

import gzip
import pickle

import numpy as np
import polars as pl
import pytest

from normexp.base.errors import InputError
from normexp.tables import open_source


def refusal(path, *, with_target=True, **options):
    """The sentence with which a file is refused, wherever on the way that happens."""
    with pytest.raises(InputError) as caught:
        source = open_source(path, **options)
        source.read(source.infer(), with_target=with_target)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    return sentence


def saying(path, *parts, **options):
    """Check that the sentence holds every part."""
    sentence = refusal(path, **options)
    for part in parts:
        assert part in sentence, sentence


def csv(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_missing_file_names_the_nearest_one(tmp_path):
    csv(tmp_path, "x,y\n1,a\n", "train.csv")
    saying(tmp_path / "trian.csv", "no such file", "'train.csv'", target="y")


def test_a_missing_folder_is_named(tmp_path):
    saying(tmp_path / "nowhere" / "a.csv", "nowhere", "does not exist", target="y")


def test_a_folder_without_arrays_is_refused(tmp_path):
    told = ("this is a folder without X.npy and without Parquet files", "X.npy and y.npy, or one of .parquet files")
    saying(tmp_path, *told, "give the name of a file", target="y")
    saying(tmp_path, "this is a folder without features.npy", "one of .parquet files", target="y", features="features")


def test_a_folder_called_like_a_table_is_refused(tmp_path):
    (tmp_path / "a.csv").mkdir()
    saying(tmp_path / "a.csv", "this is a folder", target="y")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".ndjson", ".npz", ".npy", ".svm", ".txt"])
def test_an_empty_file_is_refused_in_every_format(tmp_path, suffix):
    saying(csv(tmp_path, b"", f"a{suffix}"), "empty (0 bytes)")


@pytest.mark.parametrize(("name", "content"), [("a.csv", "x,y\n"), ("a.tsv", "x\ty\n")])
def test_a_header_without_rows_is_refused(tmp_path, name, content):
    saying(csv(tmp_path, content, name), "a header (2 columns) and no rows", target="y")


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    pl.DataFrame({"x": [1.0], "y": ["a"]}).clear().write_parquet(tmp_path / "a.parquet")
    saying(tmp_path / "a.parquet", "no rows", target="y")


def test_a_delimiter_that_nobody_knows_makes_one_column_of_all(tmp_path):
    saying(csv(tmp_path, "x:y\n1:a\n"), "'y' is not in the file", "The nearest column is 'x:y'", target="y")


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_rows_with_other_delimiters_than_the_header_are_named(tmp_path, delimiter, word):
    path = csv(tmp_path, f"x{delimiter}y\n1,a\n")
    saying(path, "row 0", "has 1 values and the header has 2", f"values that hold {word}", target="y")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_text_in_utf_16_is_told_from_other_bytes(tmp_path, encoding):
    mark = "\ufeff".encode(encoding)
    saying(csv(tmp_path, mark + "x,y\n1,a\n".encode(encoding)), "UTF-16", "iconv -f utf-16 -t utf-8", target="y")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.ndjson"])
def test_a_file_that_is_no_text_is_told(tmp_path, name):
    saying(csv(tmp_path, b"\x7fELF\x02\x01\x01\x00\x00", name), "zero bytes, which no text does", target="y")


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path):
    saying(csv(tmp_path, b"PK\x03\x04", "a.xlsx"), "this is a spreadsheet", "Save the sheet as CSV", target="y")


def test_a_missing_column_is_told_beside_all_that_are_there(tmp_path):
    schema = open_source(csv(tmp_path, "one,two,y\n1,2,a\n3,4,b\n"), target="y").infer()
    with pytest.raises(InputError, match=r"'one', which .* is missing\. The columns are 'two', 'y'; give a table"):
        open_source(csv(tmp_path, "two,y\n2,a\n", "b.csv")).check(schema, known=("y",))
    with pytest.raises(InputError, match="The nearest column is 'once'"):
        open_source(csv(tmp_path, "once,two\n2,1\n", "b.csv")).check(schema, known=("y",))
    with pytest.raises(InputError, match=r"'six' is extra.*pass --ignore-extra"):
        open_source(csv(tmp_path, "one,two,six\n2,1,3\n", "b.csv")).check(schema, known=("y",))


@pytest.mark.parametrize("rows", [1, 300_000])
def test_bytes_that_are_not_utf8_are_named_with_their_position(tmp_path, rows):
    good = b"x,y\n" + b"1,abc\n" * rows
    saying(csv(tmp_path, good + b"2,caf\xe9\n"), f"byte {len(good) + 5} is not UTF-8 (0xe9)", target="y")


def test_the_position_of_a_bad_byte_counts_a_mark_of_byte_order(tmp_path):
    saying(csv(tmp_path, b"\xef\xbb\xbfx,y\n\xff,a\n"), "byte 7 is not UTF-8 (0xff)", target="y")


def test_a_cut_character_at_the_end_is_not_utf8(tmp_path):
    saying(csv(tmp_path, b"x,y\n1,caf\xc3"), "byte 9 is not UTF-8", target="y")


def test_an_absent_target_column_names_the_nearest_column(tmp_path):
    saying(csv(tmp_path, "x,Label\n1,a\n"), "'lable'", "nearest column is 'Label'", target="lable")


def test_an_absent_target_column_unlike_any_lists_the_columns(tmp_path):
    saying(csv(tmp_path, "x,kind\n1,a\n"), "'quux'", "'x', 'kind'", target="quux")


def test_an_absent_text_column_is_named(tmp_path):
    saying(csv(tmp_path, "txt,y\na,b\n"), "text column 'text'", "'txt'", target="y", text="text")


def test_a_pattern_that_chooses_nothing_is_named(tmp_path):
    saying(csv(tmp_path, "emb_0,y\n1,b\n"), "'em_*'", "'emb_0'", target="y", features="em_*")


def test_a_table_of_nothing_but_the_target_is_refused(tmp_path):
    saying(csv(tmp_path, "y\na\nb\n"), "no column is left", "'y'", target="y")


def test_two_columns_of_one_name_are_refused(tmp_path):
    saying(csv(tmp_path, "x,x,y\n1,2,a\n"), "two columns are called 'x'", target="y")


@pytest.mark.parametrize("missing", ["", "  ", '""'])
def test_an_empty_target_is_named_with_its_row(tmp_path, missing):
    saying(csv(tmp_path, f"x,y\n1,a\n2,b\n3,{missing}\n"), "'y' is empty or NaN in row 2", target="y")


def test_nan_among_numbers_as_target_is_named_with_its_row(tmp_path):
    saying(csv(tmp_path, "x,y\n1,0\n2,nan\n"), "'y' is empty or NaN in row 1", target="y")


def test_nan_and_null_as_target_of_parquet_are_named_with_their_row(tmp_path):
    for y in ([0.0, float("nan")], ["a", None], [1, None]):
        pl.DataFrame({"x": [1, 2], "y": y}).write_parquet(tmp_path / "a.parquet")
        saying(tmp_path / "a.parquet", "'y' is empty or NaN in row 1", target="y")


def test_the_row_of_an_empty_target_counts_over_blocks(tmp_path):
    path = csv(tmp_path, "x,y\n" + "1,a\n" * 70_000 + "1,\n")
    saying(path, "in row 70000", target="y")


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e999"])
def test_an_infinite_feature_is_named_with_column_and_row(tmp_path, value):
    saying(csv(tmp_path, f"x,z,y\n1,1,a\n2,{value},b\n"), "'z' is infinite in row 1", target="y")


def test_an_infinite_feature_of_parquet_is_named(tmp_path):
    pl.DataFrame({"x": [1.0, float("inf")], "y": ["a", "b"]}).write_parquet(tmp_path / "a.parquet")
    saying(tmp_path / "a.parquet", "'x' is infinite in row 1", target="y")


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_an_infinite_or_absent_number_of_an_array_is_named(tmp_path, bad, word):
    rows = np.zeros((20_000, 3))
    rows[17_000, 2] = bad
    np.savez(tmp_path / "a.npz", X=rows, y=np.arange(20_000) % 2)
    saying(tmp_path / "a.npz", f"column 2 of 'X' is {word} in row 17000")


def test_a_value_far_down_that_is_no_number_is_named_with_column_row_and_value(tmp_path):
    path = csv(tmp_path, "x,z,y\n" + "1,2.5,a\n" * 200_000 + "1,oops,b\n")
    saying(path, "column 'z' holds 'oops' in row 200000", "a number is expected", target="y")


@pytest.mark.parametrize(("row", "values"), [("1,2", 2), ("1,2,3,4", 4)])
def test_a_ragged_row_is_named_with_its_number(tmp_path, row, values):
    path = csv(tmp_path, f"x,z,y\n1,2,a\n1,2,b\n{row}\n1,2,a\n")
    saying(path, f"row 2 (rows count from 0 after the header) has {values} values and the header has 3", target="y")


def test_a_ragged_row_far_down_is_named_with_its_number(tmp_path):
    path = csv(tmp_path, "x,z,y\n" + "1,2.125,abcdefgh\n" * 400_000 + "1,2\n")
    saying(path, "row 400000", "2 values", target="y")


def test_a_quotation_mark_that_never_closes_is_named(tmp_path):
    saying(csv(tmp_path, 'x,y\n1,a\n2,"b\n3,c\n4,d\n'), "quotation mark", "never closed", target="y")


def test_a_broken_gzip_file_is_named(tmp_path):
    whole = gzip.compress(b"x,y\n" + b"1,a\n2,b\n" * 1000)
    saying(csv(tmp_path, whole[:-20], "a.csv.gz"), "broken or ends too early", target="y")
    saying(csv(tmp_path, b"x,y\n1,a\n", "b.csv.gz"), "not gzip", target="y")


def test_a_pickle_in_an_archive_is_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([[1, "a"]], dtype=object), y=[0])
    saying(tmp_path / "a.npz", "'X' holds Python objects (a pickle)")
    (tmp_path / "b.npz").write_bytes(pickle.dumps({"X": [[1.0]], "y": [0]}))
    saying(tmp_path / "b.npz", "not an .npz archive")
    (tmp_path / "c.npy").write_bytes(pickle.dumps([[1.0]]))
    saying(tmp_path / "c.npy", "pickle")


def test_an_archive_with_other_names_lists_the_pairs_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 2)), y_train=[0, 1], x_test=np.zeros((2, 2)), y_test=[0, 1])
    saying(tmp_path / "a.npz", "--features x_train --target y_train", "--features x_test --target y_test")


def test_an_archive_without_classes_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((2, 2)))
    saying(tmp_path / "a.npz", "the classes are needed", "Add an array y")


@pytest.mark.parametrize(("x", "y"), [((3, 2), (2,)), ((3, 2), (3, 2)), ((3,), (3,)), ((0, 2), (0,))])
def test_arrays_whose_shapes_do_not_fit_are_refused(tmp_path, x, y):
    np.savez(tmp_path / "a.npz", X=np.zeros(x), y=np.zeros(y))
    saying(tmp_path / "a.npz", "shape")


def test_arrays_of_text_are_refused_as_features(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([["a"], ["b"]]), y=[0, 1])
    saying(tmp_path / "a.npz", "features must be numbers")


def test_a_column_of_lists_is_named_with_its_type(tmp_path):
    pl.DataFrame({"v": [[1.0], [2.0]], "y": ["a", "b"]}).write_parquet(tmp_path / "a.parquet")
    saying(tmp_path / "a.parquet", "'v' holds List(Float64)", target="y")


def test_a_broken_parquet_file_is_named(tmp_path):
    saying(csv(tmp_path, b"PAR1 and nothing more", "a.parquet"), "cannot be read as Parquet", target="y")


def test_a_line_that_is_no_json_object_is_named_with_its_row(tmp_path):
    saying(csv(tmp_path, '{"x":1,"y":"a"}\n{"x":1,\n', "a.ndjson"), "row 1", "not a JSON object", target="y")
    saying(csv(tmp_path, '{"x":1,"y":"a"}\n{"x":[1],"y":"b"}\n', "b.ndjson"), "'x' holds a list in row 1", target="y")


@pytest.mark.parametrize("line", ["3 1:0.5 x", "abc", "3 2:1 1:1", "3 1:"])
def test_a_line_that_is_not_libsvm_is_named_with_its_row(tmp_path, line):
    saying(csv(tmp_path, f"1 1:2\n{line}\n", "a.svm"), "row 1", "not of the libsvm format")


def test_an_infinite_feature_of_libsvm_is_named(tmp_path):
    saying(csv(tmp_path, "1 1:2\n2 1:1 3:inf\n", "a.svm"), "feature 3 is infinite in row 1")


def test_a_fasttext_line_with_two_classes_is_named(tmp_path):
    saying(csv(tmp_path, "__label__a x\n__label__a __label__b x\n", "a.txt"), "row 1", "2 classes")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    saying(csv(tmp_path, "x", "a.docx"), "'.docx'", ".csv, .tsv", target="y")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = csv(tmp_path, "x,y\n1,a\n")
    real = type(path).open

    def refuse(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(path), "open", refuse)
    saying(path, "may not be read", target="y")


def test_classes_without_a_named_target_are_asked_for(tmp_path):
    saying(csv(tmp_path, "x,y\n1,a\n"), "no target column was named")


def test_arrays_of_other_names_come_with_the_options_that_choose_them(tmp_path):
    np.savez(tmp_path / "a.npz", embeddings=np.ones((4, 2)), labels=np.arange(4))
    saying(tmp_path / "a.npz", "choose with --features ARRAY --target ARRAY")
    saying(tmp_path / "a.npz", "choose with --features embeddings --target labels", target="labels")
    np.save(tmp_path / "e.npy", np.ones((4, 2)))
    saying(tmp_path / "e.npy", "there is no y.npy in the folder", "name a file of that folder with --target")
