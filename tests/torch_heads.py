"""One head of every kind, small, in float64: what the tests that all heads share run through."""

import torch

from normexp import nn

D, K, N = 5, 9, 12


def softmax():
    return nn.SoftmaxHead(D, K, dtype=torch.float64)


def capped():
    return nn.SoftmaxHead(D, K, bias=False, temperature=0.5, softcap=2.0, dtype=torch.float64)


def arcface():
    return nn.MarginHead(D, K, scale=4.0, margin=0.0, dtype=torch.float64)


def adaptive():
    counts = [3, 50, 1, 9, 20, 4, 7, 2, 30]  # in no order
    return nn.AdaptiveHead(
        D, K, class_counts=counts, cutoffs=[3, 6], div_value=2.0, head_bias=True, dtype=torch.float64
    )


def huffman():
    return nn.HierarchicalHead(D, nn.Tree.huffman([3, 50, 1, 9, 20, 4, 7, 2, 30]), dtype=torch.float64)


def given_tree():
    """Sibling groups of four, three and one, leaves at several depths and in no order."""
    tree = nn.Tree.from_parents([-1, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 3], leaves=[8, 4, 12, 5, 6, 7, 9, 11, 10])
    return nn.HierarchicalHead(D, tree, bias=False, dtype=torch.float64)


def sampled():
    return nn.SampledHead(D, K, 6, dtype=torch.float64)


HEADS = {
    "softmax": softmax,
    "softmax, capped": capped,
    "margin": arcface,
    "adaptive": adaptive,
    "huffman": huffman,
    "given tree": given_tree,
    "sampled": sampled,
}


def batch():
    """Features, targets in no order, and class weights."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    target = torch.randint(K, (N,), generator=generator)
    return x, target, torch.rand(K, generator=generator, dtype=torch.float64)
