"""Bars of what each column of a row, or each word of its text, did to the log-odds of its class."""

from collections.abc import Sequence
from typing import IO, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike

from normexp.base.errors import ShapeError
from normexp.explain.account import Account, shown
from normexp.explain.canvas import BAR_INCHES, INK, lying_bars, matplotlib, one_axes, title
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


def draw_account(told: Account, stream: IO[bytes], /, *, file_format: str, top: int) -> None:
    """Draw the account of a row: its columns, and its words where there are any.

    Parameters
    ----------
    told : Account
        The account.
    stream : binary file
        Where the picture goes.
    file_format : {"png", "svg", "pdf"}
        Its format.
    top : int
        How many columns and words have a bar of their own.
    """
    package = matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow to load)

    with package.rc_context({"font.size": 10, "font.family": "DejaVu Sans", "svg.hashsalt": "normexp"}):
        bars = min(len(told.contributions), top) + 2
        spoken = told.words[:top]
        sizes = [bars + 3, *([len(spoken) + 3] if spoken else [])]
        figure = Figure(figsize=(8.0, BAR_INCHES * sum(sizes) + 0.4), layout="constrained", facecolor="white")
        panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
        names = [f"{one.column} = {shown(one.value)[:28]}" for one in told.contributions]
        values = [one.contribution for one in told.contributions]
        ContributionsDisplay(
            names, values, baseline=told.baseline, of=told.label, against=told.rival
        ).plot(top=top, ax=panels[0])  # fmt: skip
        if spoken:
            lying_bars(
                panels[1], [one.word or "(beginning)" for one in spoken], np.array([w.contribution for w in spoken])
            )
            title(panels[1], f"the words, for and against {told.label}")
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(stream, format=file_format, dpi=150, metadata=metadata)
