"""Changes of one column at a time, or one word, that flip the decision of a table model: found, and then tried out."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from normexp.explain.flips import contrast
from normexp.explain.rows import F64, as_dense

_FARTHEST: Final = 10.0  # standard deviations: a number farther off is no answer to "what if"
_FEWEST_DIGITS: Final = 2  # of the change: at most a tenth more than it must be
_MOST_DIGITS: Final = 17
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


def single_changes(model: Any, row: Any, /, *, words: list[str] | None = None) -> list[Change]:
    r"""Find what flips the decision of a table model on one row, the nearest numbers first.

    Parameters
    ----------
    model : TableClassifier
        The model.
    row : polars.DataFrame of height 1, ndarray (1, D) or csr_matrix (1, D)
        As a block of a source holds it.
    words : list of str or None
        Words of the row's text that are worth taking out, the loudest first.

    Returns
    -------
    list of Change
        At most one for each column of a table; the single nearest column of an array.

    Notes
    -----
    Scores are linear in a number, so the nearest number where another class overtakes follows from two predictions; it
    is rounded away from its value to as few digits as flip the decision. Categories, truth values and words are tried
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
    ('mass', 170.0, 129.0)
    """
    if not isinstance(row, pl.DataFrame):
        return list(_in_an_array(model, row))
    found = [*_numbers(model, row), *_flags_and_categories(model, row), *_without_words(model, row, words or [])]
    return sorted(found, key=lambda change: np.inf if change.distance is None else change.distance)


def _decide(model: Any, rows: Any) -> np.ndarray[Any, Any]:
    """Index of the class of each row."""
    return np.asarray(model.decision_function(model.encoder_.transform(rows)).argmax(axis=1))


def _numbers(model: Any, row: pl.DataFrame) -> Iterator[Change]:
    """Numbers: where the highest of the other lines crosses the line of the class."""
    kinds = {column.name: column.kind for column in model.schema_.columns}
    names = [name for name in row.columns if kinds[name] == "number" and name not in model.schema_.text]
    if not names:
        return
    spread = dict(zip(names, _spreads(model, names), strict=True))
    ends = row.with_columns(pl.col(names).cast(pl.Float64))
    there = ends.row(0, named=True)
    places = {name: there[name] for name in names if there[name] is not None and np.isfinite(there[name])}
    places = {name: place for name, place in places.items() if spread[name] > 0}
    moved = [ends, *(_with(ends, name, place + spread[name]) for name, place in places.items())]
    before, *afters = model.decision_function(model.encoder_.transform(pl.concat(moved)))
    own = int(before.argmax())
    for (name, place), after in zip(places.items(), afters, strict=True):
        gap, fall = before[own] - before, (after - before) - (after[own] - before[own])
        with np.errstate(divide="ignore", invalid="ignore"):
            moves = gap / fall  # standard deviations to where each class draws level
        moves[own] = np.nan
        for move in moves[np.argsort(np.abs(moves))]:
            if not abs(move) <= _FARTHEST:  # the NaN of parallel lines too
                break
            change = _rounded(model, row, name, place, place + _BEYOND * float(move) * spread[name], own)
            if change is not None:
                yield change._replace(distance=abs(change.after - place) / spread[name])
                break


def _rounded(model: Any, row: pl.DataFrame, name: str, before: float, after: float, own: int) -> Change | None:
    """Round a number away from its old value, to as few digits as flip the decision."""
    whole = row[name].dtype.is_integer()
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS + 1):
        number = _outwards(before, after, digits, whole=whole)
        decision = int(_decide(model, _with(row, name, number))[0])
        if decision != own:
            return Change(name, int(before) if whole else before, number, model.classes_[decision].item(), None)
    return None


def _outwards(before: float, after: float, digits: int, *, whole: bool) -> float:
    """Round `after` to some digits of the change, in the direction that leads away from `before`."""
    size = max(abs(after - before), np.finfo(float).tiny)
    unit = 10.0 ** (np.floor(np.log10(size)) - digits + 1)
    if whole:
        unit = max(unit, 1.0)
    steps = np.ceil(after / unit) if after >= before else np.floor(after / unit)
    number = steps * unit
    decimals = max(0, int(-np.floor(np.log10(unit))))  # 3.1 steps of 0.1 is written 0.31, not 0.31000000000000005
    return int(number) if whole else round(float(number), decimals)


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
        tried = pl.concat([_with(row, name, other) for other in others])
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


def _in_an_array(model: Any, row: Any) -> Iterator[Change]:
    """One column of an array: the nearest one in the norm 1."""
    found = contrast(model.estimator_, row, norm=1)
    if not np.isfinite(found.radius[0]):
        return
    values: F64 = as_dense(row)[0].astype(np.float64)
    column = int(np.abs(found.x[0] - values).argmax())
    own = int(model.decision_function(values[None])[0].argmax())
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS + 1):
        moved = values.copy()
        moved[column] = _outwards(values[column], found.x[0, column], digits, whole=False)
        decision = int(model.decision_function(moved[None])[0].argmax())
        if decision != own:
            label = model.classes_[decision].item()
            yield Change(place_of(model, column), float(values[column]), float(moved[column]), label, None)
            return


def place_of(model: Any, column: int, /) -> str:
    """Name of a column of an array: its place in the shape of a row, or its number in a libsvm file."""
    schema = model.schema_
    if schema.layout == "sparse":
        return f"[{column + schema.first_index}]"
    place = np.unravel_index(column, schema.shape) if len(schema.shape) > 1 else (column,)
    return "[" + ", ".join(str(int(at)) for at in place) + "]"


def _spreads(model: Any, names: list[str]) -> F64:
    """Standard deviation of each number among the training rows."""
    raw = [c.name for c in model.schema_.columns if c.kind in {"number", "boolean", "date"}]
    raw = [name for name in raw if name not in model.schema_.text]
    return np.asarray([model.encoder_.scaler_.scale_[raw.index(name)] for name in names])


def _with(row: pl.DataFrame, name: str, value: Any) -> pl.DataFrame:
    """Copy of a row with another value in one column; of whole numbers only where it is whole."""
    dtype = row[name].dtype
    if isinstance(value, float) and dtype.is_integer() and not value.is_integer():
        dtype = pl.Float64()
    return row.with_columns(pl.Series(name, [value]).cast(dtype))
