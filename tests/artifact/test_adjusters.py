"""Calibrators, deciders and closed-form heads come back from their files with the same answers, to the bit."""

import numpy as np
import pytest

import normexp as nx
from normexp import calibration, decide
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax


def logits_of(n_classes, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, size=300)
    return 2.5 * (np.eye(n_classes)[y] * 1.5 + rng.normal(size=(300, n_classes))), y


@pytest.fixture
def again(tmp_path):
    def again(model):
        nx.save(model, tmp_path / "model.nx")
        return nx.load(tmp_path / "model.nx")

    return again


@pytest.mark.parametrize(
    ("calibrator", "n_classes"),
    [
        (calibration.TemperatureScaling(), 4),
        (calibration.EnsembleTemperatureScaling(), 4),
        (calibration.VectorScaling(), 4),
        (calibration.StructuredMatrixScaling(), 4),
        (calibration.QuadraticScaling(), 2),
        (calibration.BetaScaling(), 2),
        (calibration.IsotonicScaling(), 3),
        (calibration.AutoCalibrator(cv=2), 4),
        (calibration.PriorShift(), 4),
        (calibration.ShareMatching(), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_loaded_calibrator_gives_the_same_probabilities(again, calibrator, n_classes):
    logits, y = logits_of(n_classes)
    fitted = calibrator.fit(logits, y)
    fresh, _ = logits_of(n_classes, seed=1)
    assert np.array_equal(again(fitted).predict_proba(fresh), fitted.predict_proba(fresh))


def test_loaded_deciders_decide_alike(again):
    logits, y = logits_of(4)
    fresh, _ = logits_of(4, seed=1)
    for score in ("lac", "aps", "raps"):
        sets = decide.ConformalClassifier(score=score).fit(logits, y)
        assert np.array_equal(again(sets).predict_set(fresh), sets.predict_set(fresh))
    for score in ("gen", "max_logit", "energy", "msp"):
        detector = decide.OpenSetDetector(score=score).fit(logits)
        assert np.array_equal(again(detector).unknown_score(fresh), detector.unknown_score(fresh))
    selective = decide.SelectiveClassifier(0.4).fit(logits, y)
    assert np.array_equal(again(selective).predict(fresh), selective.predict(fresh))


@pytest.mark.parametrize("score", ["auto", "knn", "mahalanobis", "vim"])
def test_a_loaded_detector_with_features_decides_alike(again, score):
    rng = np.random.default_rng(0)
    logits, y = logits_of(4)
    features = np.eye(4, 6)[y] * 3 + rng.normal(size=(300, 6))
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(features, columns=list("abcdef"))
    detector = decide.OpenSetDetector(score=score).fit(logits, y, features=table)
    loaded = again(detector)
    with pytest.raises(nx.NormexpError, match="column 0 of features is 'f'"):
        loaded.unknown_score(logits, features=table[list("fedcba")])
    assert np.array_equal(
        loaded.unknown_score(logits, features=features), detector.unknown_score(logits, features=features)
    )


@pytest.mark.parametrize("model", [LinearDiscriminant(), NaiveBayesSoftmax()], ids=lambda value: type(value).__name__)
def test_a_loaded_closed_form_head_predicts_alike(again, model):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=200)
    X = rng.poisson(1 + 3 * np.eye(3)[y]).astype(float)
    fitted = model.fit(X, y)
    assert np.array_equal(again(fitted).predict_proba(X), fitted.predict_proba(X))
