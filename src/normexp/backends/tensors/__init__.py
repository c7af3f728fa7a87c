"""Tensors: the ops registered with torch.library.

CPU memory goes to the Numba kernels, CUDA to the Triton kernels, other devices to plain torch. Whoever imports this has
torch; ``dispatch`` does so when it meets a tensor.
"""

from normexp.backends.tensors.functions import (
    cross_entropy,
    cross_entropy_with_grad,
    energy,
    entmax,
    entropy,
    generalised_entropy,
    gumbel_softmax,
    log_softmax,
    logsumexp,
    margin,
    max_logit,
    sample,
    segment_softmax,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    sparsemax,
    top_k,
)
from normexp.backends.tensors.heads import linear_cross_entropy, linear_cross_entropy_with_grad

__all__ = [
    "cross_entropy",
    "cross_entropy_with_grad",
    "energy",
    "entmax",
    "entropy",
    "generalised_entropy",
    "gumbel_softmax",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "margin",
    "max_logit",
    "sample",
    "segment_softmax",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "top_k",
]
