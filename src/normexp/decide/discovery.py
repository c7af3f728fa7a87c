"""Groups among rows of no known class, for a person to look at and name."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import silhouette_score

from normexp.base.blas_threads import one_blas_thread
from normexp.base.checks import check_whole
from normexp.base.errors import RangeError, ShapeError
from normexp.decide.door import Floats, read_features

STARTS: Final = 8
MOST_STEPS: Final = 100
MOST_GROUPS: Final = 30  # tried when the number is estimated
SILHOUETTE_ROWS: Final = 2000
FAINTEST: Final = 0.1  # mean silhouette below which two groups are not told apart
SUBSTANTIAL: Final = 0.25  # below it "no substantial structure has been found", Kaufman & Rousseeuw (1990), table 4
SHUFFLES: Final = 3
BEYOND_CHANCE: Final = 1.05  # how far a component's share must be above that of shuffled columns


def propose_classes(
    features: ArrayLike, known: ArrayLike | None = None, n_classes: int | None = None
) -> NDArray[np.intp]:
    r"""Group rows that were rejected, beside the classes that are known already.

    Parameters
    ----------
    features : array-like, shape (N, D)
        Features of the rejected rows.
    known : array-like, shape (C, D), optional
        Mean features of the known classes. They are fixed centres: rows next to one of them are most likely false
        alarms and join it.
    n_classes : int, optional
        Number of new groups; estimated by default.

    Returns
    -------
    ndarray of int, shape (N,)
        Group of each row: 0 to C - 1 for the known classes, from C on for new groups, the largest first.

    Raises
    ------
    ShapeError, RangeError, DtypeError
        If arrays do not fit together, hold NaN, or there are fewer rows than groups.

    Notes
    -----
    k-means with some centres held, on columns divided by their common root mean square, the best of eight starts
    (k-means++, always the same draws). The number of new groups is the one with the largest mean silhouette among up to
    30 and no more than the root of N. Where none reaches 0.25, which is no substantial structure, the rows are looked
    at in their principal components instead, those that are larger than the same of columns shuffled by themselves:
    in hundreds of columns the distances of all rows are alike, whatever their groups. One group where nothing reaches
    0.1 there either, or no component is larger than chance.

    That number is a first guess: one to three times the truth on drawings and texts, a third to five times on tables
    of 3 or 6 new classes, far too small for dozens of classes in few columns (``bench/results/new_classes.md``).
    Whoever looks at the groups should try some values of `n_classes`.

    References
    ----------
    Vaze, Han, Vedaldi & Zisserman (2022), "Generalized category discovery", CVPR, section 3.2;
    Arthur & Vassilvitskii (2007), "k-means++", SODA; Horn (1965), "A rationale and test for the number of factors in
    factor analysis", Psychometrika 30 (shuffled columns).

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.decide import propose_classes
    >>> rng = np.random.default_rng(0)
    >>> centre = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> rows = np.repeat(centre, [30, 20, 10], axis=0) + rng.normal(size=(60, 2))
    >>> np.bincount(propose_classes(rows))
    array([30, 20, 10])
    >>> np.bincount(propose_classes(rows, known=centre[2:]))
    array([10, 30, 20])
    """
    of = "propose_classes"
    x = read_features(features, of=of, n_rows=None)
    held = np.zeros((0, x.shape[1])) if known is None else read_features(known, of=of, n_rows=None)
    if held.shape[1] != x.shape[1]:
        raise ShapeError(f"{of}: known has {held.shape[1]} columns and features {x.shape[1]}; the same would be right.")
    n_classes = None if n_classes is None else check_whole(n_classes, of=of, name="n_classes")
    if n_classes is not None and not 1 <= n_classes <= max(1, x.shape[0]):
        raise RangeError(f"{of}: n_classes is {n_classes}; 1 to the {x.shape[0]} rows would be right.")
    if x.shape[0] == 0:
        return np.zeros(0, dtype=np.intp)
    # Powers of two change no digit: cells of 1e200 have squares then, and so have those of 1e-200.
    power = -int(np.frexp(max(np.abs(x).max(), np.abs(held).max(initial=0.0)))[1])
    x, held = np.ldexp(x, power), np.ldexp(held, power)
    middle = x.mean(axis=0)
    size = float(np.sqrt(((x - middle) ** 2).mean())) or 1.0
    x, held = (x - middle) / size, (held - middle) / size
    # Products this small lose more when a second BLAS thread waits for a busy core than it can gain.
    with one_blas_thread():
        group = _clustered(x, held, n_classes)[0] if n_classes is not None else _estimated(x, held)
    return _by_size(group, held.shape[0])


def _estimated(x: Floats, held: Floats) -> NDArray[np.intp]:
    """The grouping with the largest silhouette, in all columns or in the components that are no chance."""
    group, level = _with_most_silhouette(x, held)
    if level >= SUBSTANTIAL or x.shape[1] == 1:
        return group
    axes = _telling_axes(x)
    if axes.shape[1] in {0, x.shape[1]}:
        return group
    return _with_most_silhouette(x @ axes, held @ axes)[0]


def _with_most_silhouette(x: Floats, held: Floats) -> tuple[NDArray[np.intp], float]:
    """A grouping and its mean silhouette; one group where none reaches the least that counts."""
    rng = np.random.default_rng(0)
    sample = rng.permutation(x.shape[0])[:SILHOUETTE_ROWS]
    best, level = _clustered(x, held, 1)[0], FAINTEST
    if held.shape[0] and len(np.unique(best[sample])) > 1:
        level = max(level, _silhouette(x[sample], best[sample]))
    for number in range(2, min(MOST_GROUPS, int(np.sqrt(x.shape[0])) + 1) + 1):
        group = _clustered(x, held, number)[0]
        found = _silhouette(x[sample], group[sample])
        if found > level:
            best, level = group, found
    return best, level


def _telling_axes(x: Floats) -> Floats:
    """Principal axes, (D, P), whose variances are larger than those of columns shuffled by themselves."""
    rng = np.random.default_rng(0)
    sample = rng.permutation(x.shape[0])[:SILHOUETTE_ROWS]
    values, axes = np.linalg.eigh(_gram(x[sample]))
    chance = np.mean([np.linalg.eigvalsh(_gram(rng.permuted(x[sample], axis=0))) for _ in range(SHUFFLES)], axis=0)
    small = np.flatnonzero((values <= BEYOND_CHANCE * chance)[::-1])
    return np.asarray(axes[:, ::-1][:, : small[0] if small.size else x.shape[1]])


def _gram(x: Floats) -> Floats:
    """Covariances of the columns, (D, D), up to a factor."""
    centred = x - x.mean(axis=0)
    return np.asarray(centred.T @ centred)


def _silhouette(x: Floats, group: NDArray[np.intp]) -> float:
    """Mean silhouette; -1 where there are not at least two groups of at most N - 1 rows."""
    n_groups = len(np.unique(group))
    return float(silhouette_score(x, group)) if 2 <= n_groups < x.shape[0] else -1.0


def _clustered(x: Floats, held: Floats, number: int) -> tuple[NDArray[np.intp], float]:
    """k-means with the first centres held: the best of several starts, and its sum of squares."""
    rng = np.random.default_rng(0)
    place, reach = _nearest_held(x, held)
    best: tuple[NDArray[np.intp], float] | None = None
    for _ in range(STARTS):
        centre = _first_centres(x, reach, number, rng)
        for _ in range(MOST_STEPS):
            distance = _distances(x, centre)
            new = distance.argmin(axis=1)
            least = distance[np.arange(new.size), new]
            mine = least < reach  # rows nearer to a known class do not move the new centres
            member = csr_matrix(
                (mine.astype(np.float64), new, np.arange(new.size + 1)), shape=(new.size, centre.shape[0])
            )
            count = np.asarray(member.sum(axis=0)).ravel()
            moved = np.asarray(member.T @ x) / np.maximum(count, 1.0)[:, None]
            moved[count == 0] = centre[count == 0]
            done = np.array_equal(moved, centre)
            centre = moved
            if done:
                break
        distance = _distances(x, centre)
        new = distance.argmin(axis=1)
        least = distance[np.arange(new.size), new]
        group = np.where(least < reach, held.shape[0] + new, place)
        found = group.astype(np.intp), float(np.minimum(least, reach).sum())
        if best is None or found[1] < best[1]:
            best = found
    return best if best is not None else (np.zeros(x.shape[0], dtype=np.intp), 0.0)


def _nearest_held(x: Floats, held: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Which held centre is nearest to each row, and its squared distance; infinite where there is none."""
    if not held.shape[0]:
        return np.zeros(x.shape[0], dtype=np.intp), np.full(x.shape[0], np.inf)
    distance = _distances(x, held)
    place = distance.argmin(axis=1)
    return place, np.asarray(distance[np.arange(place.size), place])


def _first_centres(x: Floats, reach: Floats, number: int, rng: np.random.Generator) -> Floats:
    """Rows drawn far from the held centres and from those before them."""
    chance, centre = reach.copy(), []
    for _ in range(number):
        total = float(chance.sum())
        drawn = np.isfinite(total) and total > 0.0
        pick = rng.choice(x.shape[0], p=chance / total) if drawn else rng.integers(x.shape[0])
        centre.append(x[pick])
        chance = np.minimum(chance, _distances(x, x[pick][None])[:, 0])
    return np.asarray(centre)


def _distances(x: Floats, centre: Floats) -> Floats:
    """Squared distances, (N, G)."""
    square = (x**2).sum(axis=1)[:, None] + (centre**2).sum(axis=1) - 2.0 * x @ centre.T
    return np.asarray(np.maximum(square, 0.0))


def _by_size(group: NDArray[Any], n_known: int) -> NDArray[np.intp]:
    """New groups numbered from `n_known` on, the largest first; empty ones left out."""
    new = group[group >= n_known]
    labels, count = np.unique(new, return_counts=True)
    out = group.astype(np.intp)
    for place, label in enumerate(labels[np.argsort(-count, kind="stable")]):
        out[group == label] = n_known + place
    return out
