"""Which penalty is taken when nobody says."""

import numpy as np
import pytest
from scipy import sparse

from normexp.linear_model import SoftmaxClassifier
from normexp.metrics import log_loss
from normexp.tables import open_source
from normexp.trusted.defaults import STEP, TEXT_C, default_estimator


def array_file(tmp_path, n_rows, noise, unit=1.0):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, size=n_rows)
    X = (rng.normal(size=(n_rows, 20)) * noise + np.eye(3, 20)[y]) * unit
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    return X, y, open_source(tmp_path / "rows.npz").infer()


def test_noisy_rows_get_a_stronger_penalty_than_clean_ones(tmp_path):
    noisy = default_estimator(*array_file(tmp_path, 600, noise=3.0), seed=0).C
    clean = default_estimator(*array_file(tmp_path, 600, noise=0.2), seed=0).C
    assert noisy < clean / STEP


def test_the_chosen_penalty_is_better_on_fresh_rows_than_the_start(tmp_path):
    X, y, schema = array_file(tmp_path, 2000, noise=1.0)
    chosen = default_estimator(X[:600], y[:600], schema, seed=0)
    start = SoftmaxClassifier(C=1 / np.mean(X[:600] ** 2))

    def loss(model):
        return log_loss(y[600:], model.fit(X[:600], y[:600]).predict_log_proba(X[600:]))

    assert loss(chosen) < loss(start)


def test_the_choice_follows_the_unit_of_the_array(tmp_path):
    plain = default_estimator(*array_file(tmp_path, 600, noise=1.0), seed=0).C
    large = default_estimator(*array_file(tmp_path, 600, noise=1.0, unit=1000.0), seed=0).C
    assert large == pytest.approx(plain / 1e6, rel=1e-3)


def test_few_rows_keep_the_start(tmp_path):
    X, y, schema = array_file(tmp_path, 299, noise=3.0)
    assert pytest.approx(1 / np.mean(X**2), rel=1e-3) == default_estimator(X, y, schema, seed=0).C


def text_rows(tmp_path, n_rows, told):
    """Ten words a row of 3 000, one of which tells the class in the given share of the rows; rows have length 1."""
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"some words {k},{k % 2}\n" for k in range(30)))
    schema = open_source(tmp_path / "texts.csv", target="label", text="text").infer()
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, size=n_rows)
    words = rng.integers(100, 3000, size=(n_rows, 10))
    telling = rng.random(n_rows) < told
    words[telling, 0] = 50 * y[telling] + rng.integers(0, 50, size=int(telling.sum()))
    rows = sparse.csr_matrix((np.full(10 * n_rows, 10**-0.5), words.ravel(), np.arange(0, 10 * n_rows + 1, 10)))
    rows.sum_duplicates()
    return rows, y, schema


def test_few_texts_keep_the_penalty_of_texts(tmp_path):
    assert default_estimator(*text_rows(tmp_path, 299, told=0.2), seed=0).C == TEXT_C


def test_texts_that_tell_little_get_a_stronger_penalty_and_a_smaller_loss(tmp_path):
    rows, y, schema = text_rows(tmp_path, 4000, told=0.3)
    chosen = default_estimator(rows[:1000], y[:1000], schema, seed=0)
    assert chosen.C < TEXT_C / STEP

    def loss(model):
        return log_loss(y[1000:], model.fit(rows[:1000], y[:1000]).predict_log_proba(rows[1000:]))

    assert loss(chosen) < 0.9 * loss(SoftmaxClassifier(C=TEXT_C))


def test_texts_that_tell_all_keep_theirs_whatever_a_weaker_one_would_gain(tmp_path):
    rows, y, schema = text_rows(tmp_path, 1000, told=1.0)
    assert default_estimator(rows, y, schema, seed=0).C == TEXT_C
    losses = [
        log_loss(y[800:], SoftmaxClassifier(C=c).fit(rows[:800], y[:800]).predict_log_proba(rows[800:]))
        for c in (TEXT_C, 10 * TEXT_C)
    ]
    assert losses[1] < losses[0]  # which a temperature gains as well
