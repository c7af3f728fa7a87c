"""The fused head: the loss and gradients of cross_entropy(x @ W.T + b), without the logits in memory."""

import tracemalloc

import numpy as np
import pytest

import normexp as nx
from strategies import WIDE_FLOATS

wide = pytest.mark.parametrize("dtype", WIDE_FLOATS, ids=str)
OPTIONS = [
    {}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"z_loss": 0.01}, {"focal_gamma": 2.0},
    {"weight": np.linspace(0.5, 2.0, 17)}, {"temperature": 2.0}, {"softcap": 5.0},
    {"temperature": 0.5, "softcap": 3.0, "label_smoothing": 0.2},
]  # fmt: skip
reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])


def problem(dtype, n=23, d=7, k=17, seed=0):
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((n, d)), rng.standard_normal((k, d)), rng.standard_normal(k)
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), rng.integers(0, k, n)


def unfused(x, w, b, target, *, temperature=1.0, softcap=None, reduction="mean", **options):
    """Loss and gradients in float64, through the logits."""
    x, w, b = (a.astype(np.float64) for a in (x, w, b))
    raw = x @ w.T + b
    z, slope = raw, np.ones_like(raw)
    if softcap is not None:
        z, slope = softcap * np.tanh(raw / softcap), 1 - np.tanh(raw / softcap) ** 2
    loss, grad = nx.cross_entropy_with_grad(z / temperature, target, reduction=reduction, **options)
    flow = grad / temperature * slope
    return loss, flow @ w, flow.T @ x, flow.sum(axis=0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@reductions
@wide
def test_it_is_the_loss_of_its_logits(options, reduction, dtype):
    x, w, b, target = problem(dtype)
    loss, gx, gw, gb = unfused(x, w, b, target, reduction=reduction, **options)
    got = nx.linear_cross_entropy_with_grad(x, w, target, bias=b, reduction=reduction, **options)
    rel = 1e-4 if dtype == np.float32 else 1e-11
    assert got._fields == ("loss", "grad_x", "grad_projection", "grad_bias")
    assert np.asarray(got.loss) == pytest.approx(loss, rel=rel, abs=rel)
    assert got.grad_x == pytest.approx(gx, rel=rel, abs=rel)
    assert got.grad_projection == pytest.approx(gw, rel=rel, abs=10 * rel)
    assert got.grad_bias == pytest.approx(gb, rel=rel, abs=10 * rel)
    alone = nx.linear_cross_entropy(x, w, target, bias=b, reduction=reduction, **options)
    assert np.asarray(alone).tobytes() == np.asarray(got.loss).tobytes()


@wide
def test_without_a_bias(dtype):
    x, w, _, target = problem(dtype)
    got = nx.linear_cross_entropy_with_grad(x, w, target)
    loss, gx, gw, _ = unfused(x, w, np.zeros(17), target)
    assert float(got.loss) == pytest.approx(float(loss), rel=1e-5)
    assert got.grad_x == pytest.approx(gx, abs=1e-5)
    assert got.grad_projection == pytest.approx(gw, abs=1e-5)
    assert got.grad_bias is None


@wide
def test_row_losses_do_not_depend_on_the_batch(dtype):
    x, w, b, target = problem(dtype, n=301, d=33, k=1_009)
    whole = nx.linear_cross_entropy(x, w, target, bias=b, reduction="none")
    for cut in (slice(0, 1), slice(5, 77), slice(300, 301), slice(None, None, -1)):
        part = nx.linear_cross_entropy(x[cut], w, target[cut], bias=b, reduction="none")
        assert part.tobytes() == whole[cut].tobytes()


def test_the_logits_are_never_in_memory():
    n, d, k = 2_000, 8, 20_000
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, d)).astype(np.float32), rng.standard_normal((k, d)).astype(np.float32)
    target = rng.integers(0, k, n)
    nx.linear_cross_entropy_with_grad(x[:3], w[:5], target[:3] % 5)  # compiled before the count
    tracemalloc.start()
    nx.linear_cross_entropy_with_grad(x, w, target)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < n * k * 4 / 5


@pytest.mark.parametrize(("change", "word"), [
    (lambda x, w, b, t: ((x[:, :3], w, t), {"bias": b}), "projection"),
    (lambda x, w, b, t: ((x, w, t), {"bias": b[:4]}), "bias"),
    (lambda x, w, b, t: ((x, w, t[:5]), {"bias": b}), "target"),
    (lambda x, w, b, t: ((x, w, t + 17), {"bias": b}), "row 0"),
    (lambda x, w, b, t: ((x, w, t), {"softcap": -1.0}), "softcap"),
    (lambda x, w, b, t: ((x, w, t), {"temperature": -1.0}), "temperature"),
], ids=["depth", "bias", "target", "range", "softcap", "temperature"])  # fmt: skip
def test_wrong_input_is_refused(change, word):
    arguments, options = change(*problem(np.float64))
    with pytest.raises(ValueError, match=f"linear_cross_entropy.*{word}") as caught:
        nx.linear_cross_entropy(*arguments, **options)
    assert isinstance(caught.value, nx.NormexpError)
