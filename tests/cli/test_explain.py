"""`normexp explain`: as it is installed, and what it says to wrong input."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import normexp as nx
from normexp.tables import open_source
from normexp.trusted import TableClassifier


def test_the_installed_command_says_why_and_what_else(installed, model, tables):
    done = installed("explain", model, tables / "fruit.csv", "--row", "17")
    assert done.status == 0, done.err
    assert done.err == ""
    lines = [line.split() for line in done.out.splitlines() if line.strip()]
    head = done.out.splitlines()[:2]
    assert head[0].startswith("row 17 of fruit.csv: ")
    label, rival = head[0].split()[4].rstrip(","), head[1].split()[1].rstrip(",")
    assert f"why {label} and not {rival}" in done.out
    told = {
        line[0]: float(line[-1]) for line in lines if line[0] in {"mass", "colour", "picked", "sum"} and len(line) < 4
    }
    told["start"] = next(float(line[-1]) for line in lines if line[:3] == ["where", "every", "row"])
    assert told["mass"] + told["colour"] + told["picked"] + told["start"] == pytest.approx(told["sum"], abs=0.003)
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "what would have changed it" in done.out


def test_json_has_all_of_it_and_agrees_with_predict(installed, model, tables, tmp_path):
    done = installed("explain", model, tables / "fruit.parquet", "--row", "17", "--json")
    assert done.status == 0, done.err
    told = done.json
    assert installed("predict", model, tables / "fruit.csv", "-o", tmp_path / "out.csv").status == 0
    row = pl.read_csv(tmp_path / "out.csv").row(17, named=True)
    assert told["label"] == row["label"]
    assert told["probability"] == pytest.approx(row["probability"], rel=1e-9)
    sums = told["baseline"] + sum(one["contribution"] for one in told["contributions"])
    assert sums == pytest.approx(told["log_odds"], rel=1e-12)
    values = {one["column"]: one["value"] for one in told["contributions"]}
    there = pl.read_csv(tables / "fruit.csv").row(17, named=True)
    assert values == {name: there[name] for name in ("mass", "colour", "picked")}


def test_a_change_that_is_told_changes_the_prediction(call, model, tables, tmp_path):
    frame = pl.read_csv(tables / "fruit.csv").drop("kind")
    told = call("explain", model, tables / "fruit.csv", "--row", 5, "--json").json
    assert told["changes"]
    for number, change in enumerate(told["changes"]):
        changed = frame[5].with_columns(pl.lit(change["after"]).alias(change["column"]))
        changed.write_csv(tmp_path / f"{number}.csv")
        again = call("explain", model, tmp_path / f"{number}.csv", "--json").json
        assert again["label"] == change["label"] != told["label"]


def test_words_are_told_for_texts(call, tables, tmp_path):
    assert (
        call("fit", tables / "messages.csv", "--target", "label", "--text", "text", "-o", tmp_path / "m.nx").status == 0
    )
    texts = pl.DataFrame({"text": ["see you at lunch", "win cash now"]})
    texts.write_csv(tmp_path / "new.csv")
    told = call("explain", tmp_path / "m.nx", tmp_path / "new.csv", "--row", 1)
    assert told.status == 0, told.err
    assert "row 1 of new.csv: spam" in told.out
    rows = {line.split()[0] for line in told.out.splitlines() if line.strip()}
    assert {"cash", "win", "now"} <= rows
    texts = call("explain", tmp_path / "m.nx", tmp_path / "new.csv", "--row", 0, "--json").json
    words = {one["word"]: one["contribution"] for one in texts["words"]}
    assert sum(words.values()) == pytest.approx(texts["contributions"][0]["contribution"], rel=1e-9)


def test_top_limits_what_is_shown_and_arrays_are_told_by_place(call, tables, tmp_path):
    assert call("fit", tables / "clouds.npz", "-o", tmp_path / "c.nx").status == 0
    done = call("explain", tmp_path / "c.nx", tables / "clouds.npz", "--row", 3, "--top", 1)
    assert done.status == 0, done.err
    assert "3 more columns" in done.out
    assert "[" in done.out


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_is_written_whole(call, model, tables, tmp_path, suffix):
    path = tmp_path / f"why{suffix}"
    done = call("explain", model, tables / "fruit.csv", "--row", 3, "--picture", path)
    assert done.status == 0, done.err
    assert done.out.endswith(f"wrote {path}\n")
    assert path.read_bytes()[:4] in {b"\x89PNG", b"<?xm", b"%PDF"}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def bent(tables, tmp_path):
    """A model whose estimator has a step that is not affine."""
    source = open_source(tables / "fruit.csv", target="kind")
    steps = make_pipeline(Normalizer(), LogisticRegression())
    nx.save(TableClassifier(estimator=steps).fit(source), tmp_path / "bent.nx")
    return ["explain", tmp_path / "bent.nx", tables / "fruit.csv"]


def arrays(tables, tmp_path):
    """A model that knows arrays and no tables."""
    nx.save(nx.SoftmaxClassifier().fit(np.eye(4), [0, 1, 0, 1]), tmp_path / "plain.nx")
    return ["explain", tmp_path / "plain.nx", tables / "fruit.csv"]


WRONG = {
    "beyond the last row": (["--row", "240"], "has 240 rows, numbered from 0 to 239"),
    "a negative row": (["--row", "-1"], "row -1 was asked for"),
    "no number": (["--row", "last"], "--row"),
    "a picture of no format": (["--picture", "why.gif"], "'.gif' is not one of"),
    "a folder that is not there": (["--picture", "nowhere/why.png"], "does not exist"),
    "no columns to show": (["--top", "0"], "--top"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_answered_with_a_sentence_and_status_2(call, model, tables, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options, words = WRONG[name]
    done = call("explain", model, tables / "fruit.csv", *options)
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("make", "words"), [(bent, "Normalizer, which is not affine"), (arrays, "knows arrays")])
def test_models_that_cannot_be_explained_are_refused(call, tables, tmp_path, make, words):
    done = call(*make(tables, tmp_path))
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_table_that_does_not_fit_is_refused(call, model, tables):
    done = call("explain", model, tables / "clouds.npz")
    assert done.status == 2
    assert "clouds.npz" in done.err


def test_what_is_proposed_lies_within_the_training_rows_unless_one_asks_for_more(call, tmp_path):
    """Ages from 20 to 60 and whole: no 71 and no 40.5; beyond on demand; and a sentence where nothing is enough."""
    rng = np.random.default_rng(0)
    age, dose = rng.integers(20, 61, 300), rng.uniform(0, 1, 300).round(3)
    sick = rng.random(300) < 1 / (1 + np.exp(-((age - 40) / 12 + 3 * dose - 0.5)))
    pl.DataFrame({"age": age, "dose": dose, "kind": np.where(sick, "sick", "well")}).write_csv(tmp_path / "t.csv")
    (tmp_path / "new.csv").write_text("age,dose\n20,0.01\n45,0.5\n58,0.99\n")
    fitted = call("fit", tmp_path / "t.csv", "--target", "kind", "-o", tmp_path / "m.nx", "--plain", "-C", "1")
    assert fitted.status == 0, fitted.err
    ask = ("explain", tmp_path / "m.nx", tmp_path / "new.csv", "--row")
    near = call(*ask, 1, "--json").json
    assert {change["column"] for change in near["changes"]} == {"age", "dose"}
    assert isinstance(next(c["after"] for c in near["changes"] if c["column"] == "age"), int)
    far = call(*ask, 2, "--json").json
    assert far["label"] == "sick"
    for change in (*near["changes"], *far["changes"], *far["together"]):
        low, high = {"age": (age.min(), age.max()), "dose": (dose.min(), dose.max())}[change["column"]]
        assert low <= change["after"] <= high
    told = call(*ask, 2)
    assert "No single change, within what the training rows hold, would have changed the decision." in told.out
    assert "all together" in told.out
    beyond = call(*ask, 2, "--anywhere", "--json").json
    assert (beyond["within"], beyond["together"]) == (False, [])
    assert any(change["after"] < 0 for change in beyond["changes"])
    # Of 300 rows 3 are of the class: where even the most extreme row is of the other, nothing within reach flips it.
    few = pl.DataFrame({"age": age, "kind": np.where(np.arange(300) % 100 == 0, "sick", "well")})
    few.write_csv(tmp_path / "few.csv")
    fitted = call("fit", tmp_path / "few.csv", "--target", "kind", "-o", tmp_path / "f.nx", "--plain", "-C", "1")
    assert fitted.status == 0, fitted.err
    none = call("explain", tmp_path / "f.nx", tmp_path / "few.csv")
    assert none.status == 0, none.err
    assert "or of all numbers, within what the training rows hold, changes the decision. See --anywhere" in none.out


def test_a_decision_that_is_not_the_most_probable_class_is_told(call, tables, tmp_path):
    costs = tmp_path / "costs.csv"
    costs.write_text("class,apple,lemon,plum\napple,0,1,1\nlemon,1,0,1\nplum,50,50,0\n")
    made = call("fit", tables / "fruit.csv", "--target", "kind", "--cost", costs, "-o", tmp_path / "m.nx")
    assert made.status == 0, made.err
    assert call("predict", tmp_path / "m.nx", tables / "fruit.csv", "-o", tmp_path / "out.csv").status == 0
    decisions = pl.read_csv(tmp_path / "out.csv")["decision"]
    seen = set()
    for row in range(0, 60, 5):
        told = call("explain", tmp_path / "m.nx", tables / "fruit.csv", "--row", row, "--json").json
        decided = told["label"] if told["decided"] is None else told["decided"]
        assert decisions[row] in (decided, "unknown")
        seen.add(told["decided"])
        shown = call("explain", tmp_path / "m.nx", tables / "fruit.csv", "--row", row).out
        assert ("decided: plum, by the model's costs" in shown) == (told["decided"] == "plum")
    assert seen == {None, "plum"}
