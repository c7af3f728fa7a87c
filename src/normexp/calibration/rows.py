"""The door of the calibrators, and what comes out of it: logits, true classes and weights of the rows.

Rows are picked by index and handed out a block at a time, so that cross-validation copies no logits and a million
of classes needs no second array of their size.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, NormexpWarning, RangeError, ShapeError
from normexp.base.plain_arrays import KINDS, plain_array
from normexp.metrics.door import BLOCK_ELEMENTS, NAMED_ROWS, name_rows, read_target, read_weight
from normexp.ops import cross_entropy

Floats = NDArray[np.float64]
LARGEST_LOGIT = 1e100  # squares of it, summed over rows, are finite; no network means such numbers


@dataclass(frozen=True)
class CalibrationRows:
    """Checked rows: `logits` (M, K) as they came, of which `index` (N,) picks those that `target` and `weight` name.

    Parameters
    ----------
    logits : ndarray, shape (M, K)
        Floating, no NaN, no +inf, no row of -inf only.
    index : ndarray of int, shape (N,)
        Rows of `logits` in use.
    target : ndarray of int, shape (N,)
        True class of each row in use.
    weight : ndarray of float64, shape (N,)
        Not negative, not all 0.
    temperatures : dict of float to (float, int)
        What ``fit_temperature`` found for a strength: four methods begin with it.
    near : dict of float to float
        Temperatures of the rows that these are part of: the search begins there.
    near_shares : dict of float to ndarray, shape (3,)
        Shares that ``EnsembleTemperatureScaling`` found for a strength, of rows like these.
    losses : list of ndarray, shape (N,)
        Log loss of each row as it came, once it is known.
    columns : list of ndarray, each (K, n)
        The logits of all rows in use, class by class, where somebody holds them.
    """

    logits: NDArray[Any]
    index: NDArray[np.intp]
    target: NDArray[np.intp]
    weight: Floats
    temperatures: dict[float, tuple[float, int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    near: dict[float, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    near_shares: dict[float, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)
    losses: list[Floats] = field(default_factory=list, init=False, repr=False, compare=False)
    columns: list[Floats] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def n_rows(self) -> int:
        """How many rows are in use."""
        return int(self.index.size)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return int(self.logits.shape[1])

    def take(self, chosen: NDArray[np.intp]) -> Self:
        """Some of the rows, without a copy of their logits."""
        part = type(self)(self.logits, self.index[chosen], self.target[chosen], self.weight[chosen])
        part.near.update(self.near)
        part.near_shares.update(self.near_shares)
        part.losses.extend(one[chosen] for one in self.losses)
        part.near.update({strength: found for strength, (found, _) in self.temperatures.items()})
        return part

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Logits of a block of rows at a time as float64, with the slice of rows they belong to."""
        step = max(1, BLOCK_ELEMENTS // self.n_classes)
        for start in range(0, self.n_rows, step):
            block = slice(start, min(start + step, self.n_rows))
            yield block, self.logits[self.index[block]].astype(np.float64, copy=False)

    def column_blocks(self) -> Iterator[tuple[slice, Floats]]:
        """The same class by class, (K, n); to be read only."""
        start = 0
        for z in self.columns:
            yield slice(start, start + z.shape[1]), z
            start += z.shape[1]
        if not self.columns:
            for block, rows in self.blocks():
                yield block, np.ascontiguousarray(rows.T)

    def dense(self) -> Floats:
        """Logits of all rows in use, (N, K), as a new array."""
        return np.array(self.logits[self.index], dtype=np.float64)

    def nll(self) -> Floats:
        """Log loss of each row as it came, (N,)."""
        if not self.losses:
            out = np.empty(self.n_rows)
            for block, z in self.blocks():
                out[block] = cross_entropy(z, self.target[block], reduction="none")
            self.losses.append(out)
        return self.losses[0]


def read_logits(logits: ArrayLike, *, of: str, n_classes: int | None = None) -> NDArray[Any]:
    """Logits as a floating array (N, K) in which every row can be made probabilities; N may be 0."""
    z = plain_array(logits, of=of, name="logits")
    if z.dtype.kind not in KINDS:
        raise DtypeError(f"{of}: logits have dtype {z.dtype}; numbers would be right.")
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float32 if z.dtype == np.float16 else np.float64)
    if z.ndim != 2 or z.shape[1] == 0:
        raise ShapeError(
            f"{of}: logits have shape {z.shape}; one row for each sample and one column for each class, (N, K), "
            "would be right. For the log-odds s of two classes pass the columns 0 and s."
        )
    if n_classes is not None and z.shape[1] != n_classes:
        raise ShapeError(f"{of}: logits have {z.shape[1]} columns, but it was fitted on {n_classes} classes.")
    if z.shape[0]:
        top = z.max(axis=1)
        if np.isnan(top).any():
            raise RangeError(f"{of}: logits hold NaN in {name_rows(np.isnan(top))}; drop or mend these rows.")
        if np.isinf(top).any():
            raise RangeError(
                f"{of}: {name_rows(np.isinf(top))} of logits hold +inf, or nothing but -inf; finite logits "
                "(-inf for a class that cannot be) would be right."
            )
    return z


def refuse_huge(z: NDArray[Any], /, *, of: str) -> None:
    """Refuse logits (N, K) so large that sums of their squares overflow; -inf is none of them."""
    if z.dtype != np.float64 or not z.size:
        return  # the largest float32 is 3e38
    if float(z.max()) <= LARGEST_LOGIT and float(z.min()) >= -LARGEST_LOGIT:
        return
    huge = (np.isfinite(z) & (np.abs(z) > LARGEST_LOGIT)).any(axis=1)
    if huge.any():
        raise RangeError(
            f"{of}: logits in {name_rows(huge)} are beyond 1e100 in size, which no probabilities are meant by; divide "
            "all of them by one number so that they lie within some hundred of 0, and mend what made them."
        )


def read_calibration_rows(
    logits: ArrayLike, y: ArrayLike, *, of: str, sample_weight: ArrayLike | None = None
) -> CalibrationRows:
    """Check what a calibrator is fitted on; warn where it can teach little."""
    z = read_logits(logits, of=of)
    if z.shape[0] == 0:
        raise ShapeError(f"{of}: logits have no rows; rows with known classes are needed, some hundred if possible.")
    refuse_huge(z, of=of)
    target = read_target(y, of=of, n_rows=z.shape[0], n_classes=z.shape[1])
    weight = read_weight(sample_weight, of=of, n_rows=z.shape[0])
    index = np.flatnonzero(weight).astype(np.intp)
    rows = CalibrationRows(z, index, target[index], weight[index])
    _look_at_classes(rows, of)
    return rows


def shared_rows(logits: ArrayLike, other: ArrayLike, /) -> int:
    """How many rows of `other` stand bit for bit in `logits` too: a leak, when the one judges the other.

    Parameters
    ----------
    logits : array-like, shape (N, K)
        The rows that something was fitted on (logits or features).
    other : array-like, shape (M, K)
        The rows that it is judged on, of the same dtype.

    Returns
    -------
    int
        Number of rows of `other` that are also in `logits`.

    Raises
    ------
    ShapeError
        If the two have not the same number of columns.

    Examples
    --------
    >>> shared_rows([[1.0, 2.0], [3.0, 4.0]], [[3.0, 4.0], [5.0, 6.0], [3.0, 4.0]])
    2
    """
    first = plain_array(logits, of="shared_rows", name="logits")
    second = plain_array(other, of="shared_rows", name="other")
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ShapeError(
            f"shared_rows: the arrays have shapes {first.shape} and {second.shape}; two matrices with the same "
            "number of columns would be right."
        )
    known = {row.tobytes() for row in np.ascontiguousarray(first)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(second, dtype=first.dtype))


def _look_at_classes(rows: CalibrationRows, of: str) -> None:
    """Refuse one class alone; say when classes are missing."""
    count = np.bincount(rows.target, minlength=rows.n_classes)
    there = int(np.count_nonzero(count))
    if rows.n_classes > 1 and there == 1:
        raise RangeError(
            f"{of}: every one of the {rows.n_rows} rows is of class {int(rows.target[0])}; rows of at least two "
            "classes are needed, since one class alone says nothing about the chances of the others."
        )
    missing = np.flatnonzero(count == 0)
    if missing.size:
        named = ", ".join(str(k) for k in missing[:NAMED_ROWS]) + (", ..." if missing.size > NAMED_ROWS else "")
        warnings.warn(
            f"{of}: {missing.size} of the {rows.n_classes} classes ({named}) have no row among the {rows.n_rows} "
            "given; what is learned about them is borrowed from the others. More rows would mend that.",
            NormexpWarning,
            stacklevel=4,
        )
