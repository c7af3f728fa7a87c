"""The words that speak for and against each class of a model of texts."""

from collections.abc import Sequence
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, ShapeError
from normexp.explain.canvas import lying_bars, new_axes, title
from normexp.explain.head import Head
from normexp.explain.log_odds import names_of
from normexp.explain.rows import F64
from normexp.explain.texts import words

_MOST_PANELS: Final = 30
_MOST_ABREAST: Final = 3


@final
class WordsDisplay:
    """The words that speak for and against each class.

    Parameters
    ----------
    words : sequence of str, length V
        The words.
    weights : array-like (K, V)
        What each does to the score of each class, centred over the classes.
    classes : sequence, length K
        Their labels.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure
        After `plot`.
    """

    def __init__(self, words: Sequence[str], weights: ArrayLike, classes: Sequence[Any]) -> None:
        self.words, self.classes = list(words), list(classes)
        self.weights = np.asarray(weights, dtype=np.float64)
        if self.weights.shape != (len(self.classes), len(self.words)):
            raise ShapeError(
                f"WordsDisplay: weights have shape {self.weights.shape}; ({len(self.classes)}, {len(self.words)}), one "
                "for each class and word, would be right."
            )

    @classmethod
    def from_estimator(cls, model: Any, X: Any = None, /, *, top: int = 6) -> Self:
        """Draw the words of a model of texts.

        Parameters
        ----------
        model : Pipeline or TableClassifier
            A vectoriser with ``get_feature_names_out`` and a linear classifier, or a table model with running text.
        X : Block or polars.DataFrame, or None
            For a table model, whose features are hashed: rows whose words are shown, by their mean contribution where
            they stand.
        top : int, default 6
            Words for and against each class.

        Returns
        -------
        WordsDisplay
            Drawn.
        """
        head = Head.read(model, of="WordsDisplay")
        if head.groups is not None and head.groups.encoder is not None:
            if X is None:
                raise DtypeError("WordsDisplay: a table model knows its words by hashes; rows with words are needed.")
            vocabulary, weights = _mean_words(model, X, head.classes)
            return cls(vocabulary, weights, head.classes.tolist()).plot(top=top)
        names = names_of(head)
        if names is None or head.groups is not None:
            raise DtypeError(
                f"WordsDisplay: this {type(model).__name__} has no words; a pipeline of a vectoriser and a linear "
                "classifier, or a table model with running text, would be right."
            )
        coef = head.column_coef - head.column_coef.mean(axis=0)
        return cls(names.tolist(), coef, head.classes.tolist()).plot(top=top)

    def plot(self, *, top: int = 6) -> Self:
        """Draw one panel for each class.

        Parameters
        ----------
        top : int, default 6
            Words for and against each class.

        Returns
        -------
        WordsDisplay
            Itself, with ``axes_`` and ``figure_``.
        """
        shown = self.classes[:_MOST_PANELS]
        columns = min(len(shown), _MOST_ABREAST)
        rows = -(-len(shown) // columns)
        self.axes_ = new_axes(rows, columns, inches=(3.4 * columns, (2 * top * 0.24 + 0.7) * rows))
        self.figure_ = self.axes_[0, 0].figure
        for axes in self.axes_.flat[len(shown) :]:
            axes.set_axis_off()
        for axes, label, weight in zip(self.axes_.flat, shown, self.weights, strict=False):
            order = np.argsort(-weight, kind="stable")
            best = [at for at in order[:top] if weight[at] > 0]
            worst = [at for at in order[max(len(order) - top, len(best)) :] if weight[at] < 0]
            lying_bars(axes, [self.words[at] for at in (*best, *worst)], weight[[*best, *worst]], room=0.36)
            title(axes, str(label))
        return self


def _mean_words(model: Any, X: Any, classes: NDArray[Any]) -> tuple[list[str], F64]:
    """Words of some rows and their mean contribution to each class, against all classes together."""
    base = classes[0].item()
    found: dict[str, list[F64]] = {}
    told = [words(model, X, of=label, against=base) for label in classes[1:].tolist()]
    for row in zip(*told, strict=True):
        for reasons_of_word in zip(*row, strict=True):
            word = reasons_of_word[0].word
            if word:
                scores = np.array([0.0, *(reason.contribution for reason in reasons_of_word)])
                found.setdefault(word, []).append(scores - scores.mean())
    return list(found), np.array([np.mean(one, axis=0) for one in found.values()]).T.reshape(len(classes), -1)
