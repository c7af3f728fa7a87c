"""The plainest statement of every function, in the array API standard alone: the fallback for any other library."""

from normexp.backends.standard.doubt import energy, entropy, generalised_entropy, margin, max_logit, top_k
from normexp.backends.standard.draws import gumbel_softmax, sample
from normexp.backends.standard.heads import linear_cross_entropy, linear_cross_entropy_with_grad
from normexp.backends.standard.losses import cross_entropy, cross_entropy_with_grad
from normexp.backends.standard.maps import entmax, segment_softmax, sparsemax
from normexp.backends.standard.probabilities import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)

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
