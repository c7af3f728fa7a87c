"""libsvm files, whose features count from 0 or from 1, are fitted."""

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file

from normexp.tables import open_source
from normexp.trusted import TableClassifier


@pytest.mark.parametrize("zero_based", [True, False])
def test_a_file_of_scikit_learns_writer_is_fitted(tmp_path, rng, zero_based):
    y = rng.integers(0, 3, size=90)
    X = rng.normal(size=(90, 6)) + 3 * np.eye(3, 6)[y]
    dump_svmlight_file(X, y, str(tmp_path / "rows.libsvm"), zero_based=zero_based)
    model = TableClassifier().fit(open_source(tmp_path / "rows.libsvm"))
    judged = model.labelled(open_source(tmp_path / "rows.libsvm"))
    assert np.mean(judged.logits.argmax(axis=1) == judged.target) > 0.9
    assert model.training_.features == 6
