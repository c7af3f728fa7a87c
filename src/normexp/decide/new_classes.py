"""Classes that come and go after a head was fitted; what it knows of the others stays as it is."""

from numbers import Real
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from normexp.base.checks import check_number
from normexp.base.errors import RangeError, ShapeError
from normexp.decide.door import Floats, read_share
from normexp.decide.heads import Head, merged, read_head, read_rows_of, with_head

GRADIENT_TOLERANCE: Final = 1e-8  # of the mean loss
MOST_STEPS: Final = 1000


def add_class(
    model: Any,
    X: ArrayLike,
    label: Any,
    *,
    known: ArrayLike,
    share: float | None = None,
    C: float | None = None,
) -> Any:
    r"""A copy of a fitted linear softmax model that knows one class more, learned without refitting the others.

    Parameters
    ----------
    model : classifier
        Fitted, with `coef_`, `intercept_` and `classes_`: `SoftmaxClassifier`, `LogisticRegression`, ...
    X : array-like or sparse matrix, shape (N, D)
        Rows of the new class; a handful will do.
    label : object
        Its label, of the type of ``model.classes_``.
    known : array-like or sparse matrix, shape (M, D)
        Rows of the known classes, as they come in use; their labels are not needed. Some hundred will do.
    share : float, optional
        Expected share of the new class among all rows, within (0, 1); by default 1 / (K + 1), as often as
        the others on average.
    C : float, optional
        Inverse strength of the penalty on the new weights; by default the model's own, or 1.

    Returns
    -------
    classifier
        A copy with K + 1 classes, sorted; the model itself is unchanged.

    Raises
    ------
    ShapeError, RangeError, DtypeError, InputError
        If the arguments do not fit together, hold NaN, or the class is known already.

    Notes
    -----
    With the old logits z frozen, the weights w and the intercept b of the new class minimise

    .. math:: \sum_i s_i\,\mathrm{nll}\bigl(w^\top x_i + b - \log\textstyle\sum_k e^{z_{ik}}\bigr) + \|w\|^2 / 2C,

    the loss of "new or not" with the old classes' logsumexp as an offset: convex, with D + 1 unknowns, whatever K. It
    is the softmax likelihood of all rows but for a constant. Among the old classes the odds of any two stay exactly
    what they were. The weights :math:`s_i` make the new rows count `share` of the whole.

    References
    ----------
    The likelihood is that of softmax regression with all other rows held. Qi, Brown & Lowe (2018), "Low-shot learning
    with imprinted weights", CVPR, is the heuristic that it replaces.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp import SoftmaxClassifier
    >>> from normexp.decide import add_class
    >>> rng = np.random.default_rng(0)
    >>> centre = 3.0 * rng.normal(size=(4, 8))
    >>> y = rng.integers(0, 4, 400)
    >>> X = centre[y] + rng.normal(size=(400, 8))
    >>> old = SoftmaxClassifier().fit(X[y < 3], y[y < 3])
    >>> new = add_class(old, X[y == 3][:5], 3, known=X[y < 3])  # five rows
    >>> new.classes_, bool(new.score(X, y) > 0.97)
    (array([0, 1, 2, 3]), True)
    """
    of = "add_class"
    head = read_head(model, of=of)
    fresh, others = read_rows_of(X, head, of=of, name="X"), read_rows_of(known, head, of=of, name="known")
    wanted = None if share is None else read_share(share, of=of, name="share", example="0.05")
    strength = getattr(model, "C", 1.0) if C is None else C
    unbounded = isinstance(strength, Real) and float(strength) == np.inf
    ridge = 0.0 if unbounded else 1.0 / check_number(strength, of=of, name="C", low=1e-12)
    _require_one_label(label, of)
    if getattr(model, "penalty", "l2") is None and C is None:
        ridge = 0.0
    n_new, n_known = fresh.shape[0], others.shape[0]
    total = n_new + n_known
    part = 1.0 / (head.classes.size + 1) if wanted is None else wanted
    weight, bias = _fit_row(
        head,
        fresh,
        others,
        fresh_weight=part * total / n_new,
        other_weight=(1.0 - part) * total / n_known,
        ridge=ridge,
    )
    return with_head(model, merged(head, np.asarray([label]), weight[None], np.array([bias]), of=of))


def remove_class(model: Any, label: Any) -> Any:
    r"""A copy of a fitted linear softmax model that no longer knows a class.

    Parameters
    ----------
    model : classifier
        Fitted, with `coef_`, `intercept_` and `classes_`, of at least three classes.
    label : object
        The class to be forgotten.

    Returns
    -------
    classifier
        A copy with K - 1 classes; the model itself is unchanged.

    Raises
    ------
    RangeError, ShapeError, InputError
        If the class is not there, or fewer than two classes would be left.

    Notes
    -----
    Leaving out a logit conditions on the class not being it: the others' probabilities become
    :math:`p_k / (1 - p_{\text{removed}})` exactly, which is what the same evidence says without that class.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp import SoftmaxClassifier
    >>> from normexp.decide import remove_class
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(90, 2)), np.repeat(["a", "b", "c"], 30)
    >>> model = SoftmaxClassifier().fit(X, y)
    >>> rest = remove_class(model, "b")
    >>> p = model.predict_proba(X)
    >>> bool(np.abs(rest.predict_proba(X) - p[:, [0, 2]] / (1 - p[:, [1]])).max() < 1e-12)
    True
    """
    of = "remove_class"
    head = read_head(model, of=of)
    _require_one_label(label, of)
    keep = head.classes != label
    if np.all(keep):
        raise RangeError(f"{of}: the model does not know the class {label!r}; it knows {_some(head.classes)}.")
    if np.count_nonzero(keep) < 2:
        raise RangeError(f"{of}: only {head.classes.size} classes are there, and two must be left.")
    return with_head(model, Head(head.coef[keep], head.intercept[keep], head.classes[keep]))


def _fit_row(
    head: Head, fresh: Any, others: Any, *, fresh_weight: float, other_weight: float, ridge: float
) -> tuple[Floats, float]:
    """Weights and intercept of the new class."""
    parts = ((fresh, 1.0, fresh_weight), (others, -1.0, other_weight))
    offsets = [logsumexp(head.logits(x), axis=1) for x, _, _ in parts]
    total = fresh.shape[0] * fresh_weight + others.shape[0] * other_weight

    def objective(theta: Floats) -> tuple[float, Floats]:
        w, b = theta[:-1], theta[-1]
        value, slope = 0.5 * ridge * float(w @ w), np.r_[ridge * w, 0.0]
        for (x, sign, weight), offset in zip(parts, offsets, strict=True):
            margin = sign * (np.asarray(x @ w) + b - offset)
            value += weight * float(np.logaddexp(0.0, -margin).sum())
            pull = -weight * sign * expit(-margin)
            slope[:-1] += np.asarray(x.T @ pull)
            slope[-1] += pull.sum()
        return value / total, slope / total

    # The mean of the old rows, so that the start says "as likely as any", whatever the size of the logits.
    start = np.r_[head.coef.mean(axis=0), float(np.mean(offsets[1])) - np.log(head.classes.size)]
    options: Any = {"maxiter": MOST_STEPS, "gtol": GRADIENT_TOLERANCE, "ftol": 1e-14, "maxcor": 30}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x[:-1]), float(found.x[-1])


def _require_one_label(label: Any, of: str) -> None:
    """Refuse several labels, which would be compared with the model's one by one."""
    if np.ndim(label):
        raise ShapeError(f"{of}: label is {label!r:.80}; one label, such as a name or a number, would be right.")


def _some(classes: NDArray[Any]) -> str:
    """The first few labels."""
    shown = ", ".join(repr(label) for label in classes[:5].tolist())
    return shown if classes.size <= 5 else f"{shown} and {classes.size - 5} more"
