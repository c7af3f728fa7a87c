"""What a stranger hands in for an audit: which kind of numbers they are, and whether they can be judged at all."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.errors import DtypeError, InputError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.calibration.rows import refuse_huge
from normexp.metrics.door import BLOCK_ELEMENTS, SUM_TOLERANCE, name_rows, read_target
from normexp.ops import logsumexp
from normexp.report.evidence import name_classes

Kind = Literal["logits", "log-probabilities", "probabilities"]

FEWEST_ROWS: Final = 20  # below, no interval means anything
# Probabilities that were kept in float16 sum to 1 within a thousandth, logarithms of them within a few.
LOG_SUM_TOLERANCE: Final = 5e-3
LOG_TOLD: Final = (
    "No number is positive and the exponentials of every row sum to 1: taken as logarithms of probabilities, which "
    "serve as logits up to a constant for each row."
)
# A row sums to 1 by accident hardly ever; when nearly all do, the others are mistakes and not logits.
MOST_ROWS: Final = 0.5
# More copies than this make the folds of an audit share rows, and its intervals too narrow.
MANY_REPEATS: Final = 0.10


@dataclass(frozen=True)
class AuditInput:
    """Checked input of an audit.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (N, K)
        Logits; logarithms where probabilities came.
    target : ndarray of intp, shape (N,)
        Index of the true class.
    classes : tuple of str, length K
        Names of the classes.
    kind : {"logits", "log-probabilities", "probabilities"}
        What came.
    told : str
        How that was seen, as a sentence.
    n_repeated : int
        Rows that are an earlier row again, bit for bit.
    """

    logits: NDArray[Any]
    target: NDArray[np.intp]
    classes: tuple[str, ...]
    kind: Kind
    told: str
    n_repeated: int


def read_audit(
    prediction: ArrayLike,
    y: ArrayLike,
    *,
    features: ArrayLike | None,
    classes: tuple[str, ...],
    kind: str | None,
    anyway: bool,
) -> AuditInput:
    """Check what an audit is made of."""
    z = _matrix(prediction)
    refuse_huge(z, of="audit")
    found, told = tell_kind(z) if kind is None else (_checked_kind(z, kind), f"Taken as {kind}, as asked.")
    logits = _as_logits(z, found)
    target = _target(y, z)
    n_classes = z.shape[1]
    if classes and len(classes) != n_classes:
        raise ShapeError(
            f"audit: {len(classes)} names of classes came for {n_classes} columns; one for each would be right."
        )
    names = classes or tuple(str(k) for k in range(n_classes))
    _check_counts(target, names, anyway=anyway)
    n_repeated = count_copies(z, None if features is None else plain_array(features, of="audit", name="features"))
    share = n_repeated / z.shape[0]
    if share > MANY_REPEATS and not anyway:
        raise InputError(
            f"audit: {n_repeated:,} of {z.shape[0]:,} rows ({100 * share:.0f} %) are an earlier row again, bit for "
            "bit. Copies leak from the rows that a cure is fitted on to those that judge it. Drop them; or, if the "
            "scores are merely coarse (a forest's votes), pass --anyway (in Python anyway=True)."
        )
    return AuditInput(logits, target, names, found, told, n_repeated)


def tell_kind(z: NDArray[Any], /) -> tuple[Kind, str]:
    """Tell logits from probabilities and log-probabilities; NaN and impossible rows are refused first."""
    _refuse_nan(z)
    low, high = float(z.min()), float(z.max())
    if low >= 0.0 and high <= 1.0 + SUM_TOLERANCE:
        off = ~(np.abs(z.sum(axis=1, dtype=np.float64) - 1.0) <= SUM_TOLERANCE)
        if not off.any():
            return "probabilities", "Every number lies between 0 and 1 and every row sums to 1: taken as probabilities."
        if off.mean() <= MOST_ROWS:
            raise _sums(z, off, "all numbers lie between 0 and 1 and most rows sum to 1, so these are probabilities")
        raise _sums(z, off, "all numbers lie between 0 and 1, as probabilities do")
    if high <= 1e-6:
        rest = np.concatenate([np.abs(logsumexp(block)) for block in _blocks(z)])
        if (rest <= LOG_SUM_TOLERANCE).all():
            return "log-probabilities", LOG_TOLD
    return "logits", f"The numbers run from {low:.4g} to {high:.4g} and rows do not sum to 1: taken as logits."


def count_copies(z: NDArray[Any], features: NDArray[Any] | None = None, /) -> int:
    """How many rows are, with their features, an earlier row again, bit for bit."""
    both = [np.ascontiguousarray(z)]
    if features is not None and features.ndim == 2 and features.shape[0] == z.shape[0]:
        both.append(np.ascontiguousarray(features))
    seen = {hash(tuple(part[i].tobytes() for part in both)) for i in range(z.shape[0])}
    return int(z.shape[0] - len(seen))


def _matrix(prediction: ArrayLike) -> NDArray[Any]:
    """The numbers as float32 or float64, (N, K)."""
    z = plain_array(prediction, of="audit", name="the logits")
    if z.dtype.kind not in "biuf":
        raise DtypeError(f"audit: the logits have dtype {z.dtype}; numbers would be right.")
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float32 if z.dtype == np.float16 else np.float64)
    if z.ndim == 1 or (z.ndim == 2 and z.shape[1] == 1):
        raise ShapeError(
            f"audit: the logits have shape {z.shape}, one number for each row; one column for each class is needed. "
            "For the log-odds s of two classes give the columns 0 and s, for a probability p give 1 - p and p."
        )
    if z.ndim != 2 or z.shape[0] == 0:
        raise ShapeError(
            f"audit: the logits have shape {z.shape}; one row for each example and one column for each class, (N, K), "
            "would be right."
        )
    return z


def _refuse_nan(z: NDArray[Any]) -> None:
    """Refuse rows of which no probabilities can be made."""
    top = z.max(axis=1)
    if np.isnan(top).any():
        raise RangeError(
            f"audit: the logits hold NaN, or nothing at all, in {name_rows(np.isnan(top))} (rows count from 0); mend "
            "or drop these rows. A network that answers NaN should be mended first."
        )
    if np.isinf(top).any():
        raise RangeError(
            f"audit: {name_rows(np.isinf(top))} (rows count from 0) of the logits hold +inf, or nothing but -inf; "
            "such rows have no probabilities. Mend or drop them."
        )


def _checked_kind(z: NDArray[Any], kind: str) -> Kind:
    """The kind that somebody said it is, if it can be."""
    _refuse_nan(z)
    if kind == "logits":
        return "logits"
    if kind != "probabilities":
        raise RangeError(f"audit: kind is {kind!r}; 'logits' or 'probabilities' would be right.")
    negative = z.min(axis=1) < 0
    if negative.any():
        raise RangeError(
            f"audit: {name_rows(negative)} hold negative numbers, which are no probabilities; leave --as out, or say "
            "--as logits."
        )
    off = ~(np.abs(z.sum(axis=1, dtype=np.float64) - 1.0) <= SUM_TOLERANCE)
    if off.any():
        raise _sums(z, off, "they were said to be probabilities")
    return "probabilities"


def _sums(z: NDArray[Any], off: NDArray[np.bool_], because: str) -> RangeError:
    """Say which rows do not sum to 1."""
    first = int(np.flatnonzero(off)[0])
    return RangeError(
        f"audit: {because}, but {name_rows(off)} (rows count from 0) do not sum to 1 (row {first} sums to "
        f"{float(z[first].sum(dtype=np.float64)):.6g}). Normalise them; scores of separate yes-or-no outputs "
        "(sigmoids) are no probabilities of one class among K; and if these are logits after all, say --as logits."
    )


def _as_logits(z: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Logarithms of probabilities, everything else as it is; 0 becomes -inf."""
    if kind != "probabilities":
        return z
    with np.errstate(divide="ignore"):
        logarithm: NDArray[Any] = np.log(z)
    return logarithm


def _target(y: ArrayLike, z: NDArray[Any]) -> NDArray[np.intp]:
    """Class indices, with a hint for those who count from 1."""
    target = plain_array(y, of="audit", name="y")
    n_rows, n_classes = z.shape
    if target.ndim == 1 and target.shape[0] != n_rows:
        raise ShapeError(
            f"audit: {target.shape[0]:,} labels came for {n_rows:,} rows of logits; one for each row, in the same "
            "order, would be right."
        )
    if target.dtype.kind in "iu" and target.size and int(target.min()) == 1 and int(target.max()) == n_classes:
        raise RangeError(
            f"audit: the labels run from 1 to {n_classes}, and classes are counted from 0 to {n_classes - 1} here; "
            "take 1 off each label."
        )
    return read_target(target, of="audit", n_rows=n_rows, n_classes=n_classes)


def _check_counts(target: NDArray[np.intp], names: tuple[str, ...], *, anyway: bool) -> None:
    """Refuse rows that are too few, or of too few classes, to say anything."""
    n_rows, n_classes = target.size, len(names)
    count = np.bincount(target, minlength=n_classes)
    if n_rows < FEWEST_ROWS:
        raise InputError(
            f"audit: {n_rows} rows came for {n_classes} classes; {FEWEST_ROWS} are the fewest that anything can be "
            "said about, and ten for each class are a beginning. Give more rows."
        )
    if int(np.count_nonzero(count)) == 1:
        raise InputError(
            f"audit: every one of the {n_rows:,} rows is of class {name_classes([names[int(target[0])]])}; rows of at "
            "least two classes are needed, since one class alone says nothing about the chances of the others."
        )
    if n_rows - int(count.max()) < 2:
        raise InputError(
            f"audit: all but one of the {n_rows:,} rows are of class {name_classes([names[int(count.argmax())]])}; two "
            "rows of other classes are the least. Give rows as they come in use."
        )
    missing = np.flatnonzero(count == 0)
    if missing.size and not anyway:
        raise InputError(
            f"audit: {missing.size} of {n_classes} classes have no row among the {n_rows:,}: "
            f"{name_classes([names[k] for k in missing])}. Nothing can be said about them. Give rows of every class, "
            "or pass --anyway (in Python anyway=True) to audit the others."
        )


def _blocks(z: NDArray[Any]) -> list[NDArray[Any]]:
    """Blocks of rows that fit into a cache."""
    step = max(1, BLOCK_ELEMENTS // z.shape[1])
    return [z[start : start + step] for start in range(0, z.shape[0], step)]
