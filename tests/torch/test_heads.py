"""What every head promises: probabilities that sum to one, and a loss that is theirs."""

import io

import pytest
import torch

import normexp as nx
from normexp.backends.tensors import linear_bfloat16
from torch_heads import HEADS, D, K, N, batch


@pytest.fixture(params=HEADS)
def head(request):
    torch.manual_seed(1)
    return HEADS[request.param]().eval()


def plain_loss(log_prob, target, *, weight=None, smoothing=0.0, ignored=None):
    """Mean loss by the definition."""
    total, divisor = 0.0, 0.0
    for row, t in zip(log_prob, target.tolist(), strict=True):
        if t == ignored:
            continue
        w = 1.0 if weight is None else weight[t]
        total = total + w * ((1.0 - smoothing) * -row[t] + smoothing * -row.mean())
        divisor = divisor + w
    return total / divisor


def test_probabilities_sum_to_one(head):
    x, _, _ = batch()
    log_prob = head.log_prob(x)
    assert log_prob.shape == (N, K)
    assert torch.allclose(log_prob.exp().sum(-1), torch.ones(N, dtype=torch.float64), rtol=1e-12)


def test_predictions_and_the_best_k_are_those_of_the_probabilities(head):
    x, _, _ = batch()
    with torch.no_grad():
        log_prob, best = head.log_prob(x), head.top_k(x, 4)
        wanted = torch.topk(log_prob, 4, -1)
        assert torch.equal(best.index, wanted.indices)
        assert torch.allclose(best.log_prob, wanted.values, rtol=1e-12)
        assert torch.allclose(best.prob, wanted.values.exp(), rtol=1e-12)
        assert torch.equal(head.predict(x), log_prob.argmax(-1))


@pytest.mark.parametrize(
    "options", [{}, {"smoothing": 0.2}, {"weight": True}, {"ignored": -100}, {"ignored": 3}], ids=str
)
def test_the_loss_is_that_of_the_probabilities(head, options):
    x, target, weight = batch()
    if "ignored" in options:
        target[[0, 5]] = options["ignored"]
    weight = weight if options.get("weight") else None
    wanted = plain_loss(
        head.log_prob(x), target, weight=weight, smoothing=options.get("smoothing", 0.0), ignored=options.get("ignored")
    )
    found = head.loss(
        x, target, weight=weight, label_smoothing=options.get("smoothing", 0.0),
        ignore_index=options.get("ignored", -100),
    )  # fmt: skip
    assert torch.allclose(found, wanted, rtol=1e-10)


def test_gradients_of_the_loss_are_those_of_the_probabilities(head):
    x, target, weight = batch()
    x.requires_grad_()
    inputs = [x, *head.parameters()]
    found = torch.autograd.grad(head.loss(x, target, weight=weight), inputs)
    wanted = torch.autograd.grad(plain_loss(head.log_prob(x), target, weight=weight), inputs)
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-12) for a, b in zip(found, wanted, strict=True))


def test_reductions_and_shapes_agree(head):
    x, target, weight = batch()
    each = head.loss(x.reshape(3, 4, D), target.reshape(3, 4), reduction="none", weight=weight)
    assert each.shape == (3, 4)
    assert torch.allclose(each.sum(), head.loss(x, target, reduction="sum", weight=weight), rtol=1e-12)
    assert torch.allclose(each.sum() / weight[target].sum(), head.loss(x, target, weight=weight), rtol=1e-12)
    assert head.log_prob(x.reshape(3, 4, D)).shape == (3, 4, K)
    assert head.predict(x.reshape(3, 4, D)).shape == (3, 4)
    assert head.top_k(x.reshape(3, 4, D), 2).index.shape == (3, 4, 2)
    ignored = target.clone()
    ignored[2] = -100
    each = head.loss(x, ignored, reduction="none")
    assert each[2] == 0.0
    assert (each[:2] > 0.0).all()


def test_nothing_to_learn_from_costs_nothing(head):
    x, target, _ = batch()
    x.requires_grad_()
    loss = head.loss(x, torch.full_like(target, -100))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is None or torch.equal(x.grad, torch.zeros_like(x))
    assert head.loss(x[:0], target[:0]).item() == 0.0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x, t: (x, t.index_fill(0, torch.tensor([4]), K)), f"target of row 4 is {K}"),
        (lambda x, t: (x, t.index_fill(0, torch.tensor([2]), -1)), "target of row 2 is -1"),
        (lambda x, t: (x, t[:3]), "target has shape (3,)"),
        (lambda x, t: (x[:, :2], t), "x has shape (12, 2)"),
    ],
)
def test_what_does_not_fit_is_answered_in_a_sentence(head, spoil, words):
    x, target, _ = batch()
    with pytest.raises(nx.NormexpError) as caught:
        head.loss(*spoil(x, target))
    said = str(caught.value)
    assert words in said or ("x has shape (12, 2)" in said)
    with pytest.raises(nx.NormexpError, match="k is 10"):
        head.top_k(x, K + 1)


def test_a_state_can_be_saved_and_loaded(head, request):
    x, _, _ = batch()
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other = HEADS[request.node.callspec.params["head"]]().eval()
    before = other.log_prob(x)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.log_prob(x), head.log_prob(x))
    assert not torch.equal(before, head.log_prob(x))
    assert str(D) in repr(head)
    assert f"num_classes={K}" in repr(head)


def test_autocast_keeps_the_loss_in_float32(head):
    x, target, _ = batch()
    head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss(x.float(), target)
    loss.backward()
    assert loss.dtype == torch.float32
    exact = head.loss(x.float(), target)
    assert abs(loss.item() - exact.item()) < 0.05 * exact.item()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())


def test_it_learns(head):
    """Thirty steps on eight rows: every head can tell them apart."""
    x, target, _ = batch()
    x, target = x[:8], target[:8]
    head.train()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.2)
    first = head.loss(x, target).item()
    for _ in range(30):
        optimiser.zero_grad()
        head.loss(x, target).backward()
        optimiser.step()
    head.eval()
    assert head.loss(x, target).item() < 0.6 * first


# ---------------------------------------------------------------- the dense head and its loss


def test_tied_weights_are_shared_and_both_learn():
    embedding = torch.nn.Embedding(K, D)
    head = nx.nn.SoftmaxHead(D, K, tied_to=embedding.weight, bias=False)
    assert head.weight is embedding.weight
    head.loss(torch.randn(3, D), torch.tensor([0, 1, 2])).backward()
    assert embedding.weight.grad is not None
    with pytest.raises(nx.NormexpError, match="tied_to has shape"):
        nx.nn.SoftmaxHead(D + 1, K, tied_to=embedding.weight)


def test_the_best_of_many_classes_come_tile_by_tile(monkeypatch):
    from normexp.nn import tiles

    monkeypatch.setattr(tiles, "TILE_BYTES", 1)
    head = nx.nn.SoftmaxHead(8, 5000).requires_grad_(requires_grad=False)
    head.weight[4321] = 6.0
    x = torch.randn(7, 8).abs()
    seen = []
    real = head._logits
    monkeypatch.setattr(head, "_logits", lambda x, a, b, out: seen.append((a, b)) or real(x, a, b, out))
    best = head.top_k(x, 3)
    assert [b - a for a, b in seen] == [1024] * 4 + [904]
    whole = nx.top_k(real(x.double().float(), 0, 5000), 3)
    assert torch.equal(best.index, whole.index)
    assert torch.allclose(best.log_prob, whole.log_prob, rtol=1e-6, atol=0)
    assert (best.log_prob[:, 0] < 0).all()  # the leader's tail is not lost, however far it leads


def test_the_loss_module_is_the_function():
    loss = nx.nn.LinearCrossEntropyLoss(
        D, K, temperature=0.7, softcap=5.0, weight=torch.arange(1.0, K + 1), label_smoothing=0.1, z_loss=1e-3,
        focal_gamma=0.5, dtype=torch.float64,
    )  # fmt: skip
    x, target, _ = batch()
    target[3] = -100
    wanted = nx.linear_cross_entropy(
        x, loss.projection, target, bias=loss.bias, temperature=0.7, softcap=5.0, weight=torch.arange(1.0, K + 1),
        label_smoothing=0.1, z_loss=1e-3, focal_gamma=0.5, ignore_index=-100,
    )  # fmt: skip
    assert torch.equal(loss(x, target), wanted)
    shares = torch.softmax(torch.randn(N, K, dtype=torch.float64), -1)
    assert loss(x, shares).isfinite()
    assert "softcap=5.0" in repr(loss)


def test_the_bfloat16_loss_is_close_where_torch_s_is_a_percent_off():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 64, generator=generator).bfloat16().requires_grad_()
    w = (0.06 * torch.randn(9000, 64, generator=generator)).bfloat16().requires_grad_()
    b = torch.randn(9000, generator=generator).bfloat16().requires_grad_()
    target = torch.randint(9000, (300,), generator=generator)
    loss = nx.linear_cross_entropy(x, w, target, bias=b)
    exact = torch.nn.functional.cross_entropy(x.double() @ w.double().T + b.double(), target)
    torch_s = torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w, b), target)
    assert abs(loss.item() - exact.item()) <= 1e-4 * exact.item()
    assert abs(torch_s.item() - exact.item()) > 5e-4 * exact.item()
    ours = torch.autograd.grad(loss, (x, w, b))
    wanted = torch.autograd.grad(exact, (x, w, b))
    native = torch.autograd.grad(torch_s, (x, w, b))
    for a, c, d in zip(ours, wanted, native, strict=True):
        error = (a.double() - c.double()).norm() / c.double().norm()
        assert error <= (d.double() - c.double()).norm() / c.double().norm() + 2.0**-8


@pytest.mark.parametrize(("rows", "sums"), [(200, 0), (400, 3), (1000, 3)])
def test_bfloat16_blocks_are_summed_in_float32_and_rounded_once(rows, sums, monkeypatch):
    made, room = [], linear_bfloat16._room
    monkeypatch.setattr(linear_bfloat16, "_room", lambda *shape: made.append(shape) or room(*shape))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 16, generator=generator).bfloat16()
    w = (0.3 * torch.randn(9000, 16, generator=generator)).bfloat16().requires_grad_()
    target = torch.randint(9000, (rows,), generator=generator)

    def gradient(here):
        return torch.autograd.grad(nx.linear_cross_entropy(x[here], w, target[here], reduction="sum"), w)[0]

    found = gradient(slice(rows))
    assert len(made) == sums  # none where one block is all there is, else one for each tile of classes
    blocks = [gradient(slice(first, first + linear_bfloat16.ROWS)) for first in range(0, rows, linear_bfloat16.ROWS)]
    total, running = torch.zeros(w.shape), torch.zeros_like(w)
    for block in blocks:
        total, running = total + block.float(), running + block
    assert torch.equal(found, total.bfloat16())
    assert torch.equal(found, running) == (len(blocks) <= 2)  # a sum in bfloat16 rounds more than once


# ---------------------------------------------------------------- margins


@pytest.mark.parametrize(("kind", "margin"), [("arcface", 0.5), ("cosface", 0.35)])
def test_margins_lower_the_true_class_alone(kind, margin):
    torch.manual_seed(2)
    head = nx.nn.MarginHead(D, K, kind=kind, scale=8.0, margin=margin, dtype=torch.float64)
    x, target, _ = batch()
    cosine = head(x) / 8.0
    rows = torch.arange(N)
    true = cosine[rows, target]
    lowered = torch.cos(torch.acos(true) + margin) if kind == "arcface" else true - margin
    beyond = true < torch.cos(torch.tensor(torch.pi - margin))
    lowered = torch.where(beyond & (kind == "arcface"), true - margin * torch.sin(torch.tensor(margin)), lowered)
    wanted = cosine.clone()
    wanted[rows, target] = lowered
    assert torch.allclose(head.loss(x, target), torch.nn.functional.cross_entropy(8.0 * wanted, target), rtol=1e-6)
    assert head.loss(x, target) > torch.nn.functional.cross_entropy(head(x), target)


def test_arcface_has_finite_gradients_where_features_and_weights_are_parallel():
    head = nx.nn.MarginHead(D, K)
    x = head.weight.detach()[:3].clone().requires_grad_()
    head.loss(x, torch.tensor([0, 1, 5])).backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nx.nn.SoftmaxHead(0, 3), "in_features is 0"),
        (lambda: nx.nn.SoftmaxHead(3, 2.5), "num_classes is 2.5"),
        (lambda: nx.nn.SoftmaxHead(3, 2, temperature=0.0), "temperature is 0"),
        (lambda: nx.nn.MarginHead(3, 2, kind="sphere"), "kind is 'sphere'"),
        (lambda: nx.nn.LinearCrossEntropyLoss(3, 2, reduction="all"), "reduction is 'all'"),
    ],
)
def test_a_wrong_constructor_is_answered_in_a_sentence(make, words):
    with pytest.raises(nx.NormexpError) as caught:
        make()
    assert words in str(caught.value)
