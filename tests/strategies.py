"""Logits that hurt: fixed families for sweeps, Hypothesis strategies, and the memory layouts arrays come in."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
WIDE_FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
INTEGERS = [np.dtype(c) for c in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")]
INTEGRAL = [np.dtype(np.bool_), *INTEGERS]
ALL_DTYPES = [*FLOATS, *INTEGRAL]

# the largest finite number of each float dtype, as a Python float
LARGEST = {
    FLOATS[0]: 65504.0,
    BFLOAT16: float(ml_dtypes.finfo(ml_dtypes.bfloat16).max),
    FLOATS[2]: float(np.finfo(np.float32).max),
    FLOATS[3]: float(np.finfo(np.float64).max),
}


def result_dtype(dtype: Any) -> np.dtype:
    """What softmax and log_softmax return for logits of this dtype: integers become float64."""
    return np.dtype(dtype) if np.dtype(dtype) in FLOATS else np.dtype(np.float64)


# ---------------------------------------------------------------- fixed families


def _finite(values: np.ndarray, dtype: Any) -> np.ndarray:
    limit = LARGEST[np.dtype(dtype)]
    return np.clip(values, -limit, limit).astype(dtype)


def _spread(scale: float) -> Callable:
    def draw(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
        return rng.uniform(-scale, scale, shape)

    return draw


def _normal(scale: float, offset: float = 0.0) -> Callable:
    def draw(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
        return offset + scale * rng.standard_normal(shape)

    return draw


def _ties(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    return rng.choice([-90.3, -17.1, 0.2, 0.2, 3.7], size=shape)


def _equal(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    return np.broadcast_to(rng.uniform(-50, 50, (shape[0], 1)), shape)


def _subnormal(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    tiny = 2.0**-149 if np.dtype(dtype) == np.float32 else 5e-324
    return rng.integers(-1000, 1000, shape) * tiny


def _dominant(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    """One class leads by 17 to 100 (float32) or by 36 to 700 (float64); where it stands varies."""
    low, high = (17.0, 100.0) if np.dtype(dtype) != np.float64 else (36.0, 700.0)
    logits = rng.uniform(-2.0, 2.0, shape)
    rows = np.arange(shape[0])
    logits[rows, rng.integers(0, shape[1], shape[0])] += rng.uniform(low, high, shape[0])
    return logits


def _minus_infinities(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    logits = 20.0 * rng.standard_normal(shape)
    logits[rng.random(shape) < 0.4] = -np.inf
    logits[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = rng.uniform(-5, 5, shape[0])
    return logits


def _magnitudes(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    """Every order of magnitude that the dtype has, both signs."""
    largest = np.log10(LARGEST[np.dtype(dtype)])
    return rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-largest, largest, shape)


def _underflow(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    """Probabilities around the smallest normal and the smallest subnormal number."""
    low, high = (-746.0, -705.0) if np.dtype(dtype) == np.float64 else (-105.0, -84.0)
    logits = rng.uniform(low, high, shape) + 3.3
    logits[:, 0] = 3.3
    return logits


def _unit_sum(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    """Log-sums near 0: the maximum and the log of the sum nearly cancel."""
    logits = rng.standard_normal(shape)
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def _zero_on_top(rng: np.random.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    """The largest logit is exactly 0 and leads: the log-sum is the log1p term alone."""
    logits = -rng.uniform(18.0, 90.0, shape)
    logits[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = 0.0
    return logits


FAMILIES: dict[str, Callable] = {
    "spread 1": _spread(1.0),
    "spread 10": _spread(10.0),
    "spread 44": _spread(44.0),
    "spread 380": _spread(380.0),
    "spread 1e4": _spread(1e4),
    "spread 1e38": _spread(1e38),
    "normal 10": _normal(10.0),
    "normal 30": _normal(30.0),
    "offset 1e8": _normal(100.0, 1e8),
    "offset -1e8": _normal(40.0, -1e8),
    "ties": _ties,
    "all equal": _equal,
    "subnormal": _subnormal,
    "dominant": _dominant,
    "minus infinities": _minus_infinities,
    "magnitudes": _magnitudes,
    "underflow": _underflow,
    "unit sum": _unit_sum,
    "zero on top": _zero_on_top,
}


def family(name: str, n_rows: int, n_classes: int, dtype: Any, *, seed: int = 0) -> np.ndarray:
    """Logits (N, K) of one family; the same for the same arguments."""
    key = [seed, n_rows, n_classes, *name.encode()]
    values = FAMILIES[name](np.random.default_rng(key), (n_rows, n_classes), dtype)
    with np.errstate(over="ignore"):
        return np.where(np.isinf(values), values, _finite(values, dtype)).astype(dtype)


# ---------------------------------------------------------------- memory layouts


def _copy(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="C")


def _fortran(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="F")


def _reversed(x: np.ndarray) -> np.ndarray:
    return np.array(np.flip(x), order="C")[tuple(slice(None, None, -1) for _ in range(x.ndim))]


def _sliced(x: np.ndarray) -> np.ndarray:
    wide = np.full(tuple(2 * n + 3 for n in x.shape), 77, dtype=x.dtype)
    view = wide[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)]
    view[...] = x
    return view


def _read_only(x: np.ndarray) -> np.ndarray:
    copy = _copy(x)
    copy.flags.writeable = False
    return copy


def _unaligned(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.nbytes + 1, dtype=np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _swapped(x: np.ndarray) -> np.ndarray:
    return x.astype(x.dtype.newbyteorder("S"))


def _offset(x: np.ndarray) -> np.ndarray:
    """A block out of a larger array: rows do not follow each other without a gap."""
    room = np.zeros(tuple(n + 5 for n in x.shape), dtype=x.dtype)
    view = room[tuple(slice(2, n + 2) for n in x.shape)]
    view[...] = x
    return view


LAYOUTS: dict[str, Callable] = {
    "C": _copy,
    "Fortran": _fortran,
    "negative strides": _reversed,
    "every second": _sliced,
    "read-only": _read_only,
    "unaligned": _unaligned,
    "other byte order": _swapped,
    "inner block": _offset,
}


def layouts_for(dtype: Any) -> list[str]:
    """The layouts that arrays of this dtype can have: ml_dtypes knows one byte order only."""
    return [name for name in LAYOUTS if name != "other byte order" or np.dtype(dtype) != BFLOAT16]


# ---------------------------------------------------------------- Hypothesis


def _element(dtype: Any, *, minus_infinity: bool) -> st.SearchStrategy:
    width = 32 if np.dtype(dtype) == np.float32 else 64
    tiny = 2.0**-149 if width == 32 else 5e-324
    choices = [
        st.floats(-1.0, 1.0, width=width),
        st.floats(-100.0, 100.0, width=width),
        st.floats(-(2.0**120), 2.0**120, width=width),
        st.integers(-3, 3).map(float),
        st.integers(-50, 50).map(lambda n: n * tiny),
        st.integers(-64, 64).map(lambda n: 1e8 + 8.0 * n),
        st.sampled_from([0.0, -0.0, 0.1, -17.0, 88.7, -87.4, -103.9, LARGEST[np.dtype(dtype)]]),
    ]
    if minus_infinity:
        choices.append(st.just(-np.inf))
    return st.one_of(choices)


@st.composite
def logit_rows(
    draw: Any, dtype: Any = np.float32, *, min_classes: int = 1, max_classes: int = 40, minus_infinity: bool = True
) -> np.ndarray:
    """One row of logits with a finite maximum."""
    elements = _element(dtype, minus_infinity=minus_infinity)
    row = np.array(draw(st.lists(elements, min_size=min_classes, max_size=max_classes))).astype(dtype)
    if np.isneginf(row).all():
        row[draw(st.integers(0, row.size - 1))] = 0.0
    return row


@st.composite
def logit_batches(draw: Any, dtype: Any = np.float32, *, max_rows: int = 9, max_classes: int = 40) -> np.ndarray:
    """A batch (N, K) of one family, or of single elements."""
    n_rows, n_classes = draw(st.integers(1, max_rows)), draw(st.integers(1, max_classes))
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(FAMILIES)))
        return family(name, n_rows, n_classes, dtype, seed=draw(st.integers(0, 2**20)))
    rows = [draw(logit_rows(dtype, min_classes=n_classes, max_classes=n_classes)) for _ in range(n_rows)]
    return np.stack(rows)


def shapes(*, min_dims: int = 1, max_dims: int = 4) -> st.SearchStrategy:
    """Shapes with small sides, zeros among them."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0, max_side=6)


@st.composite
def masked_batches(draw: Any, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Logits and a mask; what is masked may be anything, NaN and inf included."""
    logits = draw(logit_batches(dtype)).copy()
    mask = draw(hnp.arrays(np.bool_, logits.shape))
    # a row that keeps only -inf has no answer but NaN, which the semantics table tests
    for i in range(logits.shape[0]):
        if mask[i].any() and np.isneginf(logits[i][mask[i]]).all():
            logits[i][mask[i]] = 0.0
    rubbish = draw(hnp.arrays(np.intp, logits.shape, elements=st.integers(0, 3)))
    junk = np.array([np.nan, np.inf, -np.inf, 1.0]).astype(dtype)[rubbish]
    return np.where(mask, logits, junk).astype(dtype), mask


def layouts(dtype: Any) -> st.SearchStrategy:
    """A function that gives an array of the same values in some memory layout."""
    return st.sampled_from(layouts_for(dtype)).map(LAYOUTS.__getitem__)


@st.composite
def special_batches(draw: Any) -> np.ndarray:
    """A batch (N, K) of any dtype: floats of any kind with NaN and both infinities, integers up to their ends, bool."""
    dtype = draw(st.sampled_from(ALL_DTYPES))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    if dtype.kind in "iub":
        return draw(hnp.arrays(dtype, shape))
    limit = LARGEST[dtype]
    specials = st.sampled_from([np.nan, np.inf, -np.inf, limit, -limit, 0.0, -0.0])
    values = st.one_of(st.floats(-100.0, 100.0), st.floats(-100.0, 100.0), st.floats(-limit, limit), specials)
    return _rounded(draw(hnp.arrays(np.float64, shape, elements=values)), dtype)


def _rounded(values: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype)
