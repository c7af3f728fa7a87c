"""What a table holds that its owner hardly means is told, and what is in order is not."""

import polars as pl
import pytest

from normexp.tables.conform import kind_of_values
from normexp.tables.doubts import doubts
from normexp.tables.source import Column, Schema


def told(**columns):
    """Sentences about columns of strings, as they come from a CSV file."""
    rows = pl.DataFrame(columns)
    schema = Schema("table", columns=tuple(Column(name, kind_of_values(rows[name])) for name in rows.columns))
    numbers = [column.name for column in schema.columns if column.kind == "number"]
    return doubts(rows.with_columns(pl.col(numbers).cast(pl.Float64, strict=False)), schema)


@pytest.mark.parametrize(
    "write",
    [
        lambda i: f"{170 + i % 7},{i % 10}",  # comes again, so that it is not taken for names of rows
        lambda i: f"{i + 1}.{i:03},50",
        lambda i: f"{i + 1},{i:03}.50",
        lambda i: f"{i + 1}'{i:03}.50",
        lambda i: f"{i + 1}\u202f{i:03},50",
        lambda i: f"{i},5 €",
        lambda i: f"${i}.50",
        lambda i: f"{i}.5 %",
        lambda i: f"-{i},5",
        lambda i: "" if i % 3 else f"{i},5",
        lambda i: "NA" if i % 3 else f"{i},5",
    ],
)
def test_numbers_in_the_writing_of_another_country_are_told(write):
    values = [write(i) for i in range(100)]
    (sentence,) = told(size=values)
    assert "the column 'size' holds numbers that are written in another way, such as " in sentence
    assert "decimal point" in sentence
    assert any(repr(value) in sentence for value in values if value not in {"", "NA"})


@pytest.mark.parametrize(
    "write",
    [
        lambda i: f"{1 + i % 28:02}.{1 + i % 12:02}.2024",
        lambda i: f"192.168.0.{i % 90}",
        lambda i: f"{i % 90}-{i % 7}",
        lambda i: f"{i % 40},{i % 5},{i % 3}",
        lambda i: ["red", "green", "1,5"][i % 3],
    ],
)
def test_dates_addresses_and_words_are_no_numbers_in_the_writing_of_another_country(write):
    assert told(size=[write(i % 50) for i in range(100)]) == []


def test_the_word_that_turns_numbers_into_words_is_named_and_not_one_that_stands_for_a_gap():
    values = ["NA" if i % 10 == 0 else "-" if i == 55 else f"{i}.5" for i in range(100)]
    (sentence,) = told(age=values)
    assert "holds numbers but for 1 of its 100 values, such as '-'," in sentence


@pytest.mark.parametrize(
    ("columns", "start"),
    [
        ({"a": ["1"] * 60, "b": ["x"] * 60}, "each column holds one and the same value, or none, in all 60 rows"),
        ({"a": [""] * 60, "b": [""] * 60}, "each column holds one and the same value, or none, in all 60 rows"),
        ({"a": ["7"] * 60}, "the column 'a' holds one and the same value, or none, in all 60 rows"),
    ],
)
def test_columns_that_tell_no_row_from_another_are_told(columns, start):
    (sentence,) = told(**columns)
    assert sentence.startswith(start)
    assert sentence.endswith("Give columns that differ from row to row.")


def test_one_column_that_differs_is_enough():
    assert told(a=["1"] * 60, b=["x", "y"] * 30) == []


def test_running_text_that_is_read_as_a_category_is_told():
    says = [f"a friend of mine told me {i} times to see it" for i in range(60)]
    (sentence,) = told(said=says)
    assert sentence.startswith("the column 'said' holds running text, 11 words in the middle one of its rows")
    assert "--text said" in sentence


@pytest.mark.parametrize(
    "write",
    [
        lambda i: f"{i} Rue de la Paix, Paris",  # an address
        lambda i: ["not at all or hardly ever to me", "more often than not in my own eyes"][i % 2],  # long answers
        lambda i: "" if i % 2 else ["red", "dark red"][i % 3 == 0],
    ],
)
def test_addresses_and_answers_are_no_running_text(write):
    assert told(said=[write(i) for i in range(60)]) == []


def test_running_text_that_is_named_is_in_order():
    rows = pl.DataFrame({"said": [f"a friend of mine told me {i} times to see it" for i in range(60)]})
    assert doubts(rows, Schema("table", columns=(Column("said", "text"),), text=("said",))) == []
