"""Contributions of a table's own columns and of the words of its texts."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from normexp import explain
from normexp.base.errors import DtypeError
from normexp.explain.word_shares import word_shares
from normexp.tables import TextEncoder
from normexp.trusted import TableClassifier

KINDS = ["columns", "one text", "two texts", "text alone", "a pipeline"]


def gaps(model, block):
    logits = np.sort(model.decision_function(model.encoder_.transform(block.features)), axis=1)
    return logits[:, -1] - logits[:, -2]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_a_table_sum_to_the_log_odds_of_the_decision(table_models, kind):
    model, block = table_models[kind]
    phi = explain.contributions(model, block)
    assert phi.shape == (block.n_rows, len(model.schema_.names))
    # the model's scores come from float32 features where there is text or a category
    np.testing.assert_allclose(phi.sum(axis=1), gaps(model, block), rtol=1e-5, atol=1e-6)
    why = explain.reasons(model, block.features)
    assert why.names.tolist() == list(model.schema_.names)
    np.testing.assert_allclose(why.baseline_gap + why.contributions.sum(axis=1), why.gap, rtol=1e-12)
    assert set(why.of) <= set(model.classes_)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_column_has_what_its_change_does_to_the_log_odds(table_models, kind):
    """Swapping one value for another moves the log-odds by the difference of that column's contributions."""
    model, block = table_models[kind]
    frame = block.features
    one, other = frame[:30], frame[30:60]
    classes = {"of": "spam", "against": "ham"}
    first = explain.reasons(model, one, **classes)
    for number, name in enumerate(model.schema_.names):
        if name in model.schema_.text:
            continue  # the length of a text's row couples its words; tested below
        swapped = one.with_columns(other[name])
        told = explain.reasons(model, swapped, **classes)
        difference = told.contributions[:, number] - first.contributions[:, number]
        np.testing.assert_allclose(told.gap - first.gap, difference, atol=1e-5)
        assert np.abs(difference).max() > 1e-3


def test_a_text_column_alone_has_what_taking_the_text_away_does(table_models):
    model, block = table_models["one text"]
    frame = block.features[:30]
    classes = {"of": "news", "against": "ham"}
    told = explain.reasons(model, frame, **classes)
    empty = explain.reasons(model, frame.with_columns(body=pl.lit("")), **classes)
    at = model.schema_.names.index("body")
    np.testing.assert_allclose(told.gap - empty.gap, told.contributions[:, at] - empty.contributions[:, at], atol=1e-6)


@pytest.mark.parametrize("kind", ["one text", "two texts", "text alone"])
def test_words_sum_to_their_columns(table_models, kind):
    model, block = table_models[kind]
    told = explain.words(model, block)
    why = explain.reasons(model, block)
    at = [why.names.tolist().index(name) for name in model.schema_.text]
    sums = np.array([sum(reason.contribution for reason in row) for row in told])
    np.testing.assert_allclose(sums, why.contributions[:, at].sum(axis=1), rtol=1e-9, atol=1e-9)


def test_two_texts_have_each_their_own_words(table_models):
    """Rows whose subject is empty have nothing but the beginning of the text in that column."""
    model, block = table_models["two texts"]
    why = explain.reasons(model, block)
    subject, body = (why.names.tolist().index(name) for name in ("subject", "body"))
    empty = (block.features["subject"] == "").fill_null(value=True).to_numpy()
    assert empty.any()
    assert np.abs(why.contributions[empty, subject]).max() < 0.2 * np.abs(why.contributions[empty, body]).max()
    assert np.abs(why.contributions[~empty, subject]).mean() > 10 * np.abs(why.contributions[empty, subject]).mean()


def test_the_word_that_only_one_class_uses_speaks_for_it(table_models):
    model, block = table_models["text alone"]
    rows = [row for row, text in enumerate(block.features["body"]) if "CASH" in text and "lunch?" not in text]
    told = explain.words(model, block.features[rows[:5]], of="spam", against="ham")
    for row in told:
        one = dict(row)
        assert one["CASH"] > max(0.0, *(one.get(word, 0.0) for word in ("and", "so", "win", "")))


@pytest.mark.parametrize("text", ["Win CASH now, win!", "", "one", "a a a b", "x\ny z\n", "Ünï cödé 😀 1999 $"])
@pytest.mark.parametrize("pieces", [True, False])
def test_every_feature_of_a_text_is_shared_out_among_its_words(text, pieces):
    encoder = TextEncoder(min_rows=1, pieces=pieces).fit([text, "other words", "1999 a b"])
    row = encoder.transform([text])
    words, share = word_shares(encoder, text)
    assert words[0] == ""
    total = np.asarray(share.sum(axis=0)).ravel()
    np.testing.assert_allclose(total[row.indices], 1.0, rtol=1e-12)
    absent = np.setdiff1d(np.arange(len(total)), row.indices)
    assert (total[absent] == 0).all()


def test_a_pair_belongs_to_its_two_words_and_a_piece_to_those_that_hold_it():
    encoder = TextEncoder(min_rows=1, pieces=True).fit(["good film"])
    words, share = word_shares(encoder, "good film")
    shares = share.toarray()
    n_words_pairs_shapes = len(encoder.keys_[0])
    halves = [tuple(column) for column in shares[:, :n_words_pairs_shapes].T]
    assert words == ["", "good", "film"]
    assert halves.count((0.0, 0.5, 0.5)) == 2  # the pair, and the shape "aa" that both have
    assert halves.count((0.0, 1.0, 0.0)) == 2  # the word, and the pair with the beginning
    assert set(map(tuple, shares[1:, n_words_pairs_shapes:].T)) <= {(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)}


def test_models_without_text_and_steps_that_are_not_affine_are_refused(table_models, mail_csv):
    model, block = table_models["columns"]
    with pytest.raises(DtypeError, match="reads no running text"):
        explain.words(model, block)
    with pytest.raises(DtypeError, match="no common scale"):
        explain.contributions(model, block, baseline=0.0)
    poly = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=3000))
    crossed = TableClassifier(estimator=poly)
    from normexp.tables import open_source

    source = open_source(mail_csv, target="kind", features=("size",))
    crossed.fit(source)
    with pytest.raises(DtypeError, match="PolynomialFeatures, which is not affine"):
        explain.contributions(crossed, source.read(crossed.schema_, with_target=False))


def test_a_model_of_arrays_explains_its_array(tmp_path):
    from normexp.tables import open_source

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    np.savez(tmp_path / "a.npz", X=rng.normal(size=(80, 5)) + y[:, None], y=y)
    source = open_source(tmp_path / "a.npz")
    model = TableClassifier().fit(source)
    block = source.read(model.schema_, with_target=False)
    phi = explain.contributions(model, block)
    assert phi.shape == (80, 5)
    np.testing.assert_allclose(phi.sum(axis=1), gaps(model, block), rtol=1e-9, atol=1e-12)
