"""Bars of what each column of a row did to the log-odds of its class."""

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike

from normexp.base.errors import ShapeError
from normexp.explain.canvas import BAR_INCHES, INK, lying_bars, one_axes, title
from normexp.explain.log_odds import reasons
from normexp.explain.rows import as_dense


@final
class ContributionsDisplay:
    """Bars of what each column of a row did to the log-odds of its class against its rival.

    Parameters
    ----------
    names : sequence of str, length D
        The columns.
    contributions : array-like (D,)
        In nats.
    baseline : float
        Log-odds at the baseline.
    of, against : object
        The classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure
        After `plot`.

    Examples
    --------
    >>> import normexp as nx
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = nx.SoftmaxClassifier().fit(X, y)
    >>> from matplotlib.figure import Figure
    >>> drawn = nx.explain.ContributionsDisplay.from_estimator(model, X[100:101], ax=Figure().subplots())
    >>> [text.get_text() for text in drawn.ax_.get_yticklabels()][:2]
    ['petal length (cm)', 'petal width (cm)']
    """

    def __init__(
        self, names: Sequence[str], contributions: ArrayLike, *, baseline: float, of: Any, against: Any
    ) -> None:
        self.names = [str(name) for name in names]
        self.contributions = np.asarray(contributions, dtype=np.float64)
        self.baseline, self.of, self.against = float(baseline), of, against

    @classmethod
    def from_estimator(
        cls, model: Any, X: Any, /, *, of: Any = None, against: Any = None, top: int = 12, ax: Any = None
    ) -> Self:
        """Explain the first row of X and draw it.

        Parameters
        ----------
        model, X, of, against
            As for `normexp.explain.reasons`.
        top : int, default 12
            How many columns have a bar of their own.
        ax : matplotlib Axes or None
            Where to draw.

        Returns
        -------
        ContributionsDisplay
            Drawn.
        """
        why = reasons(model, X, of=of, against=against)
        if not len(why.gap):
            raise ShapeError("ContributionsDisplay: X has no rows; one row would be right.")
        terms = as_dense(why.contributions)[0]
        names = [f"column {at}" for at in range(len(terms))] if why.names is None else why.names.tolist()
        one = cls(names, terms, baseline=why.baseline_gap[0], of=why.of[0], against=why.against[0])
        return one.plot(top=top, ax=ax)

    def plot(self, *, top: int = 12, ax: Any = None) -> Self:
        """Draw the largest contributions, the rest of them as one bar, and the baseline.

        Parameters
        ----------
        top : int, default 12
            How many columns have a bar of their own.
        ax : matplotlib Axes or None
            Where to draw; None: a new figure.

        Returns
        -------
        ContributionsDisplay
            Itself, with ``ax_`` and ``figure_``.
        """
        order = np.argsort(-np.abs(self.contributions), kind="stable")
        first, rest = order[:top], order[top:]
        labels = [self.names[at] for at in first]
        values = self.contributions[first].tolist()
        if np.any(self.contributions[rest]):
            labels.append(f"{len(rest)} more")
            values.append(float(self.contributions[rest].sum()))
        labels.append("where every row starts")
        values.append(self.baseline)
        self.ax_ = one_axes(ax, inches=(7.0, BAR_INCHES * len(values) + 1.2))
        self.figure_ = self.ax_.figure
        lying_bars(self.ax_, labels, np.asarray(values))
        self.ax_.set_xlabel(f"log-odds of {self.of} against {self.against}, in nats", color=INK)
        title(self.ax_, f"{self.of}, not {self.against}: {sum(values):+.2f} in all")
        return self
