"""Sparse rows in files of their own, one CSR matrix each, read one shard ahead."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from normexp.base.errors import InputError
from normexp.base.witness import Witness
from normexp.rows.stored import StoredRows


@final
class CsrShards(StoredRows):
    """What ``from_csr_shards`` returns."""

    is_sparse = True

    def __init__(self, paths: Sequence[Path], where: str, target: ArrayLike | str | Path | None) -> None:
        super().__init__(where, target)
        self._files = [Witness(path, of="from_csr_shards") for path in paths]
        self._lengths: list[int] = []
        widths, dtypes = [], []
        for file in self._files:
            rows, width, dtype = _shape_of(file)
            self._lengths.append(rows)
            widths.append(width)
            dtypes.append(dtype)
        if len(set(widths)) > 1:
            odd = next(k for k, width in enumerate(widths) if width != widths[0])
            raise InputError(
                f"from_csr_shards: {str(self._files[odd].path)!r} has {widths[odd]} columns and "
                f"{str(self._files[0].path)!r} has {widths[0]}; all shards need the same columns."
            )
        self.n_rows, self.n_features = sum(self._lengths), widths[0]
        self.dtype = np.dtype(np.float32 if all(dtype == np.float32 for dtype in dtypes) else np.float64)

    def chunks(self, rows: int) -> Iterator[Any]:  # noqa: ARG002  (a shard is read whole)
        for file, length in zip(self._files, self._lengths, strict=True):
            file.check()
            matrix = _load(file)
            if matrix.shape != (length, self.n_features):
                raise file.unreadable(EOFError(f"its shape became {matrix.shape}"))
            shard = sparse.csr_matrix(matrix, dtype=self.dtype)
            shard.sum_duplicates()
            yield shard


def _shape_of(file: Witness) -> tuple[int, int, np.dtype[Any]]:
    """Shape and dtype of a shard without its entries."""
    try:
        with np.load(file.path, allow_pickle=False) as stored:
            kind = stored["format"].item()
            kind = kind.decode() if isinstance(kind, bytes) else str(kind)
            if kind != "csr":
                raise InputError(
                    f"from_csr_shards: {str(file.path)!r} holds a {kind!r} matrix; CSR would be right: "
                    "scipy.sparse.save_npz(path, matrix.tocsr())."
                )
            rows, width = (int(size) for size in stored["shape"])
        with zipfile.ZipFile(file.path) as archive, archive.open("data.npy") as data:
            np.lib.format.read_magic(data)
            dtype = np.lib.format.read_array_header_1_0(data)[2]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise file.unreadable(error) from None
    return rows, width, dtype


def _load(file: Witness) -> Any:
    try:
        return sparse.load_npz(file.path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise file.unreadable(error) from None


def from_csr_shards(
    paths: str | Path | Sequence[str | Path], /, *, target: ArrayLike | str | Path | None = None
) -> StoredRows:
    """Sparse rows in .npz files of ``scipy.sparse.save_npz``, one CSR matrix each.

    Parameters
    ----------
    paths : path or sequence of paths
        A folder, whose .npz files are taken in the order of their names, one file, or the files in their order.
    target : array-like (N,) or path, optional
        The class of each row of all shards, or a .npy file with them.

    Returns
    -------
    StoredRows
        For ``SoftmaxClassifier.fit``. A shard is the unit of reading, so three shards must fit into memory.

    Raises
    ------
    InputError
        When a file is no CSR matrix, has other columns than the first, or changes while it is used; it is named.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from normexp import SoftmaxClassifier, rows
    >>> X = sparse.random_array((60, 30), density=0.2, rng=np.random.default_rng(0), format="csr")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k in range(3):
    ...         sparse.save_npz(pathlib.Path(folder) / f"part-{k}.npz", X[20 * k : 20 * k + 20])
    ...     table = rows.from_csr_shards(folder, target=np.arange(60) % 3)
    ...     SoftmaxClassifier().fit(table).predict(table).shape
    (60,)
    """
    found = shard_paths(paths, "*.npz", of="from_csr_shards")
    return CsrShards(found, str(paths) if isinstance(paths, (str, Path)) else f"{len(found)} shards", target)


def shard_paths(paths: str | Path | Sequence[str | Path], *patterns: str, of: str) -> list[Path]:
    """Files of a folder in the order of their names, or the files that were given."""
    if not isinstance(paths, (str, Path)):
        found = [Path(path) for path in paths]
    elif Path(paths).is_dir():
        listed = (path for pattern in patterns for path in Path(paths).glob(pattern))
        found = sorted(path for path in listed if path.is_file() and not path.name.startswith("."))
    else:
        found = [Path(paths)]
    if not found:
        raise InputError(
            f"{of}: {str(paths)!r} holds no file {' or '.join(map(repr, patterns))}; give a folder of such files, or "
            "the files."
        )
    return found
