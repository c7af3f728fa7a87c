"""Arrays whose axes cannot be merged into (A, K, B) without a copy: parts are copied when they are asked for.

Rows of a stack with gaps, classes along two axes that were swapped, a mask that is broadcast along the middle axis: a
reshape would copy the whole, and a reduction needs memory for its rows alone. A range of merged places is a few boxes
of the axes they came from, at most two for each but the last, and a box is copied at the speed of memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Box = tuple[slice, ...]


def merges(array: NDArray[Any], groups: tuple[Shape, Shape, Shape]) -> bool:
    """Whether each group of neighbouring axes can be seen as one axis; the groups are given by their sizes."""
    if array.flags.c_contiguous or array.size == 0 or all(len(group) <= 1 for group in groups):
        return True
    first = 0
    for group in groups:
        steps = array.strides[first : first + len(group)]
        first += len(group)
        long = [(size, step) for size, step in zip(group, steps, strict=True) if size > 1]
        if any(step != size * inner for (_, step), (size, inner) in pairwise(long)):
            return False
    return True


def boxes(first: int, last: int, shape: Shape) -> Iterator[tuple[int, Box]]:
    """The places [first, last) of an array of this shape, in C order, as boxes; each with the place it begins at."""
    if first >= last:
        return
    if len(shape) <= 1:
        yield first, (slice(first, last),) * len(shape)
        return
    inner = prod(shape[1:])
    top, bottom = -(-first // inner), last // inner  # whole slices of the first axis
    if top > bottom:  # within one
        for begin, box in boxes(first - bottom * inner, last - bottom * inner, shape[1:]):
            yield bottom * inner + begin, (slice(bottom, bottom + 1), *box)
        return
    for begin, box in boxes(first - (top - 1) * inner, inner, shape[1:]) if first < top * inner else ():
        yield (top - 1) * inner + begin, (slice(top - 1, top), *box)
    if top < bottom:
        yield top * inner, (slice(top, bottom), *(slice(0, size) for size in shape[1:]))
    for begin, box in boxes(0, last - bottom * inner, shape[1:]):
        yield bottom * inner + begin, (slice(bottom, bottom + 1), *box)


@dataclass(frozen=True, slots=True)
class Folded:
    """An array that stands for its reshape to (A, K, B), of the classes [first, last) alone."""

    whole: NDArray[Any]  # (*outer, *classes, *inner)
    groups: tuple[Shape, Shape, Shape]
    first: int
    last: int

    @classmethod
    def of(cls, whole: NDArray[Any], groups: tuple[Shape, Shape, Shape]) -> Self:
        """Stand for ``whole``, whose axes are those of the groups one after another."""
        return cls(whole, groups, 0, prod(groups[1]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what it stands for."""
        outer, _, inner = self.groups
        return prod(outer), self.last - self.first, prod(inner)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what it stands for."""
        return self.whole.dtype

    @property
    def flags(self) -> Any:
        """Of the array: never those of rows side by side, which could be merged."""
        return self.whole.flags

    def classes(self, first: int, last: int) -> Self:
        """The same of fewer classes."""
        return replace(self, first=self.first + first, last=self.first + last)

    def copy(self, a0: int, a1: int, b0: int, b1: int) -> NDArray[Any]:
        """A copy of the part [a0:a1, :, b0:b1]."""
        part = np.empty((a1 - a0, self.last - self.first, b1 - b0), self.dtype)
        for here, box, shape in self._boxes(a0, a1, b0, b1):
            np.copyto(part[here].reshape(shape), self.whole[box])
        return part

    def fill(self, part: NDArray[Any], a0: int, b0: int) -> None:
        """Write a part where [a0:, :, b0:] begins."""
        for here, box, shape in self._boxes(a0, a0 + part.shape[0], b0, b0 + part.shape[2]):
            np.copyto(self.whole[box], part[here].reshape(shape))

    def _boxes(self, a0: int, a1: int, b0: int, b1: int) -> Iterator[tuple[Box, Box, Shape]]:
        """For each box: where it lies in the part, where in the array, and its shape there."""
        outer, classes, inner = self.groups
        for a, box_a in boxes(a0, a1, outer):
            for k, box_k in boxes(self.first, self.last, classes):
                for b, box_b in boxes(b0, b1, inner):
                    box = (*box_a, *box_k, *box_b)
                    shape = tuple(one.stop - one.start for one in box)
                    A, K = prod(shape[: len(outer)]), prod(shape[len(outer) : len(outer) + len(classes)])
                    B = prod(shape[len(outer) + len(classes) :])
                    at = a - a0, k - self.first, b - b0
                    yield tuple(slice(i, i + n) for i, n in zip(at, (A, K, B), strict=True)), box, shape
