"""Reliability as a picture, with scikit-learn's contract of displays, readable for two classes and for a thousand."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import RangeError
from normexp.explain.canvas import readable_labels, short
from normexp.metrics import ReliabilityCurve, reliability_curve
from normexp.metrics.door import Rows, read_count, read_rows
from normexp.metrics.ece import width_bins
from normexp.metrics.sums import weighted_counts
from normexp.report.drawing import ACCENT, QUIET, axes_for, judged_by, names_for, quieten

FEWEST_ROWS = 5  # of a cell of the picture of classes, below which its colour would be noise


class ReliabilityDisplay:
    """Observed frequency against stated probability.

    Make one with `from_estimator` or `from_logits`, which draw too.

    Parameters
    ----------
    curve : ReliabilityCurve
        Of the decided class (top-label calibration).
    class_gap : ndarray of float64, shape (K, B)
        Frequency less mean stated probability of each class, in bins of its probability; NaN where a bin holds fewer
        than five rows.
    class_error : ndarray of float64, shape (K,)
        Calibration error of each class: the mean absolute gap, weighted by rows.
    classes : tuple of str, length K
        Names of the classes.
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
    >>> from normexp.report import ReliabilityDisplay
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(2000, 3))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> shown = ReliabilityDisplay.from_logits(y, 2.0 * logits)  # twice too sure
    >>> bool((shown.curve.accuracy < shown.curve.confidence)[-5:].all())
    True
    """

    def __init__(
        self,
        curve: ReliabilityCurve,
        *,
        class_gap: NDArray[np.float64],
        class_error: NDArray[np.float64],
        classes: tuple[str, ...],
        name: str = "",
    ) -> None:
        self.curve = curve
        self.class_gap = class_gap
        self.class_error = class_error
        self.classes = classes
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        n_bins: int = 10,
        kind: Literal["top", "classes"] = "top",
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
        n_bins : int, default 10
            Bins of equal width.
        kind : {"top", "classes"}, default "top"
            See `plot`.
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
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        InputError, RangeError, MissingExtraError
            If the estimator gives no probabilities, a class is unknown to it, or matplotlib is not installed.
        """
        of = "ReliabilityDisplay.from_estimator"
        judged = judged_by(estimator, X, y, of=of)
        rows = read_rows(
            judged.target, judged.prediction, of=of, from_logits=judged.from_logits, sample_weight=sample_weight
        )
        shown = judged.name if name is None else name
        curve, gap, error = _described(rows, read_count(n_bins, of=of, name="n_bins"))
        display = cls(curve, class_gap=gap, class_error=error, classes=judged.classes, name=shown)
        return display.plot(kind=kind, ax=ax, **options)

    @classmethod
    def from_logits(
        cls,
        y: ArrayLike,
        logits: ArrayLike,
        *,
        from_logits: bool = True,
        classes: Any = None,
        n_bins: int = 10,
        kind: Literal["top", "classes"] = "top",
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
        classes : sequence of str, optional
            Names of the classes; their numbers by default.
        n_bins : int, default 10
            Bins of equal width.
        kind : {"top", "classes"}, default "top"
            See `plot`.
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
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ShapeError, RangeError, DtypeError, MissingExtraError
            If the arguments do not fit together or hold NaN, or matplotlib is not installed.
        """
        of = "ReliabilityDisplay.from_logits"
        rows = read_rows(y, logits, of=of, from_logits=from_logits, sample_weight=sample_weight)
        names = names_for(classes, rows.n_classes, of=of)
        curve, gap, error = _described(rows, read_count(n_bins, of=of, name="n_bins"))
        display = cls(curve, class_gap=gap, class_error=error, classes=names, name=name)
        return display.plot(kind=kind, ax=ax, **options)

    def plot(
        self,
        *,
        kind: Literal["top", "classes"] = "top",
        ax: Any = None,
        name: str | None = None,
        max_classes: int = 25,
        **line: Any,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        kind : {"top", "classes"}, default "top"
            "top": one curve for the decided class, with its band and, along the bottom, how many rows each bin holds.
            "classes": the gap of each class by its stated probability, as colours, the worst classes first.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        name : str, optional
            Another name than that of the display.
        max_classes : int, default 25
            With "classes": how many are shown.
        **line : object
            Passed on to the line of "top", such as ``color``.

        Returns
        -------
        ReliabilityDisplay
            The same object.

        Raises
        ------
        RangeError, MissingExtraError
            For another `kind`, or if matplotlib is not installed.
        """
        of = "ReliabilityDisplay.plot"
        if kind not in ("top", "classes"):
            raise RangeError(f"{of}: kind is {kind!r}; 'top' or 'classes' would be right.")
        max_classes = read_count(max_classes, of=of, name="max_classes")
        shown = self.name if name is None else name
        if kind == "top":
            self.ax_ = axes_for(ax, of=of, size=(4.4, 4.2))
            self._draw_top(shown, line)
        else:
            order = np.argsort(-self.class_error, kind="stable")[:max_classes]
            self.ax_ = axes_for(ax, of=of, size=(5.6, 1.3 + 0.2 * max(order.size, 8)))
            self._draw_classes(order, shown)
        self.figure_ = self.ax_.figure
        return self

    def _draw_top(self, name: str, line: dict[str, Any]) -> None:
        """Draw the curve of the decided class."""
        axes, curve = self.ax_, self.curve
        style = {"color": ACCENT, "linewidth": 0.9, "marker": "o", "markersize": 4.0, **line}
        if not axes.lines:  # several displays may share the axes
            axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.text(0.03, 0.95, "too timid", color=QUIET, fontsize=8)
            axes.text(0.97, 0.22, "too sure", color=QUIET, fontsize=8, ha="right")
        axes.vlines(curve.confidence, curve.low, curve.high, color=style["color"], alpha=0.3, linewidth=4.0)
        axes.plot(curve.confidence, curve.accuracy, label=name or None, clip_on=False, **style)
        share = curve.n_rows / curve.n_rows.sum()
        axes.vlines(curve.confidence, 0.0, 0.18 * share, color=style["color"], linewidth=3.0)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="stated confidence", ylabel="how often it was right")
        axes.set_aspect("equal")
        if name:
            axes.legend(loc="upper left", bbox_to_anchor=(0, 0.93), frameon=False, fontsize=8)
        quieten(axes)

    def _draw_classes(self, order: NDArray[np.intp], name: str) -> None:
        """Draw the worst classes as rows of colours."""
        axes, gap = self.ax_, self.class_gap[order]
        reach = max(0.1, float(np.nanmax(np.abs(gap))) if np.isfinite(gap).any() else 0.1)
        n_bins = gap.shape[1]
        image = axes.imshow(
            np.ma.masked_invalid(gap),
            cmap="RdBu",
            vmin=-reach,
            vmax=reach,
            aspect="auto",
            extent=(0.0, 1.0, order.size - 0.5, -0.5),
            interpolation="nearest",
        )
        axes.set_facecolor("#f4f1e9")
        labels = [f"{short(self.classes[k], 22)}  {self.class_error[k]:.3f}" for k in order]
        axes.set_xticks(np.linspace(0.0, 1.0, min(n_bins, 5) + 1))
        axes.set_xlabel("stated probability of the class")
        left_out = len(self.classes) - order.size
        which = f"the {order.size} worst of {len(self.classes)} classes" if left_out else f"{order.size} classes"
        axes.set_title(f"{name}: {which}" if name else which, fontsize=9, loc="left")
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.set_label("frequency less probability\n(red: too sure, blue: too timid)", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        quieten(axes)
        readable_labels(axes, labels, np.arange(order.size), size=8.0, rooms=order.size)


def _described(rows: Rows, n_bins: int) -> tuple[ReliabilityCurve, NDArray[np.float64], NDArray[np.float64]]:
    """The curve, the gaps of the classes and their errors."""
    curve = reliability_curve(
        rows.target, rows.prediction, n_bins=n_bins, from_logits=rows.from_logits, sample_weight=rows.weight
    )
    count, mass, stated, seen = (np.zeros((rows.n_classes, n_bins)) for _ in range(4))
    for block, prob in rows.probability_blocks():
        hit, weight = rows.target[block], rows.weight[block]
        counts = (weight > 0).astype(np.float64)
        for k in range(rows.n_classes):
            cell = width_bins(prob[:, k], n_bins)
            count[k] += weighted_counts(cell, counts, n_bins)
            mass[k] += weighted_counts(cell, weight, n_bins)
            stated[k] += weighted_counts(cell, weight * prob[:, k], n_bins)
            seen[k] += weighted_counts(cell, weight * (hit == k), n_bins)
    gap = np.divide(seen - stated, mass, out=np.full(count.shape, np.nan), where=count >= FEWEST_ROWS)
    error = np.abs(seen - stated).sum(axis=1) / rows.weight.sum()
    return curve, gap, error
