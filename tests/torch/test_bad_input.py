"""Bad input to the heads: one sentence each, from the door, whatever the head."""

import math

import numpy as np
import pytest
import torch

import normexp as nx
from torch_heads import HEADS, D, K, N, batch

nn = nx.nn
ALONE = {
    "softmax": lambda: nn.SoftmaxHead(D, 1),
    "margin": lambda: nn.MarginHead(D, 1),
    "adaptive": lambda: nn.AdaptiveHead(D, 1),
    "huffman": lambda: nn.HierarchicalHead(D, nn.Tree.huffman([3])),
    "balanced": lambda: nn.HierarchicalHead(D, nn.Tree.balanced([[1.0, 2.0]])),
    "sampled": lambda: nn.SampledHead(D, 1, 4),
    "unigram": lambda: nn.SampledHead(D, 1, 4, "unigram", class_counts=[3]),
}


@pytest.fixture(params=HEADS)
def head(request):
    torch.manual_seed(1)
    return HEADS[request.param]()


@pytest.mark.parametrize("training", [True, False])
def test_what_a_loss_cannot_take_is_answered_in_a_sentence(head, training):
    head.train(training)
    x, target, weight = batch()
    complaints = [
        ("target is a list", lambda: head.loss(x, target.tolist())),
        ("target has dtype bool", lambda: head.loss(x, target > 3)),
        ("target has", lambda: head.loss(x, target.double())),
        ("x is a list", lambda: head.loss(x.tolist(), target)),
        ("x has dtype int64", lambda: head.loss(x.long(), target)),
        ("x has dtype complex64", lambda: head.loss(x.to(torch.complex64), target)),
        ("x has dtype float8_e4m3fn", lambda: head.loss(x.to(torch.float8_e4m3fn), target)),
        ("x is on meta", lambda: head.loss(x.to("meta"), target)),
        ("weight has shape (3,)", lambda: head.loss(x, target, weight=weight[:3])),
        ("weight hold", lambda: head.loss(x, target, weight=-weight)),
        ("weight is 'balanced'", lambda: head.loss(x, target, weight="balanced")),
        ("label_smoothing is 2", lambda: head.loss(x, target, label_smoothing=2)),
        ("reduction is 'average'", lambda: head.loss(x, target, reduction="average")),
        ("ignore_index is 'pad'", lambda: head.loss(x, target, ignore_index="pad")),
        ("x has dtype int64", lambda: head.log_prob(x.long())),
        ("x is a list", lambda: head.predict([1.0])),
        ("x has shape ()", lambda: head.log_prob(torch.tensor(1.0))),
        ("k is 0", lambda: head.top_k(x, 0)),
        ("k is 1.5", lambda: head.top_k(x, 1.5)),
    ]
    for words, call in complaints:
        with pytest.raises(nx.NormexpError) as caught:
            call()
        assert words in str(caught.value)


def test_another_dtype_than_the_weights_is_computed_with_or_refused(head):
    """Dense heads compute in the wider of the two; heads of many parts say which one would be right."""
    x, target, _ = batch()
    if head.mixes_dtypes:
        assert head.loss(x.float(), target).dtype == torch.float64
        wanted = head.log_prob(x.float().double())
        assert torch.allclose(head.log_prob(x.float()), wanted, rtol=1e-12)
        with torch.no_grad():
            assert torch.equal(head.top_k(x.float(), 3).index, head.top_k(x.float().double(), 3).index)
        return
    for call in (lambda: head.loss(x.float(), target), lambda: head.log_prob(x.float())):
        with pytest.raises(
            nx.NormexpError, match=r"x has dtype float32 and the weights float64; x.to\(torch.float64\)"
        ):
            call()


def test_an_empty_batch_has_empty_answers(head):
    x, target, _ = batch()
    for watched in (True, False):
        with torch.set_grad_enabled(watched):
            assert head.log_prob(x[:0]).shape == (0, K)
            assert head.predict(x[:0]).shape == (0,)
            assert head.top_k(x[:0], 2).index.shape == (0, 2)
    loss = head.loss(x[:0], target[:0])
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("name", ALONE)
def test_one_class_has_probability_one_and_costs_nothing(name):
    head, x, target = ALONE[name](), torch.randn(N, D), torch.zeros(N, dtype=torch.long)
    for smoothing in (0.0, 0.1):
        loss = head.loss(x, target, label_smoothing=smoothing)
        loss.backward()
        assert loss.item() == 0.0
    assert torch.equal(head.log_prob(x), torch.zeros(N, 1))
    assert torch.equal(head.predict(x), target)
    assert torch.equal(head.top_k(x, 1).prob, torch.ones(N, 1))
    with pytest.raises(nx.NormexpError, match="target of row 0 is 1; with 1 classes"):
        head.loss(x, target + 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.Tree(np.array([1, 0]), np.array([0])), "never reaches a root"),
        (lambda: nn.Tree(np.array([-1, -1]), np.array([0, 1])), "both roots"),
        (lambda: nn.Tree(np.array([-1, 0, 0]), np.array([1])), "leaf 2 stands for no class"),
        (lambda: nn.Tree.from_parents([[1], [2, 3]]), "parents are [[1], [2, 3]]"),
        (lambda: nn.Tree.huffman(["a"]), "class_counts is ['a']"),
        (lambda: nn.Tree.huffman([]), "class_counts have shape (0,)"),
        (lambda: nn.Tree.balanced("abc"), "class_embeddings is 'abc'"),
        (lambda: nn.Tree.balanced([[math.nan]]), "class_embeddings hold NaN"),
        (lambda: nn.AdaptiveHead(D, K, class_counts="abc"), "class_counts is 'abc'"),
        (lambda: nn.SampledHead(D, K, 4, class_counts=[1, 2]), "class_counts have shape (2,)"),
        (lambda: nn.AdaptiveHead(D, K, cutoffs=3), "cutoffs are 3"),
        (lambda: nn.AdaptiveHead(D, K, cutoffs=[2.5]), "cutoffs are [2.5]"),
        (lambda: nn.SoftmaxHead(D, K, dtype=torch.int64), "dtype is int64"),
        (lambda: nn.MarginHead(D, K, dtype=torch.int32), "dtype is int32"),
        (lambda: nn.AdaptiveHead(D, K, dtype=torch.complex64), "dtype is complex64"),
        (lambda: nn.SampledHead(D, K, 4, dtype=torch.float8_e4m3fn), "dtype is float8_e4m3fn"),
        (lambda: nn.HierarchicalHead(D, nn.Tree.huffman([1, 2]), dtype=torch.bool), "dtype is bool"),
        (lambda: nn.LinearCrossEntropyLoss(D, K, dtype=torch.int32), "dtype is int32"),
        (lambda: nn.LinearCrossEntropyLoss(D, K, ignore_index="pad"), "ignore_index is 'pad'"),
        (lambda: nn.LinearCrossEntropyLoss(D, K)(torch.ones(2, D), [0, 1]), "target is a list"),
        (lambda: nn.LinearCrossEntropyLoss(D, K)(torch.ones(2, D), torch.tensor([0, K])), f"target of row 1 is {K}"),
        (lambda: nn.LinearCrossEntropyLoss(D, K)(torch.ones(2, D), torch.full((2, K), 0.5)), "sums to 4.5"),
        (lambda: nn.SoftmaxHead(D, K).loss(torch.ones(2, D), torch.full((2, K), 0.5)), "sums to 4.5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_answered_in_a_sentence(call, words):
    with pytest.raises(nx.NormexpError) as caught:
        call()
    assert words in str(caught.value)


def test_a_proposal_draws_by_the_ranks_that_its_state_had():
    """The order of classes is made of the ranks: a loaded state must bring its own."""
    trained = nn.SampledHead(D, K, 4, class_counts=[3, 50, 1, 9, 20, 4, 7, 2, 30])
    other = nn.SampledHead(D, K, 4)
    other.load_state_dict(trained.state_dict())
    torch.manual_seed(0)
    seen = torch.bincount(other.proposal.draw(20_000), minlength=K) / 20_000
    assert (seen - other.proposal.log_q(torch.arange(K)).exp()).abs().max() < 0.02
