"""The semantics table, value by value: infinities, NaN, empty axes, temperature, axes, layouts, masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import assert_within
from strategies import FLOATS, LAYOUTS, layouts, layouts_for, masked_batches, shapes

each_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)
INF, NAN = np.inf, np.nan


def same(a, b):
    """Bitwise, so NaN equals NaN; in value where the dtype differs."""
    return np.array_equal(np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64), equal_nan=True)


# ---------------------------------------------------------------- infinities and NaN


@each_float
def test_a_row_all_minus_infinity(dtype):
    logits = np.array([[-INF, -INF, -INF], [1.0, 2.0, 3.0]]).astype(dtype)
    assert np.isnan(nx.softmax(logits)[0].astype(float)).all()
    assert np.isnan(nx.log_softmax(logits)[0].astype(float)).all()
    assert nx.logsumexp(logits)[0] == -INF
    loss, grad = nx.cross_entropy_with_grad(logits, [1, 1], reduction="none")
    assert np.isnan(loss[0])
    assert grad[0].astype(float).tolist() == [0, 0, 0]
    alone_loss, alone_grad = nx.cross_entropy_with_grad(logits[1:], [1], reduction="none")
    assert same(loss[1:], alone_loss)
    assert same(grad[1:], alone_grad)
    assert same(nx.softmax(logits)[1:], nx.softmax(logits[1:]))


@each_float
def test_a_row_all_minus_infinity_and_proportions(dtype):
    logits = np.full((1, 2), -INF).astype(dtype)
    loss, grad = nx.cross_entropy_with_grad(logits, np.array([[0.5, 0.5]]), reduction="none")
    assert np.isnan(loss[0])
    assert grad.astype(float).tolist() == [[0, 0]]


@each_float
def test_a_row_masked_away(dtype):
    logits = np.array([[5.0, NAN, INF], [1.0, 2.0, 3.0]]).astype(dtype)
    where = np.array([[False] * 3, [True] * 3])
    assert nx.softmax(logits, where=where)[0].astype(float).tolist() == [0, 0, 0]
    assert nx.log_softmax(logits, where=where)[0].astype(float).tolist() == [-INF] * 3
    assert nx.logsumexp(logits, where=where)[0] == -INF
    assert_within(nx.softmax(logits, where=where)[1], oracle.softmax(logits[1]), "prob")
    assert_within(nx.logsumexp(logits, where=where)[1], oracle.logsumexp(logits[1]), "log")


@each_float
def test_some_minus_infinity(dtype):
    row = np.array([-INF, 1.0, -INF, 2.0, -30.0]).astype(dtype)
    prob, log_prob = nx.softmax(row), nx.log_softmax(row)
    assert prob[[0, 2]].astype(float).tolist() == [0, 0]
    assert not np.signbit(prob[[0, 2]].astype(float)).any()
    assert log_prob[[0, 2]].astype(float).tolist() == [-INF, -INF]
    assert_within(prob, oracle.softmax(row), "prob")
    assert_within(log_prob, oracle.log_softmax(row), "log")
    assert_within(nx.logsumexp(row), oracle.logsumexp(row), "log")
    loss, grad = nx.cross_entropy_with_grad(row[None], [3])
    assert grad[0, [0, 2]].astype(float).tolist() == [0, 0]
    assert_within(loss, oracle.cross_entropy_row(row, 3).loss, "log")
    assert_within(grad[0], oracle.cross_entropy_row(row, 3).grad, "grad")


@each_float
def test_minus_infinity_at_the_true_class(dtype):
    row = np.array([-INF, 1.0, -INF, 2.0]).astype(dtype)
    loss, grad = nx.cross_entropy_with_grad(row[None], [0], reduction="none")
    assert loss.tolist() == [INF]
    assert grad[0, [0, 2]].astype(float).tolist() == [0, 0]
    assert_within(grad[0, [1, 3]], [oracle.softmax(row)[k] for k in (1, 3)], "grad")


@each_float
@pytest.mark.parametrize("row", [[INF, 1.0, 2.0], [INF, INF, 0.0], [INF, -INF, 0.0]], ids=str)
def test_plus_infinity_in_a_row(dtype, row):
    logits = np.array([[0.5, 1.5, -2.0], row, [3.0, 0.0, 1.0]]).astype(dtype)
    prob, log_prob, lse = nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits)
    assert np.isnan(prob[1].astype(float)).all()
    assert np.isnan(log_prob[1].astype(float)).all()
    assert lse[1] == INF
    loss, grad = nx.cross_entropy_with_grad(logits, [0, 1, 2], reduction="none")
    assert np.isnan(loss[1])
    assert np.isnan(grad[1].astype(float)).all()
    for i in (0, 2):
        assert prob[i].tobytes() == nx.softmax(logits[i]).tobytes()
        assert log_prob[i].tobytes() == nx.log_softmax(logits[i]).tobytes()
        assert not np.isnan(loss[i])


@each_float
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("n_classes", [3, 40])
def test_nan_stays_in_its_row(dtype, column, n_classes, rng):
    clean = rng.standard_normal((5, n_classes)).astype(dtype)
    logits = clean.copy()
    logits[2, column] = NAN
    target = rng.integers(0, n_classes, 5)
    rest = [0, 1, 3, 4]
    for op in (nx.softmax, nx.log_softmax, nx.logsumexp):
        got = op(logits)
        assert np.isnan(got[2].astype(float)).all()
        assert got[rest].tobytes() == op(clean)[rest].tobytes()
    loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
    clean_loss, clean_grad = nx.cross_entropy_with_grad(clean, target, reduction="none")
    assert np.isnan(loss[2])
    assert np.isnan(grad[2].astype(float)).all()
    assert loss[rest].tobytes() == clean_loss[rest].tobytes()
    assert grad[rest].tobytes() == clean_grad[rest].tobytes()
    assert np.isnan(nx.cross_entropy(logits, target))


@each_float
def test_nan_beside_infinities(dtype):
    for row in ([NAN, INF, 1.0], [-INF, NAN, -INF], [NAN, NAN, NAN], [1.0, INF, NAN]):
        logits = np.array(row).astype(dtype)
        assert np.isnan(nx.softmax(logits).astype(float)).all(), row
        assert np.isnan(nx.log_softmax(logits).astype(float)).all(), row
        assert np.isnan(nx.logsumexp(logits)), row


# ---------------------------------------------------------------- empty


@each_float
@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3, 0)], ids=str)
def test_a_class_axis_of_length_zero(dtype, shape):
    logits = np.zeros(shape, dtype)
    for op in (nx.softmax, nx.log_softmax):
        assert op(logits).shape == shape
        assert op(logits).dtype == dtype
    lse = nx.logsumexp(logits)
    assert np.shape(lse) == shape[:-1]
    assert (np.asarray(lse) == -INF).all()


@each_float
@pytest.mark.parametrize("shape", [(0, 5), (0, 2, 5), (2, 0, 5)], ids=str)
def test_a_batch_of_none(dtype, shape):
    logits = np.zeros(shape, dtype)
    assert nx.softmax(logits).shape == nx.log_softmax(logits).shape == shape
    assert nx.logsumexp(logits).shape == shape[:-1]
    target = np.zeros(shape[:-1], np.int64)
    loss, grad = nx.cross_entropy_with_grad(logits, target)
    assert float(loss) == 0.0
    assert grad.shape == shape
    assert grad.dtype == dtype
    assert nx.cross_entropy(logits, target, reduction="none").shape == shape[:-1]
    assert float(nx.cross_entropy(logits, target, reduction="sum")) == 0.0


@given(shape=shapes(), picked=st.integers(0, 3))
def test_any_shape_has_the_shape_it_should(shape, picked):
    axis = picked % len(shape)
    logits = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 7
    moved = np.moveaxis(logits, axis, -1)
    reduced = moved.shape[:-1]
    assert nx.softmax(logits, axis=axis).shape == shape
    assert nx.logsumexp(logits, axis=axis).shape == reduced
    assert nx.logsumexp(logits, axis=axis, keepdims=True).shape == (*shape[:axis], 1, *shape[axis + 1 :])
    assert np.array_equal(np.moveaxis(nx.softmax(logits, axis=axis), axis, -1), nx.softmax(moved))


# ---------------------------------------------------------------- axes


def test_the_last_axis_is_the_default(rng):
    x = rng.standard_normal((3, 4, 5))
    assert np.array_equal(nx.softmax(x), nx.softmax(x, axis=-1))
    assert np.array_equal(nx.softmax(x), nx.softmax(x, axis=2))
    for row, got in zip(x.reshape(-1, 5), nx.softmax(x).reshape(-1, 5), strict=True):
        assert_within(got, oracle.softmax(row), "prob")


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_every_axis_positive_and_negative(axis, rng):
    x = 5 * rng.standard_normal((3, 4, 5)).astype(np.float32)
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    for op, truth, kind in ((nx.softmax, oracle.softmax, "prob"), (nx.log_softmax, oracle.log_softmax, "log")):
        got = np.moveaxis(op(x, axis=axis), axis, -1).reshape(rows.shape)
        for row, value in zip(rows, got, strict=True):
            assert_within(value, truth(row), kind)
    lse = nx.logsumexp(x, axis=axis)
    assert_within(lse.ravel(), [oracle.logsumexp(r) for r in rows], "log")
    target = rng.integers(0, x.shape[axis], lse.shape)
    loss, grad = nx.cross_entropy_with_grad(x, target, axis=axis, reduction="none")
    true_loss, true_grad = oracle.cross_entropy(rows, target.ravel(), reduction="none")
    assert loss.shape == target.shape
    assert_within(loss.ravel(), true_loss, "log")
    got = np.moveaxis(grad, axis, -1).reshape(rows.shape)
    for value, true in zip(got, true_grad, strict=True):
        assert_within(value, true, "grad")


@pytest.mark.parametrize("axis", [(0, 2), (2, 0), (1, 2), (-1, 0), (0, 1, 2), (1,), None], ids=str)
def test_several_axes_are_one_long_axis(axis, rng):
    x = rng.standard_normal((2, 3, 4))
    axes = tuple(range(3)) if axis is None else tuple(a % 3 for a in axis)
    kept = tuple(a for a in range(3) if a not in axes)
    order = kept + tuple(sorted(axes))
    flat = x.transpose(order).reshape(*(x.shape[a] for a in kept), -1)
    expected = nx.softmax(flat).reshape([x.shape[a] for a in order]).transpose(np.argsort(order))
    assert nx.softmax(x, axis=axis) == pytest.approx(expected, rel=2e-15)
    assert nx.softmax(x, axis=axis).sum(axis=axes) == pytest.approx(1.0)
    lse = nx.logsumexp(x, axis=axis)
    assert lse == pytest.approx(nx.logsumexp(flat), rel=1e-15)
    assert nx.logsumexp(x, axis=axis, keepdims=True).shape == tuple(1 if a in axes else x.shape[a] for a in range(3))
    assert nx.log_softmax(x, axis=axis) == pytest.approx(x - nx.logsumexp(x, axis=axis, keepdims=True), rel=1e-13)


def test_one_row_without_a_batch_has_a_loss():
    loss, grad = nx.cross_entropy_with_grad([2.0, 1.0, 0.1], 1)
    true = oracle.cross_entropy_row([2.0, 1.0, 0.1], 1)
    assert np.shape(loss) == ()
    assert_within(loss, true.loss, "log")
    assert_within(grad, true.grad, "grad")


# ---------------------------------------------------------------- temperature


@pytest.mark.parametrize("dtype", FLOATS[2:], ids=str)
@pytest.mark.parametrize("temperature", [0.5, 2.0, 0.25, 1024.0, 2.0**-20])
def test_a_power_of_two_as_temperature_costs_no_accuracy(dtype, temperature, rng):
    for row in (20 * rng.standard_normal((5, 30))).astype(dtype):
        assert_within(nx.softmax(row, temperature=temperature), oracle.softmax(row, temperature=temperature), "prob")
        truth = oracle.log_softmax(row, temperature=temperature)
        assert_within(nx.log_softmax(row, temperature=temperature), truth, "log")


@pytest.mark.parametrize("dtype", FLOATS[2:], ids=str)
@pytest.mark.parametrize("temperature", [0.75, 3.0, 1.5])
def test_a_temperature_that_must_be_divided_by_keeps_the_bound(dtype, temperature, rng):
    for row in (30 * rng.standard_normal((8, 20))).astype(dtype):
        assert_within(nx.softmax(row, temperature=temperature), oracle.softmax(row, temperature=temperature), "prob")
        truth = oracle.log_softmax(row, temperature=temperature)
        assert_within(nx.log_softmax(row, temperature=temperature), truth, "log")


@each_float
@pytest.mark.parametrize("shape", [(), (3, 1), (4,), (3, 4)], ids=str)
def test_temperature_broadcasts(dtype, shape, rng):
    logits = rng.standard_normal((3, 4)).astype(dtype)
    temperature = rng.choice([0.5, 1.0, 2.0, 4.0], shape).astype(dtype)
    full = np.broadcast_to(temperature, (3, 4))
    prob, log_prob = nx.softmax(logits, temperature=temperature), nx.log_softmax(logits, temperature=temperature)
    assert prob.dtype == log_prob.dtype == dtype
    for i in range(3):
        assert_within(prob[i], oracle.softmax(logits[i], temperature=full[i]), "prob")
        assert_within(log_prob[i], oracle.log_softmax(logits[i], temperature=full[i]), "log")


def test_temperature_broadcasts_along_any_axis(rng):
    logits = rng.standard_normal((5, 2, 3))
    temperature = np.array([0.5, 2.0, 4.0])
    got = nx.softmax(logits, axis=0, temperature=temperature)
    for j in range(3):
        assert np.array_equal(got[:, :, j], nx.softmax(logits[:, :, j], axis=0, temperature=temperature[j]))


@each_float
def test_temperature_zero_is_the_arg_max(dtype):
    logits = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0], [7.0, 7.0, 7.0], [-INF, -4.0, -INF]]).astype(dtype)
    prob, log_prob = nx.softmax(logits, temperature=0), nx.log_softmax(logits, temperature=0.0)
    for i, row in enumerate(logits):
        assert_within(prob[i], oracle.softmax(row, temperature=0), "prob")
        assert_within(log_prob[i], oracle.log_softmax(row, temperature=0), "log")
    assert prob[0].astype(float).tolist() == [0, 1, 0]
    assert prob[1].astype(float).tolist() == [0.5, 0.5, 0]


@each_float
def test_temperature_zero_keeps_the_edges(dtype):
    rows = np.array([[-INF, -INF], [INF, 1.0], [NAN, 1.0], [2.0, 1.0]]).astype(dtype)
    prob = nx.softmax(rows, temperature=0).astype(float)
    assert np.isnan(prob[:3]).all()
    assert prob[3].tolist() == [1, 0]
    masked = nx.softmax(
        rows, temperature=0, where=np.array([[False, False], [False, True], [False, True], [True, True]])
    )
    assert masked.astype(float).tolist() == [[0, 0], [0, 1], [0, 1], [1, 0]]


MIXED = {
    "the largest of those at 0 is above 0": ([1.0, 2.0, 5.0], [0, 0, 1]),
    "those at 0 are below 0": ([-1.0, -2.0, 0.5, 0.1], [0, 0, 1, 2]),
    "of those at 0 one is 0": ([0.0, -2.0, 0.5], [0, 0, 1]),
    "they tie": ([3.0, 3.0, 0.5], [0, 0, 1]),
    "all the others are impossible": ([-1.0, -2.0, -INF], [0, 0, 1]),
    "infinite beside finite": ([1.0, -30.0, 3.0, -INF], [1, INF, 2, INF]),
    "0, finite and infinite": ([-3.0, 2.0, 1.0], [0, 1, INF]),
    "0 beside infinite": ([4.0, 2.0, 1.0], [0, INF, INF]),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("kind", ["cpu", "torch", "array API", "integers", "the fused head"])
def test_temperatures_of_classes_may_be_0_or_infinite_beside_others(name, kind):
    """The limit, as 60 digits tell it: of temperatures that are as good as 0 and as good as infinite."""
    logits, heat = MIXED[name]
    near = [1e-40 if t == 0 else 1e40 if np.isinf(t) else t for t in heat]
    if kind == "integers" and (-INF in logits or any(z % 1 for z in logits)):
        logits = [round(10 * z) if np.isfinite(z) else -1000 for z in logits]
    given = np.array([logits, logits], dtype=np.int64 if kind == "integers" else np.float64)
    true = oracle.softmax(logits, temperature=near), oracle.log_softmax(logits, temperature=near)
    if kind == "the fused head":
        kept = np.isfinite(logits)  # no product is -inf
        w, target = np.array(logits)[kept][:, None], int(np.argmax([float(p) for p in true[0]]))
        loss = nx.linear_cross_entropy(np.ones((1, 1)), w, [target], temperature=np.array(heat, dtype=float)[kept])
        assert loss == pytest.approx(-float(true[1][target]), rel=1e-13, abs=1e-15)
        return
    if kind == "torch":
        torch = pytest.importorskip("torch")
        given, heat = torch.from_numpy(given), torch.tensor(heat, dtype=torch.float64)
    elif kind == "array API":
        strict = pytest.importorskip("array_api_strict")
        given, heat = strict.asarray(given), strict.asarray(np.array(heat, dtype=float))
    for function, expected in zip((nx.softmax, nx.log_softmax), true, strict=True):
        found = np.asarray(function(given, temperature=heat))
        wanted = [-INF if e < -1e20 else 0.0 if 0 < e < 1e-30 else float(e) for e in expected]
        for row in found.tolist():
            assert row == pytest.approx(wanted, rel=1e-13, abs=1e-15)


def test_rows_without_an_answer_have_none_under_temperatures_of_classes():
    rows = np.array([[-INF, -INF, -INF], [INF, 1.0, 2.0], [1.0, 2.0, INF], [1.0, NAN, 0.0], [3.0, 1.0, NAN]])
    for heat in ([0.0, 1.0, 2.0], [0.0, 1.0, INF], [1.0, 2.0, INF]):
        assert np.isnan(nx.softmax(rows, temperature=np.array(heat))).all()
        torch = pytest.importorskip("torch")
        assert torch.isnan(nx.softmax(torch.from_numpy(rows), temperature=torch.tensor(heat))).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_integers_have_the_same_answer_as_floats_under_temperatures_of_classes(dtype):
    """64-bit integers lose their largest before they become floats; not where each class has a measure of its own."""
    rows, heat = np.array([[1, 2, 3], [90, 70, 100]]), np.array([1.0, 2.0, 4.0])
    for where in (None, np.array([True, True, False])):
        got = nx.softmax(rows.astype(dtype), temperature=heat, where=where)
        assert np.array_equal(got, nx.softmax(rows.astype(float), temperature=heat, where=where))
        if dtype != np.uint64:
            torch, strict = pytest.importorskip("torch"), pytest.importorskip("array_api_strict")
            tensor = nx.softmax(torch.from_numpy(rows.astype(dtype)), temperature=torch.from_numpy(heat))
            bare = nx.softmax(strict.asarray(rows.astype(dtype)), temperature=strict.asarray(heat))
            for found in (tensor, bare):
                np.testing.assert_allclose(np.asarray(found), nx.softmax(rows.astype(float), temperature=heat), 1e-14)


def test_one_temperature_of_several_may_be_zero():
    logits = np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    prob = nx.softmax(logits, temperature=np.array([[0.0], [2.0]]))
    assert prob[0].tolist() == [0, 1, 0]
    assert_within(prob[1], oracle.softmax(logits[1], temperature=2), "prob")


# ---------------------------------------------------------------- masks


@given(case=masked_batches(np.float32))
def test_what_is_masked_never_matters(case):
    logits, where = case
    prob, log_prob = nx.softmax(logits, where=where), nx.log_softmax(logits, where=where)
    lse = nx.logsumexp(logits, where=where)
    for i, row in enumerate(logits):
        truth = oracle.state(row, where=where[i])
        assert_within(prob[i], truth.prob, "prob")
        assert_within(log_prob[i], truth.log_prob, "log")
        shown = row[where[i]].astype(float)
        assert_within(lse[i], truth.lse, "log", scale=shown.max() if shown.size and np.isfinite(shown.max()) else 0)


@each_float
def test_a_mask_equals_leaving_the_classes_out(dtype, rng):
    logits = (9 * rng.standard_normal((6, 20))).astype(dtype)
    keep = rng.random(20) < 0.5
    where = np.broadcast_to(keep, logits.shape)
    for op, kind in ((nx.softmax, "prob"), (nx.log_softmax, "log")):
        got = op(logits, where=where)[:, keep]
        for i, row in enumerate(logits):
            truth = oracle.softmax(row[keep]) if kind == "prob" else oracle.log_softmax(row[keep])
            assert_within(got[i], truth, kind)


# ---------------------------------------------------------------- memory


@each_float
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_layout_gives_the_same_bits_and_leaves_the_input_alone(dtype, layout, rng):
    if layout not in layouts_for(dtype):
        pytest.skip(f"{dtype} has one byte order only")
    plain = (6 * rng.standard_normal((7, 12))).astype(dtype)
    x = LAYOUTS[layout](plain)
    target = rng.integers(0, 12, 7)
    for op in (nx.softmax, nx.log_softmax, nx.logsumexp):
        got = op(x)
        assert got.dtype.isnative
        assert got.tobytes() == op(plain).tobytes()
        assert op(x, axis=0).tobytes() == op(plain, axis=0).tobytes()
    for got, expected in zip(
        nx.cross_entropy_with_grad(x, target, reduction="none"),
        nx.cross_entropy_with_grad(plain, target, reduction="none"),
        strict=True,
    ):
        assert got.tobytes() == expected.tobytes()
    assert np.array_equal(x, plain)
    assert x.flags.writeable == (layout != "read-only")


@given(case=masked_batches(np.float64), layout=layouts(np.float64))
def test_masks_and_layouts_together(case, layout):
    logits, where = case
    expected = nx.softmax(logits, where=where)
    assert nx.softmax(layout(logits), where=where).tobytes() == expected.tobytes()
    assert nx.softmax(logits, where=np.asfortranarray(where)).tobytes() == expected.tobytes()


def test_a_broadcast_array_is_taken(rng):
    row = rng.standard_normal(6)
    assert np.array_equal(nx.softmax(np.broadcast_to(row, (3, 6))), np.stack([nx.softmax(row)] * 3))


def test_a_result_never_shares_memory_with_the_logits(rng):
    x = rng.standard_normal((3, 1))
    for op in (nx.softmax, nx.log_softmax, nx.logsumexp):
        assert not np.shares_memory(op(x), x)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """An index of 32 bits would wrap; the last rows lie beyond it. Needs 9 GB."""
    n_rows, n_classes = 2**20 + 3, 2048
    assert n_rows * n_classes > 2**31
    logits = np.zeros((n_rows, n_classes), np.float16)
    logits[-1, :3] = [20.0, 19.0, 3.0]
    lse = nx.logsumexp(logits)
    assert_within(lse[-1], oracle.logsumexp(logits[-1]), "log")
    assert_within(lse[-2], oracle.MP.log(n_classes), "log")
    assert (lse[:-1] == lse[0]).all()
    nx.softmax(logits, out=logits)
    last = np.zeros(n_classes)
    last[:3] = [20.0, 19.0, 3.0]
    assert_within(logits[-1, :8], oracle.softmax(last)[:8], "prob")
    assert (logits[:-1] == np.float16(1 / n_classes)).all()
