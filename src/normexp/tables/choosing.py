"""Which columns of a file are read, and what is said when one of them is not there."""

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from normexp.base.errors import InputError, NormexpWarning
from normexp.tables.source import Schema

_SHOWN = 8


def nearest(name: str, names: Sequence[str], /, *, among: Sequence[str] | None = None) -> str:
    """Hint at the column most like the one that is absent.

    Parameters
    ----------
    name : str
        What was asked for.
    names : sequence of str
        What there is.
    among : sequence of str or None
        Those that may be meant; None: all of them.

    Returns
    -------
    str
        The hint as the start of a sentence, naming the nearest column or else all of them.

    Examples
    --------
    >>> nearest("lable", ["text", "label"])
    "The nearest column is 'label'"
    """
    lowered = {other.lower(): other for other in reversed(names if among is None else among)}
    close = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    if close:
        return f"The nearest column is {lowered[close[0]]!r}"
    last = f", the last of them {names[-1]!r}" if len(names) > _SHOWN else ""
    return f"The columns are {enumerate_names(names, limit=_SHOWN)}{last}"


def enumerate_names(names: Sequence[str], /, *, limit: int = 8) -> str:
    """Names as a person would list them, the first few only.

    Parameters
    ----------
    names : sequence of str
        The names.
    limit : int
        How many are written out.

    Returns
    -------
    str
        The quoted names with commas between them.

    Examples
    --------
    >>> enumerate_names(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(repr(name) for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown


def check_names(path: Path, names: Sequence[str], /) -> None:
    """Refuse a table whose columns cannot be told apart.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Names of its columns.

    Raises
    ------
    InputError
        If two columns have one name.
    """
    for position, name in enumerate(names):
        if name and name in names[:position]:
            raise InputError(
                f"{path}: two columns are called {name!r} (columns {names.index(name)} and {position}, from 0). "
                "Each column needs a name of its own; rename one of them."
            )


def demand_column(path: Path, names: Sequence[str], name: str, /, *, role: str) -> None:
    """Refuse a table that lacks a column.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Names of its columns.
    name : str
        The column that is needed.
    role : str
        What it is for, such as "target column".

    Raises
    ------
    InputError
        If it is absent; the sentence names the nearest column.
    """
    if name not in names:
        raise InputError(
            f"{path}: the {role} {name!r} is not in the file. {nearest(name, names)}; correct the name or the file."
        )


def choose(
    path: Path,
    names: Sequence[str],
    /,
    *,
    target: str | None,
    text: tuple[str, ...],
    features: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """Names of the columns that a model reads, in the order of the file.

    Without `features`, running text stands alone (what lies beside a text is often its class in another guise),
    and a table without running text is read whole. A column without a name, as row numbers written by
    other programs have, is passed over with a warning.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Names of its columns.
    target : str or None
        The column with the classes, never read as a feature.
    text : tuple of str
        Columns of running text.
    features : tuple of str or None
        Names and patterns (``emb_*``).

    Returns
    -------
    tuple of str
        The chosen columns.

    Raises
    ------
    InputError
        If a pattern chooses nothing, or no column is left.
    """
    if target is not None:
        demand_column(path, names, target, role="target column")
    for name in text:
        demand_column(path, names, name, role="text column")
        if name == target:
            raise InputError(
                f"{path}: the column {name!r} is both the text and the target. "
                "The classes need a column of their own; name another one."
            )
    for pattern in features or ():
        if not any(name != target and fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"{path}: no column fits the pattern {pattern!r} of features. "
                f"{nearest(pattern.rstrip('*'), [name for name in names if name != target])}; correct the pattern."
            )
    if "" in names and not text and features is None:
        warnings.warn(
            f"{path}: column {list(names).index('')} (counted from 0) has no name, as row numbers have; it is passed "
            "over. Name it if it is a feature.",
            NormexpWarning,
            stacklevel=2,
        )

    def is_chosen(name: str) -> bool:
        """Whether a column is read."""
        if name in ("", target):
            return False
        if name in text:
            return True
        if features is not None:
            return any(fnmatchcase(name, pattern) for pattern in features)
        return not text

    chosen = tuple(name for name in names if is_chosen(name))
    if not chosen:
        raise InputError(
            f"{path}: no column is left to learn from beside the target {target!r}. "
            "At least one column of features is needed; add one."
        )
    return chosen


def check_columns(
    path: Path,
    names: Sequence[str],
    schema: Schema,
    /,
    *,
    known: tuple[str, ...],
    features: tuple[str, ...] | None,
    ignore_extra: bool,
) -> None:
    """Refuse a table that lacks columns of a model, or has others that the model might have meant.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Names of its columns.
    schema : Schema
        What the model was fitted on.
    known : tuple of str
        Further columns that the model knows but does not read: the target.
    features : tuple of str or None
        The patterns of the model; a column outside them is not extra.
    ignore_extra : bool
        Whether extra columns are passed over.

    Raises
    ------
    InputError
        If a column is missing or extra.
    """
    for name in schema.names:
        if name not in names:
            others = [other for other in names if other not in schema.names]
            raise InputError(
                f"{path}: the column {name!r}, which the model was fitted on, is missing. "
                f"{nearest(name, names, among=others)}; "
                "give a table with the columns of the fit."
            )
    if ignore_extra or (schema.text and features is None):
        return
    for name in names:
        if name == "" or name in known or name in schema.names:
            continue
        if features is None or any(fnmatchcase(name, pattern) for pattern in features):
            raise InputError(
                f"{path}: the column {name!r} is extra: the model was fitted without it. "
                "Give a table with the columns of the fit, or pass --ignore-extra (in Python ignore_extra=True)."
            )
