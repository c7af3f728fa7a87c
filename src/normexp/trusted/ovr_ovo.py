"""Three ways to make one classifier of K classes, compared on the same rows and the same split.

- **multinomial**: one softmax over K classes, one fit.
- **one-vs-rest**: K fits of "this class or any other"; the K answers are divided by their sum.
- **one-vs-one**: K (K - 1) / 2 fits of "this class or that one", each on the rows of its two classes; the answers
  r_ij = P(i | i or j) are coupled to one distribution (Wu, Lin and Weng 2004).

The first answers the question that is asked; the other two answer others and put the answers together.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError, ShapeError
from normexp.metrics import accuracy, brier, log_loss
from normexp.tables import Schema, Source, TableEncoder

MIN_PAIRWISE: Final = 1e-7  # as LIBSVM's min_prob (svm.cpp): a pairwise 0 or 1 would make the coupling singular
ROWS_AT_ONCE: Final = 1 << 22  # entries of the systems that are solved together: 32 MiB of float64


class SchemeScore(NamedTuple):
    """What one scheme reached on the rows that were held out.

    Parameters
    ----------
    scheme : str
        "multinomial", "one-vs-rest" or "one-vs-one".
    accuracy, log_loss, brier : float
        Scores on the held-out rows; the log loss in nats, the Brier score summed over classes.
    fit_seconds : float
        Wall-clock time of all fits of the scheme.
    n_fits : int
        How many of them there were.
    """

    scheme: str
    accuracy: float
    log_loss: float
    brier: float
    fit_seconds: float
    n_fits: int


class Split(NamedTuple):
    """Rows to fit and rows that are held out.

    Parameters
    ----------
    X_train, X_test : ndarray or csr_matrix, shape (N, D)
        Features.
    y_train, y_test : ndarray, shape (N,)
        Classes.
    schema : Schema
        What the rows were before they were encoded; the default penalty depends on it.
    """

    X_train: Any
    y_train: NDArray[Any]
    X_test: Any
    y_test: NDArray[Any]
    schema: Schema


def split_digits(*, held_out: float = 0.25, seed: int = 0) -> Split:
    """Split the 1797 handwritten digits (8 x 8 pixels) that scikit-learn bundles, in equal parts of each class.

    Parameters
    ----------
    held_out : float
        Part of the rows that is held out.
    seed : int
        Seed of the split.

    Returns
    -------
    Split
        The rows.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415

    X, y = load_digits(return_X_y=True)
    train, test = _split_indices(y, held_out=held_out, seed=seed)
    return Split(X[train], y[train], X[test], y[test], Schema("dense", shape=(X.shape[1],)))


def split_source(source: Source, /, *, held_out: float = 0.25, seed: int = 0) -> Split:
    """Read a table, split its rows, and encode both parts by what the first part teaches.

    Parameters
    ----------
    source : Source
        What `normexp.tables.open_source` returned; it must name its target.
    held_out : float
        Part of the rows that is held out.
    seed : int
        Seed of the split and of the encoding.

    Returns
    -------
    Split
        The encoded rows.

    Raises
    ------
    InputError
        If the rows cannot be read, or are too few to split.
    """
    schema = source.infer()
    block = source.read(schema, with_target=True)
    y = block.target
    if y is None:
        raise InputError(f"{source.path}: the classes are needed to compare. Name the target column.")
    train, test = _split_indices(y, held_out=held_out, seed=seed)
    encoder = TableEncoder(schema, seed=seed)
    features: Any = block.features
    X_train = encoder.fit_transform(features[train])
    return Split(X_train, y[train], encoder.transform(features[test]), y[test], schema)


def _split_indices(y: NDArray[Any], *, held_out: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the rows to fit and of those held out; each class is split in the same ratio where it can be."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    _, counts = np.unique(y, return_counts=True)
    stratify = y if counts.min() >= 2 else None
    try:
        train, test = train_test_split(np.arange(len(y)), test_size=held_out, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise InputError(
            f"split: {len(y)} rows of {len(counts)} classes cannot be split with {held_out:g} of them held out "
            f"({error}); give more rows, or hold out another part."
        ) from error
    return np.asarray(train), np.asarray(test)


def compare_schemes(
    X_train: Any, y_train: NDArray[Any], X_test: Any, y_test: NDArray[Any], /, *, estimator: Any
) -> tuple[SchemeScore, ...]:
    """Fit and score the three schemes around one estimator.

    Parameters
    ----------
    X_train, X_test : ndarray or csr_matrix, shape (N, D)
        Features of the rows to fit, and of the rows that are held out.
    y_train, y_test : ndarray, shape (N,)
        Their classes; every class of `y_test` must occur in `y_train`.
    estimator : classifier
        Cloned for each fit; it needs predict_proba.

    Returns
    -------
    tuple of SchemeScore, length 3
        Multinomial, one-vs-rest, one-vs-one.

    Raises
    ------
    InputError
        If a held-out row has a class that no training row has.

    Notes
    -----
    One small fit runs before the clock starts, so that no scheme pays for compiling the kernels.

    References
    ----------
    T.-F. Wu, C.-J. Lin and R. C. Weng (2004), Probability estimates for multi-class classification by pairwise
    coupling, Journal of Machine Learning Research 5, 975-1005; section 4.2.
    """
    from sklearn.base import clone  # noqa: PLC0415  (floor import stays light)
    from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier  # noqa: PLC0415

    classes = np.unique(y_train)
    target = np.searchsorted(classes, y_test)
    strange = (target == len(classes)) | (classes[np.minimum(target, len(classes) - 1)] != y_test)
    if np.any(strange):
        row = int(np.flatnonzero(strange)[0])
        raise InputError(
            f"compare_schemes: the held-out row {row} has the class {y_test[row]!r}, which no training row has; "
            "hold out fewer rows, or drop classes with a single row."
        )
    few = np.concatenate([np.flatnonzero(y_train == label)[:2] for label in classes[:3]])
    clone(estimator).fit(X_train[few], y_train[few])

    schemes: tuple[tuple[str, Any, Callable[[Any, Any], NDArray[np.float64]]], ...] = (
        ("multinomial", clone(estimator), lambda model, X: np.asarray(model.predict_proba(X))),
        ("one-vs-rest", OneVsRestClassifier(clone(estimator)), lambda model, X: np.asarray(model.predict_proba(X))),
        ("one-vs-one", OneVsOneClassifier(clone(estimator)), _coupled),
    )
    scores = []
    for name, model, predict in schemes:
        start = time.perf_counter()
        model.fit(X_train, y_train)
        seconds = time.perf_counter() - start
        prob = predict(model, X_test)
        scores.append(
            SchemeScore(
                scheme=name,
                accuracy=accuracy(target, prob, from_logits=False),
                log_loss=log_loss(target, prob, from_logits=False),
                brier=brier(target, prob, from_logits=False),
                fit_seconds=seconds,
                n_fits=len(getattr(model, "estimators_", (model,))),
            )
        )
    return tuple(scores)


def couple_pairwise(pairwise: NDArray[np.float64], /) -> NDArray[np.float64]:
    """Couple P(i | i or j) of all pairs to one distribution over K classes.

    Parameters
    ----------
    pairwise : ndarray of float64, shape (N, K, K)
        ``pairwise[n, i, j]`` = r_ij = 1 - r_ji, the probability of class i where it is i or j;
        the diagonal is not read.

    Returns
    -------
    ndarray of float64, shape (N, K)
        Rows that are at least 0 and sum to 1.

    Raises
    ------
    ShapeError
        If the last two axes differ.

    Notes
    -----
    The minimiser of sum_i sum_{j != i} (r_ji p_i - r_ij p_j)^2 under sum p = 1, the second approach of Wu, Lin and
    Weng (2004), equations 18 to 21: the linear system [Q e; e' 0] [p; b] = [0; 1] with Q_ii = sum_{j != i} r_ji^2 and
    Q_ij = -r_ji r_ij. Its solution is never negative (their theorem 2), but for rounding, which is cut off. Pairwise
    values are kept within 1e-7 of 0 and 1. Cost K^3 / 3 for each row.

    Examples
    --------
    For two classes it is the pairwise probability itself:

    >>> couple_pairwise(np.array([[[0.0, 0.8], [0.2, 0.0]]])).round(6)
    array([[0.8, 0.2]])
    """
    if pairwise.ndim != 3 or pairwise.shape[1] != pairwise.shape[2]:
        raise ShapeError(f"couple_pairwise: pairwise has shape {pairwise.shape}; (N, K, K) would be right.")
    n_rows, n_classes, _ = pairwise.shape
    prob = np.empty((n_rows, n_classes))
    step = max(1, ROWS_AT_ONCE // (n_classes + 1) ** 2)
    diagonal = np.arange(n_classes)
    for start in range(0, n_rows, step):
        r = np.clip(pairwise[start : start + step], MIN_PAIRWISE, 1.0 - MIN_PAIRWISE)
        r[:, diagonal, diagonal] = 0.0
        system = np.zeros((len(r), n_classes + 1, n_classes + 1))
        system[:, :-1, :-1] = -r * r.transpose(0, 2, 1)
        system[:, diagonal, diagonal] = np.sum(r * r, axis=1)  # over j of r_ji^2
        system[:, :-1, -1] = system[:, -1, :-1] = 1.0
        right = np.zeros((len(r), n_classes + 1, 1))
        right[:, -1] = 1.0
        prob[start : start + step] = np.maximum(np.linalg.solve(system, right)[:, :-1, 0], 0.0)
    prob /= prob.sum(axis=1, keepdims=True)
    return prob


def _coupled(model: Any, X: Any) -> NDArray[np.float64]:
    """Probabilities of a fitted OneVsOneClassifier; its estimators stand in the order (0,1), (0,2), ..., (K-2,K-1)."""
    n_classes = len(model.classes_)
    pairwise = np.zeros((X.shape[0], n_classes, n_classes))
    pairs = ((i, j) for i in range(n_classes) for j in range(i + 1, n_classes))
    for (i, j), binary in zip(pairs, model.estimators_, strict=True):
        prob = np.asarray(binary.predict_proba(X))  # scikit-learn calls class i 0 and class j 1
        pairwise[:, i, j], pairwise[:, j, i] = prob[:, 0], prob[:, 1]
    return couple_pairwise(pairwise)
