"""An encoding learned block by block is the one that all rows at once give."""

import itertools

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from normexp.tables import TableEncoder, open_source
from normexp.tables.learning import learn_encoding
from normexp.tables.ngrams import tokens_of
from normexp.tables.tallies import Moments
from normexp.tables.word_counts import KeyTally
from normexp.tables.words import TextEncoder, _learn, single_keys

ROOM = 1 << 30


def mixed(n_rows=1000, seed=0):
    """Numbers with means far from 0 and gaps, dates with and without a time, few and many words, a rare one last."""
    rng = np.random.default_rng(seed)
    moment = np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 10**13, n_rows).astype("timedelta64[us]")
    gaps = rng.normal(size=n_rows)
    few = rng.choice(["a", "b", "c"], n_rows).astype(object)
    few[-1] = "seen once"
    late = np.array(["2024-05-31T00:00:00"] * n_rows, dtype="datetime64[us]")
    late[-2] += np.timedelta64(5, "h")
    return pl.DataFrame(
        {
            "far": 1e9 + rng.normal(size=n_rows),
            "gaps": [None if i % 7 == 0 else x for i, x in enumerate(gaps.tolist())],
            "flat": np.full(n_rows, 3.3),
            "never": pl.Series([None] * n_rows, dtype=pl.Float64),
            "yes": [None if i % 11 == 0 else bool(i % 2) for i in range(n_rows)],
            "moment": moment,
            "late": late,
            "day": np.datetime64("2024-01-01") + rng.integers(0, 400, n_rows),
            "few": few.tolist(),
            "absent": pl.Series([None] * n_rows, dtype=pl.String),
            "many": [f"word{i % 700} other{i * 7 % 50}" for i in range(n_rows)],
            "kind": rng.choice(["p", "q", "r"], n_rows),
        }
    )


def texts(n_rows=400, length=12, seed=0):
    rng = np.random.default_rng(seed)
    words = [f"{a}{b}" for a in ("win", "cash", "See", "you2") for b in ("", "x", "yy", "s")]
    said = [" ".join(rng.choice(words, rng.integers(0, length))) for _ in range(n_rows)]
    return pl.DataFrame({"text": said, "kind": rng.choice(["p", "q"], n_rows)})


def in_blocks(source, schema, rows):
    """How the file is read once."""
    return lambda doing, classes: source.batches(schema, with_target=classes, batch_rows=rows)


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else matrix


def both(folder, frame, **chosen):
    """Encoded rows, learned whole and learned in parts; and what was learned in parts."""
    path = folder / "t.parquet"
    frame.write_parquet(path)
    source = open_source(path, target="kind", **chosen)
    schema = source.infer()
    block = source.read(schema, with_target=True)
    whole = TableEncoder(schema, seed=3).fit_transform(block.features)
    learned = learn_encoding(source, schema, in_blocks(source, schema, 270), seed=3, room=ROOM)
    labels, index = np.unique(block.target, return_inverse=True)
    assert learned.classes.tolist() == labels.tolist()
    assert np.array_equal(learned.index, index)
    return whole, learned.encoder.transform(block.features), learned


def test_a_table_of_every_kind_of_column(tmp_path):
    whole, parts, learned = both(tmp_path, mixed())
    assert whole.shape == parts.shape
    assert whole.dtype == parts.dtype
    assert np.abs(whole[:, 1:] - parts[:, 1:]).max() <= 1e-12
    far = mixed()["far"].to_numpy()  # 1e9 and more: the sum over all rows has lost digits, ours have not
    exact = (far - 1e9 - np.mean(far - 1e9)) / far.std()
    assert np.abs(parts[:, 0] - exact).max() <= 2e-7
    assert np.abs(whole[:, 0] - exact).max() <= 1e-5
    assert (learned.sampled, learned.forgotten) == (1000, 0)


@pytest.mark.parametrize("length", [12, 200])
def test_running_text_has_the_same_features_and_weights(tmp_path, length):
    whole, parts, learned = both(tmp_path, texts(length=length), text="text")
    assert learned.encoder.text_.kinds_[1] == ("pieces" if length == 12 else "pairs")
    assert whole.shape == parts.shape
    assert (whole != parts).nnz == 0
    assert learned.forgotten == 0


def test_text_beside_numbers(tmp_path):
    frame = texts().with_columns(size=pl.Series(np.arange(400.0)))
    whole, parts, _ = both(tmp_path, frame, text="text", features=("size",))
    assert np.abs(dense(whole) - dense(parts)).max() <= 1e-12


def test_a_sample_gives_other_components_and_nothing_else(tmp_path, monkeypatch):
    from normexp.tables import learning

    monkeypatch.setattr(learning, "SAMPLE_ROWS", 600)
    whole, parts, learned = both(tmp_path, mixed())
    assert learned.sampled == 600
    columns = learned.encoder.words_.get_feature_names_out()
    components = len([name for name in columns if name.startswith("many_")])
    assert components == 30
    assert np.abs(whole[:, 1:-components] - parts[:, 1:-components]).max() <= 1e-12
    assert not np.allclose(whole[:, -components:], parts[:, -components:])


def test_a_column_with_many_values_is_one_though_the_sample_has_few(tmp_path, monkeypatch):
    from normexp.tables import learning

    monkeypatch.setattr(learning, "SAMPLE_ROWS", 30)
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"w": [f"v{i % 200}" for i in range(2000)], "kind": rng.choice(["p", "q"], 2000)})
    whole, parts, _ = both(tmp_path, frame)
    assert whole.shape == parts.shape


def test_classes_are_numbers_only_where_all_are(tmp_path):
    frame = pl.DataFrame({"x": np.arange(6.0), "kind": ["10", "9", "10", "9", "a", "9"]})
    frame.write_csv(tmp_path / "t.csv")
    source = open_source(tmp_path / "t.csv", target="kind")
    schema = source.infer()
    learned = learn_encoding(source, schema, in_blocks(source, schema, 2), seed=0, room=ROOM)
    assert learned.classes.tolist() == ["10", "9", "a"]
    assert learned.index.tolist() == [0, 1, 0, 1, 2, 1]
    frame[:4].write_csv(tmp_path / "t.csv")
    source = open_source(tmp_path / "t.csv", target="kind")
    learned = learn_encoding(source, schema, in_blocks(source, schema, 3), seed=0, room=ROOM)
    assert learned.classes.tolist() == [9, 10]


def test_moments_keep_their_digits_far_from_zero():
    """The textbook's sum of squares less the squared mean loses all of them."""
    rng = np.random.default_rng(0)
    x = 1e9 + rng.normal(size=(10_000, 1))
    moments = Moments(1)
    for part in np.array_split(x, 23):
        moments.add(part)
    spread = moments.scaler(moments.imputer()).scale_[0]
    assert abs(spread - x.std()) <= 1e-12 * x.std()
    textbook = np.mean(x**2) - np.mean(x) ** 2
    assert not abs(np.sqrt(max(textbook, 0.0)) - x.std()) <= 1e-12 * x.std()


def test_forgotten_features_are_counted_too_small_by_no_more_than_is_said():
    rng = np.random.default_rng(0)
    said = [" ".join(f"w{k}" for k in rng.zipf(1.3, 30) if k < 20_000) for _ in range(3000)]
    keys, _, rows = _learn(said, single_keys, 1, 1 << 22, 1.0)
    exact = dict(zip(keys.tolist(), np.bincount(rows.indices, minlength=len(keys)).tolist(), strict=True))
    tally, waiting = KeyTally(most=500), []
    from normexp.tables import word_counts

    patch = pytest.MonkeyPatch()
    patch.setattr(word_counts, "_PENDING", 200)
    for start in range(0, len(said), 50):
        for tokens in tokens_of(said[start : start + 50]):
            tally.add(single_keys(tokens), tokens.n_texts)
            waiting.append(len(tally.frequencies()[0]))
    patch.undo()
    found, counts = tally.frequencies()
    assert tally.forgotten > 0
    assert max(waiting) < len(exact)
    for key, count in zip(found.tolist(), counts.tolist(), strict=True):
        assert exact[key] - tally.forgotten <= count <= exact[key]
    missing = set(exact) - set(found.tolist())
    assert missing
    assert max(exact[key] for key in missing) <= tally.forgotten


def test_texts_in_parts_do_not_depend_on_where_they_are_cut():
    said = texts(900)["text"].to_list()
    models = []
    for size in (1, 100, 900):
        model = TextEncoder()
        cut = [said[k : k + size] for k in range(0, 900, size)]
        assert model.fit_in_parts(cut, mean_length=20.0, most_keys=1 << 20) == 0
        models.append(model)
    for one, other in itertools.pairwise(models):
        for mine, its in zip(one.keys_ + one.weights_, other.keys_ + other.weights_, strict=True):
            assert np.array_equal(mine, its)
