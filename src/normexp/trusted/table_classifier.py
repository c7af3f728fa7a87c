"""A file of rows in, a fitted softmax classifier, and predictions for other files: the whole path as one estimator."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from normexp.base.errors import InputError, NormexpWarning
from normexp.linear_model import SoftmaxClassifier
from normexp.report.labelled import Labelled, TrustEvidence
from normexp.rows import Labels
from normexp.tables import Predictions, Progress, Schema, Source, TableEncoder
from normexp.tables.doubts import doubts
from normexp.tables.encoding import Matrix
from normexp.trusted.defaults import default_estimator
from normexp.trusted.judging import class_index, examples, judge, trust_of
from normexp.trusted.options import read_cost
from normexp.trusted.outside_memory import OutsideMemory, Telling, standing
from normexp.trusted.reporting import gather, joined
from normexp.trusted.top_reasons import TopReasons
from normexp.trusted.training import columns_in_words, count_classes, fit_telling, training_facts
from normexp.trusted.trusted_classifier import TrustedClassifier

_LOGITS_AT_ONCE: Final = 1 << 22  # 32 MiB of float64
_ROWS_AT_ONCE: Final = 8192


@final
class TableClassifier(ClassifierMixin, BaseEstimator):
    r"""A softmax classifier that reads files: tables, running text, arrays, sparse rows.

    Parameters
    ----------
    target : str or None
        The column with the classes; None: the one that the source of the fit names.
    text : str, tuple of str, or None
        Columns that are running text; None: those of the source.
    features : str, tuple of str, or None
        Names and patterns of the columns to read; None: those of the source.
    estimator : estimator or None
        A linear classifier with ``decision_function``; None: `SoftmaxClassifier` with a penalty that fits the kind of
        rows.
    trusted : TrustedClassifier or None
        Its options make the model a trusted one: it is put around the estimator. None: the bare estimator.
    min_class_rows : int
        A class with fewer training rows is refused: from a single row nothing can be held out to see whether the
        model knows the class. 1 allows it.
    seed : int
        Seed of every random choice.

    Attributes
    ----------
    classes_ : ndarray of str or int64, shape (K,)
        The classes as they stood in the file.
    prior_ : ndarray of float64, shape (K,)
        Their frequencies among the training rows.
    columns_ : tuple of str
        What is read: names of columns, or the shape of the array in words.
    schema_ : Schema
        Kinds of the columns.
    encoder_ : TableEncoder
        From rows to features.
    estimator_ : estimator
        The fitted model: a `TrustedClassifier`, or the bare one.
    training_ : TrainingFacts
        How the fit went.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from normexp.tables import open_source
    >>> path = Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("mass,kind\n" + "170,apple\n80,lemon\n180,apple\n90,lemon\n" * 5)
    >>> model = TableClassifier().fit(open_source(path, target="kind"))
    >>> [str(label) for label in next(model.predict_batches(open_source(path))).label[:2]]
    ['apple', 'lemon']
    """

    trusted: TrustedClassifier | None = None  # of those in model files from before it was there

    def __init__(
        self,
        *,
        target: str | None = None,
        text: str | tuple[str, ...] | None = None,
        features: str | tuple[str, ...] | None = None,
        estimator: Any = None,
        trusted: TrustedClassifier | None = None,
        min_class_rows: int = 2,
        seed: int = 0,
    ) -> None:
        self.target = target
        self.text = text
        self.features = features
        self.estimator = estimator
        self.trusted = trusted
        self.min_class_rows = min_class_rows
        self.seed = seed

    def fit(
        self,
        source: Source,
        *,
        progress: Progress | None = None,
        max_memory: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        on_phase: Callable[[str], None] | None = None,
        on_outside: Callable[[str], None] | None = None,
        on_classes: Callable[[NDArray[Any]], None] | None = None,
        on_doubt: Callable[[str], None] | None = None,
    ) -> Self:
        """Learn from every row of a source.

        Parameters
        ----------
        source : Source
            What `open_source` returned; it must name its target.
        progress : callable or None
            Called as ``progress(rows_read, total)``.
        max_memory : int or None
            Bytes that the rows, and what is made of them, may take beside the program itself; None: half of what is
            free. Rows that would take more are encoded block by block into a scratch folder, and read from there.
        checkpoint : path or None
            A file for the state of the fit, from which the same call goes on after a kill. With it, rows are always
            read from a scratch folder. Fits of folds have files beside it.
        on_phase : callable or None
            Called with some words for what is done now.
        on_outside : callable or None
            Called with a sentence where the rows stay outside memory.
        on_classes : callable or None
            Called with the classes (K,) before the fit, which it may refuse by an error.
        on_doubt : callable or None
            Called with a sentence for each column that is hardly what it seems; looked for in memory only.

        Returns
        -------
        TableClassifier
            Itself.

        Raises
        ------
        InputError
            If the rows cannot be learned from; the sentence says why.

        Notes
        -----
        Outside memory, the classes, the means and spreads of numbers, the values of columns with few of them and the
        features of running text are those of all rows. Components of columns with many words are learned from 50 000
        rows. The penalty is chosen on rows that are drawn as in memory, and the fit ends with the same certificate.
        """
        began = time.monotonic()
        if self.target is not None and source.target is None:
            source = source.with_target(self.target)
        schema = source.infer()
        told = Telling(progress, on_phase, on_outside)
        outside = OutsideMemory.of(source, schema, max_memory, told, always=checkpoint is not None)
        with standing(checkpoint), contextlib.ExitStack() as stack:
            rows: Any
            params: dict[str, Any] = {}
            if outside is None:
                encoder, rows, classes, index = self._in_memory(source, schema, progress, on_doubt)
            else:
                self._refuse_what_needs_memory(source)
                learned = outside.learn(self.seed)
                encoder, classes, index = learned.encoder, learned.classes, learned.index
            counts = count_classes(source, classes, index, at_least=self.min_class_rows)
            if on_classes is not None:
                on_classes(classes)
            if outside is not None:
                names = np.arange(len(classes)) if self.trusted is None else classes
                rows = stack.enter_context(outside.encoded(learned)).labelled(Labels(names, index))
                params = {"progress": told.fitting, "checkpoint": checkpoint}
            told.phase("fitting")
            if self.estimator is None:
                estimator: Any = default_estimator(rows, index, schema, seed=self.seed)
            else:
                estimator = clone(self.estimator)
            if self.trusted is not None:
                estimator = clone(self.trusted).set_params(estimator=estimator)
            labels = None if outside is not None else index if self.trusted is None else classes[index]
            estimator, caught = fit_telling(source, estimator, rows, labels, **params)
        self.schema_ = schema
        self.target_ = source.target
        self.features_ = source.features
        self.classes_ = classes
        self.prior_ = counts / counts.sum()
        self.encoder_ = encoder
        self.estimator_ = estimator
        self.columns_ = columns_in_words(schema)
        self.training_ = training_facts(
            source, schema, estimator, caught, counts, width=int(rows.shape[1]), began=began, seed=self.seed
        )
        return self

    def _in_memory(
        self, source: Source, schema: Schema, progress: Progress | None, on_doubt: Callable[[str], None] | None
    ) -> tuple[TableEncoder, Matrix, NDArray[Any], NDArray[np.intp]]:
        """All rows at once: the encoding, the encoded rows, the classes and each row's index."""
        block = source.read(schema, with_target=True, progress=progress)
        if block.target is None:
            raise InputError(f"{source.path}: the classes are needed to fit. Name the target column.")
        if on_doubt is not None:
            for doubt in doubts(block.features, schema):
                on_doubt(doubt)
        classes, index = np.unique(block.target, return_inverse=True)
        encoder = TableEncoder(schema, seed=self.seed)
        return encoder, encoder.fit_transform(block.features), classes, index.astype(np.intp)

    def _refuse_what_needs_memory(self, source: Source) -> None:
        """Say which estimators cannot read rows in blocks."""
        estimator = self.estimator
        if estimator is not None and not isinstance(estimator, SoftmaxClassifier):
            raise InputError(
                f"{source.path}: the rows stay outside memory, and {type(estimator).__name__} needs them in memory. "
                "SoftmaxClassifier reads them in blocks; take it, or allow more memory with max_memory."
            )

    def check(self, source: Source, *, ignore_extra: bool = False) -> None:
        """Refuse a file that does not fit the model, before any work is done.

        Parameters
        ----------
        source : Source
            The file.
        ignore_extra : bool
            Whether columns that the model does not know are passed over.

        Raises
        ------
        InputError
            If a column is missing, extra or of another type; the sentence names it.
        """
        known = () if self.target_ is None else (self.target_,)
        source.check(self.schema_, known=known, features=self.features_, ignore_extra=ignore_extra)

    def decide_by_costs(self, costs: Mapping[str, Mapping[str, float]], /) -> None:
        """Let decisions follow other costs from now on.

        Parameters
        ----------
        costs : mapping of str to mapping of str to float
            ``costs[true][decided]``, with a column "unknown" where refusing has a price.

        Raises
        ------
        InputError
            If the model is a bare one, which takes no decisions beside its labels.
        NormexpError
            If the costs do not fit the classes.
        """
        if not isinstance(self.estimator_, TrustedClassifier):
            raise InputError(
                "the model was fitted with --plain, and decides for the most probable class only; fit it without "
                "--plain to decide by costs."
            )
        self.estimator_.set_params(cost_matrix={true: dict(row) for true, row in costs.items()})
        read_cost(self.estimator_, len(self.classes_), of="costs")

    def decision_function(self, rows: Matrix, /) -> NDArray[np.float64]:
        """Logits of encoded rows; two classes have the logits 0 and d.

        Parameters
        ----------
        rows : ndarray or csr_matrix, shape (N, D)
            Rows that `encoder_` encoded.

        Returns
        -------
        ndarray of float64, shape (N, K)
            The logits.
        """
        if isinstance(self.estimator_, TrustedClassifier):
            return np.asarray(self.estimator_.logits(rows), dtype=np.float64)
        logits = np.asarray(self.estimator_.decision_function(rows), dtype=np.float64)
        return np.column_stack([np.zeros_like(logits), logits]) if logits.ndim == 1 else logits

    def predict_batches(
        self,
        source: Source,
        *,
        top_k: int | None = None,
        batch_rows: int | None = None,
        ignore_extra: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Predictions]:
        """Predict the rows of a file, some at a time: memory does not grow with their number.

        Parameters
        ----------
        source : Source
            The file; a target column in it is not read.
        top_k : int or None
            How many classes to rank for each row; more than K means K.
        batch_rows : int or None
            Rows at a time; None: as many as keep the logits within 32 MiB.
        ignore_extra : bool
            Whether columns that the model does not know are passed over.
        progress : callable or None
            Called as ``progress(rows_done, total)``.

        Yields
        ------
        Predictions
            For some rows, in the order of the file.

        Raises
        ------
        InputError
            If the file does not fit the model.
        """
        self.check(source, ignore_extra=ignore_extra)
        n_classes = len(self.classes_)
        if top_k is not None and top_k > n_classes:
            warnings.warn(
                f"predict: {top_k} classes are to be ranked, and the model knows {n_classes}; all of these are ranked.",
                NormexpWarning,
                stacklevel=2,
            )
        trusted = isinstance(self.estimator_, TrustedClassifier)
        reasons = TopReasons.of(self) if trusted else None
        size = batch_rows or int(np.clip(_LOGITS_AT_ONCE // n_classes, 64, _ROWS_AT_ONCE))
        done = 0
        for block in source.batches(self.schema_, with_target=False, batch_rows=size):
            rows = self.encoder_.transform(block.features)
            logits = self.decision_function(rows)
            told = judge(logits, self.classes_, top_k=top_k)
            if trusted:
                reason = None if reasons is None else reasons.tell(block, rows, logits)
                told = replace(told, trust=trust_of(self.estimator_, rows, logits, self.classes_, reason))
            yield told
            done += block.n_rows
            if progress is not None:
                progress(done, source.n_rows)

    def labelled(self, source: Source, *, ignore_extra: bool = False, progress: Progress | None = None) -> Labelled:
        """Logits of rows whose classes stand in the file, for evaluation.

        Parameters
        ----------
        source : Source
            The file; its target column, or the one of the fit, holds the classes.
        ignore_extra : bool
            Whether columns that the model does not know are passed over.
        progress : callable or None
            Called as ``progress(rows_done, total)``.

        Returns
        -------
        Labelled
            Logits, classes, prior and a short text for each row.

        Raises
        ------
        InputError
            If the file does not fit the model, or a class was not seen at the fit.
        """
        self.check(source, ignore_extra=ignore_extra)
        if source.target is None:
            source = source.with_target(self.target_)
        logits: list[NDArray[np.float64]] = []
        target: list[NDArray[np.intp]] = []
        shown: list[str] = []
        trust: list[TrustEvidence] = []
        size = int(np.clip(_LOGITS_AT_ONCE // len(self.classes_), 64, _ROWS_AT_ONCE))
        done = 0
        for block in source.batches(self.schema_, with_target=True, batch_rows=size):
            target.append(class_index(source, block, self.classes_))
            rows = self.encoder_.transform(block.features)
            logits.append(self.decision_function(rows))
            if isinstance(self.estimator_, TrustedClassifier):
                trust.append(gather(self.estimator_, rows, logits[-1]))
            shown.extend(examples(block, self.schema_))
            done += block.n_rows
            if progress is not None:
                progress(done, source.n_rows)
        return Labelled(
            logits=np.concatenate(logits),
            target=np.concatenate(target),
            classes=tuple(str(label) for label in self.classes_),
            prior=self.prior_,
            examples=tuple(shown),
            trust=joined(trust) if trust else None,
        )
