"""Floor 3, the functional level: checks at the door, any axis, any array library."""

from normexp.backends.pages import set_kept_memory
from normexp.backends.threads import get_num_threads, set_num_threads
from normexp.base.types import LinearLossGrad, LossGrad, TopK
from normexp.ops.derivatives import softmax_jacobian, softmax_jvp, softmax_vjp
from normexp.ops.doubt import energy, entropy, generalised_entropy, margin, max_logit
from normexp.ops.linear_losses import linear_cross_entropy, linear_cross_entropy_with_grad
from normexp.ops.losses import cross_entropy, cross_entropy_with_grad
from normexp.ops.probabilities import log_softmax, logsumexp, softmax
from normexp.ops.sampling import gumbel_softmax, sample
from normexp.ops.segments import segment_softmax
from normexp.ops.sparse_maps import entmax, sparsemax
from normexp.ops.top_k import top_k

__all__ = [
    "LinearLossGrad",
    "LossGrad",
    "TopK",
    "cross_entropy",
    "cross_entropy_with_grad",
    "energy",
    "entmax",
    "entropy",
    "generalised_entropy",
    "get_num_threads",
    "gumbel_softmax",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "margin",
    "max_logit",
    "sample",
    "segment_softmax",
    "set_kept_memory",
    "set_num_threads",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "top_k",
]
