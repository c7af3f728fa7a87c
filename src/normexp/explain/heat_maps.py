"""Heat maps for models of images: what each class looks for, and what its rows look like."""

from collections.abc import Sequence
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import ArrayLike

from normexp.base.errors import ShapeError
from normexp.explain.canvas import INK, QUIET, new_axes, signed_colours
from normexp.explain.head import Head
from normexp.explain.rows import F64

_MOST_PANELS: Final = 30
_MOST_ABREAST: Final = 6


@final
class HeatMapDisplay:
    """One image for each class: its coefficients, or the mean of its rows.

    Parameters
    ----------
    images : array-like (K, H, W)
        One for each class.
    classes : sequence, length K
        Their labels.
    signed : bool, default True
        Whether 0 is the middle of the colours (coefficients) or their end (means of intensities).

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure
        After `plot`.
    """

    def __init__(self, images: ArrayLike, classes: Sequence[Any], *, signed: bool = True) -> None:
        self.images = np.asarray(images, dtype=np.float64)
        self.classes, self.signed = list(classes), signed
        if self.images.ndim != 3 or len(self.images) != len(self.classes):
            raise ShapeError(
                f"HeatMapDisplay: images have shape {self.images.shape}; ({len(self.classes)}, height, width), one for "
                "each class, would be right."
            )

    @classmethod
    def from_estimator(cls, model: Any, /, *, shape: tuple[int, int]) -> Self:
        """Draw the coefficients of each class, centred over the classes, on the columns that go into the model.

        Parameters
        ----------
        model : classifier
            As for `normexp.explain.contributions`.
        shape : tuple of int
            Height and width, whose product is the number of columns.

        Returns
        -------
        HeatMapDisplay
            Drawn.
        """
        head = Head.read(model, of="HeatMapDisplay")
        coef = head.column_coef - head.column_coef.mean(axis=0)
        return cls(_as_images(coef, shape), head.classes.tolist()).plot()

    @classmethod
    def from_rows(cls, X: ArrayLike, y: ArrayLike, /, *, shape: tuple[int, int]) -> Self:
        """Draw the mean of the rows of each class.

        Parameters
        ----------
        X : array-like (N, D)
            Images as rows.
        y : array-like (N,)
            Their classes.
        shape : tuple of int
            Height and width, whose product is D.

        Returns
        -------
        HeatMapDisplay
            Drawn.
        """
        rows, labels = np.asarray(X, dtype=np.float64), np.asarray(y)
        if rows.ndim != 2 or labels.shape != rows.shape[:1] or not len(rows):
            raise ShapeError(
                f"HeatMapDisplay: X has shape {rows.shape} and y {labels.shape}; (N, D) and (N,) would be right."
            )
        classes = np.unique(labels)
        means = np.array([rows[labels == label].mean(axis=0) for label in classes])
        return cls(_as_images(means, shape), classes.tolist(), signed=bool((means < 0).any())).plot()

    def plot(self) -> Self:
        """Draw all images on one scale of colours.

        Returns
        -------
        HeatMapDisplay
            Itself, with ``axes_`` and ``figure_``.
        """
        shown = self.images[:_MOST_PANELS]
        rows = -(-len(shown) // _MOST_ABREAST)
        columns = -(-len(shown) // rows)
        self.axes_ = new_axes(rows, columns, inches=(1.5 * columns + 0.9, 1.65 * rows + 0.3))
        self.figure_ = self.axes_[0, 0].figure
        most = float(np.abs(shown).max(initial=0.0)) or 1.0
        scale: dict[str, Any] = {"vmin": -most, "vmax": most, "cmap": signed_colours()}
        if not self.signed:
            scale = {"vmin": 0.0, "vmax": most, "cmap": "Greys"}
        for axes in self.axes_.flat:
            axes.set_axis_off()
        for axes, image, label in zip(self.axes_.flat, shown, self.classes, strict=False):
            drawn = axes.imshow(image, interpolation="nearest", **scale)
            axes.set_title(str(label).replace("$", r"\$"), fontsize=10, color=INK)
        bar = self.figure_.colorbar(drawn, ax=self.axes_, shrink=0.7, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=INK, labelsize=8)
        bar.set_label("speaks for the class" if self.signed else "mean", color=INK, fontsize=9)
        if len(self.images) > len(shown):
            self.figure_.suptitle(f"the first {len(shown)} of {len(self.images)} classes", fontsize=10, color=QUIET)
        return self


def _as_images(rows: F64, shape: tuple[int, int]) -> F64:
    """Rows (K, D) as images (K, H, W)."""
    if len(shape) != 2 or int(np.prod(shape)) != rows.shape[1]:
        raise ShapeError(
            f"HeatMapDisplay: shape is {shape!r} and there are {rows.shape[1]} columns; height and width whose product "
            "that is would be right."
        )
    return rows.reshape(len(rows), *shape)
