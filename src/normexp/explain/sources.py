"""Which features of an encoded table come from which of its columns."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import DtypeError
from normexp.explain.rows import F64, Rows, as_dense, csr
from normexp.explain.word_shares import count_words, word_shares
from normexp.tables.words import TextEncoder


@dataclass(frozen=True)
class ColumnGroups:
    """Features of an encoded table by the column that they come from.

    Parameters
    ----------
    names : tuple of str
        The columns of the table.
    owner : ndarray of intp (D,)
        The column of each feature; -1 for features of running text that stands in several columns.
    encoder : TextEncoder or None
        The encoder of running text.
    text_columns : tuple of str
        The columns of running text.
    first_word : int
        The first feature of running text.
    """

    names: tuple[str, ...]
    owner: NDArray[np.intp] = field(repr=False)
    encoder: TextEncoder | None
    text_columns: tuple[str, ...]
    first_word: int

    def gather(self, terms: Rows, rows: Any, /) -> F64:
        """Sum contributions of features, dense or CSR (N, D), for each column of the table, (N, C)."""
        known = np.flatnonzero(self.owner >= 0)
        member = csr((np.ones(len(known)), (known, self.owner[known])), shape=(len(self.owner), len(self.names)))
        gathered = as_dense(terms @ member)
        if len(known) < len(self.owner):  # each column of text has what comes from its words
            at = [self.names.index(name) for name in self.text_columns]
            for row, parts in enumerate(self.texts(rows)):
                of_words = np.array([term for _, term in self.of_words(terms, row, "\n".join(parts))])
                ends = np.cumsum([1, *(count_words(part) for part in parts)])
                ends[0] = 0  # the beginning of the text belongs to the first column
                gathered[row, at] += [of_words[a:b].sum() for a, b in pairwise(ends)]
        return gathered

    def of_words(self, terms: Rows, row: int, text: str, /) -> list[tuple[str, float]]:
        """Each word of a text, its beginning first, and its contribution, from those of the features."""
        assert self.encoder is not None  # noqa: S101  (only models of text are asked)
        here = as_dense(terms[row]).ravel()[self.first_word :]
        told = word_shares(self.encoder, text)
        return list(zip(told.words, (told.share @ here).tolist(), strict=True))

    def texts(self, rows: Any, /) -> list[tuple[str, ...]]:
        """Running text of each row, column by column."""
        if not isinstance(rows, pl.DataFrame):
            raise DtypeError(
                f"explain: rows of a table came as {type(rows).__name__}; a polars DataFrame, as a source's blocks "
                "hold it, would be right."
            )
        return list(zip(*(rows[name].fill_null("").to_list() for name in self.text_columns), strict=True))


def column_groups(encoder: Any, n_features: int, /) -> ColumnGroups | None:
    """Read from a fitted TableEncoder which features belong together; None where its rows are arrays."""
    schema = encoder.schema
    if schema.layout != "table":
        return None
    names = list(schema.names)
    owner: list[int] = []
    if encoder.imputer_ is not None:
        kinds = {"number", "boolean", "date"}
        raw = [column.name for column in schema.columns if column.kind in kinds and column.name not in schema.text]
        raw += _sources_of_outputs(encoder.dates_)
        owner += [names.index(name) for name in raw]
        if encoder.imputer_.indicator_ is not None:
            owner += [names.index(raw[number]) for number in encoder.imputer_.indicator_.features_]
    owner += [names.index(name) for name in _sources_of_outputs(encoder.words_)]
    first_word = len(owner)
    if encoder.text_ is None:
        owner += [0] * (n_features - first_word)  # where nothing was encoded, one feature of zeros stands for it
    else:
        alone = names.index(schema.text[0]) if len(schema.text) == 1 else -1
        owner += [alone] * (n_features - first_word)
    return ColumnGroups(
        tuple(names), np.asarray(owner, dtype=np.intp), encoder.text_, tuple(schema.text), first_word
    )  # fmt: skip


def _sources_of_outputs(vectorizer: Any) -> list[str]:
    """Source of each output of a fitted skrub TableVectorizer, in the order of the outputs."""
    if vectorizer is None:
        return []
    source = {output: name for name, outputs in vectorizer.input_to_outputs_.items() for output in outputs}
    return [source[output] for output in vectorizer.all_outputs_]
