"""Changes of one column at a time, or one word, that flip the decision of a table model: found, and then tried out."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from normexp.explain.head import Head
from normexp.explain.observed import FEWEST_DIGITS, MOST_DIGITS, Room, with_value

_FARTHEST: Final = 10.0  # standard deviations: a number farther off is no answer to "what if"
_BEYOND: Final = 1.0 + 1e-9  # at the very crossing two classes tie
_WORDS_TRIED: Final = 12
_WORDS_TOGETHER: Final = 40
_CATEGORIES_TRIED: Final = 64


class Change(NamedTuple):
    """A change of one column that flips the decision.

    Parameters
    ----------
    column : str
        Its name; of an array the place, such as "[3, 4]".
    before, after : float, bool, str or None
        Its value, and one that flips the decision; for a text the word that is taken out, and None. Where no single
        word is enough, the fewest of the loudest words that are, with blanks between them.
    label : object
        The class that is decided then.
    distance : float or None
        Of a number of a table, in standard deviations of the training rows.
    """

    column: str
    before: Any
    after: Any
    label: Any
    distance: float | None


def single_changes(model: Any, row: Any, /, *, words: list[str] | None = None, within: bool = True) -> list[Change]:
    r"""Find what flips the decision of a table model on one row, the nearest numbers first.

    Parameters
    ----------
    model : TableClassifier
        The model.
    row : polars.DataFrame of height 1, ndarray (1, D) or csr_matrix (1, D)
        As a block of a source holds it.
    words : list of str or None
        Words of the row's text that are worth taking out, the loudest first.
    within : bool
        Whether numbers stay between the least and the largest of the training rows, or the row's own.

    Returns
    -------
    list of Change
        At most one for each column of a table; the single nearest column of an array.

    Notes
    -----
    Scores are linear in a number, so the nearest number where another class overtakes follows from two predictions; it
    is rounded away from its value to as few digits as flip the decision, and stays whole where all training rows hold
    whole numbers. Categories, truth values and words are tried
    out. Every change is predicted with the model itself before it is told. Dates, and text with many values, are not
    searched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from normexp.explain.single_changes import single_changes
    >>> from normexp.tables import open_source
    >>> from normexp.trusted import TableClassifier
    >>> path = Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("mass,kind\n" + "170,apple\n80,lemon\n180,apple\n90,lemon\n" * 5)
    >>> source = open_source(path, target="kind")
    >>> model = TableClassifier().fit(source)
    >>> row = source.read(model.schema_, with_target=False).features[:1]
    >>> single_changes(model, row)[0][:3]
    ('mass', 170, 129)
    """
    if not isinstance(row, pl.DataFrame):
        return list(_in_an_array(model, row, within=within))
    found = [
        *_numbers(model, row, within=within),
        *_flags_and_categories(model, row),
        *_without_words(model, row, words or []),
    ]
    return sorted(found, key=lambda change: np.inf if change.distance is None else change.distance)


def _decide(model: Any, rows: Any) -> np.ndarray[Any, Any]:
    """Index of the class of each row."""
    return np.asarray(model.decision_function(model.encoder_.transform(rows)).argmax(axis=1))


def _numbers(model: Any, row: pl.DataFrame, *, within: bool) -> Iterator[Change]:
    """Numbers: where the highest of the other lines crosses the line of the class."""
    room = Room.of(model, row, within=within)
    if not room.names:
        return
    ends = row.with_columns(pl.col(room.names).cast(pl.Float64))
    ahead = room.values + room.spread
    moved = [ends, *(with_value(ends, name, float(to)) for name, to in zip(room.names, ahead, strict=True))]
    before, *afters = model.decision_function(model.encoder_.transform(pl.concat(moved)))
    own = int(before.argmax())
    for k, after in enumerate(afters):
        gap, fall = before[own] - before, (after - before) - (after[own] - before[own])
        with np.errstate(divide="ignore", invalid="ignore"):
            moves = gap / fall  # standard deviations to where each class draws level
        moves[own] = np.nan
        for move in moves[np.argsort(np.abs(moves))]:
            if not abs(move) <= _FARTHEST:  # the NaN of parallel lines too
                break
            change = _rounded(room, k, float(room.values[k] + _BEYOND * move * room.spread[k]), own)
            if change is not None:
                yield change._replace(distance=float(abs(change.after - room.values[k]) / room.spread[k]))
                break


def _rounded(room: Room, k: int, after: float, own: int) -> Change | None:
    """Round a number away from its old value, to as few digits as flip the decision; None if that is out of reach."""
    if not room.low[k] <= after <= room.high[k]:
        return None
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        number = room.number(k, after, digits)
        decision = room.decision({k: number})
        if decision != own:
            return Change(room.name(k), room.before(k), number, room.model.classes_[decision].item(), None)
    return None


def _flags_and_categories(model: Any, row: pl.DataFrame) -> Iterator[Change]:
    """Truth values and categories: all others are tried, and the most probable outcome of each column is told."""
    own = int(_decide(model, row)[0])
    for column in model.schema_.columns:
        name = column.name
        if column.kind == "boolean":
            others: list[Any] = [True, False]
        elif column.kind == "text" and name not in model.schema_.text:
            others = _levels(model, name)[:_CATEGORIES_TRIED]
        else:
            continue
        value = row[name][0]
        others = [other for other in others if other != value]
        if not others:
            continue
        tried = pl.concat([with_value(row, name, other) for other in others])
        logits = model.decision_function(model.encoder_.transform(tried))
        gain = logits.max(axis=1) - logits[:, own]
        best = int(gain.argmax())
        if gain[best] > 0:
            yield Change(name, value, others[best], model.classes_[int(logits[best].argmax())].item(), None)


def _levels(model: Any, name: str) -> list[str]:
    """Categories of a column that the encoder knows one by one; none for text with many values."""
    step = model.encoder_.words_.transformers_.get(name)
    categories = getattr(step, "categories_", None)
    return [] if categories is None else [str(level) for level in categories[0]]


def _without_words(model: Any, row: pl.DataFrame, words: list[str]) -> Iterator[Change]:
    """Words: each is taken out by itself, wherever it stands; if none flips it, ever more of them together."""
    known = [word for word in words if word][:_WORDS_TOGETHER]
    if not known:
        return
    own = int(_decide(model, row)[0])
    column = " and ".join(model.schema_.text)
    alone = _decide(model, pl.concat([_taken_out(model, row, [word]) for word in known[:_WORDS_TRIED]]))
    for word, decision in zip(known, alone.tolist(), strict=False):
        if decision != own:
            yield Change(column, word, None, model.classes_[decision].item(), None)
    if (alone != own).any() or len(known) < 2:
        return
    together = _decide(model, pl.concat([_taken_out(model, row, known[:n]) for n in range(2, len(known) + 1)]))
    flips = np.flatnonzero(together != own)
    if flips.size:
        first = int(flips[0])
        yield Change(column, " ".join(known[: first + 2]), None, model.classes_[int(together[first])].item(), None)


def _taken_out(model: Any, row: pl.DataFrame, words: list[str]) -> pl.DataFrame:
    """Copy of a row without some words in its texts."""
    patterns = [rf"(?<!\w){re.escape(word)}(?!\w)" if re.match(r"\w", word) else re.escape(word) for word in words]
    texts = {name: re.sub("|".join(patterns), " ", row[name][0] or "") for name in model.schema_.text}
    return row.with_columns(**{name: pl.Series(name, [text], pl.String) for name, text in texts.items()})


def _in_an_array(model: Any, row: Any, *, within: bool) -> Iterator[Change]:
    """One column of an array: the one that must move least, of those that need not leave their bounds."""
    room = Room.of(model, row, within=within)
    head = Head.read(model.estimator_, of="explain")
    logits = head.logits(head.features(head.columns(room.row)))[0]
    slope = head.column_coef - head.column_coef[int(logits.argmax())]
    gap = (logits.max() - logits)[:, None]
    reach = np.where(slope > 0, room.high - room.values, room.values - room.low)
    with np.errstate(divide="ignore", invalid="ignore"):
        move = gap / np.abs(slope)
    move[~(move <= reach)] = np.inf  # NaN of a class against itself too
    rival, column = np.unravel_index(int(move.argmin()), move.shape)
    if np.isfinite(move[rival, column]):
        step = _BEYOND * float(np.copysign(move[rival, column], slope[rival, column]))
        after = min(max(float(room.values[column]) + step, float(room.low[column])), float(room.high[column]))
        change = _rounded(room, int(column), after, room.decision({}))
        if change is not None:
            yield change
