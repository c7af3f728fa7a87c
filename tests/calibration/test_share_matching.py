"""ShareMatching: mean probabilities equal shares, known shifts come back, nothing runs away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexp.base.errors import NormexpWarning
from normexp.calibration import ShareMatching


def drawn(n, k, seed=0, scale=2.0):
    """Logits and classes drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k)) - rng.exponential(size=k)
    return logits, (logits + rng.gumbel(size=(n, k))).argmax(axis=1)


@given(seed=st.integers(0, 1000), k=st.sampled_from([2, 3, 30]), scale=st.floats(0.0, 20.0), far=st.floats(0.0, 15.0))
def test_the_mean_probability_of_each_class_is_its_share(seed, k, scale, far):
    logits, y = drawn(400, k, seed, scale)
    shift = far * np.random.default_rng(seed + 1).normal(size=k)
    weight = np.random.default_rng(seed + 2).random(400)
    y[:k] = np.arange(k)  # each class has a row
    model = ShareMatching().fit(logits + shift, y, sample_weight=weight)
    mean = weight @ model.predict_proba(logits + shift) / weight.sum()
    np.testing.assert_allclose(mean, np.bincount(y, weight, k) / weight.sum(), atol=1e-6)


def test_the_bound_would_see_a_shift_that_is_only_nearly_right():
    logits, y = drawn(400, 3)
    model = ShareMatching().fit(logits, y)
    model.shift_ += np.array([1e-4, 0.0, 0.0])
    assert np.abs(model.predict_proba(logits).mean(axis=0) - np.bincount(y) / 400).max() > 1e-6


def test_a_known_shift_comes_back():
    """Weights in training add their logarithms to the logits of a calibrated model; those are found and removed."""
    logits, y = drawn(60_000, 4)
    weights = np.array([1.0, 20.0, 3.0, 0.2])
    model = ShareMatching().fit(logits + np.log(weights), y)
    np.testing.assert_allclose(model.shift_, -np.log(weights) + np.log(weights).mean(), atol=0.06)
    np.testing.assert_allclose(
        model.predict_proba(logits + np.log(weights)), ShareMatching().fit(logits, y).predict_proba(logits), atol=1e-7
    )


def test_a_class_without_a_row_stays_possible():
    logits, y = drawn(300, 3)
    y[y == 2] = 0
    with pytest.warns(NormexpWarning, match="no row"):
        model = ShareMatching().fit(logits, y)
    prob = model.predict_proba(logits)
    assert prob[:, 2].mean() == pytest.approx(0.5 / 300.5, abs=1e-6)
    assert np.isfinite(model.shift_).all()


def test_separated_classes_do_not_run_away():
    y = np.arange(200) % 2
    logits = 80.0 * np.eye(2)[y]
    assert np.abs(ShareMatching().fit(logits, y).shift_).max() <= 60.0
