"""Files as spreadsheets of other countries write them: semicolons, decimal commas, points between thousands."""

import numpy as np
import polars as pl
import pytest

from normexp.base.errors import InputError
from normexp.tables import open_source
from normexp.tables.score_files import read_entries, read_matrix
from normexp.tables.separators import has_decimal_commas, separator_of, with_decimal_points
from normexp.tables.small_tables import read_lines


def written(folder, content, name="t.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(path, **chosen):
    source = open_source(path, **chosen)
    schema = source.infer()
    return schema, source.read(schema, with_target=source.target is not None)


@pytest.mark.parametrize(
    ("header", "usual", "found"),
    [
        ("a,b", ",", ","),
        ("a;b", ",", ";"),
        ("a\tb", ",", "\t"),
        ("a|b|c", ",", "|"),
        ("a,b", "\t", ","),
        ("a;b,c", ",", ","),  # the usual one wins
        ('"a, in g";"b, in m"', ",", ";"),  # within quotation marks nothing counts
        ('"a;b"', ",", ","),
        ("a|b;c;d", ",", ";"),
        ("", ",", ","),
        ("one", "\t", "\t"),
    ],
)
def test_the_header_tells_what_stands_between_columns(header, usual, found):
    assert separator_of(header, usual=usual) == found


@pytest.mark.parametrize(
    ("columns", "separator", "found"),
    [
        ({"x": ["1,5", "2", "NA"]}, ";", True),
        ({"x": ["1,5", "2"]}, ",", False),
        ({"x": ["1.234,5", "12"]}, ";", True),
        ({"x": ["1,234"]}, ";", True),
        ({"x": ["1,234"]}, "\t", False),  # thousands, for all that is known
        ({"x": ["1,234"], "y": ["0,5"]}, "\t", True),
        ({"x": ["1,234", "0,345"]}, "\t", True),  # thousands never begin with 0
        ({"x": ["1,5", "2,5"], "y": ["1.250", "0.345"]}, ";", False),
        ({"x": ["1,5"], "y": ["0.25"]}, ";", False),  # 1,5 is a code then
        ({"x": ["1,5"], "y": ["1.250"]}, ";", True),  # 1250
        ({"x": ["1,5", "red"]}, ";", False),
        ({"x": ["1,5,2"]}, ";", False),
        ({"x": ["12", "31.12.2024"]}, ";", False),
        ({"x": ["", ""]}, ";", False),
        ({"x": ["1", "2"]}, ";", False),
    ],
)
def test_the_numbers_tell_whether_commas_are_decimal(columns, separator, found):
    assert has_decimal_commas(pl.DataFrame(columns), separator=separator) is found


def test_only_numbers_are_written_anew():
    given = ["1,5", "-1.234.567,25", "+3", "2,5e-3", "1,2,3", "31.12.2024", " 4,0 ", "1.5", None, ""]
    wanted = ["1.5", "-1234567.25", "+3", "2.5e-3", "1,2,3", "31.12.2024", "4.0", "1.5", None, ""]
    assert with_decimal_points(pl.Series("x", given)).to_list() == wanted


ROWS = [
    (f"{i + i / 8}", f"{1000 * i + 0.5}", "red, or not" if i % 2 else "blue", "1,5" if i % 3 else "b")
    for i in range(60)
]
PLAIN = "mass,price,colour,kind\n" + "".join(f'{m},{p},"{c}","{k}"\n' for m, p, c, k in ROWS)


def in_german(number):
    whole, part = number.split(".")
    return f"{int(whole):,}".replace(",", ".") + "," + part


GERMAN = "\ufeffmass;price;colour;kind\r\n" + "".join(
    f"{in_german(m)};{in_german(p)};{c};{k}\r\n" for m, p, c, k in ROWS
)


def test_a_german_export_is_the_table_that_it_was(tmp_path):
    plain, german = (
        table(written(tmp_path, text, name), target="kind") for text, name in ((PLAIN, "a.csv"), (GERMAN, "b.csv"))
    )
    assert plain[0] == german[0]
    assert [column.kind for column in german[0].columns] == ["number", "number", "text"]
    assert plain[1].features.equals(german[1].features)
    assert german[1].features["price"][3] == 3000.5
    assert set(german[1].target) == {"1,5", "b"}  # classes stay as they stand
    assert (plain[1].target == german[1].target).all()


def test_semicolons_with_decimal_points_are_read_too(tmp_path):
    """As the wine-quality files of UCI are written."""
    schema, block = table(
        written(tmp_path, '"fixed acidity";"pH";"quality"\n7.4;3.51;5\n7.8;3.2;6\n'), target="quality"
    )
    assert schema.names == ("fixed acidity", "pH")
    assert block.features.rows() == [(7.4, 3.51), (7.8, 3.2)]
    assert block.target.tolist() == [5, 6]


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_the_line_that_tells_spreadsheets_the_separator_is_passed_over(tmp_path, line):
    schema, block = table(written(tmp_path, line + "x;sep=;y\n0,5;1;a\n1;2;b\n"), target="y")
    assert schema.names == ("x", "sep=")
    assert block.features.rows() == [(0.5, 1.0), (1.0, 2.0)]


def test_blocks_and_running_text_are_read_alike(tmp_path):
    source = open_source(
        written(tmp_path, "x;say;y\n" + "0,5;1,5;a\n" * 500 + "1;2,5;b\n" * 500), target="y", text="say", features="x"
    )
    schema = source.infer()
    blocks = list(source.batches(schema, with_target=True, batch_rows=300))
    assert [block.n_rows for block in blocks] == [300, 300, 300, 100]
    assert blocks[0].features["x"][0] == 0.5
    assert blocks[0].features["say"][0] == "1,5"


def test_a_model_of_points_reads_commas_and_the_other_way_round(tmp_path):
    schema = open_source(written(tmp_path, PLAIN), target="kind").infer()
    source = open_source(written(tmp_path, GERMAN, "b.csv"), target="kind")
    source.check(schema)
    assert source.read(schema, with_target=True).features["mass"][8] == 9.0


def test_scores_and_labels_and_small_tables_are_read_alike(tmp_path):
    matrix = read_matrix(written(tmp_path, "0,25;0,75\n0,5;0,5\n"))
    assert np.array_equal(matrix.values, [[0.25, 0.75], [0.5, 0.5]])
    matrix = read_matrix(written(tmp_path, "a;b;y\n0,25;0,75;b\n0,5;0,5;a\n"), leave=("y",))
    assert np.array_equal(matrix.values, [[0.25, 0.75], [0.5, 0.5]])
    assert read_entries(tmp_path / "t.csv", "y").tolist() == ["b", "a"]
    lines = read_lines(written(tmp_path, "true;ham;spam\nham;0;10,5\nspam;1;0\n"), "costs")
    assert lines == [(1, ["true", "ham", "spam"]), (2, ["ham", "0", "10.5"]), (3, ["spam", "1", "0"])]


def test_a_model_of_a_csv_takes_parquet_whose_dates_are_texts(tmp_path):
    schema = open_source(written(tmp_path, "day,x,y\n2024-05-31,1.5,a\n2024-06-01,2,b\n"), target="y").infer()
    path = tmp_path / "t.parquet"
    pl.DataFrame({"day": ["2024-05-31", None], "x": [2.5, None], "y": ["a", "b"]}).write_parquet(path)
    source = open_source(path, target="y")
    source.check(schema)
    features = source.read(schema, with_target=True).features
    assert [str(day) for day in features["day"]] == ["2024-05-31 00:00:00", "None"]
    assert features["x"].to_list() == [2.5, None]
    pl.DataFrame({"day": ["soon"], "x": [2.5], "y": ["a"]}).write_parquet(path)
    with pytest.raises(InputError, match=r"the column 'day' holds 'soon' in row 0 .* a date such as 2024-05-31"):
        open_source(path, target="y").check(schema)
