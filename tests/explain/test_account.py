"""The account of a row: it adds up, and every change that it tells does what it says."""

import copy
import json

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linprog
from scipy.special import softmax as reference_softmax
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from normexp import explain
from normexp.base.errors import InputError
from normexp.explain.account import account, as_mapping, read_row, shown
from normexp.explain.single_changes import single_changes
from normexp.tables import Block, open_source
from normexp.trusted import TableClassifier

KINDS = ["columns", "one text", "two texts", "text alone", "a pipeline"]


def logits(model, rows):
    return model.decision_function(model.encoder_.transform(rows))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_adds_up_and_names_class_and_runner_up(table_models, kind):
    model, block = table_models[kind]
    for number in range(0, 60, 12):
        one = block.features[number : number + 1]
        told = account(model, Block(one, None, number))
        z = logits(model, one)
        first, second = np.argsort(-z)[:2]
        prob = reference_softmax(z)
        assert (told.row, told.label, told.rival) == (number, model.classes_[first], model.classes_[second])
        assert told.probability == pytest.approx(prob[first], rel=1e-12)
        assert told.rival_probability == pytest.approx(prob[second], rel=1e-12)
        assert told.log_odds == pytest.approx(z[first] - z[second], rel=1e-5, abs=1e-6)
        assert told.baseline + sum(one.contribution for one in told.contributions) == pytest.approx(told.log_odds)
        assert [one.column for one in told.contributions] != []
        assert {one.column: one.value for one in told.contributions} == one.row(0, named=True)
        sizes = [abs(one.contribution) for one in told.contributions]
        assert sizes == sorted(sizes, reverse=True)
        text = sum(one.contribution for one in told.contributions if one.column in model.schema_.text)
        assert sum(word.contribution for word in told.words) == pytest.approx(text, abs=1e-9)


def changed(row, change, text):
    """The row as the change says it would be."""
    if change.after is None:
        for word in change.before.split():
            row = row.with_columns(**{name: pl.col(name).str.replace_all(word, " ", literal=True) for name in text})
        return row
    dtype = pl.Float64 if isinstance(change.after, float) else row[change.column].dtype
    return row.with_columns(pl.Series(change.column, [change.after]).cast(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_flips_the_decision_to_what_it_says(table_models, kind):
    model, block = table_models[kind]
    seen = set()
    for number in range(0, 60, 8):
        row = block.features[number : number + 1]
        words = [word.word for word in explain.words(model, row)[0]] if model.schema_.text else None
        own = model.classes_[logits(model, row).argmax()]
        for change in single_changes(model, row, words=words):
            assert change.label != own
            decided = model.classes_[logits(model, changed(row, change, model.schema_.text)).argmax()]
            assert decided == change.label
            if change.after is None:
                assert change.column == " and ".join(model.schema_.text)
            else:
                assert row[change.column][0] == change.before
            seen.add("word" if change.after is None else type(change.after).__name__)
    wanted = {"columns": {"float", "str", "bool"}, "a pipeline": {"float"}, "one text": {"float"}}
    assert seen >= wanted.get(kind, {"word"})


def test_a_number_changes_by_hardly_more_than_it_must(table_models):
    """Undoing an eighth of the change restores the decision, and a missing number is left alone."""
    model, block = table_models["columns"]
    found = 0
    for number in range(0, 60, 4):
        row = block.features[number : number + 1]
        own = logits(model, row).argmax()
        for change in single_changes(model, row):
            if change.distance is None:
                continue
            found += 1
            back = change.before + 0.875 * (change.after - change.before)
            assert logits(model, row.with_columns(pl.Series(change.column, [back]))).argmax() == own
            at = [c.name for c in model.schema_.columns if c.kind in ("number", "boolean", "date")].index(change.column)
            spread = model.encoder_.scaler_.scale_[at]
            assert change.distance == pytest.approx(abs(change.after - change.before) / spread)
        assert not any(c.column == "links" for c in single_changes(model, row)) or row["links"][0] is not None
    assert found > 5


def test_several_words_are_taken_out_where_one_is_not_enough(table_models):
    model, block = table_models["text alone"]
    text = "win CASH now prize win CASH now prize"
    row = block.features[:1].with_columns(body=pl.lit(text))
    (change,) = single_changes(model, row, words=["CASH", "now", "prize", "win"])
    taken = change.before.split()
    assert len(taken) > 1
    assert change.after is None
    fewer = row.with_columns(body=pl.lit(" ".join(word for word in text.split() if word not in taken[:-1])))
    assert model.classes_[logits(model, row).argmax()] == model.classes_[logits(model, fewer).argmax()] == "spam"
    assert model.classes_[logits(model, changed(row, change, ["body"])).argmax()] == change.label != "spam"


def test_whole_numbers_stay_whole(tmp_path):
    (tmp_path / "a.csv").write_text("visits,kind\n" + "3,few\n4,few\n11,many\n12,many\n" * 6)
    source = open_source(tmp_path / "a.csv", target="kind")
    model = TableClassifier().fit(source)
    row = source.read(model.schema_, with_target=False).features[:1]
    (change,) = single_changes(model, row.with_columns(pl.col("visits").cast(pl.Int64)))
    assert (change.before, change.after, change.label) == (3, 8, "many")
    assert isinstance(change.after, int)


def test_arrays_are_told_by_place(tmp_path, rng):
    y = rng.integers(0, 3, 90)
    X = rng.normal(size=(90, 2, 3))
    X[:, 1, 2] += 2.0 * y
    np.savez(tmp_path / "images.npz", X=X, y=y)
    model = TableClassifier().fit(open_source(tmp_path / "images.npz"))
    source = open_source(tmp_path / "images.npz")
    told = account(model, read_row(source, model.schema_, 89))
    names = [one.column for one in told.contributions]
    assert sorted(names) == [f"[{i}, {j}]" for i in range(2) for j in range(3)]
    assert told.contributions[names.index("[1, 2]")].value == pytest.approx(X[89, 1, 2])
    (change,) = told.changes
    moved = X[[89]].reshape(1, -1).copy()
    moved[0, sorted(names).index(change.column)] = change.after
    assert model.classes_[model.decision_function(moved)[0].argmax()] == change.label != told.label


def test_sparse_rows_are_told_by_the_number_of_their_feature(tmp_path, rng):
    y = rng.integers(0, 2, 60)
    lines = (f"{label} 1:{rng.normal():.3f} {3 + 2 * label}:1.5" for label in y)
    (tmp_path / "a.svm").write_text("\n".join(lines) + "\n")
    source = open_source(tmp_path / "a.svm")
    model = TableClassifier().fit(source)
    told = account(model, read_row(source, model.schema_, 0))
    assert {one.column for one in told.contributions} == {"[1]", f"[{3 + 2 * y[0]}]"}
    assert told.changes == ()  # one feature within 0 to 1.5 is not enough
    assert {one.column for one in told.together} == {"[3]", "[5]"}
    assert {one.label for one in told.together} == {1 - y[0]}
    (change,) = account(model, read_row(source, model.schema_, 0), within=False).changes
    assert change.label == 1 - y[0]
    assert not 0 <= change.after <= 1.5


def test_a_row_is_read_wherever_it_stands(mail_csv, table_models):
    model, _ = table_models["columns"]
    source = open_source(mail_csv)
    whole = source.read(model.schema_, with_target=False).features
    for row in (0, 123, 299):
        block = read_row(source, model.schema_, row)
        assert block.start == row
        assert block.features.equals(whole[row : row + 1])
    with pytest.raises(InputError, match="has 300 rows, numbered from 0 to 299"):
        read_row(source, model.schema_, 300)
    with pytest.raises(InputError, match="row -1 was asked for"):
        read_row(source, model.schema_, -1)


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A model of three wines by 13 measurements, whole ones among them."""
    X, y = load_wine(return_X_y=True)
    names = load_wine().feature_names
    path = tmp_path_factory.mktemp("wine") / "wine.csv"
    pl.DataFrame(dict(zip(names, X.T, strict=True)) | {"kind": y}).write_csv(path)
    source = open_source(path, target="kind")
    return X, names, source, TableClassifier().fit(source)


def test_numbers_stay_within_those_of_the_training_rows(wine):
    """Whole where all of them are; several together where none will do alone; each found by undoing a part of it."""
    X, names, source, model = wine
    low, high = dict(zip(names, X.min(axis=0), strict=True)), dict(zip(names, X.max(axis=0), strict=True))
    rows = source.read(model.schema_, with_target=False).features
    alone = together = beyond = 0
    for number in range(0, 178, 6):
        row = rows[number : number + 1]
        own = logits(model, row).argmax()
        told = account(model, Block(row, None, number))
        alone += bool(told.changes)
        together += bool(told.together)
        assert not (told.changes and told.together)
        for change in (*told.changes, *told.together):
            assert low[change.column] <= change.after <= high[change.column]
            assert isinstance(change.after, int) == (change.column in {"proline", "magnesium"})
        for change in told.changes:
            assert logits(model, changed(row, change, [])).argmax() != own
        moved = row
        for change in told.together:
            moved = changed(moved, change, [])
        if told.together:
            assert model.classes_[logits(model, moved).argmax()] == told.together[0].label
            for change in told.together:  # all of them are needed
                back = moved.with_columns(row[change.column])
                assert logits(model, back).argmax() == own
        free = account(model, Block(row, None, number), within=False)
        assert free.together == ()
        assert len(free.changes) >= len(told.changes)
        beyond += any(not low[c.column] <= c.after <= high[c.column] for c in free.changes)
    assert alone > 10
    assert together > 2
    assert beyond > 10  # what the bounds are for


def test_the_numbers_together_are_the_least_that_a_linear_program_finds(wine):
    _, _, source, model = wine
    coef, intercept = model.estimator_.coef_, model.estimator_.intercept_
    rows = model.encoder_.transform(source.read(model.schema_, with_target=False).features)
    found = 0
    for number in range(0, 178, 3):
        told = account(model, read_row(source, model.schema_, number))
        if not told.together:
            continue
        x, z = rows[number], coef @ rows[number] + intercept
        own, least = z.argmax(), np.inf
        room = [(0.0, most) for most in (*(rows.max(axis=0) - x), *(x - rows.min(axis=0)))]
        for k in set(range(3)) - {own}:
            slope = coef[k] - coef[own]
            best = linprog(np.ones(26), -np.r_[slope, -slope][None], [z[k] - z[own]], bounds=room)
            least = min(least, best.fun if best.status == 0 else np.inf)
        moved = sum(change.distance for change in told.together)
        assert least * (1 - 1e-9) <= moved <= 1.1 * least + 0.08  # magnesium, of whole numbers, moves by 1 / 14 more
        found += 1
    assert found > 5


def test_a_decision_that_nothing_seen_can_flip_has_no_change(tmp_path):
    """A class whose rows differ from the other's by far more than rows differ in what may move."""
    x = np.r_[np.linspace(0, 1, 30), np.linspace(0, 1, 30)]
    pl.DataFrame({"x": x, "kind": ["a"] * 45 + ["b"] * 15}).write_csv(tmp_path / "a.csv")
    source = open_source(tmp_path / "a.csv", target="kind")
    model = TableClassifier(estimator=LogisticRegression(C=1e-4)).fit(source)
    told = account(model, read_row(source, model.schema_, 0))
    assert (told.changes, told.together, told.within) == ((), (), True)


def test_a_model_from_before_the_ranges_were_kept_still_gives_account(wine):
    _, _, source, model = wine
    old = copy.deepcopy(model)
    for name in ("lowest_", "highest_", "whole_"):
        delattr(old.encoder_, name)
    block = read_row(source, model.schema_, 0)
    assert [c.column for c in account(old, block).changes] == [
        c.column for c in account(model, block, within=False).changes
    ]


def test_it_fits_into_json_and_on_a_line(table_models):
    model, block = table_models["columns"]
    told = as_mapping(account(model, Block(block.features[:1], None, 0)))
    again = json.loads(json.dumps(told))
    assert again["contributions"][0].keys() == {"column", "value", "contribution"}
    assert again == told
    dates = [one["value"] for one in told["contributions"] if one["column"] == "sent"]
    assert dates == [str(block.features["sent"][0]).removesuffix(" 00:00:00")]
    assert shown("x" * 100) == "x" * 59 + "…"
