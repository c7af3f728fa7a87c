"""Tensors in CPU memory get the same bits as arrays, in every dtype and layout, without a copy and without harm."""

import warnings

import ml_dtypes
import numpy as np
import pytest
import torch

import normexp as nx

FLOATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "bool"]
TARGET = np.array([2, 0, 4, 1])
ONE_EACH = {
    "softmax": nx.softmax,
    "softmax, temperature": lambda z: nx.softmax(z, temperature=0.5, axis=0),
    "softmax, temperature 0": lambda z: nx.softmax(z, temperature=0.0),
    "log_softmax": nx.log_softmax,
    "log_softmax, axis 0": lambda z: nx.log_softmax(z, axis=0),
    "logsumexp": nx.logsumexp,
    "logsumexp, all": lambda z: nx.logsumexp(z, axis=None),
    "segment_softmax": lambda z: nx.segment_softmax(z, np.array([1, 0, 1, 3])),
    "sparsemax": nx.sparsemax,
    "entmax": lambda z: nx.entmax(z, alpha=1.5),
    "top_k": lambda z: nx.top_k(z, 2),
    "sample": lambda z: nx.sample(z, size=4, rng=7),
    "sample without replacement": lambda z: nx.sample(z, size=4, rng=7, replace=False, axis=0),
    "gumbel_softmax": lambda z: nx.gumbel_softmax(z, rng=7),
    "entropy": nx.entropy,
    "margin": nx.margin,
    "energy": nx.energy,
    "max_logit": nx.max_logit,
    "generalised_entropy": nx.generalised_entropy,
    "cross_entropy": lambda z: nx.cross_entropy(z, TARGET),
    "cross_entropy, options": lambda z: nx.cross_entropy_with_grad(
        z, TARGET, label_smoothing=0.1, z_loss=0.01, focal_gamma=2.0, ignore_index=4, weight=np.arange(1.0, 6.0)
    ),
    "cross_entropy, none": lambda z: nx.cross_entropy_with_grad(z, TARGET, reduction="none"),
}


def drawn(dtype, shape=(4, 5)):
    """An array of this dtype and the tensor of the same numbers."""
    rng = np.random.default_rng(5)
    if dtype in FLOATS:
        array = (4 * rng.standard_normal(shape)).astype(FLOATS[dtype])
        tensor = torch.from_numpy(array.astype(np.float64)).to(getattr(torch, dtype))
    else:
        array = rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
        tensor = torch.from_numpy(array)
    return array, tensor


def assert_same(tensors, arrays):
    """The same bits and dtypes, of one answer or of several."""
    if not isinstance(tensors, tuple):
        tensors, arrays = (tensors,), (arrays,)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert isinstance(tensor, torch.Tensor)
        assert str(tensor.dtype).removeprefix("torch.") == np.asarray(array).dtype.name
        assert tuple(tensor.shape) == np.shape(array)
        assert np.array_equal(tensor.double().numpy(), np.asarray(array, np.float64), equal_nan=True)


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE])
@pytest.mark.parametrize("name", ONE_EACH)
def test_a_tensor_gets_the_bits_that_an_array_gets(name, dtype):
    array, tensor = drawn(dtype)
    assert_same(ONE_EACH[name](tensor), ONE_EACH[name](array))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "cross_entropy, none", "top_k", "entropy"])
@pytest.mark.parametrize(
    "row",
    [[-np.inf] * 5, [np.inf, 0, 1, 2, 3], [np.nan, 0, 1, 2, 3], [-np.inf, 0, 1, 2, 3], [1e30, -1e30, 0, 1, 2]],
    ids=str,
)
def test_special_rows_get_the_same_answers(name, row):
    array = np.array([row, [1, 2, 3, 4, 5], row, [0, 0, 0, 0, 0]], np.float32)
    assert_same(ONE_EACH[name](torch.from_numpy(array.copy())), ONE_EACH[name](array))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("function", [nx.softmax, nx.log_softmax, nx.logsumexp, nx.entropy, nx.max_logit, nx.sparsemax])
def test_empty_tensors(function, shape):
    assert_same(function(torch.zeros(shape)), function(np.zeros(shape, np.float32)))


def test_a_single_number_has_probability_one():
    assert nx.softmax(torch.tensor(3.0)).item() == 1.0
    assert nx.log_softmax(torch.tensor(3.0)).item() == 0.0


@pytest.mark.parametrize("function", [nx.softmax, nx.log_softmax, nx.entmax, nx.logsumexp, nx.entropy])
def test_every_layout_gets_the_same_bits_and_is_left_alone(function):
    plain = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    wide = torch.zeros(12, 16)
    wide[::2, ::2] = plain
    writable = plain.numpy().copy()
    writable.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own word on read-only memory, which it says once
        read_only = torch.from_numpy(writable)
    for view in (plain.T.contiguous().T, wide[::2, ::2], read_only, plain.reshape(2, 3, 8).reshape(6, 8)):
        before = view.clone()
        found = function(view)
        assert torch.equal(found, function(plain))
        assert found.is_contiguous()
        assert torch.equal(view, before)


def test_masks_hide_what_they_mask():
    z = torch.tensor([[1.0, torch.nan, 3.0], [torch.inf, 1.0, 2.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    prob = nx.softmax(z, where=mask)
    assert torch.allclose(prob, torch.tensor([[0.11920292, 0.0, 0.88079708], [0.0, 0.0, 0.0]]))
    (grad,) = torch.autograd.grad(prob[:, 0].sum(), z)
    assert torch.isfinite(grad).all()
    assert torch.equal(nx.log_softmax(z, where=mask)[1], torch.full((3,), -torch.inf))
    (grad,) = torch.autograd.grad(nx.logsumexp(z, where=mask)[0], z)
    assert torch.isfinite(grad).all()


def test_out_is_filled_and_returned():
    z = torch.randn(3, 1000)
    out = torch.empty_like(z)
    assert nx.softmax(z, out=out) is out
    assert torch.equal(out, nx.softmax(z))
    with pytest.raises(nx.NormexpError, match="out"):
        nx.softmax(z, out=torch.empty(3, 1000, dtype=torch.float64))
    with pytest.raises(nx.NormexpError, match="gradient"):
        nx.softmax(z.requires_grad_(), out=out)


def test_the_kernels_read_the_tensor_s_own_memory(monkeypatch):
    from normexp.backends import cpu

    seen = []
    real = cpu.normalise
    monkeypatch.setattr(cpu, "normalise", lambda of, array, *rest: seen.append(array) or real(of, array, *rest))
    z = torch.randn(100, 1000)
    nx.softmax(z)
    nx.softmax(z.T)
    assert [array.ctypes.data for array in seen] == [z.data_ptr(), z.data_ptr()]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nx.softmax(torch.zeros(3, dtype=torch.complex64)), "softmax: logits have dtype complex64"),
        (lambda: nx.softmax(torch.zeros(3).to_sparse()), "softmax: logits are a sparse_coo tensor"),
        (lambda: nx.softmax(torch.zeros(3), axis=2), "axis"),
        (lambda: nx.softmax(torch.zeros(3), temperature=-1.0), "temperature is -1.0"),
        (lambda: nx.softmax(torch.zeros(3), temperature=torch.tensor([-1.0])), "temperature"),
        (lambda: nx.softmax(torch.zeros(3), where=torch.ones(3)), "where has dtype float32"),
        (lambda: nx.softmax(torch.zeros(3), where=torch.ones(4, dtype=torch.bool)), "where has shape"),
        (lambda: nx.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3])), "target of row 1 is 3"),
        (lambda: nx.cross_entropy(torch.zeros(2, 3), torch.tensor([0])), "target has shape"),
        (lambda: nx.cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.6]])), "sums to 1.1"),
        (lambda: nx.cross_entropy(torch.zeros(1, 2), torch.tensor([[-0.5, 1.5]])), "negative proportion"),
        (lambda: nx.cross_entropy(torch.zeros(1, 2), torch.tensor([0]), weight=torch.ones(3)), "weight has shape"),
        (lambda: nx.cross_entropy(torch.zeros(1, 2), torch.tensor([0]), weight=-torch.ones(2)), "weight holds -1.0"),
        (lambda: nx.cross_entropy(torch.zeros(1, 2), torch.tensor([True])), "target has dtype bool"),
        (lambda: nx.linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 2), [0, 1]), "projection has shape"),
        (lambda: nx.linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 4])), "row 1 is 4"),
        (lambda: nx.linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), [0, 1], softcap=0), "softcap is 0"),
        (lambda: nx.top_k(torch.zeros(3), 4), "k is 4"),
        (lambda: nx.segment_softmax(torch.zeros(3), torch.tensor([0, -1, 0])), "row 1 is -1"),
        (lambda: nx.sample(torch.tensor([0.0, -torch.inf]), size=2, replace=False), "row 0 has 1 possible"),
        (lambda: nx.sample(torch.zeros(2), rng="dice"), "rng is 'dice'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_answered_in_a_sentence(call, words):
    with pytest.raises(nx.NormexpError) as caught:
        call()
    assert words in str(caught.value)


def test_draws_repeat_with_the_seed_of_torch():
    z = torch.zeros(4, 50)
    torch.manual_seed(3)
    first = nx.sample(z, size=5)
    torch.manual_seed(3)
    assert torch.equal(nx.sample(z, size=5), first)
    assert not torch.equal(nx.sample(z, size=5), first)
    generator = torch.Generator().manual_seed(1)
    assert nx.sample(z, rng=generator).shape == (4,)
    assert torch.equal(nx.sample(z, rng=np.random.default_rng(2)), torch.from_numpy(nx.sample(z.numpy(), rng=2)))


def test_importing_normexp_and_arrays_leave_torch_alone():
    import subprocess
    import sys

    code = "import sys, normexp as nx, numpy as np; nx.softmax(np.ones(3)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
