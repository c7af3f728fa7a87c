"""The automatic choice: it does no harm where nothing is to be mended, and mends where something is."""

import warnings

import numpy as np
import pytest

from normexp import calibration as cal
from normexp.base.errors import NormexpWarning, RangeError
from normexp.calibration.copies import Merged, merge_copies
from normexp.calibration.folds import split_folds
from normexp.calibration.rows import CalibrationRows
from normexp.metrics import log_loss

NETWORKS = (
    "densenet121", "densenet161", "densenet169", "googlenet", "inception_v3", "mobilenet_v2", "resnet18",
    "resnet34", "resnet50", "resnet_orig", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
)  # fmt: skip


def drawn(rng, n, k, scale):
    """Logits and classes drawn from their softmax: calibrated by construction."""
    logits = scale * rng.normal(size=(n, k))
    return logits, (logits + rng.gumbel(size=(n, k))).argmax(axis=1)


def harm_on_calibrated(calibrator, n_runs=60):
    """Change of the test log loss for each of many calibrated problems."""
    harm = []
    for run in range(n_runs):
        rng = np.random.default_rng([7, run])
        k, n, scale = (2, 3, 6)[run % 3], (200, 400, 1000)[run // 3 % 3], (0.7, 2.0, 5.0)[run // 9 % 3]
        logits, y = drawn(rng, n, k, scale)
        fresh, truth = drawn(rng, 4000, k, scale)
        model = calibrator().fit(logits, y)
        harm.append(log_loss(truth, model.transform(fresh)) - log_loss(truth, fresh))
    return np.array(harm)


def test_calibrated_problems_are_left_alone():
    """At most one run in ten gets worse, and none by more than 0.01."""
    harm = harm_on_calibrated(cal.AutoCalibrator)
    assert (harm > 0).mean() <= 0.1
    assert harm.max() <= 0.01


def test_a_plain_temperature_breaks_that_promise():
    harm = harm_on_calibrated(cal.TemperatureScaling)
    assert (harm > 0).mean() > 0.3


@pytest.fixture(scope="module")
def cifar(request):
    folder = request.getfixturevalue("shared_data") / "cifar10-probs-pytorch"
    stored = np.load(folder / "cifar10.npz")
    with np.errstate(divide="ignore"):
        return {name: np.log(stored[f"probs_{name}"].astype(np.float64)) for name in NETWORKS}, stored["y"].astype(int)


@pytest.mark.parametrize("name", NETWORKS[::4])
def test_real_networks_gain_more_than_by_a_temperature(cifar, name):
    logits, y = cifar[0][name], cifar[1]
    model = cal.AutoCalibrator().fit(logits[:3000], y[:3000])
    fresh, truth = logits[3000:], y[3000:]
    tempered = cal.TemperatureScaling().fit(logits[:3000], y[:3000]).transform(fresh)
    ours = log_loss(truth, model.transform(fresh))
    assert ours < log_loss(truth, fresh) - 0.005
    assert ours < log_loss(truth, tempered)
    assert model.chosen_ in model.scores_
    assert model.scores_["identity"] - model.scores_[model.chosen_] == pytest.approx(model.gain_)


def test_a_network_that_was_calibrated_is_not_calibrated_again(cifar):
    """After one calibration on other rows, identity is chosen, or the change is within 0.01."""
    logits, y = cifar[0]["resnet18"], cifar[1]
    first = cal.StructuredMatrixScaling().fit(logits[:5000], y[:5000])
    once = first.transform(logits[5000:])
    second = cal.AutoCalibrator().fit(once[:1500], y[5000:6500])
    before, after = log_loss(y[6500:], once[1500:]), log_loss(y[6500:], second.transform(once[1500:]))
    assert after < before + 0.01


def test_a_pool_of_real_networks_is_better_than_its_best_member(cifar):
    members, y = [cifar[0][name] for name in NETWORKS], cifar[1]
    model = cal.PooledCalibrator(cal.TemperatureScaling()).fit([m[:3000] for m in members], y[:3000])
    best = min(
        log_loss(y[3000:], cal.TemperatureScaling().fit(m[:3000], y[:3000]).transform(m[3000:])) for m in members
    )
    assert log_loss(y[3000:], model.transform([m[3000:] for m in members])) < best - 0.02


def test_a_model_without_errors_that_expects_some_is_said_to_be_a_leak():
    logits, _ = drawn(np.random.default_rng(0), 400, 4, 2.0)
    with pytest.warns(NormexpWarning, match="trained on"):
        cal.AutoCalibrator().fit(logits, logits.argmax(axis=1))


def test_copies_of_rows_change_nothing_and_are_mentioned():
    rng = np.random.default_rng(0)
    for k, scale in ((5, 2.0), (2, 1.0), (4, 3.0)):
        z, y = drawn(rng, 120, k, scale)
        with pytest.warns(NormexpWarning, match="1080 of the 1200 rows"):
            model = cal.AutoCalibrator().fit(np.repeat(z, 10, axis=0), np.repeat(y, 10))
        alone = cal.AutoCalibrator().fit(z, y)
        assert (model.chosen_, model.shares_, model.scores_) == (alone.chosen_, alone.shares_, alone.scores_)
        np.testing.assert_array_equal(model.transform(z), alone.transform(z))
    assert alone.chosen_ == "identity"


def test_copies_that_were_not_merged_would_do_harm(monkeypatch):
    monkeypatch.setattr("normexp.calibration.auto.merge_copies", lambda rows: Merged(rows, 0, np.arange(rows.n_rows)))
    z, y = drawn(np.random.default_rng(0), 120, 5, 2.0)
    assert cal.AutoCalibrator().fit(np.repeat(z, 10, axis=0), np.repeat(y, 10)).chosen_ != "identity"


def test_some_copies_among_other_rows_are_merged_by_weight():
    z, y = drawn(np.random.default_rng(1), 300, 3, 1.0)
    index = np.r_[np.arange(300), np.arange(60), np.arange(60)]
    merged, n_copies, place = merge_copies(CalibrationRows(z, index, y[index], np.ones(420)))
    np.testing.assert_array_equal(place, index)
    assert n_copies == 120
    np.testing.assert_allclose(merged.weight, np.r_[np.full(60, 3.0), np.ones(240)] * 300 / 420)
    np.testing.assert_array_equal(merged.target, y)


@pytest.mark.parametrize("leaves", [4, 30, 200])
@pytest.mark.parametrize("power", [0.4, 1.0, 2.5])  # too modest, right, too sure
def test_rows_that_repeat_by_nature_are_left_alone(leaves, power):
    """Trees and votes give few distinct logits, and their classes differ as often as they should."""
    rng = np.random.default_rng(leaves)
    leaf, k = 2.0 * rng.normal(size=(leaves, 3)), 3
    right = leaf[rng.integers(leaves, size=1500)]
    y = (right + rng.gumbel(size=(1500, k))).argmax(axis=1)
    rows = CalibrationRows(power * right, np.arange(1500), y, np.ones(1500))
    merged, n_copies, _ = merge_copies(rows)
    assert n_copies == 0
    assert merged is rows


def test_a_forest_that_is_right_and_modest_holds_no_copies():
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_predict

    X, y = load_wine(return_X_y=True)
    prob = cross_val_predict(RandomForestClassifier(20, random_state=0, n_jobs=1), X, y, cv=5, method="predict_proba")
    rows = CalibrationRows(np.log(np.maximum(prob, 1e-3)), np.arange(len(y)), y, np.ones(len(y)))
    assert len(np.unique(prob, axis=0)) < 0.7 * len(y)
    assert merge_copies(rows)[1] == 0


CALIBRATORS = (cal.TemperatureScaling, cal.VectorScaling, cal.StructuredMatrixScaling, cal.AutoCalibrator)


@pytest.mark.parametrize("method", CALIBRATORS)
def test_huge_logits_are_calibrated_or_answered_with_a_sentence(method):
    z, y = drawn(np.random.default_rng(0), 120, 3, 2.0)
    for size in (1e35, 1e60, 1e99):
        assert np.isfinite(method().fit(size * z, y).predict_proba(size * z)).all()
    one = z.copy()
    one[7, 1], one[8, 2] = -1e200, -np.inf  # the second stands for a class that cannot be
    for huge in (1e200 * z, 1e307 * z, one):
        with pytest.raises(RangeError, match=rf"{method.__name__}.fit: logits in row.* beyond 1e100"):
            method().fit(huge, y)


def test_honest_rows_are_not_called_a_leak():
    sure = np.where(np.eye(3)[np.arange(300) % 3] == 1, 12.0, 0.0)  # one error in 50 000 expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cal.AutoCalibrator().fit(sure, np.arange(300) % 3)
        cal.AutoCalibrator().fit(*drawn(np.random.default_rng(0), 400, 4, 2.0))


def test_few_rows_without_an_error_do_not_make_a_model_surer():
    """The observed gains are all positive here; only their variance under the model keeps identity."""
    rng = np.random.default_rng(3)
    logits = np.zeros((40, 2))
    y = rng.integers(2, size=40)
    logits[np.arange(40), y] = 3.0
    assert cal.AutoCalibrator().fit(logits, y).chosen_ == "identity"


@pytest.mark.parametrize("n", [3, 5, 19])
def test_a_handful_of_rows_changes_nothing(n):
    logits, _ = drawn(np.random.default_rng(0), 19, 3, 2.0)
    model = cal.AutoCalibrator().fit(9.0 * logits[:n], np.arange(n) % 3)
    assert model.chosen_ == "identity"
    np.testing.assert_array_equal(model.transform(logits), logits)


def test_folds_hold_each_row_out_once_and_spread_each_class():
    y = np.r_[np.zeros(40, int), np.ones(11, int), np.full(3, 2)]
    folds = split_folds(y, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in folds])), np.arange(54))
    for kept, held in folds:
        assert not np.intersect1d(kept, held).size
        assert np.bincount(y[held], minlength=3)[0] == 8
        assert 2 <= np.bincount(y[held], minlength=3)[1] <= 3


def test_the_choice_does_not_depend_on_chance():
    logits, y = drawn(np.random.default_rng(0), 500, 4, 2.0)
    first = cal.AutoCalibrator().fit(2 * logits, y)
    second = cal.AutoCalibrator().fit(2 * logits, y)
    np.testing.assert_array_equal(first.transform(logits), second.transform(logits))
    assert first.scores_ == second.scores_


def test_a_hundred_thousand_classes_are_calibrated():
    rng = np.random.default_rng(0)
    logits = (3.0 * rng.normal(size=(60, 100_000))).astype(np.float32)
    logits[:, :20] += 12.0
    y = (logits[:, :20] / 4.0 + rng.gumbel(size=(60, 20))).argmax(axis=1)
    with pytest.warns(NormexpWarning, match="classes"):
        model = cal.AutoCalibrator(cv=3).fit(logits, y)
    assert set(model.scores_) == {"identity", "temperature", "ensemble_temperature"}
    out = model.transform(logits)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


def test_decisions_are_kept_when_that_is_asked():
    """Where one class is over-rated vector scaling wins; kept decisions rule it out, and no decision moves."""
    rng = np.random.default_rng(0)
    right = 2.0 * rng.normal(size=(3000, 4))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    logits = 2.0 * right + [1.5, 0.0, 0.0, -1.0]
    free, kept = cal.AutoCalibrator().fit(logits, y), cal.AutoCalibrator(keep_decisions=True).fit(logits, y)
    assert free.chosen_ in {"vector", "matrix"}
    assert kept.chosen_ in {"temperature", "ensemble_temperature"}
    assert (kept.transform(logits).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert (free.transform(logits).argmax(axis=1) != logits.argmax(axis=1)).any()
