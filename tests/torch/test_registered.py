"""The ops as torch sees them: registered, compiled whole, exported, mapped, cast."""

import pytest
import torch

import normexp as nx
from normexp.backends.tensors import doubt, draws, head_loss, linear, losses, maps, path_loss, probabilities
from torch_cases import CASES, F64, HEAT, TARGET, WEIGHT, made
from torch_quick import QUICK

Z = made((3, 6), 11)
LOSS = (Z, TARGET, WEIGHT, 1, 0.1, 5, 0.01, 1.5, "mean")
HEAD = (made((7, 4), 12), made((5, 4), 13), torch.tensor([0, 1, 2, 3, 4, -100, 1]), made((5,), 14), None, None, 3.0)
HEAD_FLOAT32 = (
    made((7, 4), 12, dtype=torch.float32), made((5, 4), 13, dtype=torch.float32), made((5,), 14, dtype=torch.float32),
    torch.tensor([0, 1, 2, 3, 4, 4, 1]),
)  # fmt: skip
TREE_FLOAT32 = (  # a root of classes 0 and 1, and of a node above classes 2 and 3
    made((3, 4), 16, dtype=torch.float32), made((5, 4), 17, dtype=torch.float32), made((5,), 18, dtype=torch.float32),
    torch.tensor([3, 0, 2]), torch.tensor([0, 1, 2, 4, 6]), torch.tensor([2, 3, 0, 4, 1, 4]),
    torch.tensor([0, 0, 2, 2, 2]), torch.tensor([2, 2, 3, 3, 3]), torch.tensor([3, 3, 5, 5]), None, 0.5, [True] * 3,
)  # fmt: skip
RAW = {
    "softmax": (probabilities.softmax, (Z, HEAT.clone().requires_grad_(), None, [1])),
    "log_softmax": (probabilities.log_softmax, (Z, None, torch.ones(1, 6, dtype=torch.bool), [0])),
    "logsumexp": (probabilities.logsumexp, (Z, None, [1])),
    "softmax_vjp": (probabilities.product, (Z, made((3, 6), 15), [1])),
    "entmax": (maps.entmax, (Z, 1.5, [1])),
    "segment_softmax": (maps.segment_softmax, (Z, TARGET, None)),
    "softmax_jacobian": (maps.jacobian, (Z,)),
    "top_k": (doubt.top_k, (Z, 2, 1)),
    "entropy": (doubt.entropy, (Z, [1], 100, 0.1)),
    "margin": (doubt.margin, (Z, [1], 100, 0.1)),
    "max_logit": (doubt.max_logit, (Z, [1], 100, 0.1)),
    "generalised_entropy": (doubt.generalised_entropy, (Z, [1], 100, 0.1)),
    "cross_entropy": (losses.cross_entropy, LOSS),
    "cross_entropy_grad": (losses.cross_entropy_grad, (Z.detach(), *LOSS[1:], torch.tensor(1.0))),
    "sample": (draws.sample, (Z.detach(), torch.tensor(3), 2, True, 1)),
    "gumbel_noise": (draws.gumbel_noise, (Z.detach(), torch.tensor(3), 1)),
    "linear, mean": (linear.linear_cross_entropy, (*HEAD, 0.1, -100, 0.01, 0.0, "mean", None, [True] * 3)),
    "head_loss": (head_loss.head_loss, (*HEAD_FLOAT32, torch.ones(7, dtype=F64), 0.5, [True] * 3)),
    "path_loss": (path_loss.path_loss, TREE_FLOAT32),
    "linear, none": (linear.linear_cross_entropy, (*HEAD, 0.1, -100, 0.01, 0.0, "none", None, [False] * 3)),
}


def answers(function, inputs):
    """The answer and the gradients of a number made of it."""
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    found = function(*inputs)
    found = found if isinstance(found, torch.Tensor) else found[0]
    return [found, *torch.autograd.grad(found.square().sum(), inputs)]


def assert_close(found, wanted):
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", RAW)
def test_the_registration_is_whole(name):
    operation, inputs = RAW[name]
    found = torch.library.opcheck(operation.op, inputs)
    assert set(found.values()) == {"SUCCESS"}


def test_opcheck_sees_a_wrong_shape():
    library = torch.library.Library("normexp_test", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: torch.cat([x, x]), "CPU")
    torch.library.register_fake("normexp_test::twice", torch.empty_like, lib=library)
    with pytest.raises(torch.testing._internal.optests.generate_tests.OpCheckError):
        torch.library.opcheck(torch.ops.normexp_test.twice.default, (torch.ones(3),))


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES])
def test_compiled_whole_it_gives_the_same(name):
    torch._dynamo.reset()  # functions share the code that picks a library, and torch keeps eight versions of one code
    function, inputs = CASES[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_close(answers(compiled, inputs), answers(function, inputs))


@pytest.mark.slow
def test_inductor_compiles_it_too():
    def loss(z, t):
        return nx.cross_entropy(2.0 * z, t) + nx.softmax(z).square().sum()

    compiled = torch.compile(loss, fullgraph=True)
    z, t = made((5, 6), 1), torch.tensor([0, 1, 2, 3, 4])
    assert_close(answers(lambda z: compiled(z, t), (z,)), answers(lambda z: loss(z, t), (z,)))


def test_exported_it_gives_the_same():
    class Network(torch.nn.Module):
        def forward(self, x, y):
            return nx.softmax(x), nx.cross_entropy(x, y), nx.top_k(x, 2).index

    x, y = torch.randn(3, 5), torch.tensor([0, 1, 4])
    program = torch.export.export(Network(), (x, y), dynamic_shapes=({0: torch.export.Dim("n")},) * 2)
    more, labels = torch.randn(7, 5), torch.tensor([0, 1, 4, 2, 2, 3, 0])
    found, wanted = program.module()(more, labels), Network()(more, labels)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert any("normexp" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("name", [n for n in CASES if n != "gumbel_softmax"])
def test_mapped_over_samples_it_gives_each_its_own(name):
    function, inputs = CASES[name]
    many = [torch.stack([x.detach(), 2.0 * x.detach(), x.detach() - 1.0]) if i == 0 else x.detach()
            for i, x in enumerate(inputs)]  # fmt: skip
    dims = (0, *(None for _ in inputs[1:]))
    found = torch.func.vmap(function, dims)(*many)
    wanted = [function(many[0][i], *many[1:]) for i in range(3)]
    if isinstance(found, tuple):
        found, wanted = found[0], [one[0] for one in wanted]
    assert torch.allclose(found, torch.stack(wanted), rtol=1e-12, atol=1e-14)


def test_per_sample_gradients():
    z, t = made((4, 3, 6), 21, grad=False), torch.tensor([[0, 5, 2], [1, 1, 1], [3, 4, 5], [0, 0, 0]])
    found = torch.func.vmap(torch.func.grad(nx.cross_entropy))(z, t)
    wanted = torch.stack([torch.func.grad(nx.cross_entropy)(a, b) for a, b in zip(z, t, strict=True)])
    assert torch.allclose(found, wanted, rtol=1e-12)
    plain = torch.func.vmap(torch.func.grad(torch.nn.functional.cross_entropy))(z, t)
    assert torch.allclose(found, plain, rtol=1e-9)


def test_hessians_by_two_roads():
    z = made((5,), 22, grad=False)

    def loss(z):
        return nx.cross_entropy(z, torch.tensor(2), focal_gamma=1.0)

    assert torch.allclose(torch.func.hessian(loss)(z), torch.func.jacrev(torch.func.jacrev(loss))(z), rtol=1e-10)


def test_autocast_multiplies_in_bfloat16_and_keeps_the_loss_in_float32():
    x, w = torch.randn(6, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nx.linear_cross_entropy(x, w, target)
        soft = nx.softmax(torch.nn.functional.linear(x, w))
    loss.backward()
    assert (loss.dtype, soft.dtype, x.grad.dtype, w.grad.dtype) == (
        torch.float32, torch.bfloat16, torch.float32, torch.float32,
    )  # fmt: skip
    exact = nx.linear_cross_entropy(x.detach(), w.detach(), target)
    assert 0.0 < abs(loss.item() - exact.item()) < 0.05 * exact.item()


def test_the_answers_of_other_devices_are_those_of_the_kernels():
    """What runs where there is no kernel of ours, here on the CPU, against the kernels."""
    for name, (operation, inputs) in RAW.items():
        if name in {"sample", "gumbel_noise"}:
            continue
        with torch.no_grad():
            plain, ours = operation.anywhere(*inputs), operation.op(*inputs)
        plain, ours = (x if isinstance(x, tuple) else (x,) for x in (plain, ours))
        for a, b in zip(plain, ours, strict=True):
            assert a.dtype == b.dtype, name
            rtol, atol = (1e-6, 2e-7) if a.dtype == torch.float32 else (1e-12, 1e-15)  # products in any order
            assert torch.allclose(a, b, rtol=rtol, atol=atol), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.bool])
def test_elsewhere_too_the_answer_is_rounded_once(dtype):
    z = (8 * torch.randn(50, 40, generator=torch.Generator().manual_seed(2))).to(dtype)
    z[0, :] = 0
    if dtype.is_floating_point:
        z[1], z[2, 3], z[3, 4], z[4, 5] = -torch.inf, torch.nan, torch.inf, -torch.inf
    for operation in (probabilities.softmax, probabilities.log_softmax):
        ours, plain = operation.op(z, None, None, [1]), operation.anywhere(z, None, None, [1])
        ulps = 2.5 if operation is probabilities.softmax else 1  # in float32 the kernels' softmax is within 2
        rtol = 2.0**-50 if ours.dtype == F64 else ulps * 2.0**-23
        assert torch.allclose(plain.double(), ours.double(), rtol=rtol, atol=0, equal_nan=True)
    ours, plain = probabilities.logsumexp.op(z, None, [1]), probabilities.logsumexp.anywhere(z, None, [1])
    assert torch.allclose(plain, ours, rtol=2.0**-22 if dtype != torch.int64 else 2.0**-50, equal_nan=True)
