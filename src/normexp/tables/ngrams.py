"""Features of texts as 64-bit keys: words, pairs of words, shapes of words, and pieces of words."""

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.tables.csr import csr

Keys = NDArray[np.uint64]

# Words, numbers, and each other sign by itself: "?" and "$" tell questions and prices apart.
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_START: Final = "\x02"  # stands before the first word, so that a pair says how a text begins
_PIECE_SIZES: Final = (3, 4, 5)
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth, TAOCP 3, section 6.4
_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)  # the multiplier of splitmix64
_TEXTS_AT_ONCE: Final = 4096  # bounds the memory for pieces of words


class Tokens(NamedTuple):
    """Words of some texts: what they are, and where they stand."""

    words: list[str]  # distinct, as they stand in the texts
    place: NDArray[np.int64]  # of each word in turn, into words
    text: NDArray[np.int64]  # number of the text that it stands in
    n_texts: int


class KeyCounts(NamedTuple):
    """One kind of feature of some texts."""

    key: Keys
    text: NDArray[np.int64]
    times: NDArray[np.float32]


def tokens_of(texts: Sequence[str]) -> Iterator[Tokens]:
    """Words of the texts, some thousand texts at a time."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield _tokens(texts[start : start + _TEXTS_AT_ONCE])


def _tokens(texts: Sequence[str]) -> Tokens:
    """Words of the texts; each text begins with the start sign."""
    number: dict[str, int] = {_START: 0}
    indices: list[int] = []
    lengths = np.empty(len(texts), dtype=np.int64)
    for at, text in enumerate(texts):
        found = _TOKEN.findall(text)
        lengths[at] = len(found) + 1
        indices.append(0)
        indices.extend([number.setdefault(word, len(number)) for word in found])
    return Tokens(list(number), np.array(indices, np.int64), np.repeat(np.arange(len(texts)), lengths), len(texts))


def word_keys(tokens: Tokens) -> list[KeyCounts]:
    """Words in lower case, pairs of words that follow one another, and shapes of words."""
    shape = _hashes([f"\x03{_shape(word)}" for word in tokens.words])
    real = tokens.place > 0
    return [*single_keys(tokens), *pair_keys(tokens), _block(shape[tokens.place][real], tokens.text[real])]


def single_keys(tokens: Tokens) -> list[KeyCounts]:
    """Words in lower case."""
    key = _hashes([word.lower() for word in tokens.words])[tokens.place]
    real = tokens.place > 0  # the start sign stands in every text and says something in pairs only
    return [_block(key[real], tokens.text[real])]


def pair_keys(tokens: Tokens) -> list[KeyCounts]:
    """Pairs of words in lower case that follow one another."""
    key, text = _hashes([word.lower() for word in tokens.words])[tokens.place], tokens.text
    adjacent = text[1:] == text[:-1]
    pair = ((key[:-1] * _ODD) ^ (key[1:] >> np.uint64(7))) * _MIX + key[1:]
    return [_block(pair[adjacent], text[1:][adjacent])]


def piece_keys(tokens: Tokens) -> list[KeyCounts]:
    """Cut words into runs of 3 to 5 characters within words, with the blanks at both ends."""
    padded = [f" {word.lower()} " for word in tokens.words]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(padded)), [len(word) for word in padded])
    times = csr(np.ones(len(tokens.place), np.float32), tokens.text, tokens.place, shape=(tokens.n_texts, len(padded)))
    blocks = []
    for size in _PIECE_SIZES:
        n_runs = len(codes) - size + 1
        if n_runs <= 0:
            continue
        run = np.full(n_runs, np.uint64(size))
        for offset in range(size):
            run = (run ^ codes[offset : offset + n_runs]) * _ODD
            run ^= run >> np.uint64(29)
        inside = owner[:n_runs] == owner[size - 1 :]
        distinct, column = np.unique(run[inside], return_inverse=True)
        # words by pieces, then texts by pieces: each distinct word is cut up once
        cut = csr(np.ones(len(column), np.float32), owner[:n_runs][inside], column, shape=(len(padded), len(distinct)))
        counted = (times @ cut).tocoo()
        blocks.append(KeyCounts(distinct[counted.col], counted.row.astype(np.int64), counted.data))
    return blocks


def _block(key: Keys, text: NDArray[np.int64]) -> KeyCounts:
    """Features that each count once where they stand."""
    return KeyCounts(key, text, np.ones(len(key), np.float32))


def _hashes(words: list[str]) -> Keys:
    """64-bit hashes that are the same in every process and on every machine."""
    joined = b"".join(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in words)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def _shape(word: str) -> str:
    """Draw the look of a word: Aa for Name, 00 for 1999, Aa0 for Mp3; runs are cut to two.

    Examples
    --------
    >>> _shape("Moscow"), _shape("1999"), _shape("U2"), _shape("?")
    ('Aaa', '00', 'A0', '?')
    """
    signs: list[str] = []
    for character in word:
        sign = "0" if character.isdigit() else "A" if character.isupper() else "a" if character.isalpha() else character
        if len(signs) < 2 or not signs[-1] == signs[-2] == sign:
            signs.append(sign)
    return "".join(signs)
