"""Cross-entropy of the Triton kernels, forward and backward, against 60 digits and against the plain statement."""

import numpy as np
import pytest
import torch

import oracle
from normexp.backends.tensors import losses
from normexp.backends.tensors.targets import Options

INF, NAN = float("inf"), float("nan")
MOST_ULP = 4.0  # of a loss; 0.55 were seen
MOST_GRAD_ULP = 4.0  # of a gradient; 0.55 were seen at the true class, 1.18 at others


def rows():
    rng = np.random.default_rng(11)
    z = rng.normal(size=(7, 45)) * np.array([1, 5, 30, 1, 1, 3, 8])[:, None]
    z[3, 4] += 45.0  # the true class of row 3 is certain but for e^-45
    z[4, 4] += 90.0  # the loss is near 1e-38
    z[5, :17] = -INF
    z[6, 20:40] = -INF
    return z.astype(np.float32)


TARGET = np.array([44, 0, 3, 4, 4, 18, 2])
WEIGHT = np.linspace(0.25, 2.0, 45)


def both(z, target, device, *, weight=None, reduction="none", smoothing=0.0, ignore=None, z_loss=0.0):
    """Loss, gradient by the op, and both again in one launch."""
    given = (smoothing, ignore, z_loss, 0.0, reduction)
    logits = torch.as_tensor(z, device=device)
    answers = torch.as_tensor(target, device=device)
    weights = None if weight is None else torch.as_tensor(weight, device=device)
    rest = (logits, answers, weights, 1, *given)
    one = torch.ones((len(target),) if reduction == "none" else (), dtype=torch.float64, device=device)
    loss, grad = losses.cross_entropy.anywhere(*rest), losses.cross_entropy_grad.anywhere(*rest, one)
    again = losses.on_gpu.cross_entropy_with_grad(logits, answers, weights, 1, Options(*given), one)
    torch.testing.assert_close(again, (loss, grad), rtol=0.0, atol=0.0, equal_nan=True)
    return loss.cpu(), grad.cpu()


@pytest.mark.parametrize(("smoothing", "z_loss", "weight"), [(0.0, 0.0, None), (0.1, 0.01, WEIGHT)])
def test_losses_and_gradients_stay_within_their_bounds(branch, device, smoothing, z_loss, weight):
    z = rows()
    loss, grad = both(z, TARGET, device, smoothing=smoothing, z_loss=z_loss, weight=weight)
    assert loss.dtype == torch.float32
    for i, row in enumerate(z):
        truth = oracle.cross_entropy_row(row, TARGET[i], label_smoothing=smoothing, z_loss=z_loss, weight=weight)
        assert oracle.ulp_error(loss[i].item(), truth.loss, np.float32) <= MOST_ULP
        largest = max(abs(g) for g in truth.grad)
        for k, (found, true) in enumerate(zip(grad[i].tolist(), truth.grad, strict=True)):
            exact = k == TARGET[i] or (smoothing == 0.0 and weight is None)
            scale = None if exact else largest  # p_k less a smoothed share cancels for any formula
            assert oracle.ulp_error(found, true, np.float32, scale=scale) <= MOST_GRAD_ULP


def test_the_true_class_has_a_gradient_however_certain_it_is(branch, device):
    loss, grad = both(rows()[3:5], TARGET[3:5], device)
    assert (loss > 0.0).all()
    assert (grad[:, 4] < 0.0).all()
    textbook = torch.softmax(torch.as_tensor(rows()[3:5]), -1)[:, 4] - 1.0
    assert (textbook == 0.0).all()  # what the bound must catch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_halves_weights_and_ignored_rows_as_the_plain_statement(branch, device, dtype, reduction):
    z = torch.as_tensor(rows()).to(dtype)
    target = np.array([44, -100, 3, 4, -100, 18, 2])
    options = {"smoothing": 0.1, "ignore": -100, "z_loss": 0.01, "weight": WEIGHT, "reduction": reduction}
    loss, grad = both(z, target, device, **options)
    assert loss.dtype == torch.float32
    assert grad.dtype == dtype
    assert (grad[[1, 4]] == 0.0).all()
    plain = (z.double(), torch.as_tensor(target), torch.as_tensor(WEIGHT), 1, 0.1, -100, 0.01, 0.0, reduction)
    true = losses.cross_entropy.anywhere(*plain)  # float64 is for plain torch
    one = torch.ones((7,) if reduction == "none" else (), dtype=torch.float64)
    true_grad = losses.cross_entropy_grad.anywhere(*plain, one)
    assert ((loss - true).abs() <= 1e-6 * true.abs()).all()
    assert (grad.double() - true_grad).abs().max() <= torch.finfo(dtype).eps * true_grad.abs().max()


def test_all_rows_ignored_have_a_mean_of_zero(branch, device):
    loss, grad = both(rows(), np.full(7, -100), device, ignore=-100, reduction="mean")
    assert loss == 0.0
    assert (grad == 0.0).all()


def test_special_rows_answer_as_agreed(branch, device):
    z = np.zeros((5, 40), np.float32)
    z[0] = -INF
    z[1, 20] = INF
    z[2, 35] = NAN
    z[3, 5] = -INF
    loss, grad = both(z, np.full(5, 5), device)
    assert loss[:3].isnan().all()
    assert (grad[0] == 0.0).all()
    assert grad[1:3].isnan().all()
    assert loss[3] == INF
    assert grad[3, 5] == 0.0
    assert torch.allclose(grad[3, :5], torch.full((5,), 1.0 / 39.0))
    alone = both(z[4:], np.full(1, 5), device)
    assert torch.equal(loss[4], alone[0][0])
    assert torch.equal(grad[4], alone[1][0])


def test_a_long_row_takes_the_branch_of_many_tiles(device, launched):
    z = np.random.default_rng(3).normal(size=(1, 16_400)).astype(np.float32)
    loss, grad = both(z, np.array([16_399]), device)
    assert {constants["WHOLE"] for _, constants in launched} == {False}
    log_prob = torch.log_softmax(torch.as_tensor(z).double(), 1)
    assert oracle.ulp_error(loss[0].item(), -log_prob[0, 16_399].item(), np.float32) <= MOST_ULP
    true = torch.expm1(log_prob[0, 16_399]).item()
    assert oracle.ulp_error(grad[0, 16_399].item(), true, np.float32) <= MOST_GRAD_ULP


def test_focal_losses_and_proportions_go_to_plain_torch(device, launched):
    z = torch.as_tensor(rows(), device=device)
    target = torch.as_tensor(TARGET, device=device)
    losses.cross_entropy.anywhere(z, target, None, 1, 0.0, None, 0.0, 2.0, "mean")
    losses.cross_entropy.anywhere(z, torch.softmax(z.abs().clamp(max=1), 1), None, 1, 0.0, None, 0.0, 0.0, "mean")
    assert launched == []
