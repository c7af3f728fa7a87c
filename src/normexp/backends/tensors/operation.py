"""How an op is made known to torch: one schema, a CPU and a plain statement, shapes, derivatives, vmap.

Each op is registered through ``torch.library``, so that compilation and export take it as one opaque call. In eager
code a call that is differentiated goes through ``torch.autograd.Function`` with the same formulas, because that is what
forward-mode differentiation and the transforms of ``torch.func`` understand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import forward_ad

LIBRARY = torch.library.Library("normexp", "DEF")


@dataclass(frozen=True)
class Derivatives:
    """What is kept from the call, and the two products with the Jacobian."""

    keep: Callable[..., None]  # (ctx, inputs, output)
    backward: Callable[..., Any]  # (ctx, *gradients of the outputs) -> one for each input
    jvp: Callable[..., Any]  # (ctx, *tangents of the inputs) -> one for each output


class Operation:
    """A registered op; calling it picks the way that the moment asks for."""

    def __init__(
        self,
        schema: str,
        *,
        on_cpu: Callable[..., Any],
        anywhere: Callable[..., Any],
        fake: Callable[..., Any],
        batched: Callable[..., Any],
        derivatives: Derivatives | None = None,
    ) -> None:
        name = schema.split("(", 1)[0]
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, on_cpu, "CPU")
        LIBRARY.impl(name, anywhere, "CompositeExplicitAutograd")
        torch.library.register_fake(f"normexp::{name}", fake, lib=LIBRARY)
        self.op = getattr(torch.ops.normexp, name).default
        self.anywhere = anywhere
        self.function: Any = None
        torch.library.register_vmap(
            f"normexp::{name}", lambda info, dims, *inputs: batched(self, info, dims, *inputs), lib=LIBRARY
        )
        if derivatives is not None:
            torch.library.register_autograd(
                f"normexp::{name}", derivatives.backward, setup_context=derivatives.keep, lib=LIBRARY
            )
            self.function = _function(name, self.op, derivatives)

    def __call__(self, *inputs: Any) -> Any:
        """The op itself, or its function where somebody differentiates."""
        if self.function is None or torch.compiler.is_compiling() or not _is_watched(inputs):
            return self.op(*inputs)
        return self.function.apply(*(_Leaf(x) if isinstance(x, list) else x for x in inputs))


@dataclass(frozen=True)
class _Leaf:
    """A list that torch's transforms take for one thing: they would look for tensors in it, and count its entries."""

    items: list[Any]


def _opened(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.items if isinstance(x, _Leaf) else x for x in inputs)


def _function(name: str, op: Any, derivatives: Derivatives) -> Any:
    """The op as an autograd function: reverse, forward, and under vmap."""

    def forward(*inputs: Any) -> Any:
        return op(*_opened(inputs))

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        derivatives.keep(ctx, _opened(inputs), output)

    body = {
        "__doc__": f"normexp::{name}, differentiable in both directions.",
        "generate_vmap_rule": True,
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(derivatives.backward),
        "jvp": staticmethod(derivatives.jvp),
    }
    return type(name, (torch.autograd.Function,), body)


def _is_watched(inputs: tuple[Any, ...]) -> bool:
    """Whether somebody differentiates or transforms: then torch must see the op as a function."""
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001  (autograd.Function asks the same; no public way)
        return True
    if forward_ad._current_level >= 0:  # noqa: SLF001  (likewise: whether a dual level is open)
        return True
    return torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs)


def keep(ctx: Any, *tensors: Any) -> None:
    """Save tensors for both directions."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


# ---------------------------------------------------------------- vmap


def along_rows(*, axes_at: int, outputs: int = 1) -> Callable[..., Any]:
    """The rule of ops on rows: the new axis goes to the front, axes of classes move by one.

    Tensors have the rank of the logits, or broadcast from the left when they do not carry the new axis.
    """

    def batched(operation: Operation, info: Any, dims: Any, *inputs: Any) -> Any:
        moved = [_to_front(x, dim, info.batch_size) for x, dim in zip(inputs, dims, strict=True)]
        axes = inputs[axes_at]
        moved[axes_at] = axes + 1 if isinstance(axes, int) else [axis + 1 for axis in axes]
        found = operation.op(*moved)
        return found, 0 if outputs == 1 else (0,) * outputs

    return batched


def one_by_one(outputs: int = 1) -> Callable[..., Any]:
    """The rule of ops whose samples do not share a shape of rows: a loop over the samples."""

    def batched(operation: Operation, info: Any, dims: Any, *inputs: Any) -> Any:
        found = [
            operation.op(*(_sample(x, dim, i) for x, dim in zip(inputs, dims, strict=True)))
            for i in range(info.batch_size)
        ]
        if outputs == 1:
            return torch.stack(found), 0
        return tuple(torch.stack(part) for part in zip(*found, strict=True)), (0,) * outputs

    return batched


def _sample(x: Any, dim: Any, i: int) -> Any:
    """One sample of a tensor that carries the new axis; for a list, dim is a list of None."""
    return x.select(dim, i) if isinstance(x, torch.Tensor) and dim is not None else x


def _to_front(x: Any, dim: int | None, size: int) -> Any:
    """A tensor with the new axis in front."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
