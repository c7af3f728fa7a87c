"""Floor 3, the functional level: checks at the door, any axis, any array library."""

from normexp.backends.threads import get_num_threads, set_num_threads
from normexp.base.types import LossGrad
from normexp.ops.losses import cross_entropy, cross_entropy_with_grad
from normexp.ops.probabilities import log_softmax, logsumexp, softmax

__all__ = [
    "LossGrad",
    "cross_entropy",
    "cross_entropy_with_grad",
    "get_num_threads",
    "log_softmax",
    "logsumexp",
    "set_num_threads",
    "softmax",
]
