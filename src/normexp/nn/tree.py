"""Trees over classes: given by a person, Huffman's, or grown by halving the classes' embeddings."""

import heapq
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import DtypeError, RangeError, ShapeError
from normexp.nn.checks import as_numbers, check_count


@dataclass(frozen=True)
class Tree:
    """A rooted tree whose leaves are the classes.

    Make one with ``from_parents``, ``huffman`` or ``balanced``.

    Parameters
    ----------
    parents : numpy.ndarray of int64, shape (M,)
        The parent of each node, -1 for the root.
    leaves : numpy.ndarray of int64, shape (K,)
        The node of each class.

    Examples
    --------
    >>> import normexp as nx
    >>> tree = nx.nn.Tree.from_parents([-1, 0, 0, 1, 1])
    >>> tree.leaves.tolist(), tree.depths.tolist()
    ([2, 3, 4], [0, 1, 1, 2, 2])
    """

    parents: NDArray[np.int64]
    leaves: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("parents", "leaves"):
            object.__setattr__(self, name, _whole(getattr(self, name), of="Tree", name=name))
        _check_parents(self.parents, of="Tree")
        _check_leaves(self.leaves, _childless(self.parents), of="Tree")

    @classmethod
    def from_parents(cls, parents: Any, leaves: Any = None) -> Self:
        """Make a tree of the parent of each node.

        Parameters
        ----------
        parents : sequence of int, length M
            The number of each node's parent; -1 for the root.
        leaves : sequence of int, optional
            The node of class 0, 1, ...; None takes the nodes without children in rising order.

        Returns
        -------
        Tree
            Checked: one root, no cycle, every node without children a class, once.

        Raises
        ------
        RangeError, ShapeError, DtypeError
            If these are no such tree; the message names the node.

        Examples
        --------
        >>> import normexp as nx
        >>> nx.nn.Tree.from_parents([-1, 0, 0], leaves=[2, 1]).leaves.tolist()
        [2, 1]
        """
        of = "Tree.from_parents"
        nodes = _whole(parents, of=of, name="parents")
        if leaves is not None:
            return cls(nodes, _whole(leaves, of=of, name="leaves"))
        _check_parents(nodes, of=of)
        return cls(nodes, np.flatnonzero(_childless(nodes)))

    @classmethod
    def huffman(cls, class_counts: Any) -> Self:
        """Make the binary tree in which frequent classes lie high: Huffman's (1952), the least mean depth.

        Parameters
        ----------
        class_counts : sequence of numbers, length K
            How often each class occurs, at least 0.

        Returns
        -------
        Tree
            Class k is leaf k.

        Raises
        ------
        RangeError, ShapeError
            If there are no counts, or a negative one.

        Examples
        --------
        >>> import normexp as nx
        >>> nx.nn.Tree.huffman([8, 4, 2, 1]).depths[:4].tolist()
        [1, 2, 3, 3]
        """
        of = "Tree.huffman"
        counts = as_numbers(class_counts, "cpu", of=of, name="class_counts").numpy()
        if counts.ndim != 1 or not len(counts):
            raise ShapeError(f"{of}: class_counts have shape {counts.shape}; one for each class, (K,), would be right.")
        if not (np.isfinite(counts) & (counts >= 0)).all():
            raise RangeError(f"{of}: class_counts hold a negative number, NaN or inf; counts of at least 0 are right.")
        K = len(counts)
        parents = np.full(max(1, 2 * K - 1), -1, np.int64)
        heap = [(float(count), k) for k, count in enumerate(counts)]
        heapq.heapify(heap)
        for node in range(K, 2 * K - 1):
            (a, first), (b, second) = heapq.heappop(heap), heapq.heappop(heap)
            parents[[first, second]] = node
            heapq.heappush(heap, (a + b, node))
        return cls(parents, np.arange(K))

    @classmethod
    def balanced(cls, class_embeddings: Any, arity: int = 2) -> Self:
        """Make a tree of equal parts: classes are cut along the direction in which they differ most, again and again.

        Parameters
        ----------
        class_embeddings : tensor or array, shape (K, E)
            What is known of each class: its mean features, or the weights of a trained head.
        arity : int, default 2
            Into how many parts of equal size classes are parted, at least 2.

        Returns
        -------
        Tree
            Of depth ``ceil(log K / log arity)`` or one more. Class k is leaf k.

        Raises
        ------
        RangeError, ShapeError, DtypeError
            If an argument does not fit.

        Notes
        -----
        Sorting by the first principal component and cutting at equal counts is the balanced two-means step of
        Prabhu et al. (2018, "Parabel", sec. 3.1) started and ended at its linear relaxation. Cost O(K E log K).

        Examples
        --------
        >>> import normexp as nx
        >>> tree = nx.nn.Tree.balanced([[0.0], [9.0], [1.0], [8.0]])
        >>> bool(tree.parents[0] == tree.parents[2]), bool(tree.parents[1] == tree.parents[3])
        (True, True)
        """
        of = "Tree.balanced"
        ways = check_count(arity, of=of, name="arity", low=2)
        points = as_numbers(class_embeddings, "cpu", of=of, name="class_embeddings").numpy()
        if points.ndim != 2 or not len(points):
            raise ShapeError(
                f"{of}: class_embeddings have shape {points.shape}; (K, E), a row for each class, is right."
            )
        if not np.isfinite(points).all():
            raise RangeError(f"{of}: class_embeddings hold NaN or inf; finite numbers would be right.")
        K = len(points)
        parents = [-1] * K
        waiting = [(np.arange(K), -1)]
        while waiting:
            classes, above = waiting.pop()
            if len(classes) == 1:
                parents[classes[0]] = above
                continue
            parents.append(above)
            node = len(parents) - 1
            ordered = classes[np.argsort(_first_component(points[classes]), kind="stable")]
            waiting += [(part, node) for part in np.array_split(ordered, min(ways, len(ordered)))]
        return cls(np.asarray(parents, np.int64), np.arange(K))

    @property
    def depths(self) -> NDArray[np.int64]:
        """How many steps each node is from the root (M,)."""
        depth = np.zeros(len(self.parents), np.int64)
        above = self.parents.copy()
        while (above >= 0).any():
            depth += above >= 0
            above = np.where(above >= 0, self.parents[above], -1)
        return depth


def _whole(values: Any, *, of: str, name: str) -> NDArray[np.int64]:
    try:
        found = np.asarray(values)
    except ValueError:
        raise ShapeError(f"{of}: {name} are {values!r}; one number for each node would be right.") from None
    if found.ndim != 1 or not len(found):
        raise ShapeError(f"{of}: {name} have shape {found.shape}; one number for each node would be right.")
    if found.dtype.kind not in "iu":
        raise DtypeError(f"{of}: {name} have dtype {found.dtype}; node numbers, integers, would be right.")
    return found.astype(np.int64)


def _check_parents(parents: NDArray[np.int64], *, of: str) -> None:
    """One root, no node beyond the last, no cycle."""
    count = len(parents)
    beyond = np.flatnonzero((parents >= count) | (parents < -1))
    if len(beyond):
        node = int(beyond[0])
        raise RangeError(f"{of}: the parent of node {node} is {parents[node]}; -1 (a root) to {count - 1} is right.")
    roots = np.flatnonzero(parents == -1)
    if len(roots) > 1:
        raise RangeError(
            f"{of}: nodes {int(roots[0])} and {int(roots[1])} are both roots (parent -1); a tree has one root."
        )
    above = parents.copy()  # climb from every node by doubling steps: after log2(M) of them all are at the root
    for _ in range(max(1, int(count).bit_length())):
        above = np.where(above >= 0, above[above], -1)
    stuck = np.flatnonzero(above >= 0)
    if len(stuck) or not len(roots):
        node = int(stuck[0]) if len(stuck) else 0
        raise RangeError(
            f"{of}: node {node} never reaches a root: its ancestors form a cycle; cut it with a parent -1."
        )


def _childless(parents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which nodes are nobody's parent."""
    found = np.ones(len(parents), np.bool_)
    found[parents[parents >= 0]] = False
    return found


def _check_leaves(leaves: NDArray[np.int64], childless: NDArray[np.bool_], *, of: str) -> None:
    """Each node without children once, and no other."""
    for k, node in enumerate(leaves.tolist()):
        if not 0 <= node < len(childless):
            raise RangeError(f"{of}: class {k} is at node {node}; 0 to {len(childless) - 1} would be right.")
        if not childless[node]:
            raise RangeError(f"{of}: class {k} is at node {node}, which has children; a class needs a leaf of its own.")
    named, times = np.unique(leaves, return_counts=True)
    if (times > 1).any():
        raise RangeError(f"{of}: leaf {int(named[times > 1][0])} stands for two classes; one class a leaf is right.")
    missing = np.setdiff1d(np.flatnonzero(childless), leaves)
    if len(missing):
        raise RangeError(f"{of}: leaf {int(missing[0])} stands for no class; name every leaf, or take it out.")


def _first_component(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point's place along the direction of largest variance, by some steps of the power method."""
    centred = points - points.mean(axis=0)
    direction = centred[
        np.argmax((centred * centred).sum(axis=1))
    ].copy()  # the farthest point: never orthogonal to all
    for _ in range(8):
        moved = centred.T @ (centred @ direction)
        length = np.sqrt(moved @ moved)
        if length == 0.0:
            break
        direction = moved / length
    found: NDArray[np.float64] = centred @ direction
    return found
