"""First and second derivatives against finite differences, forward and reverse, alone and in batches."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError

import normexp as nx
from torch_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives_agree_with_finite_differences(name):
    function, inputs = CASES[name]
    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_agree_with_finite_differences(name):
    function, inputs = CASES[name]
    assert gradgradcheck(function, inputs)


def test_the_check_sees_a_wrong_derivative():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return nx.softmax(z.detach())

        @staticmethod
        def backward(ctx, upstream):
            return upstream

    with pytest.raises(GradcheckError):
        gradcheck(Wrong.apply, (torch.ones(3, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("lead", [20.0, 40.0, 80.0])
def test_the_gradient_of_a_confident_true_class_is_not_falsely_zero(lead):
    z = torch.tensor([[lead, 0.0, 1.0]], requires_grad=True)
    target = torch.tensor([0])
    true = -torch.exp(torch.tensor([-lead, 1.0 - lead], dtype=torch.float64)).sum()
    ours = {
        "cross_entropy": nx.cross_entropy(z, target),
        "log_softmax": -nx.log_softmax(z)[0, 0],
        "top_k": -nx.top_k(z, 1).log_prob.sum(),
    }
    for name, loss in ours.items():
        assert abs(loss.item() + true) <= 2.0**-22 * -true, name
        (grad,) = torch.autograd.grad(loss, z)
        assert abs(grad[0, 0].double() - true) <= 3 * 2.0**-24 * -true, name


def test_torch_s_own_loss_and_gradient_fail_that_test():
    z = torch.tensor([[20.0, 0.0, 1.0]], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor([0]))
    (grad,) = torch.autograd.grad(loss, z)
    assert loss.item() == 0.0
    assert grad[0, 0].item() == 0.0


@pytest.mark.parametrize("function", [nx.softmax, nx.log_softmax, nx.logsumexp, nx.entropy, nx.energy])
def test_a_row_that_is_all_minus_infinity_has_gradient_zero(function):
    z = torch.tensor([[-torch.inf] * 3, [0.0, -torch.inf, 1.0]], requires_grad=True)
    found = function(z)
    (grad,) = torch.autograd.grad(found[1].nan_to_num(neginf=0.0).sum() + found[0].nan_to_num(neginf=0.0).sum(), z)
    assert torch.equal(grad[0], torch.zeros(3))
    assert grad[1, 1] == 0.0
    assert torch.isfinite(grad).all()


def test_proportions_of_zero_at_minus_infinity_give_neither_nan_nor_gradient():
    z = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    loss = nx.cross_entropy(z, torch.tensor([[0.5, 0.0, 0.5]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    assert z.grad[0, 1] == 0.0


def test_a_mean_over_ignored_rows_is_zero_with_gradient_zero():
    z = torch.randn(3, 4, requires_grad=True)
    loss = nx.cross_entropy(z, torch.full((3,), -100), ignore_index=-100)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(z.grad, torch.zeros(3, 4))


def test_gradients_of_a_scaled_loss_are_scaled():
    x, w = torch.randn(5, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    target = torch.tensor([0, 5, 2, 1, 1])
    once = torch.autograd.grad(nx.linear_cross_entropy(x, w, target), (x, w))
    thrice = torch.autograd.grad(3.0 * nx.linear_cross_entropy(x, w, target), (x, w))
    assert all(torch.allclose(3.0 * a, b, rtol=1e-6) for a, b in zip(once, thrice, strict=True))
    each = nx.linear_cross_entropy(x, w, target, reduction="none")
    picked = torch.autograd.grad(each[1:3].sum(), (x, w))
    alone = torch.autograd.grad(nx.linear_cross_entropy(x[1:3], w, target[1:3], reduction="sum"), (x, w))
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(picked, alone, strict=True))


def test_hard_gumbel_draws_pass_the_gradient_of_the_soft_ones():
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    v = torch.randn(4, 5, dtype=torch.float64)
    hard = nx.gumbel_softmax(z, hard=True, rng=1)
    soft = nx.gumbel_softmax(z, rng=1)
    assert torch.equal(hard.detach().sort(-1).values[:, -1], torch.ones(4, dtype=torch.float64))
    assert torch.allclose(torch.autograd.grad(hard, z, v)[0], torch.autograd.grad(soft, z, v)[0])


@pytest.mark.parametrize("name", ["weight", "target", "temperature"])
def test_what_has_no_gradient_is_refused_rather_than_dropped(name):
    z, x, w = torch.randn(3, 4), torch.randn(3, 2), torch.randn(4, 2, requires_grad=True)
    asks = torch.softmax(torch.randn(3, 4, requires_grad=True), -1)
    with pytest.raises(nx.NormexpError, match="gradient"):
        if name == "weight":
            nx.cross_entropy(z, torch.tensor([0, 1, 2]), weight=asks[0])
        elif name == "target":
            nx.cross_entropy(z, asks)
        else:
            nx.linear_cross_entropy(x, w, torch.tensor([0, 1, 2]), temperature=asks[:, :1])
