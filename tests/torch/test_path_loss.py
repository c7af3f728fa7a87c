"""The loss of a tree's classes along their paths: what all leaves' probabilities say, and that the kernel said it."""

import numpy as np
import pytest
import torch

import normexp as nx
from normexp.backends.tensors import path_loss as module
from torch_cases import made

D, N = 12, 150
COUNTS = 1.0 / np.arange(1, 301)
TREES = {
    "huffman": nx.nn.Tree.huffman(COUNTS),
    "groups of one to six": nx.nn.Tree.from_parents(
        [-1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 11, 11, 11], leaves=[15, 4, 6, 5, 8, 7, 9, 10, 12, 13, 14]
    ),
}


def head_of(name, *, bias=True, dtype=torch.float32):
    torch.manual_seed(1)
    return nx.nn.HierarchicalHead(D, TREES[name], bias=bias, dtype=dtype)


def batch_of(head, dtype=torch.float32):
    target = torch.randint(head.num_classes, (N,), generator=torch.Generator().manual_seed(2))
    return made((N, D), 1, dtype=dtype), target


def paths_of(head):
    return module.Paths(head._path_begins, head._path_slots, head._group_first, head._group_size, head._path_cost)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_loss_and_gradients_are_those_of_all_leaves(name, bias, scaled):
    head = head_of(name, bias=bias)
    x, target = batch_of(head)
    scale = torch.rand(N, dtype=torch.float64) if scaled else None
    inputs = [x, *head.parameters()]
    found = module.loss_of_paths(x, head.weight, head.bias, target, paths_of(head), scale, 0.1)
    ours = torch.autograd.grad(2.0 * found, inputs)
    head.double()
    wide = x.detach().double().requires_grad_()
    losses = -head.log_prob(wide).gather(1, target[:, None]).squeeze(1)
    wanted = 0.1 * (losses if scale is None else losses * scale).sum()
    theirs = torch.autograd.grad(2.0 * wanted, [wide, *head.parameters()])
    assert torch.allclose(found.double(), wanted, rtol=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-6)


def test_the_head_takes_it_where_paths_touch_little(monkeypatch):
    calls = []
    real = module.path_loss
    monkeypatch.setattr(module, "path_loss", lambda *given: calls.append(1) or real(*given))
    head = head_of("huffman")
    x, target = batch_of(head)
    weight = torch.rand(head.num_classes)
    found = head.loss(x, target, weight=weight)
    assert len(calls) == 1
    each = head.loss(x, target, weight=weight, reduction="none")
    assert torch.allclose(found, each.sum() / weight[target].sum(), rtol=1e-6)
    other = head_of("groups of one to six")
    other.loss(*batch_of(other))
    head.double().loss(x.double(), target)
    assert len(calls) == 1


def test_in_float64_it_can_be_differentiated_twice_and_forward():
    head = head_of("groups of one to six", dtype=torch.float64)
    x, target = batch_of(head, torch.float64)
    x, target, scale = x[:3].detach().requires_grad_(), torch.tensor([0, 7, 10]), torch.tensor([0.5, 2.0, 1.0]).double()
    paths = paths_of(head)

    def loss(x, weight, bias):
        return module.loss_of_paths(x, weight, bias, target, paths, scale, 0.5)

    given = (x, head.weight.detach()[:, :D].requires_grad_(), head.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, given, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, given, fast_mode=True)


def test_a_confident_step_still_has_a_gradient():
    """Where torch's p - 1 is 0."""
    head = nx.nn.HierarchicalHead(1, nx.nn.Tree.from_parents([-1, 0, 0]), bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.tensor([[30.0]], requires_grad=True)
    loss = module.loss_of_paths(x, head.weight, None, torch.tensor([0]), paths_of(head), None, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(9.357623e-14, rel=1e-6, abs=0)
    assert x.grad.item() == pytest.approx(-9.357623e-14, rel=1e-6, abs=0)


def test_the_number_of_threads_changes_no_bit():
    head = head_of("huffman")
    x, target = batch_of(head)
    found = []
    for threads in (1, 2, 3):
        with nx.set_num_threads(threads):
            loss = head.loss(x, target)
            found.append([loss, *torch.autograd.grad(loss, [x, *head.parameters()])])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_what_needs_no_gradient_gets_none_and_no_rows_cost_nothing():
    head = head_of("huffman")
    x, target = batch_of(head)
    head.bias.requires_grad_(requires_grad=False)
    loss = head.loss(x.detach(), target)
    loss.backward()
    assert head.bias.grad is None
    assert head.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(head.loss(x, target), loss)
    nothing = module.loss_of_paths(x[:0], head.weight, head.bias, target[:0], paths_of(head), None, 1.0)
    assert nothing.item() == 0.0


def test_a_target_out_of_range_is_refused():
    head = head_of("huffman")
    x, target = batch_of(head)
    target[4] = 300
    with pytest.raises(nx.NormexpError, match="target of row 4 is 300"):
        module.loss_of_paths(x, head.weight, head.bias, target, paths_of(head), None, 1.0)


def test_a_logit_that_is_not_a_number_spoils_its_row_alone():
    head = head_of("huffman")
    x, target = batch_of(head)
    with torch.no_grad():
        x[3] = float("nan")
    loss = head.loss(x, target)
    (grad,) = torch.autograd.grad(loss, x)
    assert torch.isnan(loss)
    assert torch.isnan(grad[3]).all()
    assert torch.isfinite(grad[torch.arange(N) != 3]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # where a graph is broken, torch looks at it itself
@pytest.mark.parametrize("kind", ["adaptive", "hierarchical"])
def test_a_compiled_loss_is_the_same(kind):
    head = head_of("huffman") if kind == "hierarchical" else nx.nn.AdaptiveHead(D, 300, cutoffs=[30, 90])
    x, target = batch_of(head)
    compiled = torch.compile(lambda x: head.loss(x, target), backend="aot_eager")
    inputs = [x, *head.parameters()]
    found, wanted = compiled(x), head.loss(x, target)
    assert torch.equal(found, wanted)
    ours, theirs = (torch.autograd.grad(loss, inputs) for loss in (found, wanted))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
