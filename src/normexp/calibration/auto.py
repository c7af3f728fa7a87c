"""The calibrator that is chosen by cross-validation, with "leave it as it is" on the menu."""

import copy
import math
import warnings
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normexp.base.blas_threads import one_blas_thread
from normexp.base.errors import NormexpWarning
from normexp.base.plain_arrays import plain_array
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.copies import merge_copies
from normexp.calibration.folds import check_cv, side_by_side
from normexp.calibration.log_linear import LEAST_SHARE, LogLinearPool, pool_shares
from normexp.calibration.menu import Entry, menu_for
from normexp.calibration.rows import CalibrationRows, Floats, read_calibration_rows
from normexp.calibration.trials import Trial, beats_identity, cross_validate
from normexp.ops import log_softmax

RIVAL_MARGIN: Final = 1.0  # standard errors by which one method must beat a simpler one
KEEPING: Final = frozenset(
    {"identity", "temperature", "ensemble_temperature"}
)  # increasing maps, alike for all classes
# Rows that choose the method, all of which then fit it: at least so many, so many for each number of a matrix, and so
# many logits where that is more than ten rows for each class.
CHOICE_ROWS: Final = 5000
CHOICE_ROWS_A_NUMBER: Final = 20
CHOICE_ELEMENTS: Final = 4_000_000
LEAK_ROWS: Final = 50  # a model may well be right in fewer rows than these


class AutoCalibrator(Calibrator):
    r"""The method with the best cross-validated log loss, or none when no gain is beyond doubt.

    Parameters
    ----------
    cv : int, default 5
        Folds. Each class is spread over them evenly, always in the same way.
    keep_decisions : bool, default False
        Choose only among methods that leave the order of the classes in each row, and so every decision, as it was.

    Attributes
    ----------
    chosen_ : str
        "identity", "temperature", "ensemble_temperature", "vector", "matrix"; for two classes "identity",
        "temperature", "beta", "quadratic", "isotonic".
    scores_ : dict of str to float
        Cross-validated log loss of each method that was tried.
    gain_ : float
        Cross-validated gain of the chosen method over the logits as they are, nats a row.
    shares_ : dict of str to float
        The methods that are mixed, and the share of each; the chosen one alone where nothing is mixed.
    calibrator_ : Calibrator
        The chosen method, or the mixture, fitted on all rows.

    Notes
    -----
    Identity stays unless some method's mean gain in held-out log loss exceeds m times the standard error that it would
    have *if the given probabilities were right*,

    .. math:: \sqrt{\textstyle\sum_i w_i^2 \operatorname{Var}_{y\sim p_i}[\log q_i(y) - \log p_i(y)]} / \sum_i w_i .

    (The spread of the observed gains would not do: a hundred rows without an error would look like proof that a model
    is too modest.) With fewer than 20 rows identity stays in any case. The margin m falls from 3 for few rows to 1 for
    many, and is 1 higher for methods that come in several strengths. Then methods are looked at from the simplest to
    the richest, and one replaces the best so far when its gain over it exceeds its standard error. On problems that
    are calibrated already identity is chosen in more than nine runs of ten (see the tests, and
    ``bench/results/calibration.md``).

    Vector and matrix scaling come in five strengths each where K and N allow. What each strength promises on held-out
    rows is told from one gradient and one Hessian of all rows; the best is then fitted in each fold, the others only
    where that promise was wrong, and the method is passed over where nothing is promised. With many classes only the
    temperatures are tried, a block of rows at a time. Beyond 5 000 rows, or 20 for each number of a matrix where that
    is more, so many choose, each class in its share, and all rows fit what they chose.

    Copies of rows would stand on both sides of a split and make any gain look certain. Rows with equal logits whose
    classes agree far more often than their probabilities allow are merged first, with a warning.

    Where something is to be mended and vector or matrix scaling was tried, all methods, identity too, are mixed: the
    mean of their log-probabilities with the shares that had the least held-out log loss. Which one is best is hard to
    tell from a thousand rows, and their mean is as good as the best of them, or better
    (``bench/results/calibration.md``). With
    `keep_decisions` and for two classes nothing is mixed.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import AutoCalibrator
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(2000, 3))
    >>> y = (logits + rng.gumbel(size=(2000, 3))).argmax(axis=1)  # drawn from softmax(logits): nothing to mend
    >>> AutoCalibrator().fit(logits, y).chosen_
    'identity'
    >>> AutoCalibrator().fit(3.0 * logits, y).chosen_
    'temperature'
    """

    keep_decisions: bool = False  # of those in model files from before it was there

    def __init__(self, *, cv: int = 5, keep_decisions: bool = False) -> None:
        self.cv = cv
        self.keep_decisions = keep_decisions

    def _fit(self, rows: CalibrationRows) -> None:
        self._fit_outside(rows)

    def _fit_outside(self, rows: CalibrationRows) -> "Outside":
        """Set the fitted attributes; returns the fits of the folds, and the fold of each row."""
        n_folds = check_cv(self.cv, of="AutoCalibrator")
        given = rows.n_rows
        rows, n_copies, place = merge_copies(rows)
        if n_copies:
            warnings.warn(
                f"AutoCalibrator.fit: {n_copies} of the {given} rows have the logits of another row, bit for bit, and "
                "its class, far more often than chance would have it: they are taken for copies, and each is counted "
                "with the row that it repeats. Drop them, or give rows that were drawn one by one.",
                NormexpWarning,
                stacklevel=5,
            )
        _look_for_leak(rows)
        menu = [entry for entry in menu_for(rows) if entry.name in KEEPING or not self.keep_decisions]
        outside = self._choose_and_fit(menu, rows, n_folds)
        return outside._replace(fold=outside.fold[place], column=outside.column[place])

    def fit_held_out(self, logits: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Floats:
        """Fit, and return the logits of each row calibrated by a map that was learned without it.

        Parameters
        ----------
        logits, y, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of float64, shape (N, K)
            What a threshold or a promise may be set on: the fits of the cross-validation that chose the method, mixed
            with its shares. A copy of a row gets what that row gets.

        Raises
        ------
        ShapeError, RangeError, DtypeError
            As `fit`.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> logits = 2.0 * rng.normal(size=(2000, 3))
        >>> y = (logits + rng.gumbel(size=(2000, 3))).argmax(axis=1)
        >>> AutoCalibrator().fit_held_out(3.0 * logits, y).shape
        (2000, 3)
        """
        of = "AutoCalibrator.fit_held_out"
        z = plain_array(logits, of=of, name="logits")
        rows = read_calibration_rows(z, y, of=of, sample_weight=sample_weight)
        with one_blas_thread():
            return self._held_out(z, rows)

    def _held_out(self, z: NDArray[Any], rows: CalibrationRows) -> Floats:
        """Fit, and what `fit_held_out` returns."""
        outside = self._fit_outside(self._floored(rows))
        out = np.empty(z.shape, dtype=np.float64)
        fold, column = np.zeros(len(z), dtype=np.intp), np.full(len(z), -1)  # a row of weight 0 was in no fit
        fold[rows.index], column[rows.index] = outside.fold, outside.column
        for number, members in enumerate(outside.members):
            here = (fold == number) & (column < 0)
            if here.any():
                one = copy.copy(self.calibrator_)  # the same mixture, of other members
                if isinstance(one, LogLinearPool):
                    one.members_ = members
                else:
                    one = members[0]
                one.floor_ = self.floor_
                out[here] = one.transform(z[here].astype(np.float64, copy=False))
        if outside.held_out:
            known = column >= 0
            out[known] = np.ascontiguousarray(outside.mixture().T)[column[known]]
        return out

    def _choose_and_fit(self, menu: list[Entry], rows: CalibrationRows, n_folds: int) -> "Outside":
        """Let some rows choose and all rows fit; returns the fits of the folds."""
        part, held, fold, column = _choosing(rows, n_folds)
        base = part.nll()  # the folds take theirs from there
        trials = cross_validate(menu, part, held)
        rows.near.update({strength: found for strength, (found, _) in part.temperatures.items()})
        rows.near_shares.update(part.near_shares)
        total = float(part.weight.sum())
        base_loss = float(part.weight @ base) / total if np.isfinite(base).all() else math.inf
        chosen = _choose(trials, part.weight)
        self.chosen_ = chosen.entry.name
        self.gain_ = chosen.gain
        self.scores_ = {trial.entry.name: base_loss - trial.gain for trial in trials}
        self.shares_ = {chosen.entry.name: 1.0} if chosen is trials[0] else _shares(trials, chosen, part)
        members = [trial for trial in trials if trial.entry.name in self.shares_]
        share = [self.shares_[trial.entry.name] for trial in members]
        self.calibrator_ = _mixed([trial.fitted(rows) for trial in members], share)
        fits = [[trial.outside[f] for trial in members] for f in range(len(held))]
        held_out = [trial.held_out for trial in members if trial.held_out is not None] if len(members) > 1 else []
        return Outside(fits, fold, column if held_out else np.full(rows.n_rows, -1), held_out, share)

    def _map(self, z: Floats) -> Floats:
        return self.calibrator_.map_block(z)


class Outside(NamedTuple):
    """What is chosen or mixed, fitted outside each fold, and the fold of each row, (N,).

    Where several are mixed, also what each made of the rows that it was judged on, (K, n), and the column of each row
    there, -1 for others.
    """

    members: list[list[Calibrator]]
    fold: NDArray[np.intp]
    column: NDArray[np.intp]
    held_out: list[NDArray[np.float32]]
    share: list[float]

    def mixture(self) -> NDArray[np.float32]:
        """Logits of the mixture for the rows that chose it, (K, n)."""
        mixed = self.share[0] * self.held_out[0]
        for share, one in zip(self.share[1:], self.held_out[1:], strict=True):
            mixed += share * one
        return mixed


class _Choosing(NamedTuple):
    """The rows that choose, each class in its share, and where each fold stands among them.

    With them the fold of each row, and its place among those that choose or -1; rows that do not choose were in no
    fold's fit.
    """

    rows: CalibrationRows
    held: list[slice]
    fold: NDArray[np.intp]
    place: NDArray[np.intp]


def _choosing(rows: CalibrationRows, n_folds: int) -> _Choosing:
    """Draw them."""
    n, k = rows.n_rows, rows.n_classes
    enough = max(CHOICE_ROWS, min(CHOICE_ROWS_A_NUMBER * k * (k + 1), max(CHOICE_ELEMENTS // k, 10 * k)))
    if n <= enough:
        chosen = np.arange(n)
    else:
        order = np.random.default_rng(1).permutation(n)
        order = order[np.argsort(rows.target[order], kind="stable")]
        chosen = np.sort(order[(np.arange(enough) * n) // enough])
    order, held = side_by_side(rows.target[chosen], n_folds)
    chosen = chosen[order]
    fold, place = np.arange(n) % len(held), np.full(n, -1)
    for number, here in enumerate(held):
        fold[chosen[here]] = number
    place[chosen] = np.arange(chosen.size)
    return _Choosing(rows.take(chosen), held, fold, place)


def _mixed(members: list[Calibrator], share: list[float]) -> Calibrator:
    """The one calibrator, or the pool of several."""
    return members[0] if len(members) == 1 else LogLinearPool.of_fitted(members, share)


def _shares(trials: list[Trial], chosen: Trial, rows: CalibrationRows) -> dict[str, float]:
    """The kinds in the pool and the share of each; the chosen one alone where no pool can be made."""
    truth = rows.target, np.arange(rows.n_rows)
    log_prob = [trial.held_out for trial in trials if trial.held_out is not None]
    if (
        not log_prob
        or all(trial.near is None for trial in trials)
        or not all(np.isfinite(one[truth]).all() for one in log_prob)
    ):
        return {chosen.entry.name: 1.0}
    share = pool_shares([one.T for one in log_prob], rows.target, rows.weight)
    share = np.where(share >= LEAST_SHARE, share, 0.0)
    share /= share.sum()
    return {trial.entry.name: float(w) for trial, w in zip(trials, share, strict=True) if w > 0.0}


def _choose(trials: list[Trial], weight: Floats) -> Trial:
    """Identity, unless a gain over it is beyond doubt; then the richest of those that beat the simpler ones."""
    identity, *others = trials
    if not any(beats_identity(trial, weight) for trial in others):
        return identity
    best = identity
    for trial in others:
        if trial.gain > 0.0 and (best is identity or _beats(trial, best, weight)):
            best = trial
    return best


def _beats(trial: Trial, best: Trial, weight: Floats) -> bool:
    """Whether the gain over a simpler method is larger than its own standard error allows for."""
    total = float(weight.sum())
    difference = trial.gains - best.gains
    mean = float(weight @ difference) / total
    return mean > RIVAL_MARGIN * math.sqrt(float((weight * weight) @ (difference - mean) ** 2)) / total


def _look_for_leak(rows: CalibrationRows) -> None:
    """Say so when the rows look like those that the model was trained on."""
    if rows.n_rows < LEAK_ROWS or rows.n_classes == 1:
        return
    wrong = 0
    expected = 0.0
    for block, z in rows.blocks():
        wrong += int(np.count_nonzero(z.argmax(axis=1) != rows.target[block]))
        prob: NDArray[np.float64] = np.exp(np.asarray(log_softmax(z)).max(axis=1))
        expected += float((1.0 - prob).sum())
    # Were the confidences right, no error among N rows has a chance of at most exp(-expected): 1e-4 is no accident.
    if wrong == 0 and expected > -math.log(1e-4):
        warnings.warn(
            f"AutoCalibrator.fit: the model decides all {rows.n_rows} rows right, where its own confidences expect "
            f"{expected:.0f} errors. These look like rows that it was trained on; calibrate on rows it has never "
            "seen, or the result will be over-confident.",
            NormexpWarning,
            stacklevel=4,
        )
