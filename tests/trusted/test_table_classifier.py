"""The whole path on tables, text, arrays and sparse rows: what is learned, predicted, refused."""

import math
import shutil

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from normexp.base.errors import InputError, NormexpWarning
from normexp.report.labelled import as_mapping
from normexp.tables import open_source
from normexp.trusted import Labelled, TableClassifier, TrainingFacts


@pytest.fixture
def fruit(tmp_path, rng):
    """A table with numbers (some missing), a category, a date and two classes that numbers nearly tell apart."""
    n = 200
    mass = np.where(rng.random(n) < 0.5, 100.0, 160.0)
    kind = np.where(mass + rng.normal(0, 25, n) > 130, "apple", "lemon")
    frame = pl.DataFrame(
        {
            "mass": mass,
            "width": [None if i % 17 == 0 else float(x) for i, x in enumerate(rng.normal(7, 1, n))],
            "colour": rng.choice(["red", "green", "yellow"], n).tolist(),
            "picked": [f"2024-05-{1 + i % 28:02d}" for i in range(n)],
            "kind": kind.tolist(),
        }
    )
    path = tmp_path / "fruit.csv"
    frame.write_csv(path)
    return path


@pytest.fixture
def model(fruit):
    return TableClassifier().fit(open_source(fruit, target="kind"))


def everything(model, path, **options):
    return list(model.predict_batches(open_source(path), **options))


def test_the_facts_of_the_training_are_told(model):
    facts = model.training_
    assert isinstance(facts, TrainingFacts)
    assert (facts.rows, facts.classes, sum(facts.class_counts), facts.target) == (200, 2, 200, "kind")
    assert facts.columns == model.columns_ == ("mass", "width", "colour", "picked")
    assert facts.source == "fruit.csv"
    assert facts.converged
    assert facts.features == model.encoder_.transform(next(iter(_blocks(model))).features).shape[1]
    assert as_mapping(facts)["columns"] == ["mass", "width", "colour", "picked"]


def _blocks(model):
    path = pl.DataFrame({"mass": [1.0], "width": [None], "colour": ["red"], "picked": ["2024-05-01"]})
    import tempfile
    from pathlib import Path

    place = Path(tempfile.mkdtemp()) / "one.csv"
    path.write_csv(place)
    return open_source(place).batches(model.schema_, with_target=False)


def test_probabilities_are_those_of_the_logits(model, fruit):
    labelled = model.labelled(open_source(fruit, target="kind"))
    (block,) = everything(model, fruit)
    assert isinstance(labelled, Labelled)
    assert labelled.logits.shape == (200, 2)
    assert np.all(labelled.logits[:, 0] == 0)
    d = labelled.logits[:, 1]
    by_hand = np.array([1 / (1 + math.exp(-abs(x))) for x in d])
    assert np.allclose(block.probability, by_hand, rtol=1e-14)
    assert np.allclose(block.log_probability, [-math.log1p(math.exp(-abs(x))) for x in d], rtol=1e-13)
    entropy = [-p * math.log(p) - (1 - p) * math.log1p(-p) for p in by_hand]
    assert np.allclose(block.entropy, entropy, rtol=1e-9)
    assert block.label.tolist() == [("apple", "lemon")[int(x > 0)] for x in d]


def test_the_linear_model_is_the_one_fitted_on_the_encoded_rows(fruit):
    source = open_source(fruit, target="kind")
    model = TableClassifier(estimator=LogisticRegression(C=0.5, tol=1e-10)).fit(source)
    block = source.read(model.schema_, with_target=True)
    rows = model.encoder_.transform(block.features)
    again = LogisticRegression(C=0.5, tol=1e-10).fit(rows, block.target)
    assert np.allclose(model.labelled(source).logits[:, 1], again.decision_function(rows), atol=1e-6)


def test_batches_do_not_change_predictions(model, fruit):
    whole = everything(model, fruit)
    pieces = everything(model, fruit, batch_rows=7)
    assert [len(whole), len(pieces)] == [1, math.ceil(200 / 7)]
    assert np.concatenate([piece.label for piece in pieces]).tolist() == whole[0].label.tolist()
    assert np.allclose(np.concatenate([piece.probability for piece in pieces]), whole[0].probability, rtol=1e-12)


def test_the_ranking_is_complete_and_ordered(model, fruit):
    with pytest.warns(NormexpWarning, match="knows 2"):
        (block,) = everything(model, fruit, top_k=5)
    assert block.top_labels.shape == (200, 2)
    assert np.all(block.top_labels[:, 0] == block.label)
    assert np.all(block.top_probabilities[:, 0] >= block.top_probabilities[:, 1])
    assert np.allclose(block.top_probabilities.sum(axis=1), 1.0, rtol=1e-14)


def test_progress_is_told(model, fruit):
    seen = []
    everything(model, fruit, batch_rows=80, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(80, None), (160, None), (200, None)]


def test_the_same_seed_gives_the_same_model(fruit):
    one, two = (TableClassifier(seed=3).fit(open_source(fruit, target="kind")) for _ in range(2))
    logits = [model.labelled(open_source(fruit, target="kind")).logits for model in (one, two)]
    assert np.array_equal(*logits)


def test_rows_with_missing_numbers_are_encoded_with_a_mark(model, fruit):
    source = open_source(fruit)
    frame = source.read(model.schema_, with_target=False).features
    rows = model.encoder_.transform(frame)
    assert np.all(np.isfinite(rows))
    gap = np.array([value is None for value in frame["width"].to_list()])
    mark = [
        column for column in range(rows.shape[1]) if len(set(rows[gap, column])) == 1 and len(set(rows[:, column])) == 2
    ]
    assert any(np.array_equal(rows[:, column] > 0, gap) for column in mark)


def test_values_never_seen_at_the_fit_do_not_break_the_prediction(model, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("mass,width,colour,picked\n,7,violet,2031-01-01\n1e9,,,\n")
    (block,) = everything(model, path)
    assert np.all(np.isfinite(block.log_probability))


def test_numbers_keep_their_precision_through_the_encoder(tmp_path):
    big = 2.0**30
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{big + i % 2},{'ab'[i % 2]}\n" for i in range(40)))
    model = TableClassifier().fit(open_source(path, target="y"))
    labelled = model.labelled(open_source(path, target="y"))
    assert np.array_equal(labelled.logits.argmax(axis=1), labelled.target)
    assert np.float32(big) == np.float32(big + 1)  # float32 would have seen one value only


# ---------------------------------------------------------------- what is refused


def refused(call, *parts):
    with pytest.raises(InputError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def fit(path, **options):
    return TableClassifier(**options).fit(open_source(path, target="y"))


def test_one_class_only_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,a\n2,a\n")
    refused(lambda: fit(path), "'y' holds one class only, 'a'", "At least two classes")


def test_a_class_with_one_row_is_refused_unless_it_is_allowed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,a\n2,a\n3,rare\n4,b\n5,b\n")
    refused(lambda: fit(path), "the class 'rare' has fewer than 2 rows", "in row 2", "min_class_rows=1")
    assert fit(path, min_class_rows=1).classes_.tolist() == ["a", "b", "rare"]


def test_a_missing_column_is_named_with_the_nearest(model, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mass,width,color,picked\n1,2,red,2024-01-01\n")
    refused(lambda: everything(model, path), "'colour'", "missing", "'color'")


def test_an_extra_column_is_named_unless_it_is_to_be_ignored(model, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mass,width,colour,picked,price\n1,2,red,2024-01-01,3\n")
    refused(lambda: everything(model, path), "'price' is extra")
    assert len(everything(model, path, ignore_extra=True)[0].label) == 1
    model.check(open_source(path), ignore_extra=True)


def test_the_target_column_and_the_order_of_columns_do_not_matter_at_prediction(model, tmp_path, fruit):
    path = tmp_path / "b.csv"
    pl.read_csv(fruit).select("kind", "picked", "colour", "width", "mass").write_csv(path)
    assert np.array_equal(everything(model, path)[0].probability, everything(model, fruit)[0].probability)


def test_a_column_outside_the_patterns_of_the_fit_is_not_extra(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("emb_0,id,y\n" + "1,7,a\n2,8,b\n" * 5)
    model = TableClassifier().fit(open_source(path, target="y", features="emb_*"))
    assert len(everything(model, path)[0].label) == 10
    other = tmp_path / "b.csv"
    other.write_text("emb_0,emb_1\n1,7\n")
    refused(lambda: everything(model, other), "'emb_1' is extra")


def test_a_column_of_another_type_is_named_in_text_files_with_row_and_value(model, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mass,width,colour,picked\n1,2,red,2024-01-01\nheavy,2,red,2024-01-01\n")
    refused(lambda: everything(model, path), "'mass' holds 'heavy' in row 1", "a number is expected")


def test_a_column_of_another_type_is_named_in_typed_files(model, tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"mass": ["1"], "width": [2.0], "colour": ["red"], "picked": [None]}).write_parquet(path)
    refused(lambda: everything(model, path), "'mass' holds String", "fitted on a number")


def test_an_unseen_class_is_named_with_its_row_at_evaluation(model, fruit, tmp_path):
    path = tmp_path / "b.csv"
    path.write_text(fruit.read_text() + "100,7,red,2024-05-01,aple\n")
    refused(lambda: model.labelled(open_source(path, target="kind")), "'aple' in row 200", "nearest class is 'apple'")


def test_evaluation_without_the_target_column_names_it(model, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mass,width,colour,picked,kinds\n1,2,red,2024-01-01,apple\n")
    refused(lambda: model.labelled(open_source(path), ignore_extra=True), "'kind'", "'kinds'")


def test_another_kind_of_file_is_refused(model, tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((2, 4)), y=[0, 1])
    refused(lambda: everything(model, tmp_path / "a.npz"), "this is an array", "fitted on a table")


def test_arrays_of_another_width_are_refused(tmp_path, rng):
    np.savez(tmp_path / "a.npz", X=rng.normal(size=(20, 4)), y=np.arange(20) % 2)
    np.savez(tmp_path / "b.npz", X=rng.normal(size=(20, 5)), y=np.arange(20) % 2)
    model = TableClassifier().fit(open_source(tmp_path / "a.npz"))
    refused(lambda: everything(model, tmp_path / "b.npz"), "shape (5,)", "shape (4,)")


def test_libsvm_features_that_the_fit_did_not_know_are_refused(tmp_path):
    (tmp_path / "a.svm").write_text("1 1:1\n2 2:1\n" * 5)
    (tmp_path / "b.svm").write_text("1 1:1\n2 3:1\n")
    (tmp_path / "c.svm").write_text("1 1:1\n2 0:1\n")
    model = TableClassifier().fit(open_source(tmp_path / "a.svm"))
    assert everything(model, tmp_path / "a.svm")[0].label.tolist() == [1, 2] * 5
    refused(lambda: everything(model, tmp_path / "b.svm"), "row 1", "above 2")
    refused(lambda: everything(model, tmp_path / "c.svm"), "row 1", "count from 1")


def test_labels_of_one_file_as_numbers_and_of_another_as_text_are_the_same_classes(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "1,1\n2,2\n3,two\n" * 4)
    (tmp_path / "b.csv").write_text("x,y\n1,1\n2,2\n")
    model = TableClassifier().fit(open_source(tmp_path / "a.csv", target="y"))
    labelled = model.labelled(open_source(tmp_path / "b.csv", target="y"))
    assert [labelled.classes[i] for i in labelled.target] == ["1", "2"]


def test_examples_show_which_row_it_is(model, fruit, tmp_path):
    shown = model.labelled(open_source(fruit, target="kind")).examples
    assert shown[0].startswith("mass=")
    assert "width=missing" in shown[0]
    assert "picked=2024-" in shown[0]
    assert "00:00:00" not in shown[0]
    path = tmp_path / "a.txt"
    path.write_text(
        "__label__a " + "long " * 100 + "\n__label__b short one\n" + "__label__a x y\n__label__b short z\n" * 3
    )
    texts = TableClassifier().fit(open_source(path)).labelled(open_source(path)).examples
    assert texts[1] == "short one"
    assert len(texts[0]) == 200
    assert texts[0].endswith("…")


def test_a_model_reads_other_formats_than_that_of_its_fit(model, fruit, tmp_path):
    typed = tmp_path / "fruit.parquet"
    pl.read_csv(fruit, try_parse_dates=True).write_parquet(typed)
    zipped = tmp_path / "fruit.ndjson"
    pl.read_csv(fruit).write_ndjson(zipped)
    expected = everything(model, fruit)[0].probability
    assert np.array_equal(everything(model, typed)[0].probability, expected)
    assert np.array_equal(everything(model, zipped)[0].probability, expected)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("write", [lambda i: f"{1000 + 37 * i}.{i % 90:02}", lambda i: str(1000 + 37 * i)])
def test_a_quantity_as_the_target_is_told_as_what_it_is(tmp_path, write):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i % 9},{write(i)}\n" for i in range(60)))
    refused(lambda: fit(path), "in the target column 'y' 60 different numbers stand in 60 rows", "into ranges")
    path.write_text("x,y\n" + "".join(f"{i % 9},n{write(i)}\n" for i in range(60)))
    refused(lambda: fit(path), "60 classes", "fewer than 2 rows")
