"""Heads for many classes: what is theirs alone. Cut-offs, trees, proposals, and the sentences for what is no tree."""

import math

import numpy as np
import pytest
import torch

import normexp as nx
from normexp.nn.cutoffs import best_cutoffs, zipf_counts
from normexp.nn.proposals import LogUniform, Unigram
from torch_heads import D, K, N, batch

COUNTS = [3, 50, 1, 9, 20, 4, 7, 2, 30]

# ---------------------------------------------------------------- adaptive


def test_with_the_same_weights_it_is_torch_s_adaptive_softmax():
    torch.manual_seed(3)
    ours = nx.nn.AdaptiveHead(16, 60, cutoffs=[10, 30], div_value=2.0)
    torch_s = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 60, [10, 30], div_value=2.0)
    with torch.no_grad():
        ours.head_weight.copy_(torch_s.head.weight)
        for j, tail in enumerate(torch_s.tail):
            ours.down[j].copy_(tail[0].weight)
            ours.tails[j].copy_(tail[1].weight)
    x, target = torch.randn(50, 16), torch.randint(60, (50,))
    assert torch.allclose(ours.log_prob(x), torch_s.log_prob(x), atol=1e-5)
    assert torch.allclose(ours.loss(x, target), torch_s(x, target).loss, rtol=1e-5)
    assert torch.equal(ours.predict(x), torch_s.predict(x))


def test_classes_are_sorted_by_their_counts_inside():
    head = nx.nn.AdaptiveHead(D, K, class_counts=COUNTS, cutoffs=[3])
    assert [k for k in range(K) if head.rank_of_class[k] < 3] == [1, 4, 8]


def test_the_cutoffs_are_the_cheapest_of_all_that_are_tried():
    counts = zipf_counts(20_000)
    cuts = best_cutoffs(counts, 256, 4.0)
    assert cuts == sorted(set(cuts))
    assert 100 < cuts[0] < 10_000
    flat = best_cutoffs(np.ones(20_000), 256, 4.0)
    assert flat[0] != cuts[0]  # other frequencies, other cut-offs
    head = nx.nn.AdaptiveHead(256, 20_000, class_counts=counts)
    assert head.cutoffs == cuts


@pytest.mark.parametrize("cuts", [[0], [K], [3, 3], [5, 2], []], ids=str)
def test_wrong_cutoffs_are_answered_in_a_sentence(cuts):
    with pytest.raises(nx.NormexpError, match="cutoffs are"):
        nx.nn.AdaptiveHead(D, K, cutoffs=cuts)


@pytest.mark.parametrize("counts", [[1.0] * 3, [-1.0] + [1.0] * 8, [math.nan] + [1.0] * 8], ids=["few", "below", "nan"])
def test_wrong_counts_are_answered_in_a_sentence(counts):
    with pytest.raises(nx.NormexpError, match="class_counts"):
        nx.nn.AdaptiveHead(D, K, class_counts=counts)


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize(
    ("parents", "leaves", "words"),
    [
        ([-1, 2, 3, 1], None, "node 1 never reaches a root"),
        ([1, 0], None, "node 0 never reaches a root"),
        ([-1, -1, 0, 1], None, "nodes 0 and 1 are both roots"),
        ([-1, 0, 9], None, "the parent of node 2 is 9"),
        ([-1, 0, 0], [1], "leaf 2 stands for no class"),
        ([-1, 0, 0], [1, 1, 2], "leaf 1 stands for two classes"),
        ([-1, 0, 0], [0, 1, 2], "class 0 is at node 0, which has children"),
        ([-1, 0, 0], [1, 7], "class 1 is at node 7"),
        ([], None, "parents have shape"),
        ([-1.0, 0.0], None, "parents have dtype float64"),
    ],
    ids=str,
)
def test_what_is_no_tree_is_answered_in_a_sentence(parents, leaves, words):
    with pytest.raises(nx.NormexpError) as caught:
        nx.nn.Tree.from_parents(parents, leaves)
    assert words in str(caught.value)


def test_huffman_s_tree_has_the_least_mean_depth():
    tree = nx.nn.Tree.huffman(COUNTS)
    mean = np.sum(np.array(COUNTS) * tree.depths[tree.leaves])
    # the cost of Huffman's tree is the sum of all inner nodes' counts, merged two at a time
    waiting, cost = sorted(COUNTS), 0
    while len(waiting) > 1:
        a, b, *rest = waiting
        cost += a + b
        waiting = sorted([*rest, a + b])
    assert mean == cost
    assert nx.nn.Tree.from_parents(tree.parents, tree.leaves) is not None


def test_a_balanced_tree_is_balanced_and_keeps_neighbours_together():
    rng = np.random.default_rng(1)
    centres = 20.0 * rng.standard_normal((4, 6))
    points = np.repeat(centres, 8, axis=0) + rng.standard_normal((32, 6))
    mixed = rng.permutation(32)
    tree = nx.nn.Tree.balanced(points[mixed])
    assert set(tree.depths[:32]) == {5}
    above = tree.parents[tree.parents[tree.parents[np.arange(32)]]]
    groups = {frozenset((mixed[above == node] // 8).tolist()) for node in set(above.tolist())}
    assert groups == {frozenset({g}) for g in range(4)}
    wide = nx.nn.Tree.balanced(torch.randn(30, 3), arity=4)
    assert wide.depths[:30].max() <= 3
    with pytest.raises(nx.NormexpError, match="arity is 1"):
        nx.nn.Tree.balanced(points, arity=1)


def test_leaf_probabilities_are_the_products_along_the_paths():
    tree = nx.nn.Tree.from_parents([-1, 0, 0, 0, 1, 1, 5, 5, 2])
    head = nx.nn.HierarchicalHead(D, tree, dtype=torch.float64)
    x, _, _ = batch()
    found = head.log_prob(x)
    # by hand, from the weights: slots are ordered by size of the sibling group, then parent, then node
    slot = {node: s for s, node in enumerate([8, 4, 5, 6, 7, 1, 2, 3])}
    z = {node: x @ head.weight[s] + head.bias[s] for node, s in slot.items()}
    own = {}
    for siblings in ([1, 2, 3], [4, 5], [6, 7], [8]):
        lse = torch.logsumexp(torch.stack([z[n] for n in siblings]), 0)
        own.update({n: z[n] - lse for n in siblings})
    wanted = torch.stack(
        [own[3], own[1] + own[4], own[1] + own[5] + own[6], own[1] + own[5] + own[7], own[2] + own[8]], 1
    )
    assert tree.leaves.tolist() == [3, 4, 6, 7, 8]
    assert torch.allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("classes", [400, 40], ids=["gathered", "one product"])
def test_both_ways_of_walking_the_paths_give_the_loss(classes, monkeypatch):
    head = nx.nn.HierarchicalHead(D, nx.nn.Tree.huffman(np.arange(1, classes + 1)), dtype=torch.float64)
    x, target = torch.randn(20, D, dtype=torch.float64), torch.randint(classes, (20,))
    taken = []
    real = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *given: taken.append(1) or real(*given))
    found = head.loss(x, target)
    assert bool(taken) == (classes == 400)
    assert torch.allclose(found, -head.log_prob(x).gather(1, target[:, None]).mean(), rtol=1e-12)


def test_a_wide_beam_finds_the_best_and_a_narrow_one_stays_honest():
    torch.manual_seed(5)
    for tree in (nx.nn.Tree.huffman(COUNTS), nx.nn.Tree.from_parents([-1, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 3])):
        head = nx.nn.HierarchicalHead(D, tree, dtype=torch.float64)
        x, _, _ = batch()
        with torch.no_grad():
            exact, wide = head.top_k(x, 4), head.top_k(x, 4, beam=K)
            assert torch.equal(exact.index, wide.index)
            assert torch.allclose(exact.log_prob, wide.log_prob, rtol=1e-12)
            narrow = head.top_k(x, 2, beam=2)
            assert torch.allclose(narrow.log_prob, head.log_prob(x).gather(1, narrow.index), rtol=1e-12)
            with pytest.raises(nx.NormexpError, match="beam is 1"):
                head.top_k(x, 2, beam=1)


def test_a_state_of_another_tree_is_refused():
    one = nx.nn.HierarchicalHead(D, nx.nn.Tree.huffman(COUNTS))
    other = nx.nn.HierarchicalHead(D, nx.nn.Tree.huffman(COUNTS[::-1]))
    with pytest.raises(nx.NormexpError, match="another tree"):
        other.load_state_dict(one.state_dict())
    state = one.state_dict()
    again = nx.nn.HierarchicalHead(D, nx.nn.Tree.from_parents(state["parents"].numpy(), state["leaves"].numpy()))
    again.load_state_dict(state)
    x = torch.randn(3, D)
    assert torch.equal(again.log_prob(x), one.log_prob(x))


def test_a_single_class_and_a_wrong_tree():
    head = nx.nn.HierarchicalHead(D, nx.nn.Tree.huffman([1.0]))
    assert torch.equal(head.log_prob(torch.randn(2, D)), torch.zeros(2, 1))
    assert head.loss(torch.randn(2, D), torch.tensor([0, 0])).item() == 0.0
    with pytest.raises(nx.NormexpError, match="tree is a list"):
        nx.nn.HierarchicalHead(D, [-1, 0, 0])


# ---------------------------------------------------------------- sampled


@pytest.mark.parametrize("kind", ["log_uniform", "log_uniform, counts", "unigram"])
def test_classes_are_drawn_as_often_as_the_proposal_says(kind):
    torch.manual_seed(0)
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    if kind == "unigram":
        proposal = Unigram(counts, learns=False)
    else:
        rank = torch.argsort(torch.argsort(counts, descending=True)) if "counts" in kind else torch.arange(K)
        proposal = LogUniform(rank)
    q = proposal.log_q(torch.arange(K)).exp()
    assert math.isclose(q.sum().item(), 1.0, rel_tol=1e-12)
    draws = 200_000
    seen = torch.bincount(proposal.draw(draws), minlength=K) / draws
    assert ((seen - q).abs() <= 5 * torch.sqrt(q * (1 - q) / draws)).all()


@pytest.mark.parametrize("proposal", ["log_uniform", "unigram"])
def test_with_many_samples_the_sampled_loss_and_its_gradient_tend_to_the_exact_ones(proposal):
    torch.manual_seed(2)
    head = nx.nn.SampledHead(D, K, 60_000, proposal, class_counts=COUNTS, dtype=torch.float64)
    x, target, _ = batch()
    sampled = head.train().loss(x, target)
    exact = head.eval().loss(x, target)
    of_sampled, of_exact = (torch.autograd.grad(loss, head.weight)[0] for loss in (sampled, exact))
    assert abs(sampled.item() - exact.item()) < 0.02 * exact.item()
    assert (of_sampled - of_exact).norm() < 0.05 * of_exact.norm()


def test_without_the_correction_it_would_not():
    torch.manual_seed(2)
    head = nx.nn.SampledHead(D, K, 60_000, "unigram", class_counts=COUNTS, dtype=torch.float64)
    x, target, _ = batch()
    head.proposal.log_q = lambda classes: torch.full(classes.shape, -math.log(K), dtype=torch.float64)
    losses = head.train().loss(x, target), head.eval().loss(x, target)
    of_sampled, of_exact = (torch.autograd.grad(loss, head.weight)[0] for loss in losses)
    assert (of_sampled - of_exact).norm() > 0.2 * of_exact.norm()


def test_noise_contrast_learns_probabilities_and_negative_sampling_a_ranking():
    """One context, a known distribution: NCE finds it, negative sampling finds its order."""
    torch.manual_seed(1)
    wanted = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    x = torch.ones(512, 1, dtype=torch.float64)
    for kind in ("nce", "negative"):
        head = nx.nn.SampledHead(1, K, 32, "unigram", class_counts=[1] * K, loss=kind, bias=False, dtype=torch.float64)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
        for _ in range(400):
            target = torch.multinomial(wanted, 512, replacement=True)
            optimiser.zero_grad()
            head.loss(x, target).backward()
            optimiser.step()
        found = head.eval().log_prob(x[:1]).exp()[0].detach()
        assert torch.argmax(found) == torch.argmax(wanted)
        if kind == "nce":
            assert (found - wanted).abs().max() < 0.03


def test_learned_and_in_batch_proposals_follow_the_data():
    for proposal in ("learned", "in_batch"):
        head = nx.nn.SampledHead(D, K, 8, proposal)
        x, target = torch.randn(40, D), torch.cat([torch.zeros(30), torch.full((10,), 5.0)]).long()
        for _ in range(20):
            head.loss(x, target)
        q = head.proposal.log_q(torch.arange(K)).exp()
        assert q[0] > 0.6 > q[5] > 0.2
        state = head.state_dict()
        other = nx.nn.SampledHead(D, K, 8, proposal)
        other.load_state_dict(state)
        assert torch.equal(other.proposal.log_q(torch.arange(K)).exp(), q)
        head.eval()
        head.loss(x, target)
        assert torch.equal(head.proposal.log_q(torch.arange(K)).exp(), q)


@pytest.mark.parametrize("loss", ["softmax", "nce", "negative"])
def test_sparse_gradients_touch_only_what_was_drawn(loss):
    torch.manual_seed(0)
    dense = nx.nn.SampledHead(D, 1000, 16, loss=loss)
    sparse = nx.nn.SampledHead(D, 1000, 16, loss=loss, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    x, target = torch.randn(N, D), torch.randint(1000, (N,))
    for head in (dense, sparse):
        torch.manual_seed(7)
        head.loss(x, target).backward()
    assert sparse.weight.grad.is_sparse
    assert sparse.weight.grad._indices().shape[1] == 16 + N  # picked once: nothing is added up, nothing is dense
    assert torch.allclose(sparse.weight.grad.to_dense(), dense.weight.grad, atol=1e-7)
    torch.optim.SGD(sparse.parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nx.nn.SampledHead(D, K, 0), "num_samples is 0"),
        (lambda: nx.nn.SampledHead(D, K, 3, "uniform"), "proposal is 'uniform'"),
        (lambda: nx.nn.SampledHead(D, K, 3, "unigram"), "needs class_counts"),
        (lambda: nx.nn.SampledHead(D, K, 3, loss="hinge"), "loss is 'hinge'"),
    ],
)
def test_a_wrong_constructor_is_answered_in_a_sentence(make, words):
    with pytest.raises(nx.NormexpError) as caught:
        make()
    assert words in str(caught.value)
