"""Every op under every feature of torch that the other files hold only some ops to: export, autocast, layouts."""

import subprocess
import sys
import warnings

import pytest
import torch

from torch_cases import CASES
from torch_quick import QUICK

SLOW = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


def parts(found):
    return found if isinstance(found, tuple) else (found,)


def views_of(x):
    """The same numbers in other places: turned, with gaps, stretched from one row where rows agree, not writable."""
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    wide = x.new_zeros([2 * size for size in x.shape])
    gaps = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    gaps.copy_(x)
    array = x.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own word on read-only memory, which it says once
        read_only = torch.from_numpy(array)
    return {"turned": turned, "gaps": gaps, "read-only": read_only}


@pytest.mark.parametrize("name", SLOW)
def test_exported_every_op_gives_the_same(name):
    function, inputs = CASES[name]

    class Network(torch.nn.Module):
        def forward(self, *given):
            return function(*given)

    inputs = tuple(x.detach() for x in inputs)
    program = torch.export.export(Network(), inputs)
    found, wanted = parts(program.module()(*inputs)), parts(function(*inputs))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert any("normexp" in str(node.target) for node in program.graph.nodes)


def test_an_export_may_be_the_first_that_meets_the_ops():
    """In a new process: the backend for tensors is loaded while torch traces."""
    code = """
import torch, normexp as nx
class Network(torch.nn.Module):
    def forward(self, x):
        return nx.softmax(x)
x = torch.randn(2, 3)
print(torch.equal(torch.export.export(Network(), (x,)).module()(x), nx.softmax(x)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize("name", CASES)
def test_under_autocast_every_op_keeps_its_dtype_and_its_gradient(name):
    """Ops without a product do not round at all; the linear head multiplies in bfloat16 and answers in float32."""
    function, inputs = CASES[name]
    given = [x.detach().float().requires_grad_() for x in inputs]
    exact = parts(function(*(x.detach() for x in given)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = parts(function(*given))
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == b.dtype
        if name.startswith("linear"):
            assert torch.allclose(a, b, rtol=0.05, atol=0.05)
        else:
            assert torch.equal(a, b)
    for grad, x in zip(torch.autograd.grad(sum(p.sum() for p in found), given), given, strict=True):
        assert grad.dtype == x.dtype
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", CASES)
def test_every_op_reads_every_layout_and_leaves_it_alone(name):
    """Values to the bit, gradients to the last few; an input that cannot be written is not written."""
    function, inputs = CASES[name]
    plain = [x.detach() for x in inputs]
    wanted = parts(function(*plain))
    watched = [x.clone().requires_grad_() for x in plain]
    slopes = torch.autograd.grad(sum(p.square().sum() for p in parts(function(*watched))), watched)
    for kind in ("turned", "gaps", "read-only"):
        given = [views_of(x)[kind] for x in plain]
        before = [x.clone() for x in given]
        found = parts(function(*given))
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), kind
        assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True)), kind
        for x in given:
            x.requires_grad_()
        again = torch.autograd.grad(sum(p.square().sum() for p in parts(function(*given))), given)
        assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(again, slopes, strict=True)), kind
