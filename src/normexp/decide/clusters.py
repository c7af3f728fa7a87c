"""Classes whose conformal scores are distributed alike, clustered so that rare classes can share a threshold."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from normexp.decide.door import Floats

CLUSTERING_SHARE: Final = 0.3  # of each class's rows
FEWEST_ROWS: Final = 4  # a class with fewer rows to cluster by joins the group of rare classes
ALIKE: Final = 6  # decimals, in units of the points' spread, to which two points are told apart
QUANTILES: Final = (0.5, 0.6, 0.7, 0.8, 0.9)  # Ding et al. (2023), section 2.3


def cluster_classes(
    score: Floats, target: NDArray[np.intp], n_classes: int, /
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Group of each class, (K,), and which rows are left to calibrate with, (N,). Rare classes are group 0."""
    rng = np.random.default_rng(0)
    used = np.ones(target.size, dtype=bool)
    embedding, size, clustered = [], [], []
    ceiling = max(0.0, float(score[np.isfinite(score)].max(initial=0.0)))  # where a class that cannot be scores inf
    for k in range(n_classes):
        member = rng.permutation(np.flatnonzero(target == k))
        taken = member[: int(CLUSTERING_SHARE * member.size)]
        if taken.size < FEWEST_ROWS:
            continue
        used[taken] = False
        # Decided classes score -inf, which has no place between others: 0 is where their rivals' scores begin.
        finite = np.clip(score[taken], 0.0, ceiling)
        embedding.append(np.quantile(finite, QUANTILES))
        size.append(taken.size)
        clustered.append(k)
    group = np.zeros(n_classes, dtype=np.intp)
    if clustered:
        points = np.asarray(embedding) / (ceiling or 1.0)
        points /= points.std() or 1.0
        # A model that is right on nine rows in ten of many classes gives all of these the same point, 0.
        distinct = np.unique(points.round(ALIKE), axis=0).shape[0]
        n_clusters = max(1, min(len(clustered) // 2, int(np.sqrt(n_classes)) + 1, distinct))
        found = KMeans(n_clusters, n_init=10, random_state=0).fit(points, sample_weight=np.sqrt(size))
        group[clustered] = 1 + found.labels_
    _, group = np.unique(group, return_inverse=True)
    return group.astype(np.intp), used
