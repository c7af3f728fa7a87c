"""The functions that make one number of each row of logits."""

import normexp as nx

ONE_NUMBER = {
    "logsumexp": nx.logsumexp,
    "entropy": nx.entropy,
    "margin": nx.margin,
    "energy": nx.energy,
    "max_logit": nx.max_logit,
    "generalised_entropy": nx.generalised_entropy,
}
