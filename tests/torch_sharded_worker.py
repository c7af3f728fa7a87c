"""One rank of the tests in torch/test_sharded.py."""

import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import checkpoint

import normexp as nx

D, K, N = 6, 11, 8
SHORT_S = 8  # what a group waits for a rank that never comes


def same():
    """Everything against a dense head of the same weights."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, bias, x = drawn(K, D), drawn(K), drawn(N, D)
    target = torch.tensor([0, 10, 3, 5, -100, 7, 7, 1])
    class_weight = torch.rand(K, generator=generator, dtype=torch.float64)
    head, dense = nx.nn.ShardedHead(D, K, dtype=torch.float64), nx.nn.SoftmaxHead(D, K, dtype=torch.float64)
    head.load_dense(weight, bias)
    with torch.no_grad():
        dense.weight.copy_(weight)
        dense.bias.copy_(bias)
    shard = slice(head.first, head.last)
    for options in ({}, {"label_smoothing": 0.1}, {"weight": class_weight}, {"reduction": "sum"}):
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        mine, wanted = head.loss(one, target, **options), dense.loss(other, target, **options)
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=0)
        grads = torch.autograd.grad(mine, (one, head.weight, head.bias))
        whole = torch.autograd.grad(wanted, (other, dense.weight, dense.bias))
        torch.testing.assert_close(grads[0], whole[0], rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(grads[1], whole[1][shard], rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(grads[2], whole[2][shard], rtol=1e-9, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(head.log_prob(x), dense.log_prob(x), rtol=1e-10, atol=0)
        best, wanted = head.top_k(x, 7), dense.top_k(x, 7)
        assert torch.equal(best.index, wanted.index)
        torch.testing.assert_close(best.log_prob, wanted.log_prob, rtol=1e-10, atol=0)
        assert torch.equal(head.predict(x), dense.predict(x))
    found = head.gather_dense()
    assert torch.equal(found[0], weight)
    assert torch.equal(found[1], bias)
    lead = nx.nn.ShardedHead(1, K, bias=False)  # a confident row: the loss keeps its tail
    lead.load_dense(torch.tensor([[30.0]] + [[0.0]] * (K - 1)))
    loss = lead.loss(torch.ones(1, 1), torch.tensor([0]))
    expected = torch.log1p(torch.tensor((K - 1) * 9.357622968840175e-14, dtype=torch.float64))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    checkpoint.save(head.sharded_state_dict(), checkpoint_id=sys.argv[2])
    sys.stdout.write("the same\n")


def load():
    """The state that ``same`` saved, on however many ranks."""
    head = nx.nn.ShardedHead(D, K, dtype=torch.float64)
    head.load_sharded(sys.argv[2])
    weight, bias = head.gather_dense()
    alone = {"weight": torch.empty(K, D, dtype=torch.float64), "bias": torch.empty(K, dtype=torch.float64)}
    checkpoint.load(alone, checkpoint_id=sys.argv[2], no_dist=True)
    drawn = torch.randn(K, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(weight, drawn)
    assert torch.equal(alone["weight"], drawn)
    assert torch.equal(alone["bias"], bias)
    sys.stdout.write("loaded\n")


def said(call):
    """The sentence that a call ends with on this rank."""
    try:
        call()
    except nx.NormexpError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
    else:
        sys.stdout.write("no error\n")


def wrong():
    """One complaint after another: rank 1 alone is given what does not fit, or something else than rank 0."""
    odd = dist.get_rank() == 1
    said(lambda: nx.nn.ShardedHead(D, 1))
    said(lambda: nx.nn.ShardedHead(D, 0 if odd else K))
    said(lambda: nx.nn.ShardedHead(D, K + odd))
    said(lambda: nx.nn.ShardedHead(D, K, dtype=torch.float64 if odd else torch.float32))
    head, x, target = nx.nn.ShardedHead(D, K), torch.zeros(3, D), torch.tensor([0, 1, 2])
    said(lambda: head.loss(x, torch.tensor([0, 1, 99]) if odd else target))
    said(lambda: head.loss(x[:2], target[:2]) if odd else head.loss(x, target))
    said(lambda: head.loss(x, torch.tensor([0, 2, 1]) if odd else target))
    said(lambda: head.loss(x, target, weight=-torch.ones(K) if odd else None))
    said(lambda: head.log_prob(x[:, :2] if odd else x))
    said(lambda: head.top_k(x, K + 1 if odd else 2))
    said(lambda: head.top_k(x[:1] if odd else x, 2))
    said(lambda: head.predict(x.long() if odd else x))
    said(lambda: head.loss(x, target))


def absent():
    """Rank 1 never calls the loss: rank 0 must stop waiting when the group's time is over."""
    head = nx.nn.ShardedHead(D, K)
    if dist.get_rank() == 0:
        said(lambda: head.loss(torch.zeros(3, D), torch.tensor([0, 1, 2])))
    else:
        time.sleep(2 * SHORT_S)
        sys.stdout.write("gone\n")


def other():
    """The state of ``same``, taken for a head with one class more."""
    said(lambda: nx.nn.ShardedHead(D, K + 1, dtype=torch.float64).load_sharded(sys.argv[2]))


if __name__ == "__main__":
    seconds = SHORT_S if sys.argv[1] == "absent" else 120
    dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
    {"same": same, "load": load, "wrong": wrong, "absent": absent, "other": other}[sys.argv[1]]()
    sys.stdout.flush()
    if sys.argv[1] != "absent":
        dist.destroy_process_group()
