"""The main job on every format, through the command."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, log_loss

import normexp as nx

SCORES = ("accuracy", "balanced_accuracy", "log_loss", "brier", "ece")


def test_the_installed_command_goes_from_a_table_to_a_report(installed, tables, tmp_path):
    """Four processes, files in between, as a person would do it."""
    model, table = tmp_path / "m.nx", tables / "fruit.csv"
    fitted = installed("fit", table, "--target", "kind", "-o", model)
    assert (fitted.status, fitted.err) == (0, "")
    assert f"wrote {model}" in fitted.out
    predicted = installed("predict", model, table, "-o", tmp_path / "p.csv", "--top-k", "2")
    assert (predicted.status, predicted.err) == (0, "")
    evaluated = installed("evaluate", model, table, "--json")
    assert (evaluated.status, evaluated.err) == (0, "")
    rows = pl.read_csv(tmp_path / "p.csv")
    truth = pl.read_csv(table)["kind"]
    assert evaluated.json["accuracy"] == pytest.approx(accuracy_score(truth, rows["label"]))
    assert evaluated.json["n"] == len(rows) == 240
    reported = installed("report", model, table, "-o", tmp_path / "r.html")
    assert (reported.status, reported.err) == (0, "")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "fruit.csv" in page


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fruit.csv", ["--target", "kind"]),
        ("fruit.csv.gz", ["--target", "kind"]),
        ("fruit.tsv", ["--target", "kind"]),
        ("fruit.parquet", ["--target", "kind"]),
        ("fruit.ndjson", ["--target", "kind"]),
        ("fruit.csv", ["--target", "kind", "--features", "mass"]),
        ("fruit.csv", ["--target", "kind", "--features", "ma*", "--features", "col*", "-C", "10", "--seed", "1"]),
        ("messages.csv", ["--target", "label", "--text", "text"]),
        ("messages.txt", []),
        ("clouds.npz", []),
        ("clouds.svm", []),
        ("clouds", []),
    ],
)
def test_every_format_is_fitted_predicted_and_evaluated(call, tables, tmp_path, name, options):
    model, out, table = tmp_path / "m.nx", tmp_path / "p.parquet", tables / name
    fitted = call("fit", table, *options, "-o", model, "--json")
    assert fitted.status == 0, fitted.err
    assert fitted.json["rows"] >= 120
    predicted = call(
        "predict", model, table, "-o", out, "--json", *(["--ignore-extra"] if "--features" in options else [])
    )
    assert predicted.status == 0, predicted.err
    assert predicted.json == {"output": str(out), "rows": fitted.json["rows"]}
    evaluated = call("evaluate", model, table, "--json", *(["--ignore-extra"] if "--features" in options else []))
    assert evaluated.status == 0, evaluated.err
    assert evaluated.json["accuracy"] > 0.85
    assert all(isinstance(evaluated.json[score], float) for score in SCORES)


def test_predictions_are_probabilities_of_the_saved_model(call, model, tables, tmp_path):
    """The columns agree with one another, and with the scores of evaluate."""
    out = tmp_path / "p.csv"
    assert call("predict", model, tables / "fruit.parquet", "-o", out, "--top-k", "3").status == 0
    rows = pl.read_csv(out)
    assert rows.columns == [
        "label", "probability", "log_probability", "entropy",
        "top_1", "top_1_probability", "top_2", "top_2_probability", "top_3", "top_3_probability",
        "decision", "set", "unknown_score", "reason",
    ]  # fmt: skip
    top = rows.select("top_1_probability", "top_2_probability", "top_3_probability").to_numpy()
    np.testing.assert_allclose(top.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.log(rows["probability"]), rows["log_probability"], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(-np.sum(top * np.log(top), axis=1), rows["entropy"], atol=1e-12)
    assert (rows["label"] == rows["top_1"]).all()
    truth = pl.read_parquet(tables / "fruit.parquet")["kind"].to_list()
    classes = sorted(set(truth))
    prob = np.zeros((len(rows), 3))
    for rank in (1, 2, 3):
        for row, (label, p) in enumerate(zip(rows[f"top_{rank}"], rows[f"top_{rank}_probability"], strict=True)):
            prob[row, classes.index(label)] = p
    scores = call("evaluate", model, tables / "fruit.parquet", "--json").json
    assert scores["log_loss"] == pytest.approx(log_loss(truth, prob, labels=classes), rel=1e-9)
    one_hot = np.array([[label == c for c in classes] for label in truth])
    assert scores["brier"] == pytest.approx(np.mean(np.sum((prob - one_hot) ** 2, axis=1)), rel=1e-9)


def test_a_loaded_model_predicts_bitwise_what_the_saved_one_does(call, model, tables, tmp_path):
    for name in ("a", "b"):
        assert call("predict", model, tables / "fruit.csv", "-o", tmp_path / f"{name}.csv").status == 0
        nx.save(nx.load(model), tmp_path / "again.nx")
        model = tmp_path / "again.nx"
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_extra_columns_are_passed_over_when_asked(call, model, tables, tmp_path):
    table = tmp_path / "more.csv"
    pl.read_csv(tables / "fruit.csv").with_columns(shop=pl.lit("north")).write_csv(table)
    assert call("predict", model, table, "-o", tmp_path / "p.csv").status == 2
    assert call("predict", model, table, "-o", tmp_path / "p.csv", "--ignore-extra").status == 0
    assert call("evaluate", model, table, "--ignore-extra").status == 0
    assert call("report", model, table, "--ignore-extra", "-o", tmp_path / "r.html").status == 0


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        (["accuracy>=0.5"], 0),
        (["accuracy >= 0.5", "log_loss<1"], 0),
        (["accuracy>=0.5", "accuracy>1.5"], 1),
        (["log_loss<1e-9"], 1),
    ],
)
def test_a_requirement_decides_the_exit_status(call, model, tables, checks, status):
    options = [word for check in checks for word in ("--require", check)]
    done = call("evaluate", model, tables / "fruit.csv", "--json", *options)
    assert done.status == status
    assert [check["holds"] for check in done.json["checks"]].count(False) == status
    assert done.err.count("check failed") == status


def test_a_score_that_cannot_be_told_fails_its_check():
    from normexp.cli.requirement import parse_requirement

    check = parse_requirement("log_loss<9").check({"log_loss": None, "intervals": {"log_loss": [None, None]}})
    assert not check.holds


def test_the_scores_are_shown_as_tables_of_80_columns_without_colours(call, model, tables):
    done = call("evaluate", model, tables / "fruit.csv")
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    for words in ("Accuracy", "prior alone", "apple", "precision", "green"):
        assert words in done.out


def test_names_in_brackets_are_shown_as_they_are(call, tmp_path):
    """A class may be called [red] without being taken for a colour of the terminal."""
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "".join(f"{i % 2 + i / 100},{'[red]' if i % 2 else ':smile:'}\n" for i in range(40)))
    assert call("fit", table, "--target", "y", "-o", tmp_path / "m.nx").status == 0
    done = call("evaluate", tmp_path / "m.nx", table)
    assert "[red]" in done.out
    assert ":smile:" in done.out


def test_the_demo_reaches_its_accuracy_and_leaves_its_files(installed, tmp_path):
    done = installed("demo", "--output", tmp_path / "demo", "--json")
    assert (done.status, done.err) == (0, "")
    assert done.json["accuracy"] >= 0.96
    assert done.json["n"] == 450
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"digits-train.npz", "digits-test.npz", "digits.nx", "report.html"}
    assert (tmp_path / "demo" / "report.html").stat().st_size < 2_000_000


def test_three_schemes_are_compared_on_the_same_rows(call, tables):
    done = call("bench", "ovr-ovo", tables / "fruit.csv", "--target", "kind", "--json")
    assert done.status == 0, done.err
    schemes = {score["scheme"]: score for score in done.json["schemes"]}
    assert [schemes[name]["n_fits"] for name in ("multinomial", "one-vs-rest", "one-vs-one")] == [1, 3, 3]
    assert done.json["rows"] == 240
    assert done.json["held_out"] == 60
    assert all(score["accuracy"] > 0.8 for score in schemes.values())
    shown = call("bench", "ovr-ovo", tables / "fruit.csv", "--target", "kind")
    assert "one-vs-rest" in shown.out


def test_json_is_one_object_and_nothing_else(call, model, tables, tmp_path):
    for arguments in (
        ["fit", tables / "fruit.csv", "--target", "kind", "-o", tmp_path / "m.nx"],
        ["predict", model, tables / "fruit.csv", "-o", tmp_path / "p.csv"],
        ["evaluate", model, tables / "fruit.csv"],
        ["report", model, tables / "fruit.csv", "-o", tmp_path / "r.html"],
        ["softmax", "1", "2"],
    ):
        done = call(*arguments, "--json")
        assert done.status == 0, done.err
        assert done.out.count("\n") == 1
        assert isinstance(json.loads(done.out, parse_constant=pytest.fail), dict)
