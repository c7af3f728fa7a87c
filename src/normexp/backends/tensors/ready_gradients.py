"""Ops whose forward pass makes the gradients: the loss of a batch, and what the backward pass hands on.

Their inputs, a named tuple, begin with x, weight and bias and end with the factor of the loss and with which of these
three want a gradient; there is a target, and a scale for each row. Outputs are the loss and three gradients, each empty
where nobody wants it.
"""

from collections.abc import Callable
from typing import Any

import torch

from normexp.backends.tensors.linear import is_one
from normexp.backends.tensors.operation import Derivatives, Operation, keep, one_by_one


def wanted(*parts: Any) -> list[bool]:
    """Which of x, weight and bias somebody will ask the gradient of."""
    return [torch.is_grad_enabled() and part is not None and part.requires_grad for part in parts]


def places(asked: Any, make: Callable[..., Any] = torch.empty_like) -> list[Any]:
    """Memory for the gradients that are wanted."""
    return [
        make(part, memory_format=torch.contiguous_format) if want and part is not None else asked.x.new_empty(0)
        for part, want in zip((asked.x, asked.weight, asked.bias), asked.wants, strict=True)
    ]


def summed_loss(
    schema: str,
    asked_as: Any,
    *,
    on_cpu: Callable[..., Any],
    losses: Callable[[Any], Any],
    gradients: Callable[[Any], Any],
    moved: Callable[..., Any],
) -> Operation:
    """The op, from its kernel and a plain statement.

    losses(asked) are those of the rows before the scale and the factor, (N,); gradients(asked) those of x, weight and
    bias, differentiable; moved(asked, dx, dweight, dbias) how the loss moves with them, each of which may be None.
    """

    def fake(*inputs: Any) -> Any:
        asked = asked_as(*inputs)
        return (asked.x.new_empty((), dtype=torch.promote_types(asked.x.dtype, torch.float32)), *places(asked))

    def anywhere(*inputs: Any) -> Any:
        asked = asked_as(*inputs)
        each = losses(asked)
        if asked.scale is not None:
            each = each * asked.scale.to(each.dtype)
        found = gradients(asked) if any(asked.wants) else (None,) * 3
        handed = [
            part.contiguous() if want and part is not None else asked.x.new_empty(0)
            for part, want in zip(found, asked.wants, strict=True)
        ]
        return (each.sum() * asked.factor, *handed)

    def kept(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.factor, ctx.wants = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        keep(ctx, *tensors, *output[1:])

    def again(ctx: Any, wants: list[bool]) -> Any:
        return asked_as(*ctx.saved_tensors[:-3], ctx.factor, wants)

    def backward(ctx: Any, upstream: Any, *_: Any) -> Any:
        nothing = (None,) * len(asked_as._fields)
        if upstream is None:
            return nothing
        needs, found = list(ctx.needs_input_grad[:3]), ctx.saved_tensors[-3:]
        if torch.is_grad_enabled():  # somebody will differentiate the gradient
            found = gradients(again(ctx, needs))
        elif any(need and not had for need, had in zip(needs, ctx.wants, strict=True)):
            found = operation(*again(ctx, needs))[1:]
        if not is_one(upstream):
            found = [None if part is None else part * upstream.to(part.dtype) for part in found]
        return (*(part if need else None for part, need in zip(found, needs, strict=True)), *nothing[3:])

    def jvp(ctx: Any, dx: Any, dweight: Any, dbias: Any, *_: Any) -> Any:
        return moved(again(ctx, [False] * 3), dx, dweight, dbias), None, None, None

    operation = Operation(
        schema,
        on_cpu=on_cpu,
        anywhere=anywhere,
        fake=fake,
        batched=one_by_one(outputs=4),
        derivatives=Derivatives(kept, backward, jvp),
    )
    return operation
