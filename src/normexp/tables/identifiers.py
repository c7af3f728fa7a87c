"""Columns that name their rows: a model learns them by heart, and knows nothing of the names of new rows."""

from pathlib import Path
from typing import Any, Final

import polars as pl

from normexp.tables.choosing import enumerate_names
from normexp.tables.source import Schema

_FEWEST_ROWS: Final = 50  # of fewer, a column may well hold another word in each without naming it


def identifiers(features: Any, schema: Schema, /) -> list[str]:
    """Columns of single words, not running text, of which no two rows hold the same.

    Parameters
    ----------
    features : polars.DataFrame, ndarray or csr_matrix
        The training rows.
    schema : Schema
        What they hold.

    Returns
    -------
    list of str
        Their names; none among fewer than 50 rows, or in an array.

    Examples
    --------
    >>> from normexp.tables.source import Column
    >>> rows = pl.DataFrame({"id": [f"A{i}" for i in range(60)], "say": [f"it is {i}" for i in range(60)]})
    >>> identifiers(rows, Schema("table", columns=(Column("id", "text"), Column("say", "text"))))
    ['id']
    """
    if not isinstance(features, pl.DataFrame) or features.height < _FEWEST_ROWS:
        return []
    names = [column.name for column in schema.columns if column.kind == "text" and column.name not in schema.text]
    return [
        name
        for name in names
        if features[name].null_count() == 0
        and features[name].n_unique() == features.height
        and not features[name].str.contains(r"\s").any()
    ]


def in_a_sentence(path: Path, names: list[str], /) -> str:
    """What such columns are, and what to do about them."""
    which = f"column {enumerate_names(names)} holds" if len(names) == 1 else f"columns {enumerate_names(names)} hold"
    return (
        f"{path}: the {which} another word in each row, as names of rows do, and what such a column tells of them "
        "it cannot tell of new ones. Leave it out of the file, or choose the others with --features."
    )
