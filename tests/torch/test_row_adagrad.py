"""The optimiser for many rows: Adagrad's steps with one accumulator a row, and 16 bits that do not lose them."""

import math

import pytest
import torch

import normexp as nx
from normexp.nn.row_adagrad import rounded_at_random


def by_hand(weight, grads, lr=0.1, eps=1e-10):
    """The definition, row by row, in Python's numbers."""
    rows = [[float(v) for v in row] for row in weight]
    sums = [0.0] * len(rows)
    for grad in grads:
        for r, row in enumerate(grad.tolist()):
            sums[r] += sum(g * g for g in row) / len(row)
            rate = lr / (math.sqrt(sums[r]) + eps)
            rows[r] = [w - rate * g for w, g in zip(rows[r], row, strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("sparse", [False, True])
def test_its_steps_are_those_of_the_definition(sparse):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(weight.clone())
    optimiser = nx.nn.RowAdagrad([parameter], lr=0.3)
    grads = [torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    for grad in grads:
        grad[[1, 4]] = 0.0
        parameter.grad = grad.to_sparse(1) if sparse else grad
        optimiser.step()
    assert torch.allclose(parameter, by_hand(weight, grads, lr=0.3), rtol=1e-12)
    assert torch.equal(parameter[[1, 4]], weight[[1, 4]])


def test_with_one_column_it_is_torch_s_adagrad():
    start = torch.randn(5, 1, dtype=torch.float64)
    ours, torch_s = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    one, other = nx.nn.RowAdagrad([ours], lr=0.1), torch.optim.Adagrad([torch_s], lr=0.1)
    for _ in range(4):
        ours.grad = torch.randn(5, 1, dtype=torch.float64)
        torch_s.grad = ours.grad.clone()
        one.step()
        other.step()
    assert torch.allclose(ours, torch_s, rtol=1e-10)


def test_a_row_drawn_twice_moves_once_by_the_sum():
    parameter = torch.nn.Parameter(torch.zeros(4, 2))
    values = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    parameter.grad = torch.sparse_coo_tensor(torch.tensor([[2, 2, 0]]), values, (4, 2), check_invariants=True)
    nx.nn.RowAdagrad([parameter], lr=1.0).step()
    assert torch.allclose(parameter[2], torch.tensor([-math.sqrt(2.0), 0.0]))
    assert torch.allclose(parameter[0], torch.tensor([0.0, -math.sqrt(2.0)]))
    assert torch.equal(parameter[[1, 3]], torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_goes_to_a_neighbour_and_is_right_in_the_mean(dtype):
    torch.manual_seed(0)
    draws = 40_000
    for asked in (1.003, -1.003, 1.9999, 3.3e-5, -1e-7, 777.7):
        value = torch.tensor(asked).item()
        found = rounded_at_random(torch.full((draws,), value), dtype)
        neighbours = found.unique()
        assert len(neighbours) == 2
        assert neighbours.view(torch.int16).diff().abs().item() == 1
        down, up = neighbours.double().tolist()
        assert down < value < up
        five_sigma = 5 * (up - down) / 2 / math.sqrt(draws)
        assert abs(found.double().mean().item() - value) <= five_sigma + 2.0**-13 * (up - down)
    exact = torch.tensor([0.0, 1.0, -2.0, 1.5, torch.finfo(dtype).max, 2.0**-14])
    assert torch.equal(rounded_at_random(exact, dtype).float(), exact.to(dtype).float())
    edges = rounded_at_random(torch.tensor([math.nan, math.inf, -math.inf, -3.4e38]), dtype)
    assert torch.isnan(edges[0])
    assert edges[1:].tolist() == [math.inf, -math.inf, torch.finfo(dtype).min]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_steps_too_small_for_16_bits_arrive_and_with_plain_rounding_do_not(dtype):
    """A thousand steps of 2^-14 from 1: each is less than half of what 16 bits can tell apart there."""
    torch.manual_seed(0)
    ours, plain = torch.nn.Parameter(torch.ones(2000, 1).to(dtype)), torch.ones(2000, 1).to(dtype)
    optimiser = nx.nn.RowAdagrad([ours], lr=2.0**-14 * 1e4)
    ours.grad = torch.zeros(2000, 1, dtype=dtype)
    optimiser.step()
    for _ in range(1000):
        optimiser.state[ours]["sum"].fill_(1e8)
        ours.grad.fill_(1.0)
        optimiser.step()
        plain -= 2.0**-14
    assert plain.float().mean().item() == 1.0
    assert abs(ours.float().mean().item() - (1.0 - 1000 * 2.0**-14)) < 1e-3


def test_the_state_of_16_bits_is_kept_whole_over_a_checkpoint():
    parameter = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    optimiser = nx.nn.RowAdagrad([parameter])
    parameter.grad = torch.tensor([[1.003, 1.0]] * 3).bfloat16() * 1.01
    optimiser.step()
    optimiser.state[parameter]["sum"].fill_(1.0009765625)  # bfloat16 would make it 1
    other = nx.nn.RowAdagrad([torch.nn.Parameter(parameter.detach().clone())])
    other.load_state_dict(optimiser.state_dict())
    (kept,) = (state["sum"] for state in other.state.values())
    assert kept.dtype == torch.float32
    assert torch.equal(kept, optimiser.state[parameter]["sum"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sampled_head_learns_with_it(dtype):
    """Each feature vector has its class; the exact loss falls, and rows that were not drawn stay as they were."""
    torch.manual_seed(3)
    head = nx.nn.SampledHead(16, 5_000, 64, sparse=True, dtype=dtype)
    optimiser = nx.nn.RowAdagrad(head.parameters(), lr=0.3)
    x, target = torch.randn(40, 16), torch.randint(5_000, (40,))
    before, weight = head.eval().loss(x.to(dtype), target).item(), head.weight.detach().clone()
    head.train()
    seen = torch.zeros(5_000, dtype=torch.bool)
    for _ in range(40):
        optimiser.zero_grad()
        head.loss(x, target).backward()
        seen[head.weight.grad._indices()[0]] = True
        optimiser.step()
    after = head.eval().loss(x.to(dtype), target).item()
    assert head.weight.dtype == dtype
    assert after < 0.5 * before
    assert torch.equal(head.weight[~seen], weight[~seen])
    assert not torch.equal(head.weight[seen], weight[seen])


def test_what_does_not_fit_is_answered_in_a_sentence():
    with pytest.raises(nx.NormexpError, match="lr is 0"):
        nx.nn.RowAdagrad([torch.nn.Parameter(torch.ones(2))], lr=0.0)
    with pytest.raises(nx.NormexpError, match="dtype complex64"):
        nx.nn.RowAdagrad([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.eye(2).to_sparse()
    with pytest.raises(nx.NormexpError, match="2 sparse dimensions"):
        nx.nn.RowAdagrad([parameter]).step()


def test_scalars_closures_and_parameters_without_a_gradient():
    number, idle = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.ones(3))
    optimiser = nx.nn.RowAdagrad([number, idle], lr=0.5)

    def closure():
        optimiser.zero_grad()
        loss = number.square()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 4.0
    assert math.isclose(number.item(), 1.5, rel_tol=1e-6)
    assert torch.equal(idle, torch.ones(3))
