"""Rows of a .npy file, read by position: neither loaded nor mapped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike

from normexp.base.errors import InputError
from normexp.base.witness import Witness
from normexp.rows.stored import StoredRows


@final
class NpyRows(StoredRows):
    """What ``from_npy`` returns."""

    def __init__(self, path: str | Path, target: ArrayLike | str | Path | None) -> None:
        super().__init__(path, target)
        self._file = Witness(Path(path), of="from_npy")
        try:
            with self._file.path.open("rb") as file:
                version = npy_format.read_magic(file)
                read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
                shape, is_fortran, self._stored_dtype = read(file)
                self._offset = file.tell()
        except (OSError, ValueError, EOFError) as error:
            raise self._file.unreadable(error) from None
        if len(shape) != 2 or is_fortran or self._stored_dtype.kind not in "biuf":
            order = "Fortran order" if is_fortran else "C order"
            raise InputError(
                f"from_npy: {self.where!r} holds an array of shape {shape} of {self._stored_dtype} in {order}; a table "
                "(N, D) of numbers in C order would be right. Save it anew: "
                "numpy.save(path, numpy.ascontiguousarray(X))."
            )
        self.n_rows, self.n_features = shape
        self.dtype = np.dtype(np.float32 if self._stored_dtype == np.float32 else np.float64)
        wanted = self._offset + self.n_rows * self.n_features * self._stored_dtype.itemsize
        if self._file.path.stat().st_size < wanted:
            raise InputError(f"from_npy: {self.where!r} ends too early for {shape} numbers; give the whole file.")

    def chunks(self, rows: int) -> Iterator[Any]:
        width = self.n_features
        for first in range(0, self.n_rows, rows):
            count = min(rows, self.n_rows - first)
            self._file.check()
            start = self._offset + first * width * self._stored_dtype.itemsize
            try:
                values = np.fromfile(self._file.path, self._stored_dtype, count * width, offset=start)
            except OSError as error:
                raise self._file.unreadable(error) from None
            if values.size < count * width:
                raise self._file.unreadable(EOFError("it ends too early"))
            yield values.reshape(count, width).astype(self.dtype, copy=False)


def from_npy(path: str | Path, /, *, target: ArrayLike | str | Path | None = None) -> StoredRows:
    """Rows of a table (N, D) in a .npy file, read in chunks with each pass.

    Parameters
    ----------
    path : path
        A file of ``numpy.save`` or ``numpy.lib.format.open_memmap``, in C order.
    target : array-like (N,) or path, optional
        The class of each row, or a .npy file with them.

    Returns
    -------
    StoredRows
        For ``SoftmaxClassifier.fit``; float32 stays float32, all other numbers become float64.

    Raises
    ------
    InputError
        When the file is no table, is cut off, or changes while it is used.

    Notes
    -----
    The file is read, not mapped: the memory of a process stays at three chunks of 8 MB (float32), whatever its size.
    An ``np.load(path, mmap_mode="r")`` array is taken by ``fit`` too, without a copy, and fills memory with its pages.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from normexp import SoftmaxClassifier, rows
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "wine.npy"
    ...     np.save(path, X)
    ...     wine = rows.from_npy(path, target=y)
    ...     model = SoftmaxClassifier().fit(wine)
    ...     round(model.solution_.objective, 3), model.predict_proba(wine).shape
    (11.078, (178, 3))
    """
    return NpyRows(path, target)
