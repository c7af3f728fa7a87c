"""The cases of ``torch_cases`` that stand for the others where each takes long: the rest is marked slow."""

QUICK = ["softmax", "log_softmax, temperature", "top_k", "cross_entropy, all options mean", "linear, all options mean"]
