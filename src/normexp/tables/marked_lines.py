"""Files whose lines begin with their class: libsvm (``3 1:0.5 7:2``) and fastText (``__label__x text``)."""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import polars as pl
from sklearn.datasets import load_svmlight_file

from normexp.base.errors import InputError
from normexp.tables.conform import labels
from normexp.tables.csr import Csr
from normexp.tables.frames import FrameSource
from normexp.tables.source import BATCH_ROWS, Block, Layout, Schema, Source
from normexp.tables.streams import check_file, lines

_MARK: Final = "__label__"


class FastTextSource(FrameSource):
    """Lines of ``__label__x some text``: read as a table with the columns text and label."""

    typed = False

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        check_file(path)
        if features is not None:
            raise InputError(f"{path}: a fastText file has no columns to choose from. Leave features out.")
        super().__init__(path, target=target or "label", text=text or ("text",), features=None)

    def column_names(self) -> tuple[str, ...]:
        """Name the two columns."""
        return ("text", "label")

    def frames(self, columns: tuple[str, ...], *, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Rows as text.

        Parameters
        ----------
        columns : tuple of str
            Which columns.
        batch_rows : int
            Largest number of rows at once.

        Yields
        ------
        polars.DataFrame
            Some rows.

        Raises
        ------
        InputError
            If a class is wanted and a line has none, or has two.
        """
        rows = self._rows(with_label="label" in columns)
        while batch := list(islice(rows, batch_rows)):
            frame = pl.DataFrame(batch, schema={"text": pl.String, "label": pl.String}, orient="row")
            yield frame.select(columns)

    def _rows(self, *, with_label: bool) -> Iterator[tuple[str, str]]:
        """Text and class of each line; blank lines are passed over."""
        row = 0
        for line in lines(self.path):
            if not line.strip():
                continue
            rest, label, marks = line.lstrip(), "", 0
            while rest.startswith(_MARK):
                word, _, rest = rest.partition(" ")
                label, marks, rest = word.removeprefix(_MARK), marks + 1, rest.lstrip()
            if with_label and (marks != 1 or not label):
                count = f"{marks} classes" if marks > 1 else "no class"
                raise InputError(
                    f"{self.path}: row {row} (rows count from 0) has {count}: {line[:80]!r}. Each line must be one "
                    f"{_MARK}CLASS and a text; correct the line, or give the file a suffix that says what it is."
                )
            yield rest, label
            row += 1


class LibsvmSource(Source):
    """Lines of ``class index:value index:value …``: sparse features, millions of columns if need be.

    Parameters
    ----------
    path : Path
        The file, plain or gzip.
    target : str or None
        Without meaning: the class begins the line.
    text : tuple of str
        Must be empty.
    features : tuple of str or None
        Must be None.
    """

    layout: Layout = "sparse"

    def __init__(
        self, path: Path, *, target: str | None, text: tuple[str, ...], features: tuple[str, ...] | None
    ) -> None:
        check_file(path)
        if text or features is not None:
            raise InputError(
                f"{path}: a libsvm file has neither text nor columns to choose from. Leave both options out."
            )
        super().__init__(path, target=target or "label", text=(), features=None)

    def infer(self) -> Schema:
        """Find the number of features, and whether they count from 0 or from 1, from all lines.

        Returns
        -------
        Schema
            What every block will look like.

        Raises
        ------
        InputError
            If a line is not of the format, or there is none.
        """
        smallest, largest, found = 1, -1, False
        for start, batch in self._line_batches(BATCH_ROWS):
            rows, _ = self._parse(batch, start, first_index=0, width=None)
            found = True
            if rows.nnz:
                smallest, largest = min(smallest, int(rows.indices.min())), max(largest, int(rows.indices.max()))
        if not found:
            raise InputError(f"{self.path}: the file has no rows. Lines such as '3 1:0.5 7:2' are expected.")
        if largest < smallest:
            raise InputError(f"{self.path}: no row has a feature. Lines such as '3 1:0.5 7:2' are expected.")
        return Schema("sparse", shape=(largest + 1 - smallest,), first_index=smallest)

    def batches(self, schema: Schema, *, with_target: bool, batch_rows: int = BATCH_ROWS) -> Iterator[Block]:
        """Rows as CSR matrices; see `Source.batches`.

        Parameters
        ----------
        schema : Schema
            What the blocks must look like.
        with_target : bool
            Whether the classes are read too.
        batch_rows : int
            Largest number of rows of a block.

        Yields
        ------
        Block
            The rows.

        Raises
        ------
        InputError
            If a line is not of the format, a feature is unknown to the model, NaN or infinite.
        """
        found = False
        for start, batch in self._line_batches(batch_rows):
            rows, target = self._parse(batch, start, first_index=schema.first_index, width=schema.shape[0])
            found = True
            self._refuse_infinite(rows, start, schema.first_index)
            yield Block(rows, labels(self.path, pl.Series("label", target), start) if with_target else None, start)
        if not found:
            raise InputError(f"{self.path}: the file has no rows. Lines such as '3 1:0.5 7:2' are expected.")

    def check(
        self,
        schema: Schema,
        *,
        known: tuple[str, ...] = (),  # noqa: ARG002  (each line is checked as it is read)
        features: tuple[str, ...] | None = None,  # noqa: ARG002
        ignore_extra: bool = False,  # noqa: ARG002
    ) -> None:
        """Refuse a libsvm file for a model of another kind; see `Source.check`.

        Parameters
        ----------
        schema : Schema
            What the model was fitted on.
        known, features, ignore_extra
            Without meaning here.

        Raises
        ------
        InputError
            If the model was not fitted on a libsvm file.
        """
        self.refuse_layout(schema)
        next(self.batches(schema, with_target=False))

    def _line_batches(self, batch_rows: int) -> Iterator[tuple[int, list[str]]]:
        """Lines with the number of their first row; blank lines and comments are passed over."""
        kept = (line for line in lines(self.path) if line.strip() and not line.lstrip().startswith("#"))
        start = 0
        while batch := list(islice(kept, batch_rows)):
            yield start, batch
            start += len(batch)

    def _parse(self, batch: list[str], start: int, *, first_index: int, width: int | None) -> tuple[Csr, Any]:
        """Lines as a CSR matrix, with their classes."""
        limit = None if width is None else width + first_index
        try:
            rows, target = _load(batch, limit)
        except ValueError:
            row, line = self._first_bad(batch, start, limit)
            if limit is not None and _loads([line], None):
                raise InputError(
                    f"{self.path}: row {row} (rows count from 0) has a feature with a number above {limit - 1}, the "
                    f"largest of the fit. Give rows with the features of the fit."
                ) from None
            raise InputError(
                f"{self.path}: row {row} (rows count from 0) is not of the libsvm format: {line[:80]!r}. "
                "Lines such as '3 1:0.5 7:2' with rising feature numbers are expected; correct the line."
            ) from None
        if width is not None and first_index:
            if rows.indices.size and int(rows.indices.min()) < first_index:
                row = start + int(np.searchsorted(rows.indptr, int(np.argmin(rows.indices)), side="right")) - 1
                raise InputError(
                    f"{self.path}: row {row} (rows count from 0) has a feature number 0, and features count from 1 "
                    "in the file of the fit. Add 1 to the feature numbers."
                )
            rows = rows[:, first_index:]
        return rows, target

    def _first_bad(self, batch: list[str], start: int, limit: int | None) -> tuple[int, str]:
        """Find the first line that cannot be read."""
        for offset, line in enumerate(batch):
            if not _loads([line], limit):
                return start + offset, line
        return start, batch[0]

    def _refuse_infinite(self, rows: Csr, start: int, first_index: int) -> None:
        """Refuse NaN and infinite values, with their place."""
        bad = ~np.isfinite(rows.data)
        if bad.any():
            at = int(np.argmax(bad))
            row = start + int(np.searchsorted(rows.indptr, at, side="right")) - 1
            word = "NaN" if np.isnan(rows.data[at]) else "infinite"
            raise InputError(
                f"{self.path}: feature {int(rows.indices[at]) + first_index} is {word} in row {row} (rows count from "
                "0). "
                "Each feature must be a finite number; correct it."
            )


def _load(batch: list[str], limit: int | None) -> tuple[Csr, Any]:
    """Lines through scikit-learn's reader."""
    text = io.BytesIO("\n".join(batch).encode())
    loaded, target = load_svmlight_file(text, n_features=limit, zero_based=True)
    rows = cast(Csr, loaded.tocsr())
    if rows.shape[1] <= np.iinfo(np.int32).max and rows.nnz <= np.iinfo(np.int32).max:
        rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return rows, target


def _loads(batch: list[str], limit: int | None) -> bool:
    """Whether lines can be read."""
    try:
        _load(batch, limit)
    except ValueError:
        return False
    return True
