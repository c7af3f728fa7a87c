"""Every function on array-api-strict: the semantics of the NumPy path, in the library, dtype and device that came."""

import inspect

import numpy as np
import pytest

import normexp as nx
from array_libraries import DTYPES, NARROW, STRICT, assert_alike, drawn, each_dtype, each_float, plain, strict
from normexp.backends import standard

TARGET = np.array([2, 0, 5, 1])
SHARES = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0], [0.1, 0.2, 0.3, 0.4, 0, 0], [0, 1.0, 0, 0, 0, 0]])
WEIGHT = np.array([0.5, 0.0, 2.0, 1.0, 1.0, 3.0])
OPTIONS = {
    "plain": {},
    "weights": {"weight": WEIGHT},
    "smoothing": {"label_smoothing": 0.1},
    "all smoothed": {"label_smoothing": 1.0},
    "focal": {"focal_gamma": 2.0},
    "z_loss": {"z_loss": 0.01},
    "all": {"weight": WEIGHT, "label_smoothing": 0.2, "focal_gamma": 1.5, "z_loss": 0.01},
}
ONE_EACH = {
    "softmax": nx.softmax,
    "softmax, axis 0": lambda z: nx.softmax(z, axis=0),
    "softmax, two axes": lambda z: nx.softmax(z, axis=(1, 0)),
    "softmax, all axes": lambda z: nx.softmax(z, axis=None),
    "softmax, temperature": lambda z: nx.softmax(z, temperature=0.75),
    "softmax, temperature of a row": lambda z: nx.softmax(z, temperature=np.array([[0.5], [0.0], [3.0], [1.0]])),
    "softmax, temperature of a class": lambda z: nx.softmax(z, temperature=np.array([1.0, 2.0, 0.5, 4.0, 1.0, 1.0])),
    "softmax, temperature 0": lambda z: nx.softmax(z, temperature=0.0),
    "softmax, temperature inf": lambda z: nx.softmax(z, temperature=np.inf),
    "softmax, mask": lambda z: nx.softmax(z, where=SHARES > 0.0),
    "softmax, mask, two axes": lambda z: nx.softmax(z, where=np.array([True, False] * 3), axis=(0, 1)),
    "log_softmax": nx.log_softmax,
    "log_softmax, temperature": lambda z: nx.log_softmax(z, temperature=0.5, axis=0),
    "logsumexp": nx.logsumexp,
    "logsumexp, mask": lambda z: nx.logsumexp(z, where=SHARES > 0.0, keepdims=True),
    "logsumexp, all": lambda z: nx.logsumexp(z, axis=None, keepdims=True),
    "segment_softmax": lambda z: nx.segment_softmax(z, np.array([1, 0, 1, 3]), num_segments=4),
    "top_k": lambda z: nx.top_k(z, 3),
    "top_k, axis 0": lambda z: nx.top_k(z, 4, axis=0),
    "sample": lambda z: nx.sample(z, size=4, rng=7),
    "sample without replacement": lambda z: nx.sample(z, size=3, rng=7, replace=False, axis=0),
    "gumbel_softmax": lambda z: nx.gumbel_softmax(z, rng=7, axis=0),
    "gumbel_softmax, hard": lambda z: nx.gumbel_softmax(z, rng=7, hard=True),
    "entropy": nx.entropy,
    "margin": nx.margin,
    "energy": lambda z: nx.energy(z, axis=0),
    "max_logit": nx.max_logit,
    **{f"indices, {name}": lambda z, o=o: nx.cross_entropy_with_grad(z, TARGET, **o) for name, o in OPTIONS.items()},
    **{
        f"proportions, {name}": lambda z, o=o: nx.cross_entropy_with_grad(z, SHARES, **o) for name, o in OPTIONS.items()
    },
    "ignored": lambda z: nx.cross_entropy_with_grad(z, TARGET, ignore_index=0),
    "ignored, far": lambda z: nx.cross_entropy_with_grad(z, np.array([-100, 0, 1, -100]), ignore_index=-100),
    "none": lambda z: nx.cross_entropy_with_grad(z, TARGET, reduction="none", weight=WEIGHT),
    "sum": lambda z: nx.cross_entropy_with_grad(z, SHARES, reduction="sum"),
    "axis 0": lambda z: nx.cross_entropy_with_grad(z, np.array([0, 1, 2, 3, 0, 1]), axis=0),
    "vjp": lambda z: nx.softmax_vjp(z, SHARES),
    "jvp": lambda z: nx.softmax_jvp(z, SHARES, axis=0),
    "jacobian": nx.softmax_jacobian,
}
CANCELLING = {"vjp", "jvp", "none"}  # with the options of the losses: terms of opposite sign
LOOSER = {"generalised_entropy": nx.generalised_entropy, "sparsemax": nx.sparsemax, "entmax": nx.entmax,
          "entmax, 1.1": lambda z: nx.entmax(z, alpha=1.1, axis=0), "entmax, 3": lambda z: nx.entmax(z, alpha=3.0),
          "entmax, 1": lambda z: nx.entmax(z, alpha=1.0)}  # fmt: skip
PROJECTION, BIAS = 0.3 * drawn("float64", (6, 3), seed=1), drawn("float64", (6,), seed=2)
HEADS = {
    "plain": {},
    "bias": {"bias": BIAS},
    "cap and temperature": {"bias": BIAS, "softcap": 2.0, "temperature": 0.7},
    "temperature 0": {"temperature": 0.0},
    "temperatures": {"temperature": np.array([[0.5], [1.0], [2.0], [0.0]])},
    "all": {**OPTIONS["all"], "bias": BIAS, "softcap": 30.0},
}


def test_the_public_functions_are_all_here_with_their_signatures():
    from normexp.backends import tensors

    assert sorted(standard.__all__) == sorted(tensors.__all__)
    for name in standard.__all__:
        ours, public = (inspect.signature(getattr(home, name)).parameters for home in (standard, nx))
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in public.values()
        ], name


@each_dtype
@pytest.mark.parametrize("name", ONE_EACH)
def test_as_on_numpy(name, dtype):
    array = drawn(dtype)
    of_largest = name in CANCELLING or name.startswith(("indices, ", "proportions, "))
    assert_alike(ONE_EACH[name](strict(array)), ONE_EACH[name](array), of_largest=of_largest)


@each_float
@pytest.mark.parametrize("name", LOOSER)
def test_as_on_numpy_within_the_bounds_of_sums_of_powers(name, dtype):
    array = drawn(dtype)
    assert_alike(LOOSER[name](strict(array)), LOOSER[name](array), ulp=64.0 if dtype == "float64" else 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
@pytest.mark.parametrize("target", [TARGET, SHARES], ids=["indices", "proportions"])
@pytest.mark.parametrize("name", HEADS)
def test_the_linear_head_as_on_numpy(name, target, dtype):
    x = drawn(dtype, (4, 3)) if dtype != "int8" else np.arange(12, dtype=np.int8).reshape(4, 3)
    for reduction in ("mean", "none"):
        options = {**HEADS[name], "reduction": reduction}
        found = nx.linear_cross_entropy_with_grad(strict(x), strict(PROJECTION), target, **options)
        expected = nx.linear_cross_entropy_with_grad(x, PROJECTION, target, **options)
        assert_alike(found, expected, ulp=16.0, of_largest=True)
        assert_alike(nx.linear_cross_entropy(strict(x), strict(PROJECTION), target, **options), plain(found.loss))


def test_several_blocks_of_rows_are_one_batch():
    x, target = drawn("float64", (600, 3)), np.arange(600) % 6
    x[7] = np.nan  # ignored, so it never matters
    target[7] = -1
    found = nx.linear_cross_entropy_with_grad(strict(x), strict(PROJECTION), strict(target), ignore_index=-1)
    expected = nx.linear_cross_entropy_with_grad(x, PROJECTION, target, ignore_index=-1)
    assert_alike(found, expected, ulp=16.0, of_largest=True)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 4), (2, 0, 4), (2, 3, 4)], ids=str)
@each_float
def test_any_shape(shape, dtype):
    array = np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape) % 5
    for function in (nx.softmax, nx.log_softmax, nx.logsumexp, nx.entropy, nx.margin, nx.max_logit, nx.sparsemax,
                     nx.entmax, nx.generalised_entropy, nx.energy):  # fmt: skip
        assert_alike(function(strict(array)), function(array), ulp=64.0)
        if array.ndim:
            assert_alike(function(strict(array), axis=0), function(array, axis=0), ulp=64.0)
    assert_alike(nx.sample(strict(array), rng=1), nx.sample(array, rng=1))
    if array.ndim:
        target = np.zeros(shape[:-1], np.int64)
        if shape[-1]:
            assert_alike(nx.cross_entropy_with_grad(strict(array), target), nx.cross_entropy_with_grad(array, target))
        shares = np.full(shape, 1.0 / max(1, shape[-1]))
        for reduction in ("none", "mean"):
            options = {"reduction": reduction}
            found = nx.cross_entropy_with_grad(strict(array), strict(shares), **options)
            assert_alike(found, nx.cross_entropy_with_grad(array, shares, **options), of_largest=True)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if "int" in d])
def test_integers_at_their_extremes(dtype):
    limits = np.iinfo(dtype)
    row = np.array([[limits.min, limits.max, limits.max - 1, limits.max - 3, 0]], dtype)
    for function in (nx.softmax, nx.log_softmax, nx.logsumexp, nx.margin, nx.max_logit, nx.entropy):
        assert_alike(function(strict(row)), function(row))
    where = np.array([[True, False, True, True, False]])  # the hidden maximum must not cost digits
    hidden = plain(nx.softmax(strict(row), where=strict(where)))
    assert hidden[where] == pytest.approx(nx.softmax(row[where]), rel=1e-15)
    assert not hidden[~where].any()
    segments = np.zeros(5, int)
    assert_alike(nx.segment_softmax(strict(row[0]), segments), nx.segment_softmax(row[0], segments))


def test_groups_as_on_numpy():
    rng = np.random.default_rng(0)
    logits, groups = 9 * rng.standard_normal((300, 2)), rng.integers(0, 40, 300)
    logits[groups == 3] = -np.inf
    logits[np.flatnonzero(groups == 5)[0]] = np.nan
    assert_alike(nx.segment_softmax(strict(logits), strict(groups)), nx.segment_softmax(logits, groups))
    alone = logits[groups == 7]
    found = plain(nx.segment_softmax(strict(logits), strict(groups)))[groups == 7]
    assert found.tobytes() == plain(nx.segment_softmax(strict(alone), np.zeros(len(alone), int))).tobytes()


def test_a_device_without_float64_computes_in_float32_and_gives_that():
    for dtype in ("float32", "int8", "int32", "bool"):
        array = drawn(dtype)
        for name in ("softmax", "log_softmax", "logsumexp", "entropy", "margin", "sparsemax"):
            found = getattr(nx, name)(strict(array, NARROW))
            assert found.dtype == STRICT.float32
            assert found.device == NARROW
            assert plain(found) == pytest.approx(getattr(nx, name)(array.astype("f8")), rel=1e-6, abs=1e-12)
    loss, grad = nx.cross_entropy_with_grad(strict(drawn("float32"), NARROW), TARGET, weight=WEIGHT)
    expected = nx.cross_entropy_with_grad(drawn("float32"), TARGET, weight=WEIGHT)
    assert loss.device == grad.device == NARROW
    assert_alike((loss, grad), expected)


def test_inputs_stay_as_they_are():
    array = drawn("float64")
    given = strict(array.copy())
    for function in ONE_EACH.values():
        function(given)
    assert plain(given).tobytes() == array.tobytes()
