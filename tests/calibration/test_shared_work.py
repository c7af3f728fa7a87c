"""What the choice of a calibrator saves: promises instead of fits, folds from the fit of all rows, rows that choose."""

import numpy as np
import pytest

from normexp import calibration as cal
from normexp.base import fingerprints
from normexp.base.fingerprints import row_prints
from normexp.calibration import affine_folds, auto
from normexp.calibration.affine import fit_affine
from normexp.calibration.affine_folds import AffineFolds, search
from normexp.calibration.columns import turned
from normexp.calibration.fold_views import FoldViews, at_temperature
from normexp.calibration.folds import outside, side_by_side
from normexp.calibration.rows import CalibrationRows
from normexp.calibration.structured import STRENGTHS
from normexp.metrics import log_loss
from normexp.ops import cross_entropy, log_softmax


def biased(n, k, by=0.2, seed=0):
    rng = np.random.default_rng(seed)
    right = 2.0 * rng.normal(size=(n, k))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    return right * (1.0 + by * rng.normal(size=k)) + by * rng.normal(size=k), y


def folds_of(logits, y, full):
    order, folds = side_by_side(y, 5)
    rows = CalibrationRows(logits[order], np.arange(len(y)), y[order], np.ones(len(y)))
    views = FoldViews(rows, folds)
    return rows, folds, views, AffineFolds(views, full=full)


def held_out_gain(rows, folds, views, maps):
    """Gain over the temperature of each fold, nats in the sum."""
    gain = 0.0
    for f, held in enumerate(folds):
        u = np.asarray(log_softmax(rows.logits[held], temperature=views.temperatures[f]))
        gain += float((cross_entropy(u, y := rows.target[held], reduction="none")).sum())
        gain -= float(cross_entropy(maps[f].apply(u), y, reduction="none").sum())
    return gain


@pytest.mark.parametrize(("full", "k"), [(False, 5), (True, 5), (True, 40)])
def test_the_folds_are_those_of_separate_fits(full, k):
    """Fits from the optimum of all rows, with shared second derivatives, leave no more than hundredths of a nat."""
    rows, folds, views, fits = folds_of(*biased(1500, k), full)
    for strength in (4.0, 0.25):
        found = fits.fit(strength)
        ridge = 2.0 * strength * k
        apart = []
        for f, held in enumerate(folds):
            kept = outside(held, len(rows.target))
            x = at_temperature(turned(rows.logits[kept]), views.temperatures[f])
            off = ridge * (k - 1) if full else None
            apart.append(fit_affine(x, rows.target[kept], rows.weight[kept], ridge=ridge, ridge_off=off))
            told = found.outside[f].apply(views.of_fold(f)[1:, held].T)
            np.testing.assert_allclose(found.held_out[f].T, log_softmax(told), atol=1e-5 if k > 32 else 1e-10)
        ours, theirs = (held_out_gain(rows, folds, views, one) for one in (found.outside, apart))
        assert abs(ours - theirs) < 0.5
        whole = fits.problem.map_of(fits.theta)
        assert abs(held_out_gain(rows, folds, views, [whole] * 5) - theirs) > 2.0  # the map of all rows is no such fit


def test_promises_are_close_to_held_out_gains_and_gains_on_the_fitted_rows_are_not():
    rows, folds, views, fits = folds_of(*biased(2000, 5), True)
    promises = fits.promises(STRENGTHS)
    gains, seen = [], []
    for strength in STRENGTHS:
        whole, maps, _ = fits.fit(strength)
        gains.append(held_out_gain(rows, folds, views, maps))
        seen.append(held_out_gain(rows, folds, views, [whole] * 5))
    told = np.array([one.gain for one in promises])
    assert np.abs(told - gains).max() < 0.25 * max(gains)
    assert abs(int(np.argmax(told)) - int(np.argmax(gains))) <= 1
    assert (np.array(seen) - gains).max() > 10.0


def test_nothing_is_promised_where_nothing_is_to_be_mended():
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(2000, 5))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert set(cal.AutoCalibrator().fit(logits, y).scores_) == {"identity", "temperature", "ensemble_temperature"}
    assert "matrix" in cal.AutoCalibrator().fit(*biased(2000, 5)).scores_


def test_a_wrong_promise_is_looked_into_and_a_right_one_believed():
    def tried(promised, gains):
        seen = []
        promises = [affine_folds.Promise(one, 1.0) for one in promised]
        best = search((4.0, 2.0, 1.0, 0.5), promises, lambda at: seen.append(at) or gains[at])
        return best, seen

    assert tried([1, 2, 9, 3], [1, 2, 8, 20]) == (2, [2])
    assert tried([1, 2, 9, 3], [1, 2, 4, 20]) == (3, [2, 3])
    assert tried([1, 2, 9, 3], [9, 6, 4, 2]) == (0, [2, 3, 1, 0])
    assert tried([], [9, 6, 4, 2]) == (0, [2, 3, 1, 0])


def test_few_of_many_rows_choose_and_all_of_them_fit(monkeypatch):
    logits, y = biased(4000, 4)
    every = cal.AutoCalibrator().fit(logits, y)
    monkeypatch.setattr(auto, "CHOICE_ROWS", 1500)
    monkeypatch.setattr(auto, "CHOICE_ROWS_A_NUMBER", 1)
    some = cal.AutoCalibrator().fit(logits, y)
    assert some.scores_ != every.scores_
    assert some.chosen_ == every.chosen_
    chosen = dict(zip(some.shares_, some.calibrator_.members_, strict=True))[some.chosen_]
    alone = type(chosen)(strength=chosen.strength_).fit(logits, y)
    np.testing.assert_allclose(chosen.transform(logits), alone.transform(logits), atol=2e-3)
    few = type(chosen)(strength=chosen.strength_).fit(logits[:1500], y[:1500])
    assert np.abs(chosen.transform(logits) - few.transform(logits)).max() > 0.02


@pytest.mark.parametrize("most", [5000, 700])
def test_held_out_logits_are_those_of_fits_without_the_row(monkeypatch, most):
    """A row's own class weighs nothing in its logits: the rows that were fitted look better."""
    monkeypatch.setattr(auto, "CHOICE_ROWS", most)
    monkeypatch.setattr(auto, "CHOICE_ROWS_A_NUMBER", 0)
    logits, y = biased(1500, 12, by=0.5, seed=3)
    weight = np.where(np.arange(1500) < 100, 0.0, 1.0)
    model = cal.AutoCalibrator()
    held = model.fit_held_out(logits, y, sample_weight=weight)
    assert held.shape == logits.shape
    assert np.isfinite(held).all()
    before, honest, fitted = (log_loss(y, z) for z in (logits, held, model.transform(logits)))
    assert fitted < honest < before
    assert honest - fitted > 0.003
    assert not {"_outside", "_wanted"} & set(vars(model))


def test_copies_get_what_the_row_gets_that_they_repeat():
    logits, y = biased(300, 3)
    with pytest.warns(UserWarning, match="taken for copies"):
        held = cal.AutoCalibrator().fit_held_out(np.repeat(logits, 4, axis=0), np.repeat(y, 4))
    np.testing.assert_array_equal(held[::4], held[3::4])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16, np.bool_])
def test_equal_rows_share_a_number_and_others_do_not(dtype):
    """Small whole numbers have few bits set, and their sums or permutations are no equal rows."""
    grid = np.stack(np.meshgrid(*[np.arange(2 if dtype is np.bool_ else 11)] * 4), axis=-1).reshape(-1, 4).astype(dtype)
    table = np.concatenate([grid, grid[::-1]])
    prints = row_prints(table)
    np.testing.assert_array_equal(prints[: len(grid)], prints[: len(grid) - 1 : -1])
    assert len(np.unique(prints)) == len(np.unique(grid, axis=0))
    assert len(np.unique(grid.sum(axis=1))) < len(np.unique(grid, axis=0))  # a sum of the entries would not do


def test_longer_numbers_and_many_rows_are_told_apart_too(monkeypatch):
    table = np.arange(60, dtype=np.longdouble).reshape(20, 3)
    assert len(np.unique(row_prints(table))) == 20
    plain = np.random.default_rng(0).normal(size=(50, 7))
    whole = row_prints(plain)
    monkeypatch.setattr(fingerprints, "BLOCK_NUMBERS", 20)
    np.testing.assert_array_equal(row_prints(plain), whole)
    np.testing.assert_array_equal(row_prints(np.asfortranarray(plain)[::2]), whole[::2])
