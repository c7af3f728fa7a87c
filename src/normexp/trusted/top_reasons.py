"""The first reason for a prediction: the column, or the word, that spoke loudest for its class or against it."""

from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from normexp.base.errors import DtypeError
from normexp.explain.head import Head
from normexp.explain.log_odds import linear_terms
from normexp.explain.rows import as_dense
from normexp.explain.sources import ColumnGroups
from normexp.tables import Block
from normexp.tables.encoding import Matrix
from normexp.tables.ngrams import single_keys, tokens_of
from normexp.tables.words import TextEncoder
from normexp.trusted.answers import first_two

Index = NDArray[np.intp]


class TopReasons:
    """Tells for each row of a table which column moved the log-odds of its class against its rival most.

    Parameters
    ----------
    head : Head
        The linear scores of a fitted `TableClassifier`.

    Notes
    -----
    The contribution of a column is :math:`(W_c - W_r)_j (x_j - b_j)`, summed over the features that it was encoded to,
    in nats of the base's log-odds: those of `normexp.explain.reasons`. A text is told by its words, and a word by the
    feature that is the word itself; what pairs and pieces of words add, `normexp.explain.words` shares among words.
    """

    def __init__(self, head: Head, /) -> None:
        self.head = head
        self.encoder = None if head.groups is None else head.groups.encoder

    @classmethod
    def of(cls, model: Any, /) -> Self | None:
        """For a model with linear scores; None for others, whose predictions have no such reason."""
        try:
            return cls(Head.read(model, of="predict"))
        except DtypeError:
            return None

    def tell(self, block: Block, rows: Matrix, logits: NDArray[Any], /) -> NDArray[np.str_]:
        """Name the reason for each row, "petal_length +3.21", (N,).

        Parameters
        ----------
        block : Block
            The rows as they stand in the file.
        rows : ndarray or csr_matrix, shape (N, D)
            The same, encoded.
        logits : ndarray, shape (N, K)
            Their logits, which settle class and rival.

        Returns
        -------
        ndarray of str, shape (N,)
            Empty where nothing speaks for or against.
        """
        own, rival = first_two(logits)
        point, _ = self.head.baseline(None, is_sparse=sparse.issparse(rows))
        terms = linear_terms(self.head.column_coef, rows, own, rival, point)
        groups, encoder = self.head.groups, self.encoder
        if groups is None or encoder is None:
            return _named(*self._columns(terms))
        frame = block.features
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (only tables have an encoder of text)
        name, amount = self._words(terms, frame, groups, encoder)
        other, size = self._columns(terms)
        louder = np.abs(size) > np.abs(amount)
        return _named(np.where(louder, other, name), np.where(louder, size, amount))

    def _columns(self, terms: Any) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """The loudest column of each row and what it did; running text left out."""
        groups = self.head.groups
        if groups is None:
            names = self.head.names
            at = _loudest(terms)
            shown = np.array([f"column {j}" for j in at]) if names is None else names.astype(str)[at]
            return shown, _entry(terms, at)
        known = np.flatnonzero(groups.owner >= 0)
        if self.encoder is not None:
            known = known[known < groups.first_word]
        shape = (len(groups.owner), len(groups.names))
        member = sparse.csr_matrix((np.ones(len(known)), (known, groups.owner[known])), shape=shape)
        summed = as_dense(terms @ member)
        at = np.abs(summed).argmax(axis=1)
        return np.array(groups.names)[at], np.take_along_axis(summed, at[:, None], axis=1)[:, 0]

    def _words(
        self, terms: Any, frame: pl.DataFrame, groups: ColumnGroups, encoder: TextEncoder
    ) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """The loudest word of each row and what it did."""
        words: dict[int, str] = {}
        for column in groups.text_columns:
            for tokens in tokens_of(frame[column].fill_null("").to_list()):
                own = tokens._replace(place=np.arange(len(tokens.words)), text=np.arange(len(tokens.words)))
                keys = single_keys(own)[0].key.tolist()  # of every word but the sign of the beginning
                words.update(zip(keys, tokens.words[1:], strict=True))
        # Words come first in every way to encode a text: see TextEncoder.kinds_.
        place = np.searchsorted(encoder.keys_[0], np.fromiter(words, np.uint64, len(words)))
        feature = {}
        for at, (key, word) in zip(place.tolist(), words.items(), strict=True):
            if at < len(encoder.keys_[0]) and int(encoder.keys_[0][at]) == key:
                feature[groups.first_word + at] = word
        kept = np.zeros(terms.shape[1])
        kept[list(feature)] = 1.0
        only = sparse.csr_matrix(terms @ sparse.diags_array(kept, format="csr"))
        at = _loudest(only)
        amount = _entry(only, at)
        return np.array([feature.get(j, "") if a else "" for j, a in zip(at.tolist(), amount, strict=True)]), amount


def _loudest(terms: Any) -> Index:
    """Column of the largest absolute value of each row, (N,)."""
    return np.asarray(abs(terms).argmax(axis=1)).ravel().astype(np.intp)


def _entry(terms: Any, at: Index) -> NDArray[np.float64]:
    """One entry of each row, (N,)."""
    return np.asarray(terms[np.arange(terms.shape[0]), at], dtype=np.float64).ravel()


def _named(names: NDArray[np.str_], amounts: NDArray[np.float64]) -> NDArray[np.str_]:
    """Names with signed amounts; nothing where the amount is 0."""
    return np.array(
        [f"{name} {amount:+.3g}" if amount else "" for name, amount in zip(names.tolist(), amounts, strict=True)],
        dtype=str,
    )
