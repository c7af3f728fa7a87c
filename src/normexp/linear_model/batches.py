"""Fitting batch by batch: the checks of one batch, and what an estimator keeps between two."""

import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import NormexpWarning, RangeError
from normexp.base.magnitude import LargeCellError, large_cell
from normexp.linear_model.door import read_labelled
from normexp.linear_model.head import LinearHead
from normexp.linear_model.parameters import check_parameters, check_row_weights, class_factors
from normexp.linear_model.penalties import penalty_of
from normexp.solvers import Fitted, Outcome, Running, Solution, absorb, first_of_a_stream, summed_up


class InBatches(LinearHead):
    """Abstract: a head that takes rows in batch by batch."""

    _running: Running | None = None

    @abstractmethod
    def _take(self, fitted: Fitted, dtype: Any) -> Self:
        """Take over what a solver found, in the dtype of the rows, and warn where that is no optimum."""

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Take in a batch of rows.

        Parameters
        ----------
        X : array-like or sparse matrix (n, D)
            Features.
        y : array-like (n,)
            Class labels; a batch may lack classes.
        classes : array-like (K,), optional
            All labels that may ever come; needed on the first call.
        sample_weight : array-like (n,), optional
            Weights of the rows.

        Returns
        -------
        SoftmaxClassifier
            The same object.

        Raises
        ------
        ValueError
            For the first call without classes, other classes later, labels outside of them, and what `fit` refuses.

        Notes
        -----
        Minimises the losses of the rows in a window (2 048 rows, or four for each coefficient, in at most 32 MB), plus
        the second-order expansions of the losses of the rows before them at the optimum of their time, plus the
        penalty: as long as the window holds all rows it is `fit`, and later its error is that of the expansions. Above
        3 000 coefficients only their diagonal is kept, which is rougher. Columns are centred and scaled as the first
        batch has them; ``suboptimality_`` is infinite, because nothing bounds the losses of rows that are gone. Model
        files hold no rows. Until each declared class has come, ``solution_`` says so and is not converged;
        ``class_count_`` (K,) holds the weight of the rows of each that came. `fit` starts anew, and so do batches after
        a `fit`, with a warning.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from normexp import SoftmaxClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> model = SoftmaxClassifier()
        >>> for rows in (slice(0, 60), slice(60, 120), slice(120, 178)):  # sorted by class: batches lack classes
        ...     model = model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        >>> float(model.score(X, y)) > 0.98
        True
        """
        self._running, fitted, dtype = take_batch(self, X, y, classes, sample_weight)
        return self._take(fitted, dtype)

    def __getstate__(self) -> dict[str, Any]:
        """What is saved: a stream without its rows."""
        state: dict[str, Any] = super().__getstate__()
        if isinstance(running := state.get("_running"), Running):
            state = {**state, "_running": summed_up(running)}
        return state


def take_batch(
    model: Any, X: Any, y: ArrayLike, classes: ArrayLike | None, sample_weight: ArrayLike | None
) -> tuple[Running, Fitted, Any]:
    """Check a batch and take it in; return what is known afterwards, the fit, and the dtype of the rows."""
    check_parameters(model, of="SoftmaxClassifier.partial_fit")
    running: Running | None = model._running  # noqa: SLF001  (the estimator's own, looked after here)
    if running is None and hasattr(model, "coef_"):
        warnings.warn(
            "SoftmaxClassifier.partial_fit: the fit before kept no summary of its rows, so the batches start anew; "
            "take its rows in by partial_fit, or fit all rows together.",
            NormexpWarning,
            stacklevel=3,
        )
    rows, labels = read_labelled(model, X, y, of="SoftmaxClassifier.partial_fit", reset=running is None)
    known = _classes(model, classes, running)
    strange = np.flatnonzero(~np.isin(labels, known))
    if strange.size:
        raise RangeError(
            f"SoftmaxClassifier.partial_fit: y[{strange[0]}] is {labels[strange[0]].item()!r}, which is not among the "
            f"classes of the first call, {known.tolist()[:8]!r}; name all labels that may ever come there."
        )
    weight = check_row_weights(sample_weight, rows.shape[0], of="SoftmaxClassifier.partial_fit")
    target = np.searchsorted(known, labels).astype(np.intp)
    of_class = class_factors(model.class_weight, known, None, of="SoftmaxClassifier.partial_fit")
    if of_class is not None:
        weight = weight * of_class[target]
    penalty = penalty_of(model, rows.shape[1], of="SoftmaxClassifier.partial_fit")
    if (cell := large_cell(rows)) is not None:
        raise LargeCellError(cell, "SoftmaxClassifier.partial_fit").named(getattr(model, "feature_names_in_", None))
    going_on = running is not None
    if running is None:
        running = first_of_a_stream(rows, weight, n_classes=len(known), fit_intercept=bool(model.fit_intercept))
        if penalty.has_corners and running.information.ndim == 1:
            raise RangeError(
                f"SoftmaxClassifier.partial_fit: penalty is {model.penalty!r} and there are {len(running.linear)} "
                "coefficients; with corners 3000 are kept track of at most: use penalty='l2', or fit."
            )
    running = absorb(running, rows, target, weight, penalty, tol=float(model.tol))
    earlier = getattr(model, "class_count_", None) if going_on else np.zeros(len(known))
    if earlier is None:  # of a model file from before it was there
        earlier = np.ones(len(known))
    model.class_count_ = earlier + np.bincount(target, weight, minlength=len(known))
    model.classes_ = known
    solution = Solution(
        outcome=Outcome.RUNNING if model.class_count_.all() else Outcome.AWAITING,
        objective=running.value,
        suboptimality=np.inf,
        n_iter=running.n_steps,
        n_passes=running.n_steps,
        seconds={},
    )
    return running, Fitted(*running.on_the_table(), solution), rows.dtype


def _classes(model: Any, classes: ArrayLike | None, running: Running | None) -> NDArray[Any]:
    """Return all classes of the stream, sorted."""
    if classes is None:
        if running is None and not hasattr(model, "classes_"):
            raise RangeError(
                "SoftmaxClassifier.partial_fit: classes must be passed on the first call to partial_fit, because a "
                "batch may lack some; pass all labels that may ever come."
            )
        return np.asarray(model.classes_)
    given = np.unique(np.asarray(classes))
    if len(given) < 2:
        raise RangeError(
            f"SoftmaxClassifier.partial_fit: classes holds one class only, {given.tolist()!r}; at least 2 are needed."
        )
    if running is not None and not np.array_equal(given, model.classes_):
        raise RangeError(
            f"SoftmaxClassifier.partial_fit: classes={given.tolist()!r} is not the same as on the first call, "
            f"{model.classes_.tolist()!r}; leave it out, or call fit or clone to start anew."
        )
    return given
