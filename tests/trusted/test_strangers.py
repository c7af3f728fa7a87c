"""Rows of known classes are called unknown no more often than was promised."""

import numpy as np
import pytest

from normexp import TrustedClassifier


@pytest.mark.parametrize(("n", "width"), [(400, 64), (1500, 128)])
def test_the_share_of_known_rows_that_are_refused_is_kept_where_columns_are_many(n, width):
    """A threshold on scores of rows that the covariances were made of would refuse 9 to 14 % of these."""

    def draw(n_rows, rng):
        y = rng.integers(0, 5, n_rows)
        return rng.normal(size=(n_rows, width)) + 3.0 * np.eye(5, width)[y], y

    refused = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        model = TrustedClassifier(reject=0.05).fit(*draw(n, rng))
        X, _ = draw(2000, rng)
        assert model.detector_.reads_features_
        refused.append(np.mean(model.unknown_score(X) > model.detector_.threshold_))
    assert np.mean(refused) <= 0.05 + 0.02  # three standard errors of the share of 400 calibration rows, halved by two
