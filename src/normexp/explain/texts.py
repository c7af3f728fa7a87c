"""What each word of a text did to the log-odds of its class, for models that read running text."""

from typing import Any, NamedTuple

import numpy as np

from normexp.base.errors import DtypeError
from normexp.explain.head import Head, rows_of
from normexp.explain.log_odds import linear_terms
from normexp.explain.rivals import choose_rivals


class WordReason(NamedTuple):
    """A word as it stands in the text, "" for the text's beginning, and its contribution to the log-odds in nats."""

    word: str
    contribution: float


def words(model: Any, X: Any, /, *, of: Any = None, against: Any = None) -> list[list[WordReason]]:
    r"""Contribution of each word of each row's running text to the log-odds of a class against its rival.

    Parameters
    ----------
    model : TableClassifier
        A model with running text among its columns.
    X : Block or polars.DataFrame
        Rows of its schema.
    of, against : label, array-like of labels (N,), or None
        As for `contributions`.

    Returns
    -------
    list of N lists of WordReason
        The different words of each text in the order in which they first stand there, all their places together.

    Raises
    ------
    DtypeError
        For a model without running text.

    Notes
    -----
    A text is encoded by its words, pairs, shapes and pieces of words. What a pair contributes goes to its two words by
    half, a piece to the words that hold it, and what stands at several places to each in equal parts. Contributions
    start from a text without words; they sum to that of the text's columns in `reasons`. Cost: a text is cut up once
    more.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from normexp import explain
    >>> from normexp.tables import open_source
    >>> from normexp.trusted import TableClassifier
    >>> path = Path(tempfile.mkdtemp()) / "mail.csv"
    >>> _ = path.write_text("label,text\n" + "spam,win cash\nham,see you\nspam,cash now\nham,you there\n" * 5)
    >>> source = open_source(path, target="label", text="text")
    >>> model = TableClassifier().fit(source)
    >>> block = source.read(model.schema_, with_target=False)
    >>> told = explain.words(model, block.features[:1])[0]
    >>> [reason.word for reason in told if reason.contribution > 0.1]
    ['win', 'cash']
    """
    head = Head.read(model, of="words")
    groups = head.groups
    if groups is None or groups.encoder is None:
        raise DtypeError(
            f"words: this {type(model).__name__} reads no running text; a TableClassifier that was fitted with text "
            "columns would be right. For a pipeline, reasons() has the names of its columns."
        )
    columns = head.columns(X)
    own, rival = choose_rivals(head, head.features(columns), of=of, against=against)
    terms = linear_terms(head.column_coef, columns, own, rival, np.zeros(head.n_columns))
    told = []
    for row, parts in enumerate(groups.texts(rows_of(X))):
        one: dict[str, float] = {}
        for word, contribution in groups.of_words(terms, row, "\n".join(parts)):
            one[word] = one.get(word, 0.0) + contribution
        told.append([WordReason(word, contribution) for word, contribution in one.items()])
    return told
