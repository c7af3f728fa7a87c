"""Where to cut a frequency-sorted vocabulary: the cut-offs that make a training step cheapest."""

import operator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import DtypeError, RangeError

MOST_CLUSTERS = 4
CANDIDATES = 24  # ranks that may become cut-offs, evenly spaced on a logarithmic scale
HEAD_SHARE = 2.0 / 3.0  # of all occurrences at least are of classes at full width, for the sake of the fit
ROW_COST = 64.0  # of a cluster beyond its products, in classes: rows are picked out, products started


def zipf_counts(classes: int) -> NDArray[np.float64]:
    """What to expect of words when nothing is known: frequency proportional to 1 / rank (Zipf (1949))."""
    return 1.0 / np.arange(1.0, classes + 1.0)


def best_cutoffs(counts: NDArray[np.float64], in_features: int, div_value: float) -> list[int]:
    """The cut-offs of least expected cost a row; counts (K,) in falling order.

    A row costs the head's classes and one for each cluster, at full width; and for each cluster, with the cluster's
    probability, the projection and its classes at the cluster's width (Grave et al. (2017), sec. 4.2, where the cost of
    a product is measured; here it is counted in multiplications). The head holds the classes of two thirds of the
    occurrences at least: counted in multiplications alone, hardly any class would be worth its full width.
    """
    classes = len(counts)
    if classes < 4:
        return [max(1, classes - 1)] if classes > 1 else []
    shares = np.concatenate([[0.0], np.cumsum(counts)])
    shares = shares / shares[-1] if shares[-1] > 0 else np.arange(classes + 1) / classes
    ranks = np.unique(np.geomspace(1, classes - 1, CANDIDATES).astype(np.int64))
    best, found = np.inf, [int(ranks[-1])]
    for clusters in range(1, MOST_CLUSTERS):
        for cuts in combinations(ranks.tolist(), clusters):
            if shares[cuts[0]] < HEAD_SHARE and cuts[0] < ranks[-1]:
                continue
            ends = [*cuts, classes]
            cost = float(cuts[0] + clusters)
            for j in range(clusters):
                width = max(1.0, in_features / div_value ** (j + 1)) / in_features
                likely = shares[ends[j + 1]] - shares[ends[j]]
                cost += likely * (ROW_COST + width * (in_features + ends[j + 1] - ends[j]))
            if cost < best:
                best, found = cost, list(cuts)
    return found


def check_cutoffs(cutoffs: Any, classes: int, *, of: str) -> list[int]:
    """Rising whole numbers within (0, K)."""
    try:
        found = [operator.index(cut) for cut in cutoffs]
    except TypeError:
        raise DtypeError(f"{of}: cutoffs are {cutoffs!r}; a list of whole numbers would be right.") from None
    rising = all(a < b for a, b in pairwise(found))
    if not found or not rising or found[0] < 1 or found[-1] >= classes:
        raise RangeError(
            f"{of}: cutoffs are {list(cutoffs)!r}; rising ranks from 1 to {classes - 1}, such as "
            f"[{max(1, classes // 10)}], would be right."
        )
    return found
