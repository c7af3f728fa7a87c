"""A folder of Parquet files is one table, and each sentence names the file that is wrong."""

import polars as pl
import pytest

from normexp.base.errors import InputError
from normexp.tables import Column, open_source

FRAME = pl.DataFrame(
    {
        "mass": [1.5, None, -3.0, 4.0, 2.0],
        "colour": ["red", "green", "NA", None, "red"],
        "kind": ["apple", "lemon", "apple", "lemon", "plum"],
    }
)


def shards(folder, *parts):
    """Write the parts; the order of the names is the order of the rows."""
    folder.mkdir(exist_ok=True)
    for k, part in enumerate(parts):
        part.write_parquet(folder / f"part-{k}.parquet")
    return folder


def sentence(act):
    with pytest.raises(InputError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_rows_of_a_folder_are_those_of_one_file(tmp_path):
    folder = shards(tmp_path / "t", FRAME[:2], FRAME[2:2], FRAME[2:])
    FRAME.write_parquet(tmp_path / "whole.parquet")
    (folder / ".hidden.parquet").write_bytes(b"no Parquet")
    source, whole = open_source(folder, target="kind"), open_source(tmp_path / "whole.parquet", target="kind")
    schema = source.infer()
    assert schema == whole.infer()
    assert (source.n_rows, source.name, len(source.paths)) == (5, "t", 3)
    block, expected = source.read(schema, with_target=True), whole.read(schema, with_target=True)
    assert block.features.equals(expected.features)
    assert block.target.tolist() == expected.target.tolist()
    assert [part.start for part in source.batches(schema, with_target=False, batch_rows=2)] == [0, 2, 4]
    again = source.with_target("colour")
    assert (again.target, again.path) == ("colour", folder)


def test_a_column_without_values_in_one_file_fits_any_kind(tmp_path):
    empty = FRAME[3:].with_columns(mass=pl.lit(None))
    source = open_source(shards(tmp_path / "t", FRAME[:3], empty), target="kind")
    schema = source.infer()
    assert schema.columns == (Column("mass", "number"), Column("colour", "text"))
    assert source.read(schema, with_target=False).features["mass"].to_list() == [1.5, None, -3.0, None, None]


@pytest.mark.parametrize(
    ("second", "parts"),
    [
        (FRAME.drop("mass"), ("part-1.parquet", "'mass'", "'part-0.parquet'", "missing")),
        (FRAME.drop("kind"), ("part-1.parquet", "target column 'kind'")),
        (FRAME.with_columns(more=pl.lit(1)), ("part-1.parquet", "'more' is a column", "features")),
        (FRAME.with_columns(mass=pl.lit("a")), ("part-1.parquet", "'mass' holds texts, and numbers")),
        (FRAME[:0].drop("colour"), ("part-1.parquet", "'colour'")),
    ],
)
def test_a_file_with_other_columns_is_named(tmp_path, second, parts):
    folder = shards(tmp_path / "t", FRAME, second)
    told = sentence(lambda: open_source(folder, target="kind").infer())
    for part in parts:
        assert part in told, told


def test_a_broken_file_and_a_bad_value_are_named_with_the_row_in_their_file(tmp_path):
    folder = shards(tmp_path / "t", FRAME, FRAME.with_columns(mass=pl.Series([0.0, 1.0, float("inf"), 2.0, 3.0])))
    source = open_source(folder, target="kind")
    told = sentence(lambda: source.read(source.infer(), with_target=True))
    assert "part-1.parquet" in told
    assert "infinite in row 2" in told
    whole = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[: len(whole) // 2])
    assert "part-1.parquet: the file cannot be read as Parquet" in sentence(lambda: open_source(folder, target="kind"))


def test_a_folder_without_a_row_and_one_without_files_are_told(tmp_path):
    source = open_source(shards(tmp_path / "t", FRAME[:0], FRAME[:0]), target="kind")
    assert "2 Parquet files have no rows" in sentence(lambda: source.read(source.infer(), with_target=True))
    (tmp_path / "empty").mkdir()
    assert "folder without X.npy" in sentence(lambda: open_source(tmp_path / "empty"))


def test_a_model_reads_a_folder_too(tmp_path):
    folder = shards(tmp_path / "t", FRAME[:2], FRAME[2:])
    schema = open_source(folder, target="kind").infer()
    open_source(folder).check(schema, known=("kind",))
    narrow = shards(tmp_path / "n", FRAME.drop("colour"))
    assert "'colour', which the model was fitted on, is missing" in sentence(
        lambda: open_source(narrow).check(schema, known=("kind",))
    )
