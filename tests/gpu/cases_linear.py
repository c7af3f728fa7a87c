"""The fused linear head of the Triton kernels, in spans, blocks and tiles smaller than its classes and rows."""

import pytest
import torch

from normexp.backends import gpu_head
from normexp.backends.tensors import linear

ROWS, DEPTH, CLASSES = 70, 20, 150
# of the loss, relative; of a gradient, relative to the largest of its array: 2.2e-7 and 6e-7, 6.5e-3, 4.2e-4 were seen
MOST_LOSS = 1e-6
MOST_GRAD = {torch.float32: 2e-6, torch.bfloat16: 1.2e-2, torch.float16: 1.5e-3}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(gpu_head, "SPAN", 128)
    monkeypatch.setattr(gpu_head, "BLOCK_ROWS", 48)
    monkeypatch.setattr(gpu_head, "BLOCK_CLASSES", 96)


def inputs(dtype=torch.float32):
    random = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, DEPTH, generator=random).to(dtype)
    projection = torch.randn(CLASSES, DEPTH, generator=random).to(dtype)
    bias = torch.randn(CLASSES, generator=random)
    target = torch.randint(0, CLASSES, (ROWS,), generator=random)
    return x, projection, target, bias


def call(given, device, *, weight=None, heat=None, cap=None, smoothing=0.0, z_loss=0.0, gamma=0.0, wants=True, **rest):
    x, projection, target, bias = (None if part is None else part.to(device) for part in given)
    temperature = None if heat is None else heat.to(device)
    class_weight = None if weight is None else weight.to(device)
    reduction = rest.get("reduction", "mean")
    found = linear.linear_cross_entropy.anywhere(
        x, projection, target, bias, class_weight, temperature, cap, smoothing, -100, z_loss, gamma, reduction, None,
        [wants] * 3,
    )  # fmt: skip
    return tuple(part.cpu() for part in found)


def checked(given, device, most, **options):
    """Against the plain statement in float64, which the kernels do not take."""
    found = call(given, device, **options)
    wide = tuple(part if part is None or part.dtype == torch.int64 else part.double() for part in given)
    true = call(wide, device, **options)
    assert ((found[0] - true[0]).abs() <= MOST_LOSS * true[0].abs()).all()
    for part, right in zip(found[1:], true[1:], strict=True):
        if right.numel():
            assert (part.double() - right).abs().max() <= most * right.abs().max()
    return found


EVERYTHING = {
    "weight": torch.linspace(0.5, 2.0, CLASSES, dtype=torch.float64),
    "heat": torch.linspace(0.5, 1.5, ROWS, dtype=torch.float64).reshape(ROWS, 1),
    "cap": 8.0, "smoothing": 0.1, "z_loss": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("dtype", MOST_GRAD)
def test_every_option_at_once_agrees_with_float64(device, launched, dtype):
    given = inputs(dtype)
    given[2][::7] = -100
    found = checked(given, device, MOST_GRAD[dtype], **EVERYTHING)
    assert found[0].dtype == torch.float32
    assert [part.dtype for part in found[1:]] == [dtype, dtype, torch.float32]
    assert (found[1][::7] == 0.0).all()
    names = [name for name, _ in launched]
    assert names.count("linear_states") == 1
    assert names.count("linear_gradient") == 4  # two blocks of rows by two of classes


def test_without_options_and_without_a_bias(device):
    x, projection, target, _ = inputs()
    found = checked((x, projection, target, None), device, MOST_GRAD[torch.float32], reduction="sum")
    assert found[3].numel() == 0


def test_the_loss_of_a_row_does_not_depend_on_the_others(device):
    given = inputs()
    whole = call(given, device, reduction="none", wants=False)[0]
    part = call((given[0][30:37], given[1], given[2][30:37], given[3]), device, reduction="none", wants=False)[0]
    assert torch.equal(whole[30:37], part)


def test_a_strided_projection_is_read_where_it_lies(device):
    x, projection, target, bias = inputs()
    turned = projection.T.contiguous().T
    assert torch.equal(call((x, turned, target, bias), device)[0], call((x, projection, target, bias), device)[0])


def test_the_workspace_is_a_block_and_no_array_of_rows_by_classes_exists(device, monkeypatch, launched):
    sizes, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **rest: sizes.append(empty(*size, **rest)) or sizes[-1])
    call(inputs(), device)
    assert max(part.numel() for part in sizes) < ROWS * CLASSES
    assert any(part.shape == (48, 96) for part in sizes)
    assert launched


def test_rows_that_are_all_ignored_and_focal_losses_go_to_plain_torch(device, launched):
    x, projection, target, bias = inputs()
    found = call((x, projection, torch.full_like(target, -100), bias), device)
    assert found[0] == 0.0
    assert (found[1] == 0.0).all()
    call((x, projection, target, bias), device, gamma=2.0)
    assert launched == []
