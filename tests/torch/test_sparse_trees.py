"""Sparse gradients of a tree's weights: those of the dense head, and nothing for what no path touches."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import normexp as nx
from normexp.nn import hierarchical_head as module

D, N = 12, 150
TREES = {
    "huffman": nx.nn.Tree.huffman(1.0 / np.arange(1, 301)),
    "groups of one to six": nx.nn.Tree.from_parents(
        [-1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 11, 11, 11], leaves=[15, 4, 6, 5, 8, 7, 9, 10, 12, 13, 14]
    ),
    "ten thousand classes": nx.nn.Tree.huffman(1.0 / np.arange(1, 10_001)),
    "one class": nx.nn.Tree.from_parents([-1, 0, 1]),
}
BOUNDS = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-14},
    torch.bfloat16: {"rtol": 2.0**-7, "atol": 2.0**-9},  # a logit may be rounded to either neighbour
}


def pair(tree, dtype=torch.float32, *, bias=True):
    """The dense head and the sparse one, equal weights."""
    torch.manual_seed(1)
    dense, sparse = (
        nx.nn.HierarchicalHead(D, TREES[tree], bias=bias, sparse=sparse, dtype=dtype) for sparse in (False, True)
    )
    sparse.load_state_dict(dense.state_dict())
    return dense, sparse


def batch_of(head, rows=N, seed=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=generator).to(head.weight.dtype).requires_grad_()
    return x, torch.randint(head.num_classes, (rows,), generator=generator)


def gradients(loss, head, x, **options):
    return torch.autograd.grad(loss, [x, *head.parameters()], **options)


def siblings_on_paths(tree, target):
    """How many nodes lie beside each other on the paths to the root, counted node by node; only children do not."""
    groups = set()
    for leaf in tree.leaves[target.numpy()]:
        node = leaf
        while tree.parents[node] >= 0:
            node = tree.parents[node]
            groups.add(int(node))
    sizes = [int((tree.parents == node).sum()) for node in groups]
    return sum(size for size in sizes if size > 1)


@pytest.mark.parametrize("tree", ["huffman", "groups of one to six"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_sparse_gradient_is_the_dense_one(tree, dtype, reduction):
    dense, sparse = pair(tree, dtype)
    x, target = batch_of(dense, 5)
    target[1] = -100
    options = {"reduction": reduction, "weight": torch.rand(dense.num_classes)}
    losses = [head.loss(x, target, **options).sum() for head in (dense, sparse)]
    wanted, found = (gradients(loss, head, x) for loss, head in zip(losses, (dense, sparse), strict=True))
    in_one_pass = tree == "huffman" and dtype == torch.float32 and reduction == "mean"
    bound = {"rtol": 0.0, "atol": 0.0} if in_one_pass else BOUNDS[dtype]
    torch.testing.assert_close(losses[1], losses[0], **bound)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.to_dense(), b, **bound)
    touched = siblings_on_paths(TREES[tree], target[target >= 0])
    for grad, parameter in zip(found[1:], sparse.parameters(), strict=True):
        assert grad.is_sparse
        assert grad.shape == parameter.shape
        assert grad._indices().shape == (1, touched)
        assert (grad._indices().diff() > 0).all()


def test_only_children_are_certain_and_get_no_row():
    """Node 10 is an only child; every class is asked for, and its slot, the first, is the one row left out."""
    _, sparse = pair("groups of one to six")
    target = torch.arange(sparse.num_classes)
    sparse.loss(torch.randn(len(target), D), target).backward()
    assert sparse.weight.grad._indices()[0].tolist() == list(range(1, len(sparse.weight)))


def test_a_batch_of_no_rows_and_a_tree_of_one_class_have_sparse_gradients_of_nothing():
    for tree, fill in (("huffman", -100), ("groups of one to six", -100), ("one class", 0)):
        for dtype in (torch.float32, torch.float64):
            _, sparse = pair(tree, dtype)
            x, target = batch_of(sparse, 4)
            for reduction in ("mean", "none"):
                loss = sparse.loss(x, target.fill_(fill), reduction=reduction)
                assert not loss.any()
                assert loss.shape == (() if reduction == "mean" else (4,))
                loss.sum().backward()
            assert sparse.weight.grad.is_sparse
            assert sparse.weight.grad._indices().shape == (1, 0)
            nx.nn.RowAdagrad(sparse.parameters()).step()


# ---------------------------------------------------------------- what a step costs


class Sizes(TorchDispatchMode):
    """How many numbers the largest new tensor holds."""

    def __init__(self, known):
        super().__init__()
        self.largest = 0
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                stored = tensor._values() if tensor.is_sparse else tensor
                if stored.untyped_storage().data_ptr() not in self.known:
                    self.largest = max(self.largest, stored.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_step_makes_nothing_of_the_size_of_the_tree(dtype):
    """Each tensor that is made is no larger than the paths' cost times D; of the dense head one is of all weights."""
    for head in pair("ten thousand classes", dtype):
        optimiser = nx.nn.RowAdagrad(head.parameters())
        x, target = batch_of(head, 8)
        head.loss(x, target).backward()
        optimiser.step()
        optimiser.zero_grad()
        known = [*head.parameters(), *head.buffers(), *(state["sum"] for state in optimiser.state.values())]
        with Sizes(known) as seen:
            head.loss(x, target).backward()
            optimiser.step()
        if head.sparse:
            assert seen.largest <= int(head._path_cost[target].sum()) * D < len(head.weight)
        else:
            assert seen.largest == head.weight.numel()


# ---------------------------------------------------------------- optimisers


@pytest.mark.parametrize("optimiser", [nx.nn.RowAdagrad, torch.optim.Adagrad, torch.optim.SGD])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's Adagrad makes a tensor without asking for them
def test_steps_are_those_of_dense_gradients(optimiser):
    heads = pair("huffman")
    for head in heads:
        steps = optimiser(head.parameters(), lr=0.3)
        for seed in range(4):
            steps.zero_grad()
            for part in range(2):  # gradients add up
                head.loss(*batch_of(head, 6, 10 * seed + part)).backward()
            steps.step()
    for a, b in zip(*(head.parameters() for head in heads), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


def test_sparse_adam_moves_what_the_paths_touch_and_nothing_else():
    _, head = pair("huffman")
    before = head.weight.detach().clone()
    steps = torch.optim.SparseAdam(list(head.parameters()), lr=0.1)
    x, target = batch_of(head, 6)
    start = head.loss(x, target)
    start.backward()
    steps.step()
    rows = head.weight.grad._indices()[0]
    moved = (head.weight != before).any(1)
    assert moved.nonzero().reshape(-1).tolist() == rows.tolist()
    assert head.loss(x, target) < start


# ---------------------------------------------------------------- modes


def test_what_is_frozen_gets_no_gradient_and_without_any_nothing_is_picked(monkeypatch):
    dense, head = pair("huffman")
    x, target = batch_of(head)
    wanted = head.loss(x, target)
    head.weight.requires_grad_(requires_grad=False)
    head.loss(x, target).backward()
    dense.loss(x.detach(), target).backward()
    assert head.weight.grad is None
    assert torch.equal(head.bias.grad.to_dense(), dense.bias.grad)
    monkeypatch.setattr(module, "touched", lambda *_: pytest.fail("nobody wants these gradients"))
    head.bias.requires_grad_(requires_grad=False)
    assert torch.equal(head.loss(x, target), wanted)
    head.requires_grad_()
    with torch.no_grad():
        assert torch.equal(head.loss(x, target), wanted)


@pytest.mark.parametrize("of", ["x", "weight"])
def test_in_float64_it_can_be_differentiated_twice(of):
    found = []
    for head in pair("groups of one to six", torch.float64):
        x, target = batch_of(head, 7)
        first = gradients(head.loss(x, target), head, x, create_graph=True)
        norm = (first[0] if of == "x" else first[1].to_dense()).square().sum()
        found.append(gradients(norm, head, x))
    for a, b in zip(*found, strict=True):
        assert b.to_dense().any()
        assert torch.allclose(a, b.to_dense(), rtol=1e-10, atol=1e-12)


def test_autocast_multiplies_in_16_bits_and_keeps_the_weights_gradient_in_32():
    found = []
    for head in pair("huffman"):
        x, target = batch_of(head)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = head.loss(x, target)
        loss.backward()
        assert head.weight.grad.dtype == torch.float32
        assert head.weight.grad.is_sparse == head.sparse
        found.append([loss, head.weight.grad.to_dense(), head.bias.grad.to_dense()])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-2, atol=1e-3)


def test_smoothing_and_all_probabilities_touch_every_node_and_add_to_sparse_gradients():
    dense, sparse = pair("huffman", torch.float64)
    x, target = batch_of(dense, 6)
    for head in (dense, sparse):
        head.loss(x, target).backward()
        head.loss(x, target, label_smoothing=0.1).backward()
        head.log_prob(x)[0, 3].backward()
        assert not head.weight.grad.is_sparse
    assert torch.allclose(sparse.weight.grad, dense.weight.grad, rtol=1e-10)
    assert torch.allclose(sparse.bias.grad, dense.bias.grad, rtol=1e-10)


def test_the_state_is_that_of_the_dense_head():
    dense, sparse = pair("huffman")
    assert list(dense.state_dict()) == list(sparse.state_dict()) == ["weight", "bias", "parents", "leaves"]
    dense.load_state_dict(sparse.state_dict())


def test_the_number_of_threads_changes_no_bit():
    _, head = pair("huffman")
    x, target = batch_of(head)
    found = []
    for threads in (1, 2, 3):
        with nx.set_num_threads(threads):
            loss = head.loss(x, target)
            found.append([loss, *(grad.to_dense() for grad in gradients(loss, head, x))])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # where a graph is broken, torch looks at it itself
def test_a_compiled_loss_is_the_same():
    _, head = pair("huffman")
    x, target = batch_of(head)
    compiled = torch.compile(lambda x: head.loss(x, target), backend="aot_eager")
    found, wanted = compiled(x), head.loss(x, target)
    assert torch.equal(found, wanted)
    for a, b in zip(gradients(found, head, x), gradients(wanted, head, x), strict=True):
        assert a.is_sparse == b.is_sparse
        assert torch.equal(a.to_dense(), b.to_dense())
