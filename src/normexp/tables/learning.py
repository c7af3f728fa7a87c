"""Learn an encoding from rows that do not fit into memory: one to two passes over the file, and no row is kept.

Exact, as from all rows at once: the classes, the means, spreads and gaps of numbers and dates, the values of columns
with few of them, and the features of running text with their weights (as long as no more distinct ones are counted than
the memory holds). From a seeded sample of the rows: the components of columns of words with many values. A sample
that is asked for as large as the table is the table.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.tables.encoding import TableEncoder
from normexp.tables.source import Block, Schema, Source
from normexp.tables.tallies import Categories, Classes, Dates, Moments, Ranges

SAMPLE_ROWS: Final = 50_000
_BYTES_A_DRAWN_ROW: Final = 4096  # character n-grams of some words, as skrub counts them
_BYTES_A_KEY: Final = 256  # a counted feature, with what merging takes and the coefficients of some classes


@dataclass(frozen=True)
class Learned:
    """What one looks for in all rows before they are encoded.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    classes : ndarray of str or int64, shape (K,)
        Sorted.
    index : ndarray of intp, shape (N,)
        Class of each row.
    sampled : int
        Rows from which the components of words with many values were learned; 0 where there are none.
    forgotten : int
        By how much the frequency of a feature of running text may have been counted too small.
    """

    encoder: TableEncoder
    classes: NDArray[Any] = field(repr=False)
    index: NDArray[np.intp] = field(repr=False)
    sampled: int
    forgotten: int


def learn_encoding(
    source: Source, schema: Schema, read: Callable[[str, bool], Iterator[Block]], /, *, seed: int, room: int
) -> Learned:
    """Learn an encoding, and the classes, block by block.

    Parameters
    ----------
    source : Source
        The rows; it must name its target.
    schema : Schema
        What they hold.
    read : callable
        Reads the file once: takes a word for what is done and whether classes are wanted, yields blocks.
    seed : int
        Draws the sample, and is the seed of the encoding.
    room : int
        Bytes that may be taken.

    Returns
    -------
    Learned
        The encoding, and the class of each row.

    Raises
    ------
    InputError
        If a row does not follow the schema.
    """
    encoder = TableEncoder(schema, seed=seed)
    encoder.learn_dates(None)
    date_names, word_names = encoder.names("date"), encoder.names("text")
    has_numbers = bool(encoder.names("number", "boolean", "date"))
    dates, categories, classes = Dates(date_names), Categories(word_names), Classes()
    moments: Moments | None = None
    ranges: Ranges | None = None
    characters = 0

    def added(moments: Moments | None, frame: pl.DataFrame, start: int) -> Moments:
        raw = encoder.numbers(frame)
        encoder.refuse_large(raw, first=start)
        moments = Moments(raw.shape[1]) if moments is None else moments
        moments.add(raw)
        ranged(raw)
        return moments

    def ranged(raw: Any) -> None:
        nonlocal ranges
        ranges = (Ranges(raw.shape[1]) if ranges is None else ranges).add(raw)

    for block in read("reading", True):
        assert block.target is not None  # noqa: S101  (it was asked for)
        classes.add(block.target)
        if not isinstance(block.features, pl.DataFrame):
            ranged(block.features)
            continue
        dates.add(block.features)
        categories.add(block.features)
        if has_numbers and not date_names:
            moments = added(moments, block.features, block.start)
        if schema.text:
            characters += sum(map(len, encoder.texts(block.features)))
    labels, index = classes.settled()
    if not len(index):
        raise InputError(f"{source.path}: the file has no rows. At least one row is needed; give a file that has rows.")
    encoder.learn_dates(dates.frame() if date_names else None)
    sample, drawn, forgotten = None, np.empty(0, np.intp), 0
    if categories.has_many:
        wanted = min(len(index), SAMPLE_ROWS, max(1000, room // 4 // _BYTES_A_DRAWN_ROW))
        drawn = np.sort(np.random.default_rng(seed).choice(len(index), wanted, replace=False))
    if date_names or schema.text or len(drawn):
        collected: list[pl.DataFrame] = []

        def second() -> Iterator[list[str]]:
            nonlocal moments
            for block in read("counting", False):
                frame = block.features
                assert isinstance(frame, pl.DataFrame)  # noqa: S101  (arrays need no second pass)
                if date_names:
                    moments = added(moments, frame, block.start)
                first, last = np.searchsorted(drawn, [block.start, block.start + block.n_rows])
                if last > first:
                    collected.append(frame.select(word_names)[(drawn[first:last] - block.start).tolist()])
                yield encoder.texts(frame) if schema.text else []

        if schema.text:
            most_keys = max(1 << 16, room // _BYTES_A_KEY)
            forgotten = encoder.learn_texts(second(), mean_length=characters / len(index), most_keys=most_keys)
        else:
            deque(second(), maxlen=0)
        sample = pl.concat(collected) if collected else None
    encoder.learn_numbers(moments)
    encoder.learn_ranges(ranges)
    encoder.learn_words(categories.frame(sample) if word_names else None)
    return Learned(encoder, labels, index, len(drawn), forgotten)
