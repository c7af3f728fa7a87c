"""Running text as sparse features: words and pairs of words; shapes and pieces of words too where texts are short."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from normexp.tables.csr import Csr, beside, csr, empty, under
from normexp.tables.ngrams import KeyCounts, Keys, Tokens, pair_keys, piece_keys, single_keys, tokens_of, word_keys
from normexp.tables.word_counts import KeyTally, counted

_KINDS: Final[dict[str, Callable[[Tokens], list[KeyCounts]]]] = {
    "words, pairs, shapes": word_keys,
    "pieces": piece_keys,
    "words": single_keys,
    "pairs": pair_keys,
}
_SHORT: Final = ("words, pairs, shapes", "pieces")
_LONG: Final = ("words", "pairs")


@final
class TextEncoder(TransformerMixin, BaseEstimator):
    """Texts as a CSR matrix of weighted word and word-piece counts, each row of length 1.

    Parameters
    ----------
    min_rows : int
        A feature must occur in so many training texts.
    pieces : bool or None
        Whether pieces of words (3 to 5 characters) are features too; None: when texts have at most
        `short_characters` characters on average.
    short_characters : int
        See `pieces`.
    piece_weight : float
        Length of the part of a row that holds pieces, beside a part of length 1 for words.
    pair_weight : float
        Where there are no pieces: length of the part that holds pairs of words, beside a part of length 1 for words.
    long_power : float
        Where there are no pieces: power of the inverse document frequency. A long text repeats common words so
        often that they need to be held down harder.
    max_features : int
        The most features of each part; the most frequent ones are kept.

    Attributes
    ----------
    keys_ : tuple of ndarray of uint64
        Sorted 64-bit hashes of the features, for each part: words and pieces.
    weights_ : tuple of ndarray of float32
        Inverse document frequency of each feature.
    kinds_ : tuple of str
        What each part holds.

    Notes
    -----
    A count c weighs ``(1 + log c) * (1 + log((1 + N) / (1 + df))) ** power``, power 1 for short texts. Features are
    known by a 64-bit hash: among a million features two collide with probability 3e-8. The cost is one pass of a
    regular expression; everything else is done on the distinct words or in NumPy.

    Examples
    --------
    >>> rows = TextEncoder(min_rows=1, pieces=False).fit_transform(["a b", "a c"])
    >>> rows.shape, rows.multiply(rows).sum(axis=1).round(6).ravel().tolist()
    ((2, 6), [1.0, 1.0])
    """

    keys_: tuple[Keys, ...]
    weights_: tuple[NDArray[np.float32], ...]
    kinds_: tuple[str, ...]

    def __init__(
        self,
        *,
        min_rows: int = 2,
        pieces: bool | None = None,
        short_characters: int = 500,
        piece_weight: float = 0.7,
        pair_weight: float = 0.25,
        long_power: float = 1.5,
        max_features: int = 1 << 22,
    ) -> None:
        self.min_rows = min_rows
        self.pieces = pieces
        self.short_characters = short_characters
        self.piece_weight = piece_weight
        self.pair_weight = pair_weight
        self.long_power = long_power
        self.max_features = max_features

    def fit(self, texts: Sequence[str], y: Any = None) -> Self:
        """Learn which features there are, and their weights.

        Parameters
        ----------
        texts : sequence of str
            The training texts.
        y : None
            Not used.

        Returns
        -------
        TextEncoder
            Itself.
        """
        self.fit_transform(texts, y)
        return self

    def fit_transform(self, texts: Sequence[str], y: Any = None) -> Csr:  # noqa: ARG002  (scikit-learn's signature)
        """Learn the features and encode the texts that they were learned from.

        Parameters
        ----------
        texts : sequence of str
            The training texts.
        y : None
            Not used.

        Returns
        -------
        csr_matrix of float32, shape (N, D)
            The rows.
        """
        power = self._choose_kinds(sum(map(len, texts)) / max(len(texts), 1))
        parts = [_learn(texts, _KINDS[kind], self.min_rows, self.max_features, power) for kind in self.kinds_]
        self.keys_ = tuple(part[0] for part in parts)
        self.weights_ = tuple(part[1] for part in parts)
        return self._join([part[2] for part in parts])

    def fit_in_parts(self, parts: Iterable[Sequence[str]], /, *, mean_length: float, most_keys: int) -> int:
        """Learn the features from texts that do not fit into memory together, in one pass.

        Parameters
        ----------
        parts : iterable of sequences of str
            The training texts, some at a time.
        mean_length : float
            Characters of a text on average, which settle what the features are.
        most_keys : int
            How many distinct features of each part are counted at once. Up to so many, the result is that of `fit`;
            where there are more, the rarest are forgotten on the way (see ``word_counts.KeyTally``).

        Returns
        -------
        int
            By how much the number of texts that have a feature may be too small; 0 where nothing was forgotten.
        """
        power = self._choose_kinds(mean_length)
        tallies = [KeyTally(most_keys) for _ in self.kinds_]
        n_texts = 0
        for texts in parts:
            for tokens in tokens_of(texts):
                n_texts += tokens.n_texts
                for kind, tally in zip(self.kinds_, tallies, strict=True):
                    tally.add(_KINDS[kind](tokens), tokens.n_texts)
        learned = [_kept(*tally.frequencies(), n_texts, self.min_rows, self.max_features, power) for tally in tallies]
        self.keys_, self.weights_ = tuple(keys for keys, _ in learned), tuple(weights for _, weights in learned)
        return max(tally.forgotten for tally in tallies)

    def transform(self, texts: Sequence[str]) -> Csr:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str
            Any texts.

        Returns
        -------
        csr_matrix of float32, shape (N, D)
            The rows; a text without any known feature is a row of zeros.
        """
        rows: list[Any] = []
        for tokens in tokens_of(texts):
            parts = []
            for keys, weights, kind in zip(self.keys_, self.weights_, self.kinds_, strict=True):
                parts.append(_weigh(_lookup(_KINDS[kind](tokens), keys, tokens.n_texts), weights))
            rows.append(self._join(parts))
        if not rows:
            return empty(0, sum(map(len, self.keys_)))
        return under(rows)

    def _choose_kinds(self, mean_length: float) -> float:
        """Settle what the features are; return the power of their weights."""
        with_pieces = mean_length <= self.short_characters if self.pieces is None else self.pieces
        self.kinds_ = _SHORT if with_pieces else _LONG
        return 1.0 if with_pieces else self.long_power

    def _join(self, parts: list[Csr]) -> Csr:
        """Parts beside one another, each of its length, the whole of length 1."""
        second = self.piece_weight if self.kinds_ == _SHORT else self.pair_weight
        whole = float(np.hypot(1.0, second))
        for part, length in zip(parts, (1.0, second), strict=True):
            _scale_rows(part, length / whole)
        return beside(parts)


def _learn(
    texts: Sequence[str], blocks: Callable[[Tokens], list[KeyCounts]], min_rows: int, max_features: int, power: float
) -> tuple[Keys, NDArray[np.float32], Csr]:
    """Features of one part, their weights, and the weighted training rows."""
    found = [counted(blocks(tokens), tokens.n_texts) for tokens in tokens_of(texts)]
    keys = np.unique(np.concatenate([distinct for distinct, _ in found])) if found else np.empty(0, np.uint64)
    frequency = np.zeros(len(keys), np.int64)
    for distinct, rows in found:
        frequency[np.searchsorted(keys, distinct)] += np.bincount(rows.indices, minlength=len(distinct))
    keys, weights = _kept(keys, frequency, len(texts), min_rows, max_features, power)
    columns = [_select(distinct, rows, keys) for distinct, rows in found]
    matrix = under(columns) if columns else empty(0, len(keys))
    return keys, weights, _weigh(matrix, weights)


def _kept(
    keys: Keys, frequency: NDArray[np.int64], n_texts: int, min_rows: int, max_features: int, power: float
) -> tuple[Keys, NDArray[np.float32]]:
    """Features that are frequent enough, and their weights."""
    kept = frequency >= min_rows
    if np.count_nonzero(kept) > max_features:
        # stable: of equally frequent features those with the smaller hash stay, on every machine
        order = np.argsort(-frequency, kind="stable")[:max_features]
        kept = np.zeros(len(keys), bool)
        kept[order] = True
    keys, frequency = keys[kept], frequency[kept]
    return keys, ((np.log((1 + n_texts) / (1 + frequency)) + 1) ** power).astype(np.float32)


def _lookup(blocks: list[KeyCounts], keys: Keys, n_texts: int) -> Csr:
    """Count the known features in some texts."""
    if not blocks or not len(keys):
        return empty(n_texts, len(keys))
    return _select(*counted(blocks, n_texts), keys)


def _select(distinct: Keys, rows: Csr, keys: Keys) -> Csr:
    """Pick the columns of `rows`, known by `distinct`, that stand in `keys`, at their places there."""
    if not len(keys):
        return empty(rows.shape[0], 0)
    place = np.searchsorted(keys, distinct)
    place[place == len(keys)] = 0
    known = (keys[place] == distinct)[rows.indices]
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[known]
    return csr(rows.data[known], row, place[rows.indices[known]], shape=(rows.shape[0], len(keys)))


def _weigh(rows: Csr, weights: NDArray[np.float32]) -> Csr:
    """Turn counts into sublinear term frequency times inverse document frequency; in place."""
    rows.data = (1 + np.log(rows.data)) * weights[rows.indices]
    return rows


def _scale_rows(rows: Csr, length: float) -> None:
    """Give each row that is not zero a Euclidean length; in place."""
    if not rows.shape[0]:
        return
    squares = np.add.reduceat(np.r_[rows.data.astype(np.float64) ** 2, 0.0], rows.indptr[:-1])
    squares[np.diff(rows.indptr) == 0] = 0.0
    scale = np.divide(length, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
    rows.data *= np.repeat(scale, np.diff(rows.indptr)).astype(np.float32)
