"""Rows of a Dask collection: a pass travels to where the blocks live, its sums come back, the rows never do.

Every pass is a graph: one task for each chunk of rows, which adds its blocks in their order, and a tree of tasks that
add neighbours, so that one result comes back whatever the number of chunks; the order of the additions, and so every
bit, does not depend on which worker did what. Coefficients are part of the graph. A worker that is lost takes nothing
with it but work: Dask computes its chunks again elsewhere.
"""

import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from normexp.base.blas_threads import one_blas_thread
from normexp.base.errors import ClusterError, InputError, MissingExtraError, NormexpError, ShapeError
from normexp.rows.blocks import Block, Parts, ordered_sum
from normexp.rows.dask_cluster import client_of_process, cluster_error, n_workers
from normexp.rows.labels import digest
from normexp.rows.memory import ColumnMap, rows_of_a_block
from normexp.rows.streamed import Cut, LabelledRows

F64 = NDArray[np.float64]

_FAN_IN: Final = 8
_LOOK_EVERY_S: Final = 0.5
_GRAPH_BYTES: Final = 10_000_000  # Dask warns of larger graphs, beside the coefficients: rows were put into it


def is_dask(X: Any) -> bool:
    """Whether X is a Dask collection. Dask is looked up, never imported: whoever holds one has loaded it."""
    return "dask" in sys.modules and hasattr(X, "__dask_graph__")


class DaskTable:
    """What ``from_dask`` returns: a Dask array or dataframe, seen as one table of numbers.

    Attributes
    ----------
    n_rows, n_features : int
    dtype : dtype
        float32 or float64, what blocks hold.
    names : tuple of str or None
        Names of the features of a dataframe.
    """

    def __init__(self, X: Any, target: Any, patience_s: float) -> None:
        self.where, self.patience_s = f"the Dask {type(X).__name__}", patience_s
        self.target, self.names, self.array = target, None, X
        if hasattr(X, "columns"):
            self.names = tuple(str(name) for name in X.columns)
            kinds = [np.dtype(kind) if isinstance(kind, np.dtype) else kind for kind in X.dtypes]
            odd = next(
                (n for n, k in zip(self.names, kinds, strict=True) if getattr(k, "kind", "O") not in "biuf"), None
            )
            if odd is not None:
                raise InputError(f"from_dask: column {odd!r} holds no numbers; encode it, or leave it out.")
            self.array = X.to_dask_array(lengths=None)
        if getattr(self.array, "ndim", 0) != 2:
            raise ShapeError(
                f"from_dask: X has shape {getattr(X, 'shape', None)}; an array (N, D) or a dataframe is needed."
            )
        if len(self.array.chunks[1]) > 1:
            self.array = self.array.rechunk({1: -1})
        self.is_sparse: bool = sparse.issparse(getattr(self.array, "_meta", None))  # what Dask knows of the chunks
        self.chunks = list(self.array.to_delayed().ravel())
        self.lengths = self._lengths(self.array, self.chunks)
        self.n_rows, self.n_features = sum(self.lengths), int(self.array.shape[1])
        self.dtype = np.dtype(np.float32 if self.array.dtype == np.float32 else np.float64)

    def column(self, values: Any, *, of: str) -> list[Any]:
        """A column of one value for each row, cut like the rows: an array in memory, a Dask array or series."""
        import dask.array as da
        from dask import delayed

        if not is_dask(values):
            values = da.from_array(np.asarray(values), chunks=-1)
        if values.ndim != 1:
            raise ShapeError(f"SoftmaxClassifier.fit: {of} has shape {values.shape}; one for each row is needed.")
        parts = list(np.ravel(values.to_delayed()))
        lengths = self._lengths(values, parts)
        if sum(lengths) != self.n_rows:
            raise ShapeError(
                f"SoftmaxClassifier.fit: {of} has {sum(lengths)} rows and X has {self.n_rows}; one for each "
                "row is needed."
            )
        if lengths == self.lengths:
            return parts
        kind = values.dtype if isinstance(values.dtype, np.dtype) else np.dtype(object)
        arrays = [delayed(np.asarray)(part) for part in parts]
        known = [da.from_delayed(part, (n,), kind) for part, n in zip(arrays, lengths, strict=True)]
        return list(da.concatenate(known).rechunk((tuple(self.lengths),)).to_delayed().ravel())

    def _lengths(self, array: Any, parts: Sequence[Any]) -> list[int]:
        """Rows of each chunk; counted where they live when the collection does not know them."""
        from dask import delayed

        if hasattr(array, "chunks") and all(np.isfinite(size) for size in array.chunks[0]):
            return [int(size) for size in array.chunks[0]]
        return [int(n) for n in self.results([delayed(_height)(part) for part in parts], "it counted the rows")]

    def results(self, tasks: Sequence[Any], doing: str, n_bytes: int = 0) -> list[Any]:
        """Compute tasks, whose graph holds n_bytes of coefficients; on a cluster, wait only while it has workers."""
        import dask

        client = client_of_process()
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": _GRAPH_BYTES + 2 * n_bytes}):
            try:
                if client is None:
                    return list(dask.compute(*tasks))
                futures = client.compute(list(tasks))
            except NormexpError:
                raise
            except Exception as error:
                raise cluster_error(error, doing) from error
        return [self._patiently(client, future, doing) for future in futures]

    def _patiently(self, client: Any, future: Any, doing: str) -> Any:
        idle_since: float | None = None
        while True:
            try:
                return future.result(timeout=_LOOK_EVERY_S)
            except TimeoutError:
                pass
            except NormexpError:
                raise
            except Exception as error:
                raise cluster_error(error, doing) from error
            if client.status == "running" and n_workers(client):
                idle_since = None
                continue
            idle_since = time.monotonic() if idle_since is None else idle_since
            if time.monotonic() - idle_since > self.patience_s:
                future.cancel()
                raise ClusterError(
                    f"SoftmaxClassifier.fit: the Dask cluster has had no worker for {self.patience_s:g} s while "
                    f"{doing}; start workers and fit again (with checkpoint= a fit goes on where it was)."
                )


@dataclass(frozen=True)
class _Task:
    """The work on one chunk: its blocks' parts, added in their order."""

    cut: Cut
    first: int
    dtype: Any
    is_sparse: bool

    def __call__(self, fn: Callable[[Block], Parts], X: Any, labels: tuple[NDArray[np.intp], F64]) -> Parts:
        values = rows_of_chunk(X, self.dtype)
        if sparse.issparse(values) != self.is_sparse:
            kinds = ("an array", "a SciPy matrix") if self.is_sparse else ("a SciPy matrix", "an array")
            raise InputError(
                f"SoftmaxClassifier.fit: a chunk of X is {kinds[0]}, and X says that its chunks are {kinds[1]}; "
                "give the kind when X is made: meta=scipy.sparse.csr_matrix((0, 0)) for matrices."
            )
        with one_blas_thread():  # a worker's threads are the cluster's to give
            return ordered_sum(fn, self.cut.blocks(values, *labels, self.first), None)


@dataclass(frozen=True)
class _Encode:
    """Class indices and weights of one chunk."""

    classes: NDArray[Any] = field(repr=False)
    class_weight: F64 | None = field(repr=False)

    def __call__(self, y: Any, weight: Any) -> tuple[NDArray[np.intp], F64]:
        index = np.searchsorted(self.classes, np.asarray(y).astype(self.classes.dtype)).astype(np.intp)
        weights = np.ones(len(index)) if weight is None else np.asarray(weight, dtype=np.float64)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise InputError(
                "SoftmaxClassifier.fit: a sample_weight is negative or not finite; weights must be at least 0."
            )
        return index, weights if self.class_weight is None else weights * self.class_weight[index]


class DaskRows(LabelledRows):
    """Rows of a ``DaskTable`` with their labels; made by ``labelled``."""

    is_local = False

    def __init__(
        self,
        table: DaskTable,
        labels: list[Any],
        class_weight: F64,
        *,
        column_map: ColumnMap | None = None,
        report: Callable[[int], None] | None = None,
    ) -> None:
        self.n_rows, self.n_features, self.dtype = table.n_rows, table.n_features, table.dtype
        self.is_sparse = table.is_sparse
        self.class_weight, self.total_weight = class_weight, float(class_weight.sum())
        self.column_map = ColumnMap() if column_map is None else column_map
        self._table, self._labels, self._report = table, labels, report
        n_scores = 1 if len(class_weight) == 2 else len(class_weight)
        self._cut = Cut(rows_of_a_block(table.n_features, n_scores), self.column_map)

    def blocks(self) -> Any:
        raise AssertionError("blocks of a Dask collection stay where they live")

    def seen_through(self, centre: F64, scale: F64) -> "DaskRows":
        if self.is_sparse and not centre.any() and np.all(scale == 1.0):
            return self
        return self._again(ColumnMap(centre, scale, self.column_map.precision))

    def for_curvature(self) -> "DaskRows":
        if self.dtype != np.float32 or self.is_sparse:
            return self
        return self._again(ColumnMap(self.column_map.centre, self.column_map.scale, np.dtype(np.float32)))

    def sum(self, fn: Callable[[Block], Parts]) -> Parts:
        from dask import delayed

        sent = delayed(fn, traverse=False)
        tasks, first = [], 0
        for X, labels, length in zip(self._table.chunks, self._labels, self._table.lengths, strict=True):
            if length:
                tasks.append(
                    delayed(_Task(self._cut, first, self.dtype, self.is_sparse), traverse=False)(sent, X, labels)
                )
            first += length
        while len(tasks) > 1:
            groups = [tasks[k : k + _FAN_IN] for k in range(0, len(tasks), _FAN_IN)]
            tasks = [delayed(_joined)(group) for group in groups]
        (total,) = self._table.results(tasks, "it went through the rows", len(pickle.dumps(fn)))
        if self._report is not None:
            self._report(self.n_rows)
        return tuple(total)

    @cached_property
    def digest(self) -> str:
        """What tells these labels and weights from others."""
        from dask import delayed

        each = self._table.results([delayed(_digest_of)(labels) for labels in self._labels], "it read the labels")
        return digest(np.array(each))

    def _again(self, column_map: ColumnMap) -> "DaskRows":
        return DaskRows(self._table, self._labels, self.class_weight, column_map=column_map, report=self._report)


def labelled(
    table: DaskTable,
    y: Any,
    sample_weight: Any,
    class_weights: Callable[[NDArray[Any], NDArray[np.intp]], F64 | None],
    report: Callable[[int], None] | None = None,
) -> tuple[NDArray[Any], DaskRows]:
    """Encode the classes where they live.

    Parameters
    ----------
    table : DaskTable
    y : Dask array, series, array or None
        None for the table's own target.
    sample_weight : the same or None
    class_weights : callable
        Takes the classes (K,) and their numbers of rows (K,), returns a weight for each or None; it may refuse them.
    report : callable, optional
        Called with the number of rows after each pass.

    Returns
    -------
    classes : ndarray (K,)
    rows : DaskRows
    """
    import dask
    from dask import delayed

    y = table.target if y is None else y
    if y is None:
        raise InputError("SoftmaxClassifier.fit: y is None; give the classes, as a Dask array or series, or an array.")
    columns = table.column(y, of="y")
    counted = table.results([delayed(_counted)(column) for column in columns], "it read the classes")
    totals: dict[Any, int] = {}
    for labels, counts in counted:
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            totals[label] = totals.get(label, 0) + count
    classes = np.array(sorted(totals))
    of_class = class_weights(classes, np.array([totals[label] for label in classes.tolist()]))
    weights = [None] * len(columns) if sample_weight is None else table.column(sample_weight, of="sample_weight")
    encode = _Encode(classes, of_class)
    encoded = [delayed(encode, traverse=False)(column, weight) for column, weight in zip(columns, weights, strict=True)]
    encoded = list(dask.persist(*encoded))  # they stay on the workers
    sums = table.results([delayed(_weight_of_classes)(part, len(classes)) for part in encoded], "it read the weights")
    class_weight = np.sum(sums, axis=0)
    if not class_weight.any():
        raise InputError("SoftmaxClassifier.fit: every sample_weight is zero; at least one row must count.")
    return classes, DaskRows(table, encoded, class_weight, report=report)


def from_dask(X: Any, /, *, target: Any = None, patience_s: float = 60.0) -> DaskTable:
    """Rows of a Dask array (N, D) or dataframe, for ``SoftmaxClassifier.fit``, which takes the collection itself too.

    Parameters
    ----------
    X : dask.array.Array (N, D) or dask.dataframe.DataFrame
        Numbers; float32 stays float32, all others become float64. Chunks of an array may be SciPy matrices, which stay
        sparse; Dask must know it, from ``meta`` where it cannot see it. What is persisted stays where it is; what is
        not is computed in each pass.
    target : Dask array or series (N,), or array, optional
        The class of each row.
    patience_s : float, default 60
        How long a fit waits, in seconds, for a cluster without workers before it ends with an error.

    Returns
    -------
    DaskTable

    Raises
    ------
    MissingExtraError
        Without Dask: ``pip install 'normexp[dask]'``.
    InputError
        When X is no Dask collection, or a column holds no numbers.

    Notes
    -----
    Passes run on the default client (the last ``distributed.Client`` made), and without one in this process's threads.
    A worker that is lost is replaced by the others; a collection whose data only that worker had cannot be computed
    again, which is told in a sentence.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_wine
    >>> from normexp import SoftmaxClassifier, rows
    >>> X, y = load_wine(return_X_y=True)
    >>> table = rows.from_dask(da.from_array(X, chunks=(60, -1)), target=y)
    >>> round(SoftmaxClassifier().fit(table).solution_.objective, 3)
    11.078
    """
    if find_spec("dask") is None:
        raise MissingExtraError("from_dask", "dask")
    if not is_dask(X):
        raise InputError(f"from_dask: X is a {type(X).__name__}; a Dask array or dataframe would be right.")
    return DaskTable(X, target, patience_s)


def rows_of_chunk(X: Any, dtype: Any) -> Any:
    """A chunk as blocks want it: a C-contiguous array, or a CSR matrix without double entries, (n, D)."""
    if sparse.issparse(X):
        as_rows: Any = X
        matrix: Any = sparse.csr_matrix(as_rows, dtype=dtype)
        matrix.sum_duplicates()
        return matrix
    return np.ascontiguousarray(getattr(X, "values", X), dtype=dtype)


def _height(part: Any) -> int:
    """Rows of a chunk; a matrix has no length."""
    return int(part.shape[0]) if hasattr(part, "shape") else len(part)


def _joined(parts: Sequence[Parts]) -> Parts:
    """Add the parts of neighbours, from the first to the last; what another task may read is left as it is."""
    total = list(parts[0])
    for more in parts[1:]:
        total = [mine + its for mine, its in zip(total, more, strict=True)]
    return tuple(total)


def _counted(column: Any) -> tuple[NDArray[Any], NDArray[np.intp]]:
    values = np.asarray(column)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("SoftmaxClassifier.fit: y holds NaN; give every row a class, or leave it out.")
    return np.unique(values, return_counts=True)


def _weight_of_classes(labels: tuple[NDArray[np.intp], F64], n_classes: int) -> F64:
    return np.bincount(labels[0], weights=labels[1], minlength=n_classes).astype(np.float64)


def _digest_of(labels: tuple[NDArray[np.intp], F64]) -> str:
    return digest(*labels)
