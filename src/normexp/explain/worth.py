"""Which columns a classifier needs: by permuting them, and by its coefficients; each with an interval."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.inspection import permutation_importance
from sklearn.utils.validation import check_is_fitted

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.in_words import refusals_in_words
from normexp.base.plain_arrays import plain_array, plain_numbers
from normexp.explain.head import Head, base_of, rows_of
from normexp.explain.log_odds import names_of
from normexp.explain.rows import F64, Index, as_dense, is_sparse
from normexp.metrics import log_loss
from normexp.metrics.door import read_count, read_generator, read_level
from normexp.ops import log_softmax


class Importance(NamedTuple):
    """A value for each column, the ends of its interval, and the names of the columns where they are known."""

    value: F64
    low: F64
    high: F64
    names: NDArray[Any] | None


def importance(
    model: Any,
    X: Any,
    y: ArrayLike,
    /,
    *,
    scoring: str | Callable[..., float] | None = None,
    n_repeats: int = 5,
    n_resamples: int = 30,
    level: float = 0.95,
    rng: int = 0,
) -> Importance:
    r"""How much worse a classifier does when one column is shuffled: permutation importance, with intervals.

    Parameters
    ----------
    model : classifier
        Any fitted classifier with ``predict_proba``, or a ``TableClassifier``; it need not be linear.
    X : array-like or DataFrame (N, D), or Block
        Rows that it was **not** trained on; of a table for a ``TableClassifier``.
    y : array-like (N,)
        Their classes.
    scoring : str, callable or None
        A scorer of scikit-learn, larger is better; None: the log loss, so that importances are in nats.
    n_repeats : int, default 5
        Shuffles of each column for the value.
    n_resamples : int, default 30
        Bootstrap resamples of the rows, each with a shuffle of its own, for the interval; 2 or more.
    level : float, default 0.95
        Of the interval, within (0, 1).
    rng : int
        Seed.

    Returns
    -------
    Importance
        ``value`` (D,): rise of the loss (fall of the score); 0 for a column that is not used, or that others stand in
        for. ``low`` and ``high``: how far it could lie from its value had other rows been drawn.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        For models without probabilities, rows and classes of unequal number, classes that the model does not know.

    Notes
    -----
    The values are scikit-learn's ``permutation_importance`` [1]_. The interval is value -+ t s, s the standard
    deviation over the resamples and t Student's quantile: scikit-learn's spread over shuffles says nothing of the rows.
    It is a little too wide, since one shuffle varies more than the mean of some. Cost: D (n_repeats + n_resamples)
    predictions of all rows.

    References
    ----------
    .. [1] Breiman (2001), "Random forests", section 10; Fisher, Rudin and Dominici (2019), JMLR 20(177), eq. 3.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = nx.SoftmaxClassifier().fit(X[::2], y[::2])
    >>> found = nx.explain.importance(model, X[1::2], y[1::2])
    >>> found.value.argmax(), bool(found.low[2] > found.high[0])  # petals say more than sepals
    (np.int64(2), True)
    """
    n_repeats = read_count(n_repeats, of="importance", name="n_repeats")
    n_resamples = _resamples(n_resamples, "importance")
    level = read_level(level, of="importance")
    draw = read_generator(rng, of="importance")
    target = plain_array(y, of="importance", name="y")
    subject, rows, names = _subject(model, X)
    if len(rows.shape) != 2:
        raise ShapeError(
            f"importance: X has shape {rows.shape}; a table whose columns can be shuffled, (N, D), would be right. Of "
            "texts alone, words() or the reasons of the steps behind their counts tell more."
        )
    n_rows = rows.shape[0]
    if target.shape != (n_rows,):
        raise ShapeError(f"importance: y has shape {target.shape}; one class for each of the {n_rows} rows is right.")
    if scoring is None:
        scoring = _log_score(subject.classes_, target)

    def once(chosen: Index, repeats: int) -> F64:
        part = rows.iloc[chosen] if hasattr(rows, "iloc") else rows[chosen]
        seed = int(draw.integers(2**31))
        with np.errstate(invalid="ignore"):  # infinity less infinity, which is complained of below
            found = permutation_importance(
                subject, part, target[chosen], scoring=scoring, n_repeats=repeats, random_state=seed
            )
        return np.asarray(found.importances_mean, dtype=np.float64)

    with refusals_in_words("importance", X, y):
        value = once(np.arange(n_rows), n_repeats)
    drawn = np.array([once(draw.integers(n_rows, size=n_rows), 1) for _ in range(n_resamples)])
    if not (np.isfinite(value).all() and np.isfinite(drawn).all()):
        raise RangeError(
            "importance: the score is not finite, since the model gives the true class of some row the probability 0; "
            "calibrate the model, or give a score that bears it, such as scoring='accuracy'."
        )
    half = float(stdtrit(n_resamples - 1, 0.5 + 0.5 * level)) * drawn.std(axis=0, ddof=1)
    return Importance(value, value - half, value + half, names)


def coefficient_importance(
    model: Any,
    X: Any,
    y: ArrayLike | None = None,
    /,
    *,
    standard_error: ArrayLike | None = None,
    n_resamples: int = 50,
    level: float = 0.95,
    rng: int = 0,
) -> Importance:
    r"""Coefficients on columns of standard deviation 1, with intervals.

    Parameters
    ----------
    model : classifier
        As for `contributions`, but not of a table.
    X : array-like or DataFrame (N, D)
        Training rows.
    y : array-like (N,) or None
        Their classes, for a bootstrap; not needed where standard errors are given.
    standard_error : array-like (S, D) or None
        Of the coefficients on the columns of X, from wherever you have them.
    n_resamples : int, default 50
        Refits of the bootstrap, 2 or more.
    level : float, default 0.95
        Of the interval, within (0, 1).
    rng : int
        Seed.

    Returns
    -------
    Importance
        Arrays (S, D): S is 1 for two classes (log-odds of ``classes_[1]``) and K for more, centred over the classes.
        A value is the change of the score, in nats, for one standard deviation of its column.

    Raises
    ------
    DtypeError, ShapeError, RangeError
        For models that are not linear in X, and where neither classes nor standard errors came.

    Notes
    -----
    value -+ q s: with standard errors q is the normal quantile; with a bootstrap s is the standard deviation over
    refits on rows drawn anew within each class, and q Student's quantile. A penalty shrinks coefficients towards 0, and
    the interval is one of the shrunken ones. Steps in front of the coefficients are fitted anew as well.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> found = nx.explain.coefficient_importance(nx.SoftmaxClassifier().fit(X, y), X, y)
    >>> found.value.shape, bool((found.low[2, 2:] > 0).all())  # long and wide petals: virginica, beyond doubt
    ((3, 4), True)
    """
    level = read_level(level, of="coefficient_importance")
    model = base_of(model)
    head = _linear(model)
    rows = as_dense(head.columns(X))
    spread = rows.std(axis=0)
    value = _standardised(head, spread)
    if standard_error is not None:
        error = plain_numbers(standard_error, of="coefficient_importance", name="standard_error").astype(np.float64)
        if error.shape != value.shape:
            raise ShapeError(
                f"coefficient_importance: standard_error has shape {error.shape}; {value.shape}, one for each "
                "coefficient on a column of X, would be right."
            )
        if not (np.isfinite(error) & (error >= 0.0)).all():
            raise RangeError("coefficient_importance: standard_error must hold finite numbers of at least 0.")
        half = float(stdtrit(np.inf, 0.5 + 0.5 * level)) * error * spread
        return Importance(value, value - half, value + half, names_of(head))
    if y is None:
        raise RangeError(
            "coefficient_importance: neither y nor standard_error came; give the training classes for a bootstrap, or "
            "the standard errors of the coefficients."
        )
    n_resamples = _resamples(n_resamples, "coefficient_importance")
    target = plain_array(y, of="coefficient_importance", name="y")
    if target.shape != (len(rows),):
        raise ShapeError(
            f"coefficient_importance: y has shape {target.shape}; one class for each of the {len(rows)} rows is right."
        )
    draw = read_generator(rng, of="coefficient_importance")
    if is_sparse(X):
        given = X.tocsr()
    else:
        given = X if hasattr(X, "iloc") else plain_array(X, of="coefficient_importance", name="X")
    members = [np.flatnonzero(target == label) for label in np.unique(target)]
    fits = []
    for _ in range(n_resamples):
        chosen = np.concatenate([draw.choice(own, len(own)) for own in members])
        part = given.iloc[chosen] if hasattr(given, "iloc") else given[chosen]
        fits.append(_standardised(_linear(clone(model).fit(part, target[chosen])), spread))
    half = float(stdtrit(n_resamples - 1, 0.5 + 0.5 * level)) * np.std(fits, axis=0, ddof=1)
    return Importance(value, value - half, value + half, names_of(head))


class _TableRows(ClassifierMixin, BaseEstimator):
    """A table model that reads, in place of each value of a frame, the number of the row where it stands.

    So a shuffled column is a column of shuffled numbers, whatever its values are. Without a frame it reads arrays.
    """

    def __init__(self, model: Any, frame: Any) -> None:
        self.model = model
        self.frame = frame
        self.classes_ = model.classes_

    def fit(self, X: Any, y: Any) -> Any:
        """Nothing: the model is fitted; scikit-learn only asks whether this is there."""
        del X, y
        return self

    def predict_log_proba(self, X: NDArray[Any]) -> F64:
        """Logarithms of the probabilities, (N, K)."""
        rows: Any = X
        if self.frame is not None:
            columns = [self.frame[name].gather(X[:, at]) for at, name in enumerate(self.frame.columns)]
            rows = self.model.encoder_.transform(type(self.frame)(columns))
        return np.asarray(log_softmax(self.model.decision_function(rows)))

    def predict_proba(self, X: NDArray[Any]) -> F64:
        """Probabilities, (N, K)."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Classes, (N,)."""
        return np.asarray(self.classes_[self.predict_log_proba(X).argmax(axis=1)])


def _subject(model: Any, X: Any) -> tuple[Any, Any, NDArray[Any] | None]:
    """What is permuted and asked, and the names of the columns."""
    if hasattr(model, "encoder_") and hasattr(model, "decision_function"):
        rows = rows_of(X)
        if hasattr(rows, "columns"):  # a polars frame: models of tables read no other
            rows = rows.select(model.schema_.names)
            numbers = np.repeat(np.arange(rows.height)[:, None], rows.width, axis=1)
            return _TableRows(model, rows), numbers, np.asarray(rows.columns, dtype=str)
        return _TableRows(model, None), as_dense(rows), None
    if not hasattr(model, "fit"):
        raise DtypeError(f"importance: a {type(model).__name__} came as the model; a fitted classifier would be right.")
    check_is_fitted(model)
    if not hasattr(model, "classes_") or not hasattr(model, "predict_proba"):
        raise DtypeError(
            f"importance: a {type(model).__name__} came, which has no predict_proba and classes_; a classifier with "
            "probabilities would be right."
        )
    names = np.asarray(X.columns, dtype=str) if hasattr(X, "columns") else None
    if not hasattr(X, "iloc"):
        X = plain_array(as_dense(X) if is_sparse(X) else X, of="importance", name="X")
    return model, X, names


def _log_score(classes: NDArray[Any], y: NDArray[Any]) -> Callable[..., float]:
    """Minus the log loss of a classifier; a resample may lack classes that the model knows."""
    order = {label: number for number, label in enumerate(classes.tolist())}
    unknown = [label for label in np.unique(y).tolist() if label not in order]
    if unknown:
        raise RangeError(f"importance: y holds {unknown[0]!r}, which is no class of the model.")

    def score(model: Any, X: Any, labels: NDArray[Any]) -> float:
        with np.errstate(divide="ignore"):  # the logarithm of a probability of 0 is -inf, and is what is meant
            logs = getattr(model, "predict_log_proba", None)
            log_prob = np.log(model.predict_proba(X)) if logs is None else logs(X)
        return -log_loss(np.array([order[label] for label in labels.tolist()]), log_prob)

    return score


def _linear(model: Any) -> Head:
    """The model as a linear head of its columns."""
    head = Head.read(model, of="coefficient_importance")
    if head.groups is not None:
        raise DtypeError(
            "coefficient_importance: a table model's columns have no one coefficient; importance() tells what each is "
            "worth."
        )
    return head


def _standardised(head: Head, spread: F64) -> F64:
    """Coefficients for one standard deviation of each column: (1, D) for two classes, else (K, D), centred."""
    coef = head.column_coef
    coef = coef[1:] - coef[:1] if len(coef) == 2 else coef - coef.mean(axis=0)
    return np.asarray(coef * spread)


def _resamples(value: Any, of: str) -> int:
    """How many resamples; one alone has no spread."""
    count = read_count(value, of=of, name="n_resamples")
    if count < 2:
        raise RangeError(f"{of}: n_resamples is {count}; 2 or more would be right.")
    return count
