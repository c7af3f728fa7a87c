"""Which classes a model takes for alike: a tree of the correlations between their coefficients."""

from collections.abc import Sequence
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import dendrogram, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from normexp.base.errors import RangeError
from normexp.explain.canvas import INK, one_axes, quieten, readable_labels, short, title
from normexp.explain.head import Head
from normexp.explain.rows import F64

MOST_INCHES: Final = 120.0  # of height: pictures of more than 2^16 pixels cannot be drawn


@final
class ClassTreeDisplay:
    """Which classes are alike: a tree of the correlations between their coefficients.

    Parameters
    ----------
    links : ndarray (K - 1, 4)
        As `scipy.cluster.hierarchy.linkage` returns them.
    classes : sequence, length K
        Their labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure
        After `plot`.
    order_ : list
        Labels from top to bottom, after `plot`.
    """

    def __init__(self, links: ArrayLike, classes: Sequence[Any]) -> None:
        self.links, self.classes = np.asarray(links, dtype=np.float64), list(classes)

    @classmethod
    def from_estimator(cls, model: Any, /, *, ax: Any = None) -> Self:
        """Draw the tree of a fitted model.

        Parameters
        ----------
        model : classifier
            As for `normexp.explain.contributions`, with three classes or more.
        ax : matplotlib Axes or None
            Where to draw.

        Returns
        -------
        ClassTreeDisplay
            Drawn.
        """
        head = Head.read(model, of="ClassTreeDisplay")
        if len(head.classes) < 3:
            raise RangeError("ClassTreeDisplay: the model has 2 classes; a tree needs 3 or more.")
        return cls(class_links(head.coef), head.classes.tolist()).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the tree, its root on the right.

        Parameters
        ----------
        ax : matplotlib Axes or None
            Where to draw; None: a new figure.

        Returns
        -------
        ClassTreeDisplay
            Itself, with ``ax_``, ``figure_`` and ``order_``.
        """
        self.ax_ = one_axes(ax, inches=(6.0, min(MOST_INCHES, max(2.4, 0.26 * len(self.classes) + 1.0))))
        self.figure_ = self.ax_.figure
        drawn: Any = dendrogram(
            self.links, orientation="right", ax=self.ax_, color_threshold=0.0, above_threshold_color="#4c6a92"
        )
        self.order_ = [self.classes[at] for at in drawn["leaves"]][::-1]
        quieten(self.ax_, keep="bottom")
        names = [short(str(label)) for label in self.order_[::-1]]
        readable_labels(self.ax_, names, np.asarray(self.ax_.get_yticks()), size=10.0, rooms=len(names))
        self.ax_.set_xlabel("1 - correlation of the coefficients", color=INK)
        title(self.ax_, "classes that are alike to the model")
        return self


def class_links(coef: F64, /) -> NDArray[np.float64]:
    """Average linkage of the classes (K - 1, 4), by 1 less the correlation of their centred coefficients (K, D)."""
    centred = coef - coef.mean(axis=0)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    distance = np.maximum(1.0 - unit @ unit.T, 0.0)
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(0.5 * (distance + distance.T), checks=False)
    return np.asarray(optimal_leaf_ordering(linkage(condensed, method="average"), condensed))
