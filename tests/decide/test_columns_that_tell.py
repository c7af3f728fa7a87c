"""Which columns vary, told without standardising each fold's rest: what the slow way says."""

import numpy as np

from normexp.decide import feature_scores
from normexp.decide.feature_scores import FOLDS, Columns, folds_of, telling_columns


def slowly(x):
    """All rows and the rest of each fold, one after the other."""
    told = Columns(x).kept
    for f in range(FOLDS):
        told = told & Columns(x[folds_of(len(x)) != f]).kept
    return told


def table():
    """Columns that vary, hardly vary, vary in one row alone, are constant, or nearly so beside their size."""
    rng = np.random.default_rng(0)
    x = np.empty((50, 7))
    x[:, 0], x[:, 1], x[:, 2] = rng.normal(size=50), 3.0, 0.0
    x[:, 3], x[:, 4] = 1.0 + 1e-7 * rng.normal(size=50), 1.0 + 1e-13 * rng.normal(size=50)
    x[:, 5], x[:, 6] = 0.0, rng.choice([-1e308, 1e308], size=50)
    x[7, 5] = 1.0
    return x


def test_the_quick_look_says_what_the_slow_one_says():
    x = table()
    told = telling_columns(x)
    np.testing.assert_array_equal(told, slowly(x))
    assert told.tolist() == [True, False, False, True, False, False, True]


def test_doubtful_columns_alone_are_looked_at_closely(monkeypatch):
    seen = []
    monkeypatch.setattr(feature_scores, "Columns", lambda part: seen.append(part.shape[1]) or Columns(part))
    telling_columns(table()[:, [0, 6]])
    assert not seen
    telling_columns(table())
    assert set(seen) == {5}
