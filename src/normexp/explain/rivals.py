"""Which class a row is explained for, and against which; and the gap between the two, exactly."""

from typing import Any

import numpy as np

from normexp.base.errors import RangeError
from normexp.explain.exact import Pair, add, products, row_sums, two_sum
from normexp.explain.head import Head
from normexp.explain.rows import F64, Index, Rows, is_sparse, padded_blocks, row_slices


def choose_rivals(head: Head, features: Rows, *, of: Any, against: Any) -> tuple[Index, Index]:
    """Class of each row and its rival, (N,) each: by default the most probable class and the one after it."""
    n_rows, n_classes = features.shape[0], len(head.classes)
    wanted = None if of is None else head.class_index(of, n_rows, name="of")
    rival = None if against is None else head.class_index(against, n_rows, name="against")
    if wanted is not None and rival is not None:
        same = np.flatnonzero(wanted == rival)
        if same.size:
            raise RangeError(
                f"{head.of}: of and against are both {head.classes[wanted[same[0]]].item()!r} in row {same[0]}; "
                "two different classes would be right."
            )
        return wanted, rival
    best, second = np.empty(n_rows, dtype=np.intp), np.empty(n_rows, dtype=np.intp)
    for rows in row_slices(n_rows, n_classes):
        logits = head.logits(features[rows])
        here = np.arange(len(logits))
        if rival is not None:
            logits[here, rival[rows]] = -np.inf
        best[rows] = logits.argmax(axis=1) if wanted is None else wanted[rows]
        logits[here, best[rows]] = -np.inf
        second[rows] = logits.argmax(axis=1) if rival is None else rival[rows]
    return best, second


def exact_gaps(head: Head, features: Rows, of: Index, against: Index) -> Pair:
    """Log-odds of one class against another in each row, (N,), to about 30 digits of its largest term."""
    high, low = np.empty(features.shape[0]), np.empty(features.shape[0])
    if is_sparse(features):
        for block in padded_blocks(features):
            values = (
                np.where(block.held, features.data[block.place], 0.0) if features.nnz else np.zeros(block.place.shape)
            )
            column = features.indices[block.place] if features.nnz else block.place
            own, other = of[block.rows][:, None], against[block.rows][:, None]
            high[block.rows], low[block.rows] = _gaps(
                head, head.coef[own, column], head.coef[other, column], values, of[block.rows], against[block.rows]
            )
    else:
        for rows in row_slices(*features.shape):
            own, other = of[rows], against[rows]
            high[rows], low[rows] = _gaps(head, head.coef[own], head.coef[other], features[rows], own, other)
    return Pair(high, low)


def _gaps(head: Head, own: F64, other: F64, values: F64, of: Index, against: Index) -> Pair:
    """Gaps of a block: the products of differences and values, and the intercepts, summed as pairs."""
    slope = two_sum(own, -other)
    terms = products(slope, Pair(values, np.zeros_like(values)))
    return add(row_sums(terms), two_sum(head.intercept[of], -head.intercept[against]))
