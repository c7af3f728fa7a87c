"""A tree as arrays that a head computes with: siblings side by side, groups of one size together, paths, levels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normexp.nn.tree import Tree


@dataclass(frozen=True)
class Sizes:
    """The sibling groups of one size: ``count`` groups of ``size`` slots each, from slot ``first`` on."""

    size: int
    first: int
    count: int

    @property
    def last(self) -> int:
        """The slot after the last."""
        return self.first + self.size * self.count


@dataclass(frozen=True)
class Level:
    """The slots of one depth, and where their parents stand among the slots of the depth before."""

    slots: NDArray[np.int64]
    parents: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Every node but the root has a slot: a row of weights. Siblings lie side by side."""

    sizes: list[Sizes]
    levels: list[Level]
    leaf_columns: NDArray[np.int64]  # (K,): each class's place among all levels' slots, one level after another
    class_of_slot: NDArray[np.int64]  # (S,), -1 for inner nodes
    path_begins: NDArray[np.int64]  # (K + 1,)
    path_slots: NDArray[np.int64]  # each class's slots, from the leaf up
    child_first: NDArray[np.int64]  # (S + 1,): the first slot of the children of a slot; the last entry is the root's
    child_count: NDArray[np.int64]  # (S + 1,)
    group_first: NDArray[np.int64]  # (S,): the first of the siblings of a slot
    group_size: NDArray[np.int64]  # (S,): how many they are
    path_cost: NDArray[np.int64]  # (K,): how many siblings there are along a class's path, only children left out

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return len(self.class_of_slot)


def lay_out(tree: Tree) -> Layout:
    """The arrays of a tree."""
    parents, count = tree.parents, len(tree.parents)
    root = int(np.flatnonzero(parents < 0)[0])
    inner = np.delete(np.arange(count), root)
    children = np.bincount(parents[inner], minlength=count)
    # slots: by the size of the sibling group, then by parent, then by node
    order = np.lexsort((inner, parents[inner], children[parents[inner]]))
    node_of_slot = inner[order]
    slot_of_node = np.full(count, -1, np.int64)
    slot_of_node[node_of_slot] = np.arange(len(node_of_slot))
    sizes, first = [], 0
    for size, slots in zip(*np.unique(children[parents[node_of_slot]], return_counts=True), strict=True):
        sizes.append(Sizes(int(size), first, int(slots // size)))
        first += int(slots)
    levels, place = _levels(tree, slot_of_node)
    class_of_slot = np.full(len(node_of_slot), -1, np.int64)
    leaf_slots = slot_of_node[tree.leaves]
    if len(node_of_slot):
        class_of_slot[leaf_slots] = np.arange(len(tree.leaves))
    child_count = np.append(children[node_of_slot], children[root])
    child_first = np.full(len(node_of_slot) + 1, 0, np.int64)
    begins = np.flatnonzero(np.diff(parents[node_of_slot], prepend=-1))
    owner = slot_of_node[parents[node_of_slot][begins]]
    child_first[np.where(owner < 0, len(node_of_slot), owner)] = begins
    begins_of_paths, path = _paths(tree, slot_of_node)
    group_size = children[parents[node_of_slot]]
    starts = np.zeros(len(node_of_slot), np.int64)
    starts[begins] = begins
    costs = np.concatenate([[0], np.cumsum(np.where(group_size > 1, group_size, 0)[path])])
    return Layout(
        sizes, levels, place[leaf_slots], class_of_slot, begins_of_paths, path, child_first, child_count,
        np.maximum.accumulate(starts), group_size, costs[begins_of_paths[1:]] - costs[begins_of_paths[:-1]],
    )  # fmt: skip


def _levels(tree: Tree, slot_of_node: NDArray[np.int64]) -> tuple[list[Level], NDArray[np.int64]]:
    """The levels from the root down, and each slot's place among all their slots."""
    depths = tree.depths
    place = np.zeros(max(1, len(depths) - 1), np.int64)
    within = np.zeros(len(depths), np.int64)
    levels, done = [], 0
    for depth in range(1, int(depths.max()) + 1):
        nodes = np.flatnonzero(depths == depth)
        levels.append(Level(slot_of_node[nodes], within[tree.parents[nodes]]))
        within[nodes] = np.arange(len(nodes))
        place[slot_of_node[nodes]] = done + np.arange(len(nodes))
        done += len(nodes)
    return levels, place


def _paths(tree: Tree, slot_of_node: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each class's path begins, and the slots of all paths, one class after another."""
    lengths = tree.depths[tree.leaves]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    path = np.empty(int(begins[-1]), np.int64)
    node, step = tree.leaves.copy(), 0
    alive = np.arange(len(node))
    while len(alive):
        alive = alive[lengths[alive] > step]
        path[begins[alive] + step] = slot_of_node[node[alive]]
        node[alive] = tree.parents[node[alive]]
        step += 1
    return begins, path
