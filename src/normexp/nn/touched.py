"""The part of a tree that a batch touches, as a small tree: what a sparse gradient of the weights is made of."""

from typing import Any, NamedTuple

import torch

from normexp.backends.tensors.path_loss import Paths, steps
from normexp.nn.tree_layout import Sizes


class Touched(NamedTuple):
    """The sibling groups on the paths of some targets, their slots numbered anew in the old order."""

    slots: Any  # (T,): their numbers in the whole tree, rising
    target: Any  # (N,): what each row asks for, as one of the C classes that occur
    paths: Paths  # of these C classes among the T slots
    sizes: list[Sizes]  # the groups of one size, as they lie in the T slots


def touched(target: Any, paths: Paths) -> Touched:
    """The groups that a loss of these targets reads; at the cost of their paths, whatever the size of the tree.

    Only children are left out: they are certain, and their weights have no gradient.
    """
    classes, place = torch.unique(target, return_inverse=True)
    row, slot = steps(classes, paths.begins, paths.path)
    kept = (paths.size[slot] > 1).nonzero().reshape(-1)
    row, slot = row[kept], slot[kept]
    groups, group = torch.unique(paths.first[slot], return_inverse=True)
    size = paths.size[groups]
    first = size.cumsum(0) - size
    slots = torch.repeat_interleave(groups - first, size)
    slots += torch.arange(len(slots), device=slots.device)
    begins = torch.bincount(row, minlength=len(classes)).cumsum(0)
    renumbered = Paths(
        torch.cat([begins.new_zeros(1), begins]), slot - paths.first[slot] + first[group],
        torch.repeat_interleave(first, size), torch.repeat_interleave(size, size), paths.cost[classes],
    )  # fmt: skip
    widths, counts = (part.tolist() for part in torch.unique_consecutive(size, return_counts=True))
    parts, before = [], 0
    for width, count in zip(widths, counts, strict=True):
        parts.append(Sizes(width, before, count))
        before += width * count
    return Touched(slots, place, renumbered, parts)
