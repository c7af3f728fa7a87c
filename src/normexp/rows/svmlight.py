"""Sparse rows in svmlight (libsvm) text files, parsed block by block with each pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.datasets import load_svmlight_file

from normexp.base.errors import DtypeError, InputError, RangeError
from normexp.base.witness import Witness
from normexp.rows.csr_shards import shard_paths
from normexp.rows.labels import Labels, encode
from normexp.rows.stored import StoredRows

_OF: Final = "from_svmlight"
_BLOCK_BYTES: Final = 1 << 22  # of text: 4 MB, some 400 000 entries; three blocks are held at most


@dataclass(frozen=True)
class _Span:
    """Whole lines of a file."""

    file: Witness
    offset: int
    length: int
    first_row: int
    rows: int


class _Seen(NamedTuple):
    """What a block of lines holds."""

    matrix: Any
    target: NDArray[np.float64]


@final
class SvmlightRows(StoredRows):
    """What ``from_svmlight`` returns."""

    is_sparse = True

    def __init__(
        self, paths: Sequence[Path], where: str, n_features: int | None, zero_based: bool | None, dtype: Any
    ) -> None:
        super().__init__(where, None)
        self.dtype = np.dtype(dtype)
        self._spans: list[_Span] = []
        targets: list[NDArray[np.float64]] = []
        smallest, largest, row = np.iinfo(np.int64).max, -1, 0
        for path in paths:
            file = Witness(path, of=_OF)
            first = 0
            for offset, text in _lines(file):
                seen = _parsed(file, text, first, None, self.dtype)
                if len(seen.target):
                    self._spans.append(_Span(file, offset, len(text), first, len(seen.target)))
                    targets.append(seen.target)
                if seen.matrix.nnz:
                    smallest = min(smallest, int(seen.matrix.indices.min()))
                    largest = max(largest, int(seen.matrix.indices.max()))
                first += len(seen.target)
            row += first
        if not row:
            raise InputError(f"{_OF}: {where!r} has no rows; lines such as '3 1:0.5 7:2' are expected.")
        self._first = int(smallest > 0) if zero_based is None else int(not zero_based)
        if self._first > smallest:
            raise InputError(
                f"{_OF}: {where!r} has a feature with the number 0, and zero_based is False; leave it out, or say True."
            )
        found = largest + 1 - self._first
        if n_features is not None and found > n_features:
            raise RangeError(
                f"{_OF}: n_features is {n_features}, and {where!r} has a feature with the number {largest}, the "
                f"{found}th; give {found} or more."
            )
        self.n_rows, self.n_features = row, max(1, found if n_features is None else int(n_features))
        target = np.concatenate(targets)
        whole = bool(np.all(np.isfinite(target) & (np.abs(target) < 2.0**53) & (target == np.rint(target))))
        self.__dict__["labels"] = encode(target.astype(np.int64) if whole else target, row, of=where)

    labels: Labels

    def chunks(self, rows: int) -> Iterator[Any]:  # noqa: ARG002  (a block of lines is parsed whole)
        for span in self._spans:
            span.file.check()
            try:
                with span.file.path.open("rb") as stream:
                    stream.seek(span.offset)
                    text = stream.read(span.length)
            except OSError as error:
                raise span.file.unreadable(error) from None
            width = self.n_features + self._first
            matrix = _parsed(span.file, text, span.first_row, width, self.dtype).matrix
            if matrix.shape[0] != span.rows:
                raise span.file.unreadable(EOFError(f"{span.rows} rows became {matrix.shape[0]}"))
            matrix = matrix[:, self._first :]
            matrix.sum_duplicates()
            yield matrix


def from_svmlight(
    paths: str | Path | Sequence[str | Path],
    /,
    *,
    n_features: int | None = None,
    zero_based: bool | None = None,
    dtype: Any = np.float64,
) -> StoredRows:
    """Sparse rows and their classes in svmlight (libsvm) files, one row a line: ``3 1:0.5 7:2``.

    Parameters
    ----------
    paths : path or sequence of paths
        One file; a folder, whose .svm, .svmlight and .libsvm files are taken in the order of their names; or the files
        in their order.
    n_features : int, optional
        Number of features, which the lines do not tell. By default the largest number of all files; for rows that a
        fitted model shall predict, its ``n_features_in_``.
    zero_based : bool, optional
        Whether features count from 0. By default they do where any file has a feature 0, else from 1.
    dtype : {float64, float32}, default float64
        Of the values.

    Returns
    -------
    StoredRows
        For ``SoftmaxClassifier.fit``; its classes are int64 where all are whole numbers, else float64.

    Raises
    ------
    InputError
        When a line is not of the format, or a file cannot be read or changes while it is used; it is named.
    RangeError
        When a feature's number is beyond ``n_features``.
    DtypeError
        For another dtype.

    Notes
    -----
    The files are read once when they are opened, for the number of rows and features and the classes; then with each
    pass, in blocks of 4 MB of whole lines through scikit-learn's reader. Text is parsed at some tens of MB a second: a
    fit that reads its rows a hundred times is faster from ``from_csr_shards``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn.datasets import dump_svmlight_file, load_wine
    >>> from normexp import SoftmaxClassifier, rows
    >>> X, y = load_wine(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump_svmlight_file(X[:100], y[:100], f"{folder}/part-0.svm")
    ...     dump_svmlight_file(X[100:], y[100:], f"{folder}/part-1.svm")
    ...     wine = rows.from_svmlight(folder)
    ...     round(SoftmaxClassifier().fit(wine).solution_.objective, 3), wine.shape
    (11.078, (178, 13))
    """
    if np.dtype(dtype) not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise DtypeError(f"{_OF}: dtype is {dtype!r}; float64 and float32 are possible.")
    found = shard_paths(paths, "*.svm", "*.svmlight", "*.libsvm", of=_OF)
    where = str(paths) if isinstance(paths, (str, Path)) else f"{len(found)} shards"
    return SvmlightRows(found, where, n_features, zero_based, dtype)


def _lines(file: Witness) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, with where they begin.

    scikit-learn's own ``offset`` and ``length`` look for the end after lines with a row only: comments at the end of a
    block would make it read on into the next.
    """
    try:
        with file.path.open("rb") as stream:
            offset = 0
            while text := stream.read(_BLOCK_BYTES):
                text += stream.readline()
                yield offset, text
                offset += len(text)
    except OSError as error:
        raise file.unreadable(error) from None


def _parsed(file: Witness, text: bytes, first_row: int, width: int | None, dtype: Any) -> _Seen:
    """The rows of some lines; the sentence about a bad one names it."""
    try:
        matrix, target = load_svmlight_file(BytesIO(text), n_features=width, zero_based=True, dtype=dtype)
    except (ValueError, OverflowError) as error:
        if width is None:
            raise _about_a_line(file, text, first_row) from None
        raise file.unreadable(error) from None
    found: Any = sparse.csr_matrix(matrix)
    return _Seen(found, np.asarray(target, dtype=np.float64))


def _about_a_line(file: Witness, text: bytes, first_row: int) -> InputError:
    """Say which line is not of the format."""
    row = first_row
    for line in text.splitlines():
        if not line.split(b"#")[0].strip():
            continue
        try:
            load_svmlight_file(BytesIO(line + b"\n"), zero_based=True)
        except (ValueError, OverflowError):
            break
        row += 1
    return InputError(
        f"{_OF}: {str(file.path)!r} has a line that is not of the format, row {row}: "
        f"{line[:60].decode('utf-8', 'replace')!r}; lines such as '3 1:0.5 7:2', with rising feature numbers, are "
        "expected."
    )
