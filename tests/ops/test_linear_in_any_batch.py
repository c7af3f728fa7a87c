"""The linear head: the same bits in any batch, options of every kind, little memory; each branch proven to be taken."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import normexp as nx
from normexp.backends import linear
from strategies import BFLOAT16, FLOATS, LAYOUTS, WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
# Depths and classes that do not fill BLAS's registers, and inner products that it cuts in two
SHAPES = [(23, 7, 17), (301, 33, 1_009), (70, 513, 901), (300, 1_000, 300), (40, 1, 5), (40, 3, 1), (5, 64, 9_000)]
HASHES = """
import hashlib, numpy as np, normexp as nx
found = hashlib.sha256()
for dtype in (np.float32, np.float64):
    for n, d, k in ((70, 513, 901), (300, 1000, 300), (33, 40, 1009)):
        rng = np.random.default_rng(n)
        x, w, target = rng.standard_normal((n, d)), rng.standard_normal((k, d)), rng.integers(0, k, n)
        for part in nx.linear_cross_entropy_with_grad(x.astype(dtype), w.astype(dtype), target)[:3]:
            found.update(np.ascontiguousarray(part).tobytes())
print(found.hexdigest())
"""


def problem(dtype, n=23, d=7, k=17, seed=0):
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((n, d)), rng.standard_normal((k, d)), rng.standard_normal(k)
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), rng.integers(0, k, n)


def gradients(x, w, target, **options):
    return nx.linear_cross_entropy_with_grad(x, w, target, reduction="none", **options)


# ---------------------------------------------------------------- the same bits


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@wide
def test_a_row_does_not_know_its_batch(dtype, shape, rng):
    x, w, b, target = problem(dtype, *shape)
    whole = gradients(x, w, target, bias=b)
    n = shape[0]
    for rows in (slice(0, 1), slice(n - 1, n), slice(2, 5), slice(None, None, -1), rng.permutation(n)):
        part = gradients(x[rows], w, target[rows], bias=b)
        assert part.loss.tobytes() == whole.loss[rows].tobytes()
        assert part.grad_x.tobytes() == whole.grad_x[rows].tobytes()


def test_a_plain_product_gives_a_row_other_bits_alone():
    """What the filling up is for: BLAS sums a single row, and the edges of a matrix, in another order."""

    def differs(dtype, n, d, k):
        x, w, _, _ = problem(dtype, n, d, k)
        product = x @ w.T
        return any((x[i : i + 1] @ w.T).tobytes() != product[i : i + 1].tobytes() for i in range(0, n, 7))

    assert any(differs(dtype, *shape) for dtype in WIDE_FLOATS for shape in SHAPES)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_memory_layout_does_not_matter(layout):
    x, w, b, target = problem(np.float64, 12, 9, 31)
    arrange = LAYOUTS[layout]
    got = gradients(arrange(x), arrange(w), target, bias=arrange(b))
    for a, e in zip(got, gradients(x, w, target, bias=b), strict=True):
        assert np.ascontiguousarray(a).tobytes() == e.tobytes()


def test_threads_of_the_library_and_of_blas_change_no_bit():
    def with_threads(blas, own):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": blas, "MKL_NUM_THREADS": blas, "OMP_NUM_THREADS": blas}
        code = f"import normexp\nnormexp.set_num_threads({own})\n{HASHES}"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    first = with_threads("1", 1)
    assert len(first.strip()) == 64
    assert with_threads("2", 2) == first
    assert with_threads("7", 7) == first


# ---------------------------------------------------------------- blocks and tiles


@pytest.mark.parametrize("options", [{}, {"softcap": 4.0, "temperature": 0.7}, {"label_smoothing": 0.1}], ids=str)
@wide
def test_several_blocks_and_tiles_give_what_one_gives(dtype, options, monkeypatch):
    x, w, b, target = problem(dtype, 100, 7, 300)
    whole = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, **options)
    seen = []
    tiles = linear._tiles

    def counted(head):
        for tile in tiles(head):
            seen.append(tile.columns)
            yield tile

    monkeypatch.setattr(linear, "_tiles", counted)
    monkeypatch.setattr(linear, "BLOCK_BYTES", 1)
    monkeypatch.setattr(linear, "TILE_CLASSES", 128)
    parts = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, **options)
    assert {(s.start, s.stop) for s in seen} == {(0, 128), (128, 256), (256, 320)}
    assert len(seen) == 2 * 3 * 7  # 7 blocks of 16 rows, 3 tiles, once for the logits and once for the gradients
    assert parts.loss.tobytes() == whole.loss.tobytes()
    room = 100 * float(np.finfo(dtype).eps)
    for a, e in zip(parts[1:], whole[1:], strict=True):
        assert a == pytest.approx(e, rel=room, abs=room)


def test_memory_does_not_grow_with_the_rows():
    def peak(n):
        x, w, _, target = problem(np.float32, n, 16, 5_000)
        tracemalloc.start()
        nx.linear_cross_entropy_with_grad(x, w, target)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)  # compiled before the count
    few, many = peak(300), peak(3_000)
    assert many - few < 2_700 * 16 * 4 + 2_700 * 200  # the gradient of x, and a few numbers for each row
    assert many < 3_000 * 5_000 * 4 / 5


# ---------------------------------------------------------------- special rows


def test_a_confident_row_keeps_its_loss_and_gradient():
    x, w = np.array([[20.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    got = nx.linear_cross_entropy_with_grad(x, w, [0])
    assert float(got.loss) == pytest.approx(2.0611536e-09, rel=1e-6)
    assert float(got.grad_x[0, 0]) == pytest.approx(-2.0611536e-09, rel=1e-6)
    z = x @ w.T
    assert float(np.log(np.exp(z - z.max()).sum())) == 0  # the textbook


def test_what_an_ignored_row_holds_never_matters():
    x, w, b, target = problem(np.float64)
    target[3] = -100
    clean = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, ignore_index=-100)
    x[3] = [np.nan, np.inf, -np.inf, 1e300, 0, 0, 0]
    got = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, ignore_index=-100)
    for a, e in zip(got, clean, strict=True):
        assert np.array_equal(a, e)
    assert not got.grad_x[3].any()
    assert nx.linear_cross_entropy(x, w, target, bias=b, ignore_index=-100, reduction="none")[3] == 0


def test_nothing_counts_and_the_loss_is_zero():
    x, w, b, target = problem(np.float32)
    got = nx.linear_cross_entropy_with_grad(x, w, np.full_like(target, 2), bias=b, ignore_index=2)
    assert got.loss == 0
    assert not any(g.any() for g in got[1:])
    empty = nx.linear_cross_entropy_with_grad(x[:0], w, target[:0], bias=b)
    assert empty.loss == 0
    assert empty.grad_x.shape == (0, 7)
    assert not empty.grad_projection.any()


def test_a_forbidden_class_has_no_gradient():
    x, w, b, target = problem(np.float64)
    b[5], target[target == 5] = -np.inf, 0
    got = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, label_smoothing=0.1)
    keep = np.arange(17) != 5
    shrunk = target - (target > 5)
    fewer = nx.linear_cross_entropy_with_grad(x, w[keep], shrunk, bias=b[keep], label_smoothing=0.1)
    assert got.loss == pytest.approx(fewer.loss, rel=1e-14)
    assert not got.grad_projection[5].any()
    assert got.grad_bias[5] == 0
    assert got.grad_projection[keep] == pytest.approx(fewer.grad_projection, rel=1e-12, abs=1e-15)


def test_a_row_of_nan_is_alone():
    x, w, b, target = problem(np.float64)
    clean = gradients(x, w, target, bias=b)
    x[4, 2] = np.nan
    got = gradients(x, w, target, bias=b)
    others = np.arange(23) != 4
    assert np.isnan(got.loss[4])
    assert np.isnan(got.grad_x[4]).all()
    assert got.loss[others].tobytes() == clean.loss[others].tobytes()
    assert got.grad_x[others].tobytes() == clean.grad_x[others].tobytes()


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("heat", [0.5, "rows", "classes", "all"])
def test_temperatures_of_every_shape(heat, rng):
    x, w, b, target = problem(np.float64, 24)
    x, target = x.reshape(4, 6, 7), target.reshape(4, 6)
    shapes = {"rows": (4, 6, 1), "classes": (17,), "all": (4, 6, 17)}
    t = rng.uniform(0.5, 2.0, shapes[heat]) if heat in shapes else heat
    got = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, temperature=t)
    loss, flow = nx.cross_entropy_with_grad((x @ w.T + b) / t, target)
    flow = flow / t
    assert float(got.loss) == pytest.approx(float(loss), rel=1e-13)
    assert got.grad_x == pytest.approx(flow @ w, abs=1e-15)
    assert got.grad_projection == pytest.approx(flow.reshape(24, 17).T @ x.reshape(24, 7), abs=1e-15)
    assert got.grad_bias == pytest.approx(flow.sum(axis=(0, 1)), abs=1e-15)


def test_temperature_zero_is_the_arg_max():
    x, w = np.array([[1.0], [1.0], [-1.0]]), np.array([[1.0], [1.0], [0.0]])
    got = nx.linear_cross_entropy_with_grad(x, w, [0, 2, 2], temperature=0.0, reduction="none")
    assert got.loss == pytest.approx([np.log(2), np.inf, 0.0])
    assert not got.grad_x.any()


@pytest.mark.parametrize("options", [
    {}, {"weight": np.linspace(0.5, 2, 17)}, {"label_smoothing": 0.2}, {"focal_gamma": 2.0}, {"z_loss": 0.1},
], ids=["plain", "weight", "label_smoothing", "focal_gamma", "z_loss"])  # fmt: skip
def test_proportions(options, rng):
    x, w, b, _ = problem(np.float64, 100)
    share = rng.dirichlet(np.ones(17), 100)
    got = nx.linear_cross_entropy_with_grad(x, w, share, bias=b, **options)
    loss, flow = nx.cross_entropy_with_grad(x @ w.T + b, share, **options)
    assert float(got.loss) == pytest.approx(float(loss), rel=1e-13)
    assert got.grad_x == pytest.approx(flow @ w, abs=1e-14)
    assert got.grad_projection == pytest.approx(flow.T @ x, abs=1e-14)


@wide
def test_a_cap_flattens_what_it_holds_back(dtype):
    x = np.array([[-1e6, -3.0, -1e-7, 0.0, 1e-6, 0.5, 40.0, 1e30]]).T.astype(dtype)
    w = np.array([[1.0], [0.0]], dtype)
    got = nx.linear_cross_entropy_with_grad(x, w, np.zeros(8, int), softcap=10.0, reduction="none")
    raw = x[:, 0].astype(np.float64)
    z = 10 * np.tanh(raw / 10)
    truth = np.logaddexp(0, -z)
    slope = -(1 / (1 + np.exp(z))) / np.cosh(np.clip(raw / 10, -300, 300)) ** 2
    rel = 1e-5 if dtype == np.float32 else 1e-12
    assert got.loss == pytest.approx(truth, rel=rel)
    assert got.grad_x[:, 0] == pytest.approx(slope, rel=rel, abs=1e-37)
    assert got.grad_x[6, 0] != 0  # 1 - tanh^2 in float32 would be 0


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(np.int32)], ids=str)
def test_gradients_come_in_the_dtypes_of_their_arrays(dtype):
    x, w, b, target = problem(np.float64)
    x, w = np.round(4 * x), np.round(4 * w) / (1 if dtype.kind == "i" else 16)
    got = nx.linear_cross_entropy_with_grad(x.astype(dtype), w.astype(dtype), target, bias=b)
    wanted = np.dtype(np.float64) if dtype.kind == "i" else dtype
    assert got.grad_x.dtype == got.grad_projection.dtype == wanted
    assert got.grad_bias.dtype == np.float64
    assert np.asarray(got.loss).dtype == (np.float32 if wanted in {FLOATS[0], BFLOAT16, FLOATS[2]} else np.float64)
    truth = nx.linear_cross_entropy_with_grad(x, w, target, bias=b)  # x and w are exact in every dtype
    assert float(got.loss) == pytest.approx(float(truth.loss), rel=1e-5)
    step = {2: 2.0**-7, 4: 1e-5, 8: 1e-13}[wanted.itemsize]
    assert got.grad_x.astype(float) == pytest.approx(truth.grad_x, rel=step, abs=step / 10)


def test_a_hidden_entry_is_refused():
    x, w, _, target = problem(np.float64)
    with pytest.raises(ValueError, match="linear_cross_entropy: x is a masked array") as caught:
        nx.linear_cross_entropy(np.ma.masked_less(x, 0), w, target)
    assert isinstance(caught.value, nx.NormexpError)
