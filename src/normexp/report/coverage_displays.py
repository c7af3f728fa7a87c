"""Risk against coverage, and the coverage of sets class by class, with scikit-learn's contract of displays."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.metrics import RiskCoverageCurve, risk_coverage_curve, wilson
from normexp.metrics.door import read_count, read_level, read_target
from normexp.report.drawing import ACCENT, BAND, QUIET, WARM, axes_for, judged_by, names_for, quieten

LEVEL = 0.95


class RiskCoverageDisplay:
    """Share of errors among the answered rows, against the share of rows that are answered.

    Make one with `from_estimator` or `from_logits`, which draw too.

    Parameters
    ----------
    curve : RiskCoverageCurve
        One point for each threshold.
    name : str
        What is judged.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        What was drawn on.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import RiskCoverageDisplay
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(2000, 3))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> shown = RiskCoverageDisplay.from_logits(y, logits, target_risk=0.1)
    >>> bool(shown.curve.risk[200] < 0.5 * shown.curve.risk[-1])
    True
    """

    def __init__(self, curve: RiskCoverageCurve, *, name: str = "") -> None:
        self.curve = curve
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """Judge a fitted classifier on rows that it was not fitted on, and draw.

        Parameters
        ----------
        estimator : classifier
            Fitted, with `classes_` and `predict_proba`.
        X : array-like, shape (N, D)
            Rows.
        y : array-like, shape (N,)
            Their classes.
        sample_weight : array-like, shape (N,), optional
            Weight of each row; 1 by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        name : str, optional
            What is judged; the estimator's class by default.
        **options : object
            Passed on to `plot`.

        Returns
        -------
        RiskCoverageDisplay
            The display, drawn.

        Raises
        ------
        InputError, RangeError, MissingExtraError
            If the estimator gives no probabilities, a class is unknown to it, or matplotlib is not installed.
        """
        judged = judged_by(estimator, X, y, of="RiskCoverageDisplay.from_estimator")
        curve = risk_coverage_curve(
            judged.target, judged.prediction, from_logits=judged.from_logits, sample_weight=sample_weight
        )
        return cls(curve, name=judged.name if name is None else name).plot(ax=ax, **options)

    @classmethod
    def from_logits(
        cls,
        y: ArrayLike,
        logits: ArrayLike,
        *,
        from_logits: bool = True,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Judge logits, or with ``from_logits=False`` probabilities, and draw.

        Parameters
        ----------
        y : array-like of int, shape (N,)
            Class indices.
        logits : array-like, shape (N, K)
            Logits, or probabilities.
        from_logits : bool, default True
            Whether `logits` holds logits.
        sample_weight : array-like, shape (N,), optional
            Weight of each row; 1 by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        name : str, default ""
            What is judged.
        **options : object
            Passed on to `plot`.

        Returns
        -------
        RiskCoverageDisplay
            The display, drawn.

        Raises
        ------
        ShapeError, RangeError, DtypeError, MissingExtraError
            If the arguments do not fit together or hold NaN, or matplotlib is not installed.
        """
        curve = risk_coverage_curve(y, logits, from_logits=from_logits, sample_weight=sample_weight)
        return cls(curve, name=name).plot(ax=ax, **options)

    def plot(self, *, ax: Any = None, name: str | None = None, target_risk: float | None = None, **line: Any) -> Self:
        """Draw the curve between that of a perfect ranking and that of none.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        name : str, optional
            Another name than that of the display.
        target_risk : float, optional
            Mark the largest coverage at which the observed risk is at most this.
        **line : object
            Passed on to the line, such as ``color``.

        Returns
        -------
        RiskCoverageDisplay
            The same object.

        Raises
        ------
        RangeError, MissingExtraError
            If `target_risk` lies outside (0, 1), or matplotlib is not installed.
        """
        of = "RiskCoverageDisplay.plot"
        target_risk = None if target_risk is None else read_level(target_risk, of=of, name="target_risk")
        self.ax_ = axes = axes_for(ax, of=of, size=(5.0, 3.4))
        shown = self.name if name is None else name
        coverage, risk = 100.0 * self.curve.coverage, 100.0 * self.curve.risk
        style = {"color": ACCENT, "linewidth": 1.3, **line}
        if not axes.lines:
            error = self.curve.risk[-1]
            grid = np.linspace(1e-3, 1.0, 400)
            axes.plot(100 * grid, 100 * np.maximum(0.0, 1.0 - (1.0 - error) / grid), color=QUIET, linewidth=0.8)
            axes.axhline(100.0 * error, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.text(1, 100.0 * error, "no ranking", color=QUIET, fontsize=8, va="bottom")
            axes.text(99, 0.0, "perfect ranking", color=QUIET, fontsize=8, ha="right", va="bottom")
        axes.plot(coverage, risk, label=shown or None, **style)
        if target_risk is not None:
            self._mark(target_risk, style["color"])
        axes.set(xlim=(0, 100), xlabel="% of the rows answered, the surest first", ylabel="% wrong among them")
        axes.set_ylim(bottom=0.0)
        if shown:
            axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.94), frameon=False, fontsize=8)
        quieten(axes)
        self.figure_ = axes.figure
        return self

    def _mark(self, target_risk: float, color: Any) -> None:
        """Mark the point at which the risk is still within the target."""
        within = np.flatnonzero(self.curve.risk <= target_risk)
        if not within.size:
            return
        place = int(within[-1])
        coverage, risk = 100.0 * self.curve.coverage[place], 100.0 * self.curve.risk[place]
        self.ax_.plot([coverage], [risk], marker="o", color=color, clip_on=False)
        self.ax_.annotate(
            f"{coverage:.0f} % answered\nabove {self.curve.threshold[place]:.2f}",
            (coverage, risk),
            xytext=(8, -4) if coverage < 50.0 else (-6, 8),
            textcoords="offset points",
            fontsize=8,
            ha="left" if coverage < 50.0 else "right",
            va="top" if coverage < 50.0 else "bottom",
        )


class SetCoverageDisplay:
    """How often prediction sets hold the truth, class by class, the class held least first.

    Make one with `from_sets`, which draws too.

    Parameters
    ----------
    coverage : ndarray of float64, shape (K,)
        Share of each class's rows whose set holds it; NaN for a class without rows.
    n_rows : ndarray of int, shape (K,)
        Rows of each class.
    overall : float
        Share over all rows.
    mean_size : float
        Classes in a set on average.
    classes : tuple of str, length K
        Names.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        What was drawn on.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import SetCoverageDisplay
    >>> shown = SetCoverageDisplay.from_sets([0, 0, 1], [[True, False], [False, True], [True, True]])
    >>> shown.coverage, round(shown.overall, 3)
    (array([0.5, 1. ]), 0.667)
    """

    def __init__(
        self,
        coverage: NDArray[np.float64],
        *,
        n_rows: NDArray[np.intp],
        overall: float,
        mean_size: float,
        classes: tuple[str, ...],
    ) -> None:
        self.coverage = coverage
        self.n_rows = n_rows
        self.overall = overall
        self.mean_size = mean_size
        self.classes = classes

    @classmethod
    def from_sets(cls, y: ArrayLike, sets: ArrayLike, *, classes: Any = None, ax: Any = None, **options: Any) -> Self:
        """Judge sets, and draw.

        Parameters
        ----------
        y : array-like of int, shape (N,)
            Class indices.
        sets : array-like of bool, shape (N, K)
            Whether each class is in the set of each row, as `ConformalClassifier.predict_set` gives it.
        classes : sequence of str, optional
            Names of the classes; their numbers by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        **options : object
            Passed on to `plot`.

        Returns
        -------
        SetCoverageDisplay
            The display, drawn.

        Raises
        ------
        ShapeError, RangeError, DtypeError, MissingExtraError
            If the arguments do not fit together, or matplotlib is not installed.
        """
        of = "SetCoverageDisplay.from_sets"
        inside = plain_array(sets, of=of, name="sets")
        if inside.dtype != np.bool_:
            raise DtypeError(f"{of}: sets have dtype {inside.dtype}; booleans would be right.")
        if inside.ndim != 2 or not inside.size:
            raise ShapeError(f"{of}: sets have shape {inside.shape}; (N, K) with at least one row would be right.")
        n_classes = inside.shape[1]
        target = read_target(y, of=of, n_rows=inside.shape[0], n_classes=n_classes)
        held = inside[np.arange(target.size), target]
        count = np.bincount(target, minlength=n_classes)
        hit = np.bincount(target, held, minlength=n_classes)
        share = np.divide(hit, count, out=np.full(n_classes, np.nan), where=count > 0)
        return cls(
            share,
            n_rows=count,
            overall=float(held.mean()),
            mean_size=float(inside.sum(axis=1).mean()),
            classes=names_for(classes, n_classes, of=of),
        ).plot(ax=ax, **options)

    def plot(self, *, ax: Any = None, wanted: float | None = None, max_classes: int = 30) -> Self:
        """Draw the classes held least.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        wanted : float, optional
            The coverage that was promised, drawn as a line.
        max_classes : int, default 30
            How many classes are shown.

        Returns
        -------
        SetCoverageDisplay
            The same object.

        Raises
        ------
        RangeError, MissingExtraError
            If `max_classes` is below 1, or matplotlib is not installed.
        """
        of = "SetCoverageDisplay.plot"
        max_classes = read_count(max_classes, of=of, name="max_classes")
        there = np.flatnonzero(self.n_rows > 0)
        order = there[np.argsort(self.coverage[there], kind="stable")][:max_classes]
        self.ax_ = axes = axes_for(ax, of=of, size=(5.0, 1.2 + 0.2 * max(order.size, 3)))
        low, high = wilson(self.coverage[order] * self.n_rows[order], self.n_rows[order], level=LEVEL)
        place = np.arange(order.size)
        axes.hlines(place, 100 * low, 100 * high, color=BAND, linewidth=5.0)
        axes.plot(100 * self.coverage[order], place, color=ACCENT, marker="o", markersize=4.0, linestyle="none")
        axes.axvline(100 * self.overall, color=QUIET, linewidth=0.8)
        if wanted is not None:
            axes.axvline(100 * wanted, color=WARM, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_yticks(place, [f"{self.classes[k]} ({self.n_rows[k]})" for k in order])
        axes.set_ylim(order.size - 0.5, -0.5)
        left_out = len(self.classes) - order.size
        which = f"the {order.size} held least of {len(self.classes)} classes" if left_out else f"{order.size} classes"
        axes.set_title(f"{which}; {self.mean_size:.2f} classes a set", fontsize=9, loc="left")
        axes.set_xlabel("% of the class's rows whose set holds it")
        quieten(axes)
        self.figure_ = axes.figure
        return self
