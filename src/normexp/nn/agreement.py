"""What ranks ask each other before they work together: whether all were given the same, and all of it was right."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from normexp.base.errors import ClusterError, RangeError


def agreed(
    check: Callable[[], tuple[Any, list[int]]], count: int, *, of: str, device: Any, group: Any
) -> tuple[Any, bool]:
    """What ``check`` found on this rank, and whether its ``count`` numbers, none negative, are those of all ranks.

    One small collective. A check that raises raises on its rank, and then on all others: none is left waiting for a
    rank that has gone. A rank that does not come at all ends the wait when the process group's time is over.
    """
    failure: Exception | None = None
    found, numbers = None, [-1] * count
    try:
        found, numbers = check()
    except Exception as raised:  # noqa: BLE001  (raised again below, after the others know)
        failure = raised
    seen = torch.tensor([*numbers, *(-number for number in numbers)], dtype=torch.int64, device=device)
    try:
        dist.all_reduce(seen, op=dist.ReduceOp.MIN, group=group)
    except RuntimeError as error:
        if failure is not None:
            raise failure from None
        raise ClusterError(
            f"{of}: a rank did not answer ({str(error).splitlines()[0]}); all ranks must call it, and stay alive."
        ) from error
    if failure is not None:
        raise failure
    least, most = seen[:count].tolist(), (-seen[count:]).tolist()
    if min(least) < 0:
        raise RangeError(f"{of}: another rank refused what it was given; its own error says why.")
    return found, least == most
