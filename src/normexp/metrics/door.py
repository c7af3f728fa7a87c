"""The door of the metrics: labels and predictions are checked here once, and nowhere behind it.

What comes out is :class:`Rows`: the true class, the logits or probabilities and the weight of each row. The
functions below it say what a row is worth (its loss, its confidence, ...). Whatever has N x K elements is made
for a block of rows at a time, so that a metric needs little memory beside the prediction itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.checks import check_number, check_whole
from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.base.plain_arrays import plain_array, plain_numbers
from normexp.ops import cross_entropy, softmax

SUM_TOLERANCE = 1e-3  # as for proportions in cross_entropy: enough for probabilities kept in float16
BLOCK_ELEMENTS = 1 << 21  # 16 MiB of float64: stays in the last-level cache of most machines
LEAST_WEIGHT, MOST_WEIGHT = 1e-100, 1e100  # of the largest weight: sums of squares, and products of sums, are finite
FAINTEST_WEIGHT = 1e-150  # 1e-50 of the largest or less: what a row of it adds to a sum with that one is rounded away
NAMED_ROWS = 5  # an error names at most so many rows


@dataclass(frozen=True)
class Rows:
    """Checked labels, predictions and weights: `target` (N,), `prediction` (N, K), `weight` (N,)."""

    target: NDArray[np.intp]
    prediction: NDArray[Any]
    from_logits: bool
    weight: NDArray[np.float64]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.prediction.shape[0])

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return int(self.prediction.shape[1])

    def probability_blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Probabilities of a block of rows at a time, with the slice of rows they belong to."""
        step = max(1, BLOCK_ELEMENTS // self.n_classes)
        for start in range(0, self.n_rows, step):
            block = slice(start, min(start + step, self.n_rows))
            part = self.prediction[block]
            yield block, np.asarray(softmax(part) if self.from_logits else part, dtype=np.float64)


def read_rows(
    y: ArrayLike, prediction: ArrayLike, *, of: str, from_logits: bool, sample_weight: ArrayLike | None
) -> Rows:
    """Check labels, predictions and weights on behalf of the function `of`."""
    if not isinstance(from_logits, (bool, np.bool_)):
        raise DtypeError(f"{of}: from_logits is {from_logits!r}; True or False would be right.")
    predicted = _read_prediction(prediction, of=of, from_logits=from_logits)
    n_rows, n_classes = predicted.shape
    return Rows(
        target=read_target(y, of=of, n_rows=n_rows, n_classes=n_classes),
        prediction=predicted,
        from_logits=from_logits,
        weight=read_weight(sample_weight, of=of, n_rows=n_rows),
    )


def name_rows(bad: NDArray[np.bool_]) -> str:
    """Name the first few rows that are marked: "row 3" or "rows 3, 5, 8 and 12 more"."""
    index = np.flatnonzero(bad)
    shown = ", ".join(str(i) for i in index[:NAMED_ROWS])
    more = f" and {index.size - NAMED_ROWS} more" if index.size > NAMED_ROWS else ""
    return f"row{'s' if index.size > 1 else ''} {shown}{more}"


def _read_prediction(prediction: ArrayLike, *, of: str, from_logits: bool) -> NDArray[Any]:
    """Logits or probabilities as a floating array (N, K), with every row usable."""
    z = plain_numbers(prediction, of=of, name="prediction")
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float64)
    if z.ndim != 2:
        raise ShapeError(
            f"{of}: prediction has shape {z.shape}; one row for each sample and one column for each class, (N, K), "
            "would be right. For two classes pass both columns."
        )
    if z.shape[0] == 0 or z.shape[1] == 0:
        raise ShapeError(f"{of}: prediction has shape {z.shape}; at least one row and one class are needed.")
    top = z.max(axis=1)  # NaN where the row holds a NaN
    if np.isnan(top).any():
        raise RangeError(f"{of}: prediction holds NaN in {name_rows(np.isnan(top))}; drop or mend these rows.")
    if from_logits:
        if np.isinf(top).any():
            raise RangeError(
                f"{of}: {name_rows(np.isinf(top))} of prediction hold +inf, or nothing but -inf; "
                "such logits give no probabilities."
            )
        return z
    low = z.min(axis=1) < 0
    if low.any():
        raise RangeError(
            f"{of}: prediction is negative in {name_rows(low)}, and from_logits=False says that it holds "
            "probabilities; pass from_logits=True if these are logits."
        )
    off = ~(np.abs(z.sum(axis=1, dtype=np.float64) - 1.0) <= SUM_TOLERANCE)
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise RangeError(
            f"{of}: the probabilities of {name_rows(off)} do not sum to 1 (row {first} sums to {z[first].sum():.6g}); "
            "normalise them, or pass from_logits=True if these are logits."
        )
    return z


def read_target(y: ArrayLike, *, of: str, n_rows: int, n_classes: int) -> NDArray[np.intp]:
    """Class indices (N,), each within 0 .. K - 1."""
    target = plain_array(y, of=of, name="y")
    if target.shape != (n_rows,):
        raise ShapeError(f"{of}: y has shape {target.shape}; one class index a row, ({n_rows},), would be right.")
    if target.dtype.kind not in "biu":
        raise DtypeError(
            f"{of}: y has dtype {target.dtype}; class indices are integers. "
            "np.searchsorted(classes, labels) turns labels into indices."
        )
    bad = (target < 0) | (target >= n_classes)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise RangeError(
            f"{of}: y is out of range in {name_rows(bad)} (row {first} says {target[first]}); "
            f"there are {n_classes} classes, so 0 to {n_classes - 1} would be right."
        )
    return target.astype(np.intp, copy=False)


def read_weight(sample_weight: ArrayLike | None, *, of: str, n_rows: int) -> NDArray[np.float64]:
    """Weights (N,), none negative, not all zero; ones where none were given.

    Positive weights below 1e-150, whose squares would be 0, are taken as 1e-150.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weight = plain_numbers(sample_weight, of=of, name="sample_weight").astype(np.float64)
    if weight.shape != (n_rows,):
        raise ShapeError(f"{of}: sample_weight has shape {weight.shape}; ({n_rows},) would be right.")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise RangeError(f"{of}: sample_weight is negative or not finite in {name_rows(bad)}.")
    if not weight.any():
        raise RangeError(f"{of}: every sample_weight is 0; at least one row must count.")
    largest = float(weight.max())
    if not LEAST_WEIGHT <= largest <= MOST_WEIGHT:
        raise RangeError(
            f"{of}: the largest sample_weight is {largest:.3g}, whose square float64 cannot hold; divide all weights "
            "by their mean, which changes none of their ratios."
        )
    np.maximum(weight, FAINTEST_WEIGHT, out=weight, where=weight > 0)
    return weight


def read_count(value: Any, *, of: str, name: str) -> int:
    """A whole number of at least 1."""
    count = check_whole(value, of=of, name=name, right="a whole number of at least 1")
    if count < 1:
        raise RangeError(f"{of}: {name} is {count}; 1 or more would be right.")
    return count


def read_level(value: Any, *, of: str, name: str = "level") -> float:
    """A number strictly between 0 and 1."""
    level = check_number(value, of=of, name=name, low=0.0, high=1.0)
    if not 0.0 < level < 1.0:
        raise RangeError(f"{of}: {name} is {value}; a number between 0 and 1 would be right.")
    return level


def read_generator(rng: Any, *, of: str) -> np.random.Generator:
    """The generator, or one from a seed."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise DtypeError(
            f"{of}: rng is {rng!r}; None, a whole number of at least 0 or a numpy.random.Generator would be right."
        ) from None


def nll(rows: Rows) -> NDArray[np.float64]:
    """Minus the log of the true class's probability, (N,); +inf where that probability is 0."""
    if rows.from_logits:
        return np.asarray(cross_entropy(rows.prediction, rows.target, reduction="none"), dtype=np.float64)
    with np.errstate(divide="ignore"):  # log 0 = -inf is the honest score of a certain error
        return -np.log(rows.prediction[np.arange(rows.n_rows), rows.target].astype(np.float64))


def decided(rows: Rows) -> NDArray[np.intp]:
    """Most probable class of each row, (N,); the first of them where several tie."""
    return np.asarray(rows.prediction.argmax(axis=1), dtype=np.intp)


def log_confidence(rows: Rows, decision: NDArray[np.intp]) -> NDArray[np.float64]:
    """Log-probability of the decided class, (N,). Tells rows apart whose confidence rounds to 1."""
    return -nll(Rows(decision, rows.prediction, rows.from_logits, rows.weight))


def squared_error(rows: Rows) -> NDArray[np.float64]:
    """Squared distance between the probabilities and the one-hot truth, (N,), summed over classes."""
    out = np.empty(rows.n_rows)
    for block, prob in rows.probability_blocks():
        error = prob.copy()
        error[np.arange(len(error)), rows.target[block]] -= 1.0
        out[block] = np.einsum("nk,nk->n", error, error)
    return out
