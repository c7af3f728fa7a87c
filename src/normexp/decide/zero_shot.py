"""Classes of which there is no row yet, only an embedding of the class itself: a description, a name, attributes."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from normexp.base.checks import check_number
from normexp.base.errors import DtypeError, InputError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.decide.door import Floats, read_features
from normexp.decide.heads import Head, merged, read_head, read_rows_of, with_head
from normexp.metrics.door import name_rows
from normexp.ops import cross_entropy_with_grad

FOLDS: Final = 5
STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, in units of the mean squared length of the embeddings
BOUNDS: Final = ((-5.0, 5.0), (None, None))  # of the logarithm of the scale, and of the bias
FEWEST_CLASSES: Final = 5  # with fewer seen classes there is nothing to learn from


class Calibration(NamedTuple):
    """How unseen classes are brought to the level of the seen ones.

    Parameters
    ----------
    scale : float
        What the predicted logits are multiplied by.
    bias : float
        What is added to them.
    ridge : float
        Strength of the ridge that was chosen.
    log_loss : float
        Of the rows of held-out classes among all classes, at these three, nats a row.
    """

    scale: float
    bias: float
    ridge: float
    log_loss: float


def add_zero_shot_classes(
    model: Any, embeddings: Mapping[Any, ArrayLike], /, *, X: ArrayLike, y: ArrayLike, strength: float | None = None
) -> Any:
    r"""A copy of a fitted linear softmax model that also knows classes without a single row.

    Parameters
    ----------
    model : classifier
        Fitted, with `coef_`, `intercept_` and `classes_`, of at least five classes.
    embeddings : mapping of label to array-like, shape (E,)
        An embedding of every class: of those that the model knows, and of the new ones. The space is any: sentence
        embeddings of descriptions, attributes, means of features.
    X : array-like or sparse matrix, shape (N, D)
        Rows of the known classes, to calibrate on; some for each class.
    y : array-like, shape (N,)
        Their labels.
    strength : float, optional
        Strength of the ridge, in units of the mean squared length of the embeddings; by default one of five, from
        0.001 to 10, chosen on held-out classes.

    Returns
    -------
    classifier
        A copy that knows the new classes too, sorted, with the attribute `zero_shot_` (scale, bias, ridge, log_loss)
        of its calibration. Weights of the known classes are unchanged.

    Raises
    ------
    ShapeError, RangeError, DtypeError, InputError
        If an embedding is missing or of another length, no class is new, there are fewer than five known classes, or
        the arguments do not fit together.

    Notes
    -----
    A ridge regression from embeddings to weights (and intercepts), centred on the mean weights, is fitted on the seen
    classes: :math:`w(e) = \bar w + V(e - \bar e)`. Its solution is a combination of the seen weights,
    :math:`V(e - \bar e) = \tilde W^\top(\tilde E\tilde E^\top + \lambda I)^{-1}\tilde E(e - \bar e)`.

    Predicted weights are shorter than fitted ones, so unseen classes would lose against seen ones wherever both are
    possible. What is missing, a scale a > 0 and a bias g of the unseen logits (calibrated stacking), is found where
    the answer is known: in five folds over the *classes*, a fifth of the seen classes is predicted from the others, and
    a, g minimise the log loss of all rows with these weights in the place of the fitted ones; convex in (a, g).
    Seen and unseen classes are thereby taken for equally frequent, class by class.

    References
    ----------
    Romera-Paredes & Torr (2015), "An embarrassingly simple approach to zero-shot learning", ICML;
    Chao, Changpinyo, Gong & Sha (2016), "An empirical study and analysis of generalized zero-shot learning", ECCV,
    section 3.2 (calibrated stacking).

    Examples
    --------
    >>> import numpy as np
    >>> from normexp import SoftmaxClassifier
    >>> from normexp.decide import add_zero_shot_classes
    >>> rng = np.random.default_rng(0)
    >>> attribute = rng.normal(size=(30, 6))  # what is known of each class
    >>> centre = attribute @ rng.normal(size=(6, 20))
    >>> y = rng.integers(0, 30, 3000)
    >>> X = centre[y] + rng.normal(size=(3000, 20))
    >>> seen = y < 25
    >>> model = SoftmaxClassifier().fit(X[seen], y[seen])
    >>> wider = add_zero_shot_classes(model, dict(enumerate(attribute)), X=X[seen], y=y[seen])
    >>> bool(wider.score(X[~seen], y[~seen]) > 0.6), bool(wider.score(X[seen], y[seen]) > 0.9)
    (True, True)
    """
    of = "add_zero_shot_classes"
    head = read_head(model, of=of)
    if head.classes.size < FEWEST_CLASSES:
        raise InputError(
            f"{of}: the model knows {head.classes.size} classes, and {FEWEST_CLASSES} are the fewest from which the "
            "way from an embedding to weights can be learned."
        )
    seen, labels, unseen = _embedded(embeddings, head, of)
    rows = read_rows_of(X, head, of=of, name="X")
    target = _target(y, head, rows.shape[0], of)
    tried = STRENGTHS if strength is None else (check_number(strength, of=of, name="strength", low=0.0),)
    if min(tried) == 0.0:
        raise RangeError(f"{of}: strength is {strength!r}; a number above 0 would be right.")
    best = min((_calibrate(head, seen, rows, target, one) for one in tried), key=lambda found: found.log_loss)
    coef, intercept = _predicted(head.coef, head.intercept, seen, unseen, best.ridge)
    wider = merged(head, labels, best.scale * coef, best.scale * intercept + best.bias, of=of)
    new = with_head(model, wider)
    new.zero_shot_ = best
    return new


def _predicted(coef: Floats, intercept: Floats, seen: Floats, unseen: Floats, strength: float) -> tuple[Floats, Floats]:
    """Weights (U, D) and intercepts (U,) of classes with the embeddings `unseen`, (U, E)."""
    middle = seen.mean(axis=0)
    e, f = seen - middle, unseen - middle
    gram = e @ e.T
    gram[np.diag_indices_from(gram)] += strength * float(np.einsum("ke,ke->", e, e)) / e.shape[0] + 1e-12
    mixing = np.linalg.solve(gram, e @ f.T).T  # (U, K): each unseen class as a mixture of deviations
    mean_coef, mean_intercept = coef.mean(axis=0), intercept.mean()
    return mean_coef + mixing @ (coef - mean_coef), mean_intercept + mixing @ (intercept - mean_intercept)


def _calibrate(head: Head, seen: Floats, rows: Any, target: NDArray[np.intp], strength: float) -> Calibration:
    """Scale and bias on held-out classes, and the log loss that they leave on the rows of those."""
    n_classes = head.classes.size
    fold = np.random.default_rng(0).permutation(n_classes) % min(FOLDS, n_classes)
    fitted = head.logits(rows)
    predicted = np.empty_like(fitted)
    for f in range(int(fold.max()) + 1):
        out = fold == f
        coef, intercept = _predicted(head.coef[~out], head.intercept[~out], seen[~out], seen[out], strength)
        predicted[:, out] = np.asarray(rows @ coef.T) + intercept

    def objective(theta: Floats) -> tuple[float, Floats]:
        value, slope = 0.0, np.zeros(2)
        for f in range(int(fold.max()) + 1):
            out = fold == f
            z = fitted.copy()
            z[:, out] = np.exp(theta[0]) * predicted[:, out] + theta[1]
            loss, grad = cross_entropy_with_grad(z, target)
            value += float(loss)
            slope[0] += float(np.einsum("nk,nk->", grad[:, out], predicted[:, out])) * np.exp(theta[0])
            slope[1] += float(grad[:, out].sum())
        return value, slope

    options: Any = {"maxiter": 200, "gtol": 1e-6}
    found = minimize(
        objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-5.0, 5.0), (None, None)], options=options
    )
    scale, bias = float(np.exp(found.x[0])), float(found.x[1])
    total = 0.0
    for f in range(int(fold.max()) + 1):
        out = fold == f
        mine = out[target]
        if mine.any():
            z = fitted[mine]
            z[:, out] = scale * predicted[mine][:, out] + bias
            total += float(cross_entropy_with_grad(z, target[mine], reduction="sum")[0])
    return Calibration(scale, bias, strength, total / target.size)


def _embedded(embeddings: Mapping[Any, ArrayLike], head: Head, of: str) -> tuple[Floats, NDArray[Any], Floats]:
    """Embeddings of the seen classes, and labels and embeddings of the unseen ones."""
    if not (hasattr(embeddings, "keys") and hasattr(embeddings, "__getitem__")):
        raise DtypeError(
            f"{of}: embeddings is a {type(embeddings).__name__}; a dict from each label to its embedding would be "
            "right."
        )
    known = head.classes.tolist()
    missing = [label for label in known if label not in embeddings]
    if missing:
        raise InputError(
            f"{of}: {len(missing)} of the {len(known)} classes of the model have no embedding, such as {missing[0]!r}; "
            "give one for each, since the way from embeddings to weights is learned from them."
        )
    new = [label for label in embeddings if label not in set(known)]
    if not new:
        raise InputError(
            f"{of}: every class of embeddings is known to the model already; give those of new classes too."
        )
    vectors = [plain_array(embeddings[label], of=of, name=f"the embedding of {label!r}") for label in (*known, *new)]
    width = vectors[0].shape
    for label, vector in zip((*known, *new), vectors, strict=True):
        if vector.ndim != 1 or vector.shape != width or not vector.size:
            raise ShapeError(
                f"{of}: the embedding of {label!r} has shape {vector.shape} and that of {known[0]!r} {width}; vectors "
                "of one length would be right."
            )
    table = read_features(np.stack(vectors), of=of, n_rows=None)
    # The strength counts in units of the embeddings' size, so a power of two changes nothing but what overflows.
    table = np.ldexp(table, -int(np.frexp(np.abs(table).max())[1]))
    return table[: len(known)], np.asarray(new), table[len(known) :]


def _target(y: ArrayLike, head: Head, n_rows: int, of: str) -> NDArray[np.intp]:
    """Place of each label among the model's classes."""
    labels = plain_array(y, of=of, name="y")
    if labels.shape != (n_rows,):
        raise ShapeError(f"{of}: y has shape {labels.shape} and X {n_rows} rows; one label for each row is right.")
    place = np.minimum(np.searchsorted(head.classes, labels), head.classes.size - 1)
    unknown = np.asarray(head.classes[place] != labels)
    if unknown.any():
        raise RangeError(f"{of}: {name_rows(unknown)} of y hold classes that the model does not know; leave them out.")
    return place.astype(np.intp)
