"""Which words of a text its features come from: the way back from hashed features to what a person reads."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.explain.rows import csr
from normexp.tables.ngrams import KeyCounts, Tokens, pair_keys, piece_keys, single_keys, tokens_of, word_keys
from normexp.tables.words import TextEncoder

_sparse: Any = sparse


class WordShares(NamedTuple):
    """Words of a text in their order, "" for its beginning first, and their shares of the features, CSR (words, D)."""

    words: list[str]
    share: Any


def count_words(text: str, /) -> int:
    """How many words a text has."""
    return sum(len(tokens.place) - 1 for tokens in tokens_of([text]))


def word_shares(encoder: TextEncoder, text: str, /) -> WordShares:
    """Share each feature that stands in a text among the words that it comes from.

    A feature that stands at several places belongs to them in equal parts, a pair of words to both by half, a piece
    of a word to each word that holds it, as often as it does. What comes from the beginning of a text alone belongs to
    "". The shares of a feature sum to 1 over the words of a text in which it stands.
    """
    (tokens,) = tokens_of([text])
    n_places, n_words = len(tokens.place), len(tokens.words)
    distinct = Tokens(tokens.words, np.arange(n_words), np.arange(n_words), n_words)
    ends = np.column_stack([tokens.place[:-1], tokens.place[1:]])
    steps = Tokens(tokens.words, ends.ravel(), np.repeat(np.arange(len(ends)), 2), len(ends))
    where = csr((np.ones(n_places), (tokens.place, np.arange(n_places))), shape=(n_words, n_places))
    parts = []
    for keys, kind in zip(encoder.keys_, encoder.kinds_, strict=True):
        whole = csr((n_places, len(keys)))
        if kind.startswith("words"):
            whole = whole + where.T @ _stand(single_keys(distinct), keys, n_words)
        if "pairs" in kind:
            step = _stand(pair_keys(steps), keys, len(ends))
            right = _sparse.eye_array(n_places, len(ends), k=-1, format="csr")  # step i ends at place i + 1
            left = _sparse.eye_array(n_places, len(ends), format="csr")
            half = np.full(len(ends), 0.5)
            half[:1] = 1.0  # the pair of the beginning and the first word is the word's alone
            whole = whole + right @ _sparse.diags_array(half) @ step + left @ _sparse.diags_array(1.0 - half) @ step
        if "shapes" in kind:
            whole = whole + where.T @ _stand(word_keys(distinct)[-1:], keys, n_words)
        if kind == "pieces":
            whole = whole + where.T @ _stand(piece_keys(distinct), keys, n_words)
        parts.append(whole)
    share = csr(sparse.hstack(parts))
    total = np.asarray(share.sum(axis=0)).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    share.data *= scale[share.indices]
    return WordShares(["", *(tokens.words[place] for place in tokens.place[1:])], share)


def _stand(blocks: list[KeyCounts], keys: NDArray[np.uint64], n_texts: int) -> Any:
    """How often each known feature stands in each text, CSR (texts, features)."""
    key = np.concatenate([block.key for block in blocks]) if blocks else np.empty(0, np.uint64)
    if not len(keys) or not len(key):
        return csr((n_texts, len(keys)))
    text = np.concatenate([block.text for block in blocks])
    times = np.concatenate([block.times for block in blocks]).astype(np.float64)
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    known = keys[place] == key
    return csr((times[known], (text[known], place[known])), shape=(n_texts, len(keys)))
