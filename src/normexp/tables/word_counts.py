"""In how many texts each feature occurs, counted while the texts go by, in bounded memory."""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from normexp.tables.csr import Csr, csr
from normexp.tables.ngrams import KeyCounts, Keys

Counts = NDArray[np.int64]

_PENDING: Final = 1 << 18  # keys that wait to be merged, at least: a merge sorts all


def counted(blocks: list[KeyCounts], n_texts: int, /) -> tuple[Keys, Csr]:
    """Distinct features of some texts, and how often each text has them.

    Parameters
    ----------
    blocks : list of KeyCounts
        From one of the functions of ``ngrams``.
    n_texts : int
        How many texts.

    Returns
    -------
    keys : ndarray of uint64, shape (F,)
        Sorted.
    rows : csr_matrix of float32, shape (n_texts, F)
        The counts.
    """
    distinct, column = np.unique(np.concatenate([block.key for block in blocks]), return_inverse=True)
    text = np.concatenate([block.text for block in blocks])
    times = np.concatenate([block.times for block in blocks])
    return distinct, csr(times, text, column, shape=(n_texts, len(distinct)))


@final
class KeyTally:
    """Document frequencies of features.

    Parameters
    ----------
    most : int
        How many features are remembered. Where more are seen, the rarest are forgotten.

    Attributes
    ----------
    forgotten : int
        By how much a frequency may be too small; 0 while nothing was forgotten, and then all are exact.

    Notes
    -----
    Forgetting is lossy counting (Manku & Motwani 2002, section 4.2): what is dropped at one time has been counted no
    more often than the floor of that time, so a frequency loses at most the sum of these floors.
    """

    def __init__(self, most: int) -> None:
        self.forgotten = 0
        self._most = most
        self._keys: Keys = np.empty(0, np.uint64)
        self._counts: Counts = np.empty(0, np.int64)
        self._waiting: list[tuple[Keys, Counts]] = []
        self._n_waiting = 0

    def add(self, blocks: list[KeyCounts], n_texts: int, /) -> None:
        """Count the features of some texts.

        Parameters
        ----------
        blocks : list of KeyCounts
            From one of the functions of ``ngrams``.
        n_texts : int
            How many texts.
        """
        distinct, rows = counted(blocks, n_texts)
        self._waiting.append((distinct, np.bincount(rows.indices, minlength=len(distinct)).astype(np.int64)))
        self._n_waiting += len(distinct)
        if self._n_waiting > max(_PENDING, min(len(self._keys), self._most) // 2):
            self._merge()
            floor = 0
            while len(self._keys) > self._most:
                floor += 1
                kept = self._counts > floor
                self._keys, self._counts = self._keys[kept], self._counts[kept]
            self.forgotten += floor

    def frequencies(self) -> tuple[Keys, Counts]:
        """Features and in how many texts each occurs.

        Returns
        -------
        keys : ndarray of uint64, shape (F,)
            Sorted.
        counts : ndarray of int64, shape (F,)
            Of each.
        """
        self._merge()
        return self._keys, self._counts

    def _merge(self) -> None:
        """Take in what waits."""
        if not self._waiting:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._waiting)])
        self._waiting, self._n_waiting = [], 0
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, np.intp)
        self._keys = keys[starts]
        self._counts = np.add.reduceat(counts, starts) if len(starts) else counts
