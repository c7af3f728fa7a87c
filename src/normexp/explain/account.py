"""The account of one row of a table: its class, the runner-up, what spoke for it, and what would have changed it."""

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from normexp.base.errors import InputError
from normexp.explain.head import Head
from normexp.explain.joint_changes import joint_change
from normexp.explain.log_odds import reasons
from normexp.explain.observed import place_of
from normexp.explain.rows import as_dense
from normexp.explain.single_changes import Change, single_changes
from normexp.explain.texts import WordReason, words
from normexp.ops import softmax
from normexp.tables import Block, Schema, Source

_LONGEST: Final = 60  # characters of a value that is shown


class ColumnReason(NamedTuple):
    """A column, its value as it stands in the table, and its contribution to the log-odds in nats."""

    column: str
    value: Any
    contribution: float


@dataclass(frozen=True)
class Account:
    """Why one row was given its class and not the next one.

    Parameters
    ----------
    row : int
        Its number, counted from 0.
    label, rival : str or int
        The most probable class, and the runner-up.
    probability, rival_probability : float
        Theirs.
    log_odds : float
        Of the class against the runner-up, in nats: ``baseline + sum of contributions``.
    baseline : float
        The log-odds at an average row: numbers at their mean, categories at their average level, text without words.
    contributions : tuple of ColumnReason
        The largest first.
    words : tuple of WordReason
        Of running text, the largest first; they sum to what its columns contribute.
    changes : tuple of Change
        Single changes that flip the decision.
    together : tuple of Change
        Where no single one does: numbers that do so together.
    within : bool
        Whether all these numbers lie between the least and the largest of the training rows.
    decided : str, int or None
        The class that costs, other shares or thresholds decide for, where it is not the most probable one.
    """

    row: int
    label: Any
    probability: float
    rival: Any
    rival_probability: float
    log_odds: float
    baseline: float
    contributions: tuple[ColumnReason, ...]
    words: tuple[WordReason, ...]
    changes: tuple[Change, ...]
    together: tuple[Change, ...] = ()
    within: bool = True
    decided: Any = None


def read_row(source: Source, schema: Schema, row: int, /) -> Block:
    """Read one row of a table.

    Parameters
    ----------
    source : Source
        The table.
    schema : Schema
        What its rows must look like.
    row : int
        Its number, counted from 0 without the header.

    Returns
    -------
    Block
        Of one row.

    Raises
    ------
    InputError
        For a number below 0, or beyond the last row.
    """
    if row >= 0:
        seen = 0
        for block in source.batches(schema, with_target=False):
            if row < block.start + block.n_rows:
                here = row - block.start
                return Block(block.features[here : here + 1], None, row)
            seen = block.start + block.n_rows
        has = f"has {seen} rows, numbered from 0 to {seen - 1}" if seen else "has no rows"
    else:
        has = "numbers its rows from 0, after the header"
    raise InputError(f"{source.path}: row {row} was asked for, and the table {has}. Give the number of a row.")


def account(model: Any, block: Block, /, *, within: bool = True) -> Account:
    r"""Give account of the first row of a block.

    Parameters
    ----------
    model : TableClassifier
        A fitted model whose estimator is linear.
    block : Block
        Of a source that fits the model.
    within : bool
        Whether changed numbers stay between the least and the largest of the training rows.

    Returns
    -------
    Account
        Contributions, words and changes.

    Raises
    ------
    DtypeError
        For a model without coefficients.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from normexp.explain.account import account, read_row
    >>> from normexp.tables import open_source
    >>> from normexp.trusted import TableClassifier
    >>> path = Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("mass,kind\n" + "170,apple\n80,lemon\n180,apple\n90,lemon\n" * 5)
    >>> source = open_source(path, target="kind")
    >>> model = TableClassifier().fit(source)
    >>> told = account(model, read_row(source, model.schema_, 1))
    >>> told.label, told.rival, told.contributions[0].column, told.changes[0].label
    ('lemon', 'apple', 'mass', 'apple')
    """
    Head.read(model, of="explain")  # complain before any work
    one = block.features[:1]
    encoded = model.encoder_.transform(one)
    logits = model.decision_function(encoded)[0]
    order = np.argsort(-logits, kind="stable")[:2]
    label, rival = (model.classes_[at].item() for at in order)
    prob = np.asarray(softmax(logits))
    why = reasons(model, one, of=label, against=rival)
    terms = as_dense(why.contributions)[0]
    told: tuple[WordReason, ...] = ()
    if model.encoder_.text_ is not None:
        found = words(model, one, of=label, against=rival)[0]
        told = tuple(sorted((word for word in found if word.contribution), key=lambda word: -abs(word.contribution)))
    spoke = [word.word for word in told if word.contribution > 0]
    changes = tuple(single_changes(model, one, words=spoke, within=within))
    return Account(
        row=block.start,
        label=label,
        probability=float(prob[order[0]]),
        rival=rival,
        rival_probability=float(prob[order[1]]),
        log_odds=float(why.gap[0]),
        baseline=float(why.baseline_gap[0]),
        contributions=tuple(_columns(model, one, terms)),
        words=told,
        changes=changes,
        together=joint_change(model, one) if within and not changes else (),
        within=within,
        decided=_decided(model, logits, encoded, order[0]),
    )


def as_mapping(told: Account, /) -> dict[str, Any]:
    """Plain values of an account, for JSON.

    Parameters
    ----------
    told : Account
        The account.

    Returns
    -------
    dict of str to object
        One entry for each field; records become mappings, dates text.
    """
    plain = asdict(told)
    plain["contributions"] = [{**one._asdict(), "value": _plain(one.value)} for one in told.contributions]
    plain["words"] = [one._asdict() for one in told.words]
    for name, changes in (("changes", told.changes), ("together", told.together)):
        plain[name] = [{**one._asdict(), "before": _plain(one.before)} for one in changes]
    return plain


def shown(value: Any, /) -> str:
    r"""A value of a table as people write it.

    Parameters
    ----------
    value : object
        A number, truth value, date, text or None.

    Returns
    -------
    str
        At most 60 characters, on one line.

    Examples
    --------
    >>> shown(91.25), shown(None), shown("one\ntwo"), shown(3.0)
    ('91.25', '(missing)', 'one two', '3')
    """
    if value is None or value == "":
        return "(missing)"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(_plain(value)).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _decided(model: Any, logits: Any, encoded: Any, likeliest: Any) -> Any:
    """The class that a trusted model decides for, where that is another than the likeliest one."""
    if not hasattr(model.estimator_, "decide"):
        return None
    at = int(model.estimator_.decide(logits[None], encoded)[0])
    return None if at == likeliest else model.classes_[at].item()


def _columns(model: Any, one: Any, terms: Any) -> list[ColumnReason]:
    """Columns with their values, those that contribute most first; of an array only those that contribute."""
    if isinstance(one, pl.DataFrame):
        found = [ColumnReason(name, one[name][0], float(term)) for name, term in zip(one.columns, terms, strict=True)]
    else:
        values = as_dense(one)[0]
        found = [
            ColumnReason(place_of(model, int(at)), float(values[at]), float(terms[at])) for at in np.flatnonzero(terms)
        ]
    return sorted(found, key=lambda one: -abs(one.contribution))


def _plain(value: Any) -> Any:
    """Dates and times as text, all else as it is."""
    return value.isoformat(sep=" ").removesuffix(" 00:00:00") if hasattr(value, "isoformat") else value
