"""Changes of several numbers at once, within what the training rows hold, that flip the decision of a table model."""

from typing import Any

import numpy as np
import polars as pl

from normexp.explain.flips import contrast
from normexp.explain.observed import FEWEST_DIGITS, MOST_DIGITS, Room
from normexp.explain.rows import F64, as_dense
from normexp.explain.single_changes import Change


def joint_change(model: Any, row: Any, /) -> tuple[Change, ...]:
    r"""Find numbers that flip the decision together, each within those of the training rows, moved the least.

    Parameters
    ----------
    model : TableClassifier
        A fitted model whose estimator is linear.
    row : polars.DataFrame of height 1, ndarray (1, D) or csr_matrix (1, D)
        As a block of a source holds it.

    Returns
    -------
    tuple of Change
        The largest change first; all of them are needed. Empty where no such change flips the decision.

    Raises
    ------
    DtypeError
        For a model whose scores are not affine in its columns.

    Notes
    -----
    The least sum of changes, in standard deviations of the training rows, within a box: `contrast` with the norm 1,
    exact for the scores before calibration. Each number is then rounded away from its value, and the model asked.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from normexp.explain.joint_changes import joint_change
    >>> from normexp.tables import open_source
    >>> from normexp.trusted import TableClassifier
    >>> X = np.random.default_rng(0).uniform(0, 1, (200, 2))
    >>> path = Path(tempfile.mkdtemp()) / "both.npz"
    >>> np.savez(path, X=X, y=(X.sum(axis=1) > 1.3).astype(int))
    >>> model = TableClassifier().fit(open_source(path))
    >>> sorted(change.column for change in joint_change(model, np.array([[0.05, 0.05]])))
    ['[0]', '[1]']
    """
    room = Room.of(model, row, within=True)
    if not len(room.values):
        return ()
    is_table = isinstance(row, pl.DataFrame)
    scaler = model.encoder_.scaler_ if is_table else None
    encoded: F64 = as_dense(model.encoder_.transform(row))[0].astype(np.float64)
    low, high = encoded.copy(), encoded.copy()  # all that is no number stays
    for bound, own, to in ((low, room.low, np.fmin), (high, room.high, np.fmax)):
        there = own if scaler is None else (own - scaler.mean_[room.columns]) / room.spread
        bound[room.columns] = to(there, encoded[room.columns])
    found = contrast(model.estimator_, encoded[None], norm=1, lower=low, upper=high)
    step = (found.x[0] - encoded)[room.columns] * room.spread
    moved = [int(k) for k in np.argsort(-np.abs(step / room.spread), kind="stable") if step[k] != 0.0]
    if not np.isfinite(found.radius[0]) or not moved:
        return ()
    own_class = room.decision({})
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        numbers = {k: room.number(k, float(room.values[k] + step[k]), digits) for k in moved}
        decision = room.decision(numbers)
        if decision != own_class:
            label = model.classes_[decision].item()
            away = {k: abs(number - room.values[k]) / room.spread[k] for k, number in numbers.items()}
            return tuple(
                Change(room.name(k), room.before(k), number, label, float(away[k]) if is_table else None)
                for k, number in numbers.items()
            )
    return ()
