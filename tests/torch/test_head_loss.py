"""The loss of a part of a head: what plain torch says in float64, in blocks, whatever is watched."""

import pytest
import torch

import normexp as nx
from normexp.backends.tensors import head_loss as module
from normexp.backends.tensors.head_loss import head_loss, loss_of_part
from torch_cases import made

N, D, K = 50, 12, 37


def inputs(dtype=torch.float32, *, bias=True, scale=True):
    generator = torch.Generator().manual_seed(3)
    x, weight, offset = made((N, D), 1, dtype=dtype), made((K, D), 2, dtype=dtype), made((K,), 3, dtype=dtype)
    target = torch.randint(K, (N,), generator=generator)
    scales = torch.rand(N, generator=generator, dtype=torch.float64) if scale else None
    return x, weight, target, offset if bias else None, scales


def plain(x, weight, target, bias, scale, factor):
    """The same by torch, in float64."""
    wide = [None if part is None else part.double() for part in (x, weight, bias)]
    losses = torch.nn.functional.cross_entropy(torch.nn.functional.linear(*wide), target, reduction="none")
    return factor * (losses if scale is None else losses * scale).sum()


def gradients(loss, given):
    return torch.autograd.grad(loss, [given[i] for i in (0, 1, 3) if given[i] is not None])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_loss_and_gradients_are_those_of_plain_torch(bias, scale, rows, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", rows * 48)
    given = inputs(bias=bias, scale=scale)
    found, wanted = loss_of_part(*given, 0.3), plain(*given, 0.3)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, rtol=1e-6)
    for a, b in zip(gradients(2.0 * found, given), gradients(2.0 * wanted, given), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6)


def test_the_kernel_computed_it(monkeypatch):
    """And the rows it leaves go to the other kernel."""
    calls = []
    real, other = module.index_loss_single, module.index_rows
    monkeypatch.setattr(module, "index_loss_single", lambda *given: calls.append("quick") or real(*given))
    monkeypatch.setattr(module, "index_rows", lambda *given: calls.append("other") or other(*given))
    x, weight, target, bias, scale = inputs()
    with torch.no_grad():
        x[7] *= 1e6
    found = loss_of_part(x, weight, target, bias, scale, 1.0)
    assert calls == ["quick", "other"]
    wanted = plain(x, weight, target, bias, scale, 1.0)
    assert torch.allclose(found.double(), wanted, rtol=1e-6)
    a, b = (torch.autograd.grad(loss, weight)[0].double() for loss in (found, wanted))
    assert torch.allclose(a, b, rtol=1e-5, atol=0.2)  # 2^-23 of features of 10^6


def test_in_float64_it_can_be_differentiated_twice_and_forward():
    x, weight, target, bias, scale = (None if part is None else part[:5] for part in inputs(torch.float64))
    target = target % 5

    def loss(x, weight, bias):
        return loss_of_part(x, weight, target, bias, scale, 0.5)

    given = tuple(part.detach().requires_grad_() for part in (x, weight, bias))
    assert torch.autograd.gradcheck(loss, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, given)


def test_a_backward_pass_can_be_run_again_and_scaled():
    given = inputs()
    loss = loss_of_part(*given, 1.0)
    first = torch.autograd.grad(loss, given[1], retain_graph=True)[0].clone()
    again = torch.autograd.grad(3.0 * loss, given[1])[0]
    assert torch.allclose(again, 3.0 * first, rtol=1e-6)


def test_what_needs_no_gradient_gets_none():
    x, weight, target, bias, scale = inputs()
    loss = loss_of_part(x.detach(), weight, target, bias.detach(), scale, 1.0)
    loss.backward()
    assert bias.grad is None
    assert x.grad is None
    assert weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(loss_of_part(x, weight, target, bias, scale, 1.0), loss)


def test_a_confident_true_class_still_has_a_gradient():
    """Where torch's p - 1 is 0."""
    x, weight = torch.tensor([[30.0]], requires_grad=True), torch.tensor([[1.0], [0.0]], requires_grad=True)
    target = torch.tensor([0])
    loss = loss_of_part(x, weight, target, None, None, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(9.357623e-14, rel=1e-6, abs=0)
    assert x.grad.item() == pytest.approx(-9.357623e-14, rel=1e-6, abs=0)
    torch_s = torch.nn.functional.cross_entropy(x @ weight.T, target)
    assert torch_s.item() == 0.0


def test_no_rows_cost_nothing():
    x, weight, target, bias, _ = inputs()
    loss = loss_of_part(x[:0], weight, target[:0], bias, None, 1.0)
    loss.backward()
    assert loss.item() == 0.0
    assert not weight.grad.any()


def test_a_target_out_of_range_is_refused():
    x, weight, target, bias, scale = inputs()
    target[3] = K
    with pytest.raises(nx.NormexpError, match="target of row 3 is 37"):
        head_loss(x, weight, bias, target, scale, 1.0, [True] * 3)


def test_the_number_of_threads_changes_no_bit():
    given = inputs()
    with nx.set_num_threads(1):
        one = loss_of_part(*given, 1.0)
    with nx.set_num_threads(3):
        three = loss_of_part(*given, 1.0)
    assert torch.equal(one, three)


def test_the_adaptive_head_takes_it_for_float32_on_the_cpu(monkeypatch):
    calls = []
    real = module.head_loss
    monkeypatch.setattr(module, "head_loss", lambda *given: calls.append(given[1].shape[0]) or real(*given))
    head = nx.nn.AdaptiveHead(D, K, cutoffs=[10, 20])
    x, target = torch.randn(N, D), torch.arange(N) % K
    weight = torch.rand(K)
    found = head.loss(x, target, weight=weight)
    assert calls == [12, 10, 17]
    each = head.loss(x, target, weight=weight, reduction="none")
    assert torch.allclose(found, each.sum() / weight[target].sum(), rtol=1e-6)
    assert len(calls) == 3
    head.double().loss(x.double(), target)
    assert len(calls) == 3
