"""Arrays of other libraries to and from NumPy, and which of these libraries are here."""

import importlib.util

import array_api_strict
import numpy as np
import pytest

STRICT = array_api_strict
NARROW = STRICT.Device("no_float64")  # as many accelerators, and JAX by default
DTYPES = ["float32", "float64", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_float = pytest.mark.parametrize("dtype", ["float32", "float64"])
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


def strict(x, device=None):
    """An array of array-api-strict: nothing is allowed that the standard does not say."""
    return STRICT.asarray(np.asarray(x), device=device)


def plain(x):
    """Back to NumPy; several answers one by one, None as it is."""
    if isinstance(x, tuple):
        return tuple(plain(one) for one in x)
    if x is None:
        return None
    assert hasattr(x, "__array_namespace__"), type(x)
    assert not isinstance(x, (np.ndarray, np.generic)), type(x)
    if type(x).__module__.startswith("array_api_strict"):
        x = x.to_device(STRICT.Device("CPU_DEVICE"))
    return np.asarray(x)


def drawn(dtype, shape=(4, 6), seed=5):
    """Numbers of this dtype."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return (4 * rng.standard_normal(shape)).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


def assert_alike(found, expected, *, ulp=4.0, of_largest=False):
    """Shapes, dtypes, infinities and NaN alike, numbers within some ULP of their own, or of the largest one's."""
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    for one, wanted in zip(plain(tuple(found)), expected, strict=True):
        if wanted is None:
            assert one is None
            continue
        other = np.asarray(wanted)
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if one.dtype.kind in "iub":
            assert np.array_equal(one, other)
            continue
        tiny = np.finfo(one.dtype).eps
        size = np.abs(other[np.isfinite(other)]).max(initial=0.0) if of_largest else tiny
        np.testing.assert_allclose(one, other, rtol=ulp * tiny, atol=ulp * tiny * size, equal_nan=True)
