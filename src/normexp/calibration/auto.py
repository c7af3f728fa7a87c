"""The calibrator that is chosen by cross-validation, with "leave it as it is" on the menu."""

import math
import warnings
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import NormexpWarning
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.copies import merge_copies
from normexp.calibration.folds import check_cv, split_folds
from normexp.calibration.log_linear import LEAST_SHARE, LogLinearPool, pool_shares
from normexp.calibration.menu import Entry, menu_for
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.ops import log_softmax

# Standard errors by which a gain over identity must exceed 0, for many rows and (added) for few. Measured on
# problems calibrated by construction: bench/calibration.py, table "already calibrated".
MANY_ROWS_MARGIN: Final = 1.0
FEW_ROWS_MARGIN: Final = 2.0
FEW_ROWS: Final = 300.0
RICH_MARGIN: Final = 1.0  # added for methods with a strength to choose: the best of several is lucky
RIVAL_MARGIN: Final = 1.0  # the same for the gain of one method over a simpler one
KEEPING: Final = frozenset(
    {"identity", "temperature", "ensemble_temperature"}
)  # increasing maps, alike for all classes
MOST_POOL_ELEMENTS: Final = 2_000_000  # N x K: held-out log-probabilities of a dozen variants are kept, 100 MB
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

    Vector and matrix scaling are tried in five strengths each where K and N allow; with many classes only the
    temperatures are tried, a block of rows at a time.

    Copies of rows would stand on both sides of a split and make any gain look certain. Rows with equal logits whose
    classes agree far more often than their probabilities allow are merged first, with a warning.

    Where something is to be mended and vector scaling was tried, all methods, identity too, are mixed: the mean of
    their log-probabilities with the shares that had the least held-out log loss. Which one is best is hard to tell from
    a thousand rows, and their mean is as good as the best of them, or better (``bench/results/calibration.md``). With
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
        n_folds = check_cv(self.cv, of="AutoCalibrator")
        given = rows.n_rows
        rows, n_copies = merge_copies(rows)
        if n_copies:
            warnings.warn(
                f"AutoCalibrator.fit: {n_copies} of the {given} rows have the logits of another row, bit for bit, and "
                "its class, far more often than chance would have it: they are taken for copies, and each is counted "
                "with the row that it repeats. Drop them, or give rows that were drawn one by one.",
                NormexpWarning,
                stacklevel=4,
            )
        _look_for_leak(rows)
        menu = [entry for entry in menu_for(rows) if entry.name in KEEPING or not self.keep_decisions]
        trials = _trials(menu, rows, n_folds)
        total = float(rows.weight.sum())
        base = rows.nll()
        base_loss = float(rows.weight @ base) / total if np.isfinite(base).all() else math.inf
        chosen = _choose(trials, rows.weight)
        self.chosen_ = chosen.entry.name
        self.gain_ = chosen.gain
        self.scores_ = {trial.entry.name: base_loss - trial.gain for trial in trials}
        self.shares_ = {chosen.entry.name: 1.0} if chosen is trials[0] else _shares(trials, chosen, rows)
        members = [_fitted(trial, rows) for trial in trials if trial.entry.name in self.shares_]
        self.calibrator_ = (
            members[0] if len(members) == 1 else LogLinearPool.of_fitted(members, [*self.shares_.values()])
        )

    def _map(self, z: Floats) -> Floats:
        return self.calibrator_.map_block(z)


class Trial(NamedTuple):
    """Held-out gains of one kind in its best variant: mean, each row's, and each row's variance were p right.

    With them the held-out log-probabilities, (N, K), where a pool may be made of them.
    """

    entry: Entry
    variant: int
    gain: float
    gains: Floats
    variance: Floats
    held_out: NDArray[np.float32] | None


def _trials(menu: list[Entry], rows: CalibrationRows, n_folds: int) -> list[Trial]:
    """Cross-validate each kind in all its variants and keep the best of each."""
    shape = rows.n_rows, rows.n_classes
    gains = [np.zeros((len(entry.variants), rows.n_rows)) for entry in menu]
    variances = [np.zeros((len(entry.variants), rows.n_rows)) for entry in menu]
    keeps = any(entry.name == "vector" for entry in menu) and shape[0] * shape[1] <= MOST_POOL_ELEMENTS
    held_out = [[np.empty(shape, np.float32) if keeps else None for _ in entry.variants] for entry in menu]
    for kept, held in split_folds(rows.target, n_folds):
        train, test = rows.take(kept), rows.take(held)
        for e, entry in enumerate(menu if keeps else menu[1:], start=0 if keeps else 1):
            for v, fitted in enumerate(entry.fit(train, entry.variants)):
                gains[e][v, held], variances[e][v, held] = _gain(fitted, test, held_out[e][v], held)
    total = float(rows.weight.sum())
    found = []
    for e, entry in enumerate(menu):
        mean = gains[e] @ rows.weight / total
        best = int(np.argmax(mean))
        found.append(Trial(entry, best, float(mean[best]), gains[e][best], variances[e][best], held_out[e][best]))
    return found


def _fitted(trial: Trial, rows: CalibrationRows) -> Calibrator:
    """The kind in its best variant, on all rows."""
    return trial.entry.fit(rows, trial.entry.variants[: trial.variant + 1])[-1]


def _shares(trials: list[Trial], chosen: Trial, rows: CalibrationRows) -> dict[str, float]:
    """The kinds in the pool and the share of each; the chosen one alone where no pool can be made."""
    place = np.arange(rows.n_rows), rows.target
    log_prob = [trial.held_out for trial in trials if trial.held_out is not None]
    if not log_prob or not all(np.isfinite(one[place]).all() for one in log_prob):
        return {chosen.entry.name: 1.0}
    share = pool_shares(log_prob, rows.target, rows.weight)
    share = np.where(share >= LEAST_SHARE, share, 0.0)
    share /= share.sum()
    return {trial.entry.name: float(w) for trial, w in zip(trials, share, strict=True) if w > 0.0}


def _gain(
    fitted: Calibrator, test: CalibrationRows, kept: NDArray[np.float32] | None, at: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Gain in log-probability of the truth on each row, and its variance were the given probabilities right.

    The log-probabilities go to kept[at].
    """
    gain, variance = np.empty(test.n_rows), np.empty(test.n_rows)
    for block, z in test.blocks():
        before = np.asarray(log_softmax(z))
        after = np.asarray(log_softmax(fitted.map_block(z)))
        if kept is not None:
            with np.errstate(over="ignore"):  # beyond float32: -inf, and then no pool is made
                kept[at[block]] = after
        possible = np.isfinite(before)
        difference = np.subtract(after, before, out=np.zeros_like(before), where=possible)
        prob = np.exp(before)
        mean = np.einsum("nk,nk->n", prob, difference)
        square = np.einsum("nk,nk,nk->n", prob, difference, difference)
        variance[block] = np.maximum(square - mean * mean, 0.0)
        place = np.arange(z.shape[0])
        gain[block] = difference[place, test.target[block]]
    return gain, variance


def _choose(trials: list[Trial], weight: Floats) -> Trial:
    """Identity, unless a gain over it is beyond doubt; then the richest of those that beat the simpler ones."""
    identity, *others = trials
    if not any(_beats_identity(trial, weight) for trial in others):
        return identity
    best = identity
    for trial in others:
        if trial.gain > 0.0 and (best is identity or _beats(trial, best, weight)):
            best = trial
    return best


def _beats_identity(trial: Trial, weight: Floats) -> bool:
    """Whether so large a mean gain is more than chance would show were the given probabilities right."""
    total = float(weight.sum())
    chance = math.sqrt(float((weight * weight) @ trial.variance)) / total
    n_rows = total * total / float(weight @ weight)
    margin = MANY_ROWS_MARGIN + FEW_ROWS_MARGIN * math.exp(-n_rows / FEW_ROWS)
    if len(trial.entry.variants) > 1:
        margin += RICH_MARGIN
    return trial.gain > margin * chance


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
