"""Every op on tensors, once or more, as (name, function, inputs): what all tests of the ops run through."""

import torch

import normexp as nx

F64 = torch.float64


def made(shape, seed, *, grad=True, dtype=F64):
    """Normal numbers, the same each time."""
    found = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)
    return found.requires_grad_() if grad else found


def proportions(shape, seed):
    return torch.softmax(made(shape, seed, grad=False), -1)


TARGET = torch.tensor([0, 5, 2])
PROPORTIONS = proportions((3, 6), 1)
WEIGHT = torch.tensor([0.5, 2.0, 3.0, 0.25, 1.0, 0.75], dtype=F64)
MASK = torch.tensor([[True, True, False, True, False, True]] * 2 + [[True, False, True, True, True, True]])
EVERYTHING = {"weight": WEIGHT, "label_smoothing": 0.1, "z_loss": 0.01, "focal_gamma": 1.5}
LINEAR_TARGET = torch.tensor([[0, 4, 2], [-100, 1, 1]])
LINEAR_PROPORTIONS = proportions((2, 3, 5), 2)
HEAT = torch.tensor([0.7, 1.5, 1.0], dtype=F64).reshape(3, 1)


def ops():
    """The ops of one row of logits each."""
    z = made((3, 6), 3)
    heat = HEAT.clone().requires_grad_()
    yield "softmax", nx.softmax, (z,)
    yield "softmax, temperature and mask", lambda z, t: nx.softmax(z, temperature=t, where=MASK), (z, heat)
    yield "softmax, first axis", lambda z: nx.softmax(z, axis=0), (z,)
    yield "softmax, all axes", lambda z: nx.softmax(z, axis=None), (z,)
    yield "log_softmax", nx.log_softmax, (z,)
    yield "log_softmax, temperature", lambda z, t: nx.log_softmax(z, temperature=t), (z, heat)
    yield "logsumexp, mask", lambda z: nx.logsumexp(z, where=MASK), (z,)
    yield "logsumexp, first axis", lambda z: nx.logsumexp(z, axis=0, keepdims=True), (z,)
    yield "softmax_vjp", lambda z, v: nx.softmax_vjp(nx.softmax(z), v), (z, made((3, 6), 4))
    yield "softmax_jvp", lambda z, v: nx.softmax_jvp(nx.softmax(z, axis=0), v, axis=0), (z, made((3, 6), 4))
    yield "softmax_jacobian", lambda z: nx.softmax_jacobian(nx.softmax(z)), (z,)
    yield "segment_softmax", lambda z: nx.segment_softmax(z, torch.tensor([4, 0, 4])), (z,)
    yield "sparsemax", nx.sparsemax, (z,)
    yield "entmax", nx.entmax, (z,)
    yield "entmax, 1.3, first axis", lambda z: nx.entmax(z, alpha=1.3, axis=0), (z,)
    yield "top_k", lambda z: tuple(nx.top_k(z, 3)[:2]), (z,)
    yield "gumbel_softmax", lambda z: nx.gumbel_softmax(z, rng=3, temperature=0.7), (z,)
    yield "entropy", nx.entropy, (z,)
    yield "margin", nx.margin, (z,)
    yield "energy", nx.energy, (z,)
    yield "max_logit", nx.max_logit, (z,)
    yield "generalised_entropy", nx.generalised_entropy, (z,)


def losses():
    """The losses, with and without all options."""
    z = made((3, 6), 5)
    x, w, b = made((2, 3, 4), 6), made((5, 4), 7), made((5,), 8)
    some = {**EVERYTHING, "weight": WEIGHT[:5], "softcap": 3.0}
    for reduction in ("mean", "sum", "none"):
        how = {"reduction": reduction}
        yield f"cross_entropy {reduction}", lambda z, how=how: nx.cross_entropy(z, TARGET, **how), (z,)
        yield (
            f"cross_entropy, all options {reduction}",
            lambda z, how=how: nx.cross_entropy(z, TARGET, ignore_index=5, **EVERYTHING, **how),
            (z,),
        )
        yield (
            f"cross_entropy, proportions {reduction}",
            lambda z, how=how: nx.cross_entropy(z, PROPORTIONS, **EVERYTHING, **how),
            (z,),
        )
        yield (
            f"linear {reduction}",
            lambda x, w, how=how: nx.linear_cross_entropy(x, w, LINEAR_TARGET, ignore_index=-100, **how),
            (x, w),
        )
        yield (
            f"linear, all options {reduction}",
            lambda x, w, b, how=how: nx.linear_cross_entropy(
                x, w, LINEAR_TARGET, bias=b, ignore_index=-100, temperature=HEAT, **some, **how
            ),
            (x, w, b),
        )
        yield (
            f"linear, proportions {reduction}",
            lambda x, w, b, how=how: nx.linear_cross_entropy(
                x, w, LINEAR_PROPORTIONS, bias=b, temperature=0.7, **some, **how
            ),
            (x, w, b),
        )


CASES = {name: (function, inputs) for name, function, inputs in (*ops(), *losses())}
