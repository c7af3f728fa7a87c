"""softmax, log_softmax, logsumexp and top_k of the Triton kernels against 60 digits."""

import numpy as np
import pytest
import torch

import oracle
from normexp.backends import gpu
from normexp.backends.tensors import doubt, probabilities

INF, NAN = float("inf"), float("nan")
MOST_ULP = 4.0  # of a probability; 2.42 were seen, with a temperature
MOST_LOG_ULP = 3.0  # of a log-probability; 1.41 were seen
SMALL = 2.0**-120  # below it log-probabilities are made of subnormal terms, which have few digits


def rows_of_all_kinds(classes=53):
    """Spread, near and far, tied, dominated, huge, tiny, with -inf in whole tiles."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=(11, classes)) * np.array([0.1, 1, 5, 30, 1e4, 1, 1, 1e30, 1e-40, 3, 8])[:, None]
    z[5, 3] += 40.0  # one class holds all but e^-40
    z[6] = 1.5
    z[9, :17] = -INF
    z[10, 2:50] = -INF
    return z.astype(np.float32)


def log_ulp(computed, truth):
    return max(oracle.ulp_error(a, b, np.float32, scale=SMALL) for a, b in zip(computed, truth, strict=True))


def softmax(z, device, *, log=False, temperature=None, axes=(-1,)):
    """Through the registered op's own statement for GPUs."""
    op = probabilities.log_softmax if log else probabilities.softmax
    given = torch.as_tensor(z, device=device)
    heat = None if temperature is None else torch.as_tensor(temperature, device=device, dtype=torch.float64)
    return op.anywhere(given, heat, None, [axis % given.ndim for axis in axes]).cpu()


@pytest.mark.parametrize("heat", [None, 0.37, 3.1])
def test_probabilities_and_their_logs_stay_within_their_bounds(branch, device, heat):
    z = rows_of_all_kinds()
    temperature = None if heat is None else np.full((1, 1), heat)
    prob, log_prob = softmax(z, device, temperature=temperature), softmax(z, device, log=True, temperature=temperature)
    for row, p, log_p in zip(z, prob.numpy(), log_prob.numpy(), strict=True):
        truth = oracle.state(row, temperature=1.0 if heat is None else heat)
        assert oracle.worst_ulp(p, truth.prob) <= MOST_ULP
        assert log_ulp(log_p, truth.log_prob) <= MOST_LOG_ULP


def test_the_bounds_reject_the_textbook_formula():
    z = rows_of_all_kinds()
    textbook = np.log(np.exp(z[5] - z[5].max()) / np.exp(z[5] - z[5].max()).sum())
    assert log_ulp(textbook, oracle.log_softmax(z[5])) > MOST_LOG_ULP  # log(1) where -e^-40 is right


def test_log_sums_are_right_to_the_last_digits(branch, device):
    z = rows_of_all_kinds()
    found = probabilities.logsumexp.anywhere(torch.as_tensor(z, device=device), None, [1]).cpu().numpy()
    for row, lse in zip(z, found, strict=True):
        assert oracle.ulp_error(lse, oracle.logsumexp(row), np.float32, scale=row.max()) <= 2.0


def test_special_rows_answer_as_agreed(branch, device):
    z = np.zeros((5, 40), np.float32)
    z[0] = -INF
    z[1, 20] = INF
    z[2, 35] = NAN
    z[3, 1:] = -INF
    prob, log_prob = softmax(z, device), softmax(z, device, log=True)
    lse = probabilities.logsumexp.anywhere(torch.as_tensor(z, device=device), None, [1]).cpu()
    assert prob[:3].isnan().all()
    assert log_prob[:3].isnan().all()
    assert lse[0] == -INF
    assert lse[1] == INF
    assert lse[2].isnan()
    assert prob[3].tolist() == [1.0] + [0.0] * 39
    assert log_prob[3].tolist() == [0.0] + [-INF] * 39
    assert torch.equal(prob[4], softmax(z[4:], device)[0])  # the neighbours changed no bit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32_and_rounded_once(branch, device, dtype):
    cut_off = dtype == torch.bfloat16 and device.type == "cpu"  # the interpreter does not round to bfloat16
    z = (torch.randn(3, 45, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    found = softmax(z, device)
    assert found.dtype == dtype
    exact = torch.softmax(z.double(), -1)
    step = exact.to(dtype).double() * torch.finfo(dtype).eps + 2.0**-24
    assert ((found.double() - exact).abs() <= (1.0 if cut_off else 0.501) * step + 1e-7 * exact).all()


def test_a_long_row_is_read_tile_by_tile_and_equal_halves_do_not_overflow(device, launched):
    z = torch.zeros(1, 70_001, dtype=torch.float16, device=device)
    lse = probabilities.logsumexp.anywhere(z, None, [1])
    assert [constants["WHOLE"] for _, constants in launched] == [False]
    assert gpu.plan(gpu.MOST_WHOLE).branch == "single"
    assert abs(float(lse[0]) - np.log(70_001)) <= 1e-6


def test_strides_and_batches_change_no_bit(branch, device):
    z = torch.randn(6, 4, 37, generator=torch.Generator().manual_seed(2), device="cpu").to(device)
    whole = softmax(z, device)
    assert torch.equal(softmax(z.transpose(0, 2).contiguous(), device, axes=(0,)).transpose(0, 2), whole)
    assert torch.equal(softmax(z[2:3, 1:], device), whole[2:3, 1:])
    assert torch.equal(softmax(z.repeat_interleave(2, -1)[..., ::2], device), whole)


def test_each_row_has_its_own_temperature_and_none_is_served_by_plain_torch(device, launched):
    z = torch.as_tensor(rows_of_all_kinds()[:3], device=device)
    heat = torch.tensor([[0.5], [1.0], [7.0]], dtype=torch.float64)
    found = softmax(z, device, temperature=heat)
    assert (found.double() - torch.softmax(z.cpu().double() / heat, -1)).abs().max() <= 1e-7
    assert len(launched) == 1
    cold = softmax(z, device, temperature=torch.tensor([[0.5], [0.0], [1.0]]))
    assert len(launched) == 1  # a temperature of 0 is for plain torch
    assert cold[1].max() == 1.0


# ---------------------------------------------------------------- top_k


@pytest.mark.parametrize("k", [1, 5])
def test_the_likeliest_classes_are_found_with_their_probabilities(branch, device, k):
    z = rows_of_all_kinds()
    prob, log_prob, index = (
        part.cpu().numpy() for part in doubt.top_k.anywhere(torch.as_tensor(z, device=device), k, 1)
    )
    for i, row in enumerate(z):
        order = sorted(range(len(row)), key=lambda j, row=row: (-row[j], j))[:k]
        assert index[i].tolist() == order
        truth = oracle.state(row)
        assert oracle.worst_ulp(prob[i], [truth.prob[j] for j in order]) <= MOST_ULP
        assert log_ulp(log_prob[i], [truth.log_prob[j] for j in order]) <= MOST_LOG_ULP


def test_ties_go_to_the_earlier_class_and_dead_rows_name_classes(branch, device):
    z = np.zeros((3, 40), np.float32)
    z[0, 30] = -0.0
    z[1] = -INF
    z[2, 7] = NAN
    prob, _, index = (part.cpu() for part in doubt.top_k.anywhere(torch.as_tensor(z, device=device), 3, 1))
    assert index[0].tolist() == [0, 1, 2]
    assert index[1].tolist() == [0, 1, 2]
    assert prob[1:].isnan().all()
    assert ((index >= 0) & (index < 40)).all()
