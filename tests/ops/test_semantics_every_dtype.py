"""The cells of the semantics table that the other files leave open: every function, in every dtype.

What a narrow dtype must give is what the same numbers give in float32 (16 bits) or float64 (integers and bool),
which other files hold to 60 digits, rounded once.
"""

import numpy as np
import pytest

import normexp as nx
import oracle
from oracle import assert_within
from row_functions import ONE_NUMBER
from strategies import ALL_DTYPES, FLOATS, INTEGRAL, LAYOUTS, layouts_for, result_dtype

INF = np.inf
each_dtype = pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
integral = pytest.mark.parametrize("dtype", INTEGRAL, ids=str)
NARROW = FLOATS[:2]
narrow = pytest.mark.parametrize("dtype", NARROW, ids=str)


def vector(x):
    """Something to multiply with, of the shape and dtype of ``x``."""
    return np.ascontiguousarray(np.flip(x, axis=-1))


MAPS = {
    "softmax": nx.softmax,
    "log_softmax": nx.log_softmax,
    "sparsemax": nx.sparsemax,
    "entmax": nx.entmax,
    "vjp": lambda x, **o: nx.softmax_vjp(nx.softmax(x, **o), vector(nx.softmax(x, **o)), **o),
    "jvp": lambda x, **o: nx.softmax_jvp(nx.softmax(x, **o), vector(nx.softmax(x, **o)), **o),
}
BY_ROWS = {
    **MAPS,
    **ONE_NUMBER,
    "jacobian": lambda x: nx.softmax_jacobian(nx.softmax(x)),
    "loss": lambda x: nx.cross_entropy(x, np.arange(len(x)) % x.shape[1], reduction="none"),
    "grad": lambda x: nx.cross_entropy_with_grad(x, np.arange(len(x)) % x.shape[1], reduction="none").grad,
    "top_k": lambda x: nx.top_k(x, 2).prob,
    "top_k index": lambda x: nx.top_k(x, 2).index,
    "segment_softmax": lambda x: nx.segment_softmax(x, np.arange(len(x))),
}
DRAWN = {
    "sample": lambda x: nx.sample(x, size=3, rng=0),
    "gumbel_softmax": lambda x: nx.gumbel_softmax(x, rng=0),
    "gumbel_softmax, hard": lambda x: nx.gumbel_softmax(x, hard=True, rng=0),
    "segments": lambda x: nx.segment_softmax(x, np.arange(len(x)) // 2),
}
EVERY = {**BY_ROWS, **DRAWN}


def over(ops):
    return pytest.mark.parametrize("op", ops.values(), ids=ops.keys())


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def drawn(shape, dtype, seed=0):
    """Logits that the dtype holds: small whole numbers, halves too where it is a float, 0 and 1 where it is bool."""
    values = np.random.default_rng(seed).integers(0, 12, shape)
    if dtype == np.bool_:
        return values % 2 == 0
    return (values / 2).astype(dtype) if dtype in FLOATS else values.astype(dtype)


def widened(x):
    """The same numbers in the dtype that is computed in."""
    return x.astype(np.float32 if x.dtype in FLOATS[:3] else np.float64)


# ---------------------------------------------------------------- axes


@each_dtype
@pytest.mark.parametrize("axis", [None, (0, 2), (-1, 1)], ids=str)
def test_several_axes_are_one_row(dtype, axis):
    x = drawn((2, 3, 4), dtype)
    axes = (0, 1, 2) if axis is None else tuple(sorted(a % 3 for a in axis))
    kept = tuple(a for a in range(3) if a not in axes)
    flat = x.transpose(kept + axes).reshape(*(x.shape[a] for a in kept), -1)
    for op in (nx.softmax, nx.log_softmax, nx.sparsemax):
        got = op(x, axis=axis)
        assert got.dtype == result_dtype(dtype)
        assert np.array_equal(got.transpose(kept + axes).reshape(flat.shape), op(flat))
    for op in ONE_NUMBER.values():
        assert np.array_equal(op(x, axis=axis), op(flat))
    shape = tuple(1 if a in axes else x.shape[a] for a in range(3))
    held = nx.logsumexp(x, axis=axis, keepdims=True)
    assert held.shape == shape
    assert np.array_equal(held.ravel(), np.ravel(nx.logsumexp(x, axis=axis)))
    p, v = nx.softmax(x, axis=axis), vector(nx.softmax(x, axis=axis))
    flat_p, flat_v = (a.transpose(kept + axes).reshape(flat.shape) for a in (p, v))
    for op in (nx.softmax_vjp, nx.softmax_jvp):
        assert np.array_equal(op(p, v, axis=axis).transpose(kept + axes).reshape(flat.shape), op(flat_p, flat_v))


@each_dtype
def test_keepdims_leaves_one_where_the_classes_were(dtype):
    x = drawn((2, 3, 4), dtype)
    for axis in (0, 1, -1):
        held = nx.logsumexp(x, axis=axis, keepdims=True)
        assert np.array_equal(held, np.expand_dims(nx.logsumexp(x, axis=axis), axis))
        assert np.array_equal(nx.logsumexp(x, axis=axis), nx.logsumexp(widened(x), axis=axis))


# ---------------------------------------------------------------- masks


@integral
def test_a_row_of_integers_masked_away(dtype):
    x, shown = drawn((3, 4), dtype), np.array([[False] * 4, [True] * 4, [True, False, True, True]])
    masked = np.ma.masked_array(x, ~shown)
    for given, options in ((x, {"where": shown}), (masked, {})):
        assert nx.softmax(given, **options)[0].tolist() == [0] * 4
        assert nx.log_softmax(given, **options)[0].tolist() == [-INF] * 4
        assert nx.logsumexp(given, **options)[0] == -INF
        for op in (nx.softmax, nx.log_softmax):
            got = op(given, **options)
            assert np.array_equal(got[1], op(x[1]))
            assert np.array_equal(got[2, shown[2]], op(x[2, shown[2]]))
        lse = nx.logsumexp(given, **options)
        assert lse[1:].tolist() == [nx.logsumexp(x[1]), nx.logsumexp(x[2, shown[2]])]
    assert nx.sparsemax(masked)[0].tolist() == nx.entmax(masked)[0].tolist() == [0] * 4
    assert (nx.entropy(masked)[0], nx.energy(masked)[0], nx.max_logit(masked)[0]) == (0, INF, -INF)
    assert nx.top_k(masked, 2).prob[0].tolist() == [0, 0]
    assert nx.sample(masked, rng=0)[0] == -1
    assert nx.gumbel_softmax(masked, rng=0)[0].tolist() == [0] * 4


# ---------------------------------------------------------------- empty


@over(EVERY)
@each_dtype
def test_a_batch_of_none(op, dtype):
    got, one = op(np.zeros((0, 5), dtype)), op(np.zeros((1, 5), dtype))
    assert got.shape == (0, *one.shape[1:])
    assert got.dtype == one.dtype


@each_dtype
def test_rows_without_classes(dtype):
    x = np.zeros((2, 0), dtype)
    p = nx.softmax(x)
    for got in (p, nx.log_softmax(x), nx.sparsemax(x), nx.entmax(x), nx.gumbel_softmax(x, rng=0), nx.softmax_vjp(p, p)):
        assert got.shape == (2, 0)
        assert got.dtype == result_dtype(dtype)
    assert nx.softmax_jacobian(p).shape == (2, 0, 0)
    assert nx.segment_softmax(x, [0, 0]).shape == (2, 0)
    assert nx.logsumexp(x).tolist() == nx.max_logit(x).tolist() == [-INF, -INF]
    assert nx.energy(x).tolist() == [INF, INF]
    assert nx.entropy(x).tolist() == nx.generalised_entropy(x).tolist() == [0, 0]
    assert np.isnan(nx.margin(x)).all()
    assert nx.sample(x, rng=0).tolist() == [-1, -1]


# ---------------------------------------------------------------- memory layouts, threads, splits, orders


@over(EVERY)
@each_dtype
def test_the_memory_layout_does_not_matter(op, dtype):
    plain = drawn((6, 7), dtype)
    expected = bits(op(plain))
    for name in layouts_for(dtype):
        arranged = LAYOUTS[name](plain)
        assert bits(op(arranged)) == expected, name
        assert np.array_equal(arranged, plain)


@over(BY_ROWS)
@each_dtype
def test_threads_splits_and_orders_leave_the_bits_of_a_row(op, dtype):
    """Large enough that several threads have work; rows of the loss have the target of their place."""
    x = drawn((2_101, 40), dtype)
    if op is BY_ROWS["jacobian"]:
        x = x[:301]
    with nx.set_num_threads(1):
        whole = op(x)
    for count in (2, 7):
        with nx.set_num_threads(count):
            assert bits(op(x)) == bits(whole)
    start = 200  # a multiple of the number of classes, so targets stay
    assert bits(op(x[start:])) == bits(whole[start:])
    assert bits(op(x[:3])) == bits(whole[:3])
    if op not in (BY_ROWS["loss"], BY_ROWS["grad"]):
        order = np.random.default_rng(1).permutation(len(x))
        assert bits(op(x[order])) == bits(whole[order])


@each_dtype
def test_the_loss_of_a_row_in_any_order(dtype):
    x = drawn((2_101, 40), dtype)
    target, order = np.arange(len(x)) % 40, np.random.default_rng(1).permutation(len(x))
    for whole, got in zip(
        nx.cross_entropy_with_grad(x, target, reduction="none"),
        nx.cross_entropy_with_grad(x[order], target[order], reduction="none"),
        strict=True,
    ):
        assert bits(got) == bits(whole[order])


# ---------------------------------------------------------------- 16 bits


@over({k: EVERY[k] for k in ("sample", "gumbel_softmax", "gumbel_softmax, hard", "segments", "segment_softmax")})
@each_dtype
def test_draws_and_segments_are_those_of_the_wide_dtype(op, dtype):
    x = drawn((8, 9), dtype)
    got, wide = op(x), op(widened(x))
    assert got.dtype == (wide.dtype if wide.dtype.kind == "i" else result_dtype(dtype))
    if dtype in FLOATS or got.dtype.kind == "i":
        assert np.array_equal(got, wide.astype(got.dtype))
    else:  # of 64-bit integers the largest is taken off before the noise is added, which rounds elsewhere
        np.testing.assert_allclose(got, wide, rtol=1e-13)


@narrow
def test_derivatives_of_sixteen_bits_are_the_rounded_wide_ones(dtype):
    p = nx.softmax(drawn((6, 9), dtype))
    v = drawn((6, 9), dtype, seed=1)
    for op, arguments in ((nx.softmax_vjp, (p, v)), (nx.softmax_jvp, (p, v)), (nx.softmax_jacobian, (p,))):
        got = op(*arguments)
        wide = op(*(a.astype(np.float32) for a in arguments))
        assert got.dtype == dtype
        assert bits(got) == bits(wide.astype(dtype))
        assert np.abs(got.astype(float)).max() > 0.01


LOSSES = {
    "smoothing over what is possible": {"label_smoothing": 0.25},
    "weights": {"weight": [0.5, 2.0, 3.0, 0.25]},
    "weights and smoothing": {"label_smoothing": 0.125, "weight": [0.5, 2.0, 3.0, 0.25]},
    "one ignored": {"ignore_index": 2},
    "z_loss": {"z_loss": 0.25},
    "focal": {"focal_gamma": 2.0},
}


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("reduction", ["none", "sum"])
@narrow
def test_losses_of_sixteen_bit_logits(options, reduction, dtype):
    x = np.array([[2.0, 1.0, 0.125, -3.5], [-1.0, 4.0, 30.0, -INF], [0.0, 0.0, 0.0, 0.0], [-INF, 5.5, 1.0, 0.25]])
    x, target = x.astype(dtype), np.array([0, 2, 3, 1])
    weight = options.get("weight")
    given = {**options, "weight": np.array(weight, dtype)} if weight else options
    loss, grad = nx.cross_entropy_with_grad(x, target, reduction=reduction, **given)
    true_loss, true_grad = oracle.cross_entropy(x, target, reduction=reduction, **options)
    assert loss.dtype == np.float32
    assert_within(loss, true_loss, "log", extra=2)
    assert grad.dtype == dtype
    for got, true in zip(grad, true_grad, strict=True):
        assert_within(got, true, "grad")


@narrow
def test_proportions_beside_and_in_sixteen_bits(dtype):
    x = np.array([[2.0, 1.0, 0.125, -3.5], [-1.0, 4.0, 30.0, -6.0]]).astype(dtype)
    proportions = np.array([[0.5, 0.25, 0.125, 0.125], [0.0, 0.75, 0.25, 0.0]])
    true_loss, true_grad = oracle.cross_entropy(x, proportions, reduction="none")
    for target_dtype in (dtype, np.float32, np.float64):
        loss, grad = nx.cross_entropy_with_grad(x, proportions.astype(target_dtype), reduction="none")
        assert_within(loss, true_loss, "log")
        assert grad.dtype == dtype
        for got, true in zip(grad, true_grad, strict=True):
            assert_within(got, true, "grad")


@each_dtype
def test_a_batch_of_which_all_is_ignored(dtype):
    x = drawn((3, 4), dtype)
    for reduction, shape in (("none", (3,)), ("sum", ()), ("mean", ())):
        loss, grad = nx.cross_entropy_with_grad(x, [-100] * 3, ignore_index=-100, reduction=reduction)
        assert np.array_equal(loss, np.zeros(shape))
        assert grad.dtype == result_dtype(dtype)
        assert not grad.astype(float).any()


# ---------------------------------------------------------------- what no function takes

WRONG = {
    "complex": np.zeros((3, 3), complex),
    "object": np.array([[1, None, 2]] * 3, object),
    "text": np.array([["a", "b", "c"]] * 3),
    "bytes": np.array([[b"a", b"b", b"c"]] * 3),
    "days": np.zeros((3, 3), "datetime64[D]"),
}
ONES, ROWS = np.ones((3, 3)), np.arange(3)
DOORS = {
    **{name: getattr(nx, name) for name in ("softmax", "log_softmax", "sparsemax", "entmax", *ONE_NUMBER)},
    "softmax_jacobian": nx.softmax_jacobian,
    "softmax_vjp": lambda x: nx.softmax_vjp(x, ONES),
    "softmax_vjp ": lambda x: nx.softmax_vjp(ONES, x),
    "softmax_jvp": lambda x: nx.softmax_jvp(x, ONES),
    "softmax_jvp ": lambda x: nx.softmax_jvp(ONES, x),
    "segment_softmax": lambda x: nx.segment_softmax(x, ROWS),
    "segment_softmax ": lambda x: nx.segment_softmax(np.ones(3), x[0]),
    "sample": nx.sample,
    "gumbel_softmax": nx.gumbel_softmax,
    "top_k": lambda x: nx.top_k(x, 2),
    "cross_entropy": lambda x: nx.cross_entropy(x, ROWS),
    "cross_entropy ": lambda x: nx.cross_entropy(ONES, x),
    "cross_entropy_with_grad": lambda x: nx.cross_entropy_with_grad(x, ROWS),
    "linear_cross_entropy": lambda x: nx.linear_cross_entropy(x, ONES, ROWS),
    "linear_cross_entropy ": lambda x: nx.linear_cross_entropy(ONES, x, ROWS),
    "linear_cross_entropy_with_grad": lambda x: nx.linear_cross_entropy_with_grad(x, ONES, ROWS),
    "linear_cross_entropy_with_grad ": lambda x: nx.linear_cross_entropy_with_grad(ONES, x, ROWS),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", DOORS)
def test_what_is_no_number_is_refused_in_a_sentence(name, kind):
    with pytest.raises(TypeError, match=rf"^{name.strip()}: .*\.$") as caught:
        DOORS[name](WRONG[kind])
    assert isinstance(caught.value, nx.NormexpError)
