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


HEADS = {"softmax": softmax, "softmax, capped": capped, "margin": arcface}


def batch():
    """Features, targets in no order, and class weights."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    target = torch.randint(K, (N,), generator=generator)
    return x, target, torch.rand(K, generator=generator, dtype=torch.float64)
