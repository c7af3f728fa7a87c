"""Trusted models through the command: promises are made, printed, kept, and refused where they make no sense."""

import numpy as np
import polars as pl
import pytest

import normexp as nx


@pytest.fixture
def rare(tmp_path):
    """A rare class that is hard to tell from a common one."""
    rng = np.random.default_rng(0)
    y = (rng.random(900) < 0.07).astype(int)
    x = rng.normal(size=(900, 3)) + 1.2 * y[:, None]
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": [["often", "rare"][k] for k in y]})
    frame[:600].write_csv(tmp_path / "train.csv")
    frame[600:].write_csv(tmp_path / "test.csv")
    return tmp_path


def test_the_default_is_a_trusted_model_and_plain_is_the_bare_one(call, rare):
    told = call("fit", rare / "train.csv", "--target", "kind", "-o", rare / "m.nx", "--json")
    assert (told.status, told.err) == (0, "")
    assert [title for title, _ in told.json["promises"]] == ["calibration", "sets", "unknown"]
    assert isinstance(nx.load(rare / "m.nx").estimator_, nx.TrustedClassifier)
    shown = call("fit", rare / "train.csv", "--target", "kind", "-o", rare / "p.nx", "--plain")
    assert shown.status == 0
    assert "held-out" not in shown.out
    for name, columns in (("m", True), ("p", False)):
        out = rare / f"{name}.csv"
        assert call("predict", rare / f"{name}.nx", rare / "test.csv", "-o", out).status == 0
        assert ("decision" in pl.read_csv(out).columns) == columns
        scores = call("evaluate", rare / f"{name}.nx", rare / "test.csv", "--json").json
        assert (scores["trust"] is not None) == columns


def test_the_decisions_of_the_trusted_model_are_those_of_the_bare_one(call, rare):
    """Calibration on the command line moves probabilities and no label."""
    for name, option in (("m", []), ("p", ["--plain"])):
        call("fit", rare / "train.csv", "--target", "kind", "-o", rare / f"{name}.nx", *option)
        call("predict", rare / f"{name}.nx", rare / "test.csv", "-o", rare / f"{name}.csv")
    assert pl.read_csv(rare / "m.csv")["label"].equals(pl.read_csv(rare / "p.csv")["label"])


def test_balanced_moves_decisions_and_no_probability(call, rare):
    for name, option in (("m", []), ("b", ["--balanced", "--reject", "0"])):
        fitted = call("fit", rare / "train.csv", "--target", "kind", "-o", rare / f"{name}.nx", *option)
        assert fitted.status == 0, fitted.err
        assert call("predict", rare / f"{name}.nx", rare / "test.csv", "-o", rare / f"{name}.csv").status == 0
    usual, balanced = pl.read_csv(rare / "m.csv"), pl.read_csv(rare / "b.csv")
    for column in ("label", "probability", "log_probability", "entropy"):
        assert usual[column].equals(balanced[column])
    assert (balanced["decision"] == "rare").sum() > 2 * (usual["decision"] == "rare").sum()
    assert "unknown" not in set(balanced["decision"])
    shown = call("evaluate", rare / "b.nx", rare / "test.csv")
    assert "balanced accuracy, likeliest and decided" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    trust = call("evaluate", rare / "b.nx", rare / "test.csv", "--json").json["trust"]
    assert trust["balanced_accuracy_decided"] > trust["balanced_accuracy"] + 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--coverage", "1.5"], "coverage is 1.5"),
        (["--reject", "-0.1"], "reject is -0.1"),
        (["--plain", "--balanced"], "--plain makes a model without promises"),
        (["--plain", "--reject", "0.1"], "--plain makes a model without promises"),
    ],
)
def test_promises_without_a_meaning_are_refused_before_any_work(call, rare, options, words):
    done = call("fit", rare / "train.csv", "--target", "kind", "-o", rare / "no.nx", *options)
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not (rare / "no.nx").exists()


def test_a_row_far_from_all_others_is_unknown_and_its_loss_is_written_short(call, rare):
    assert call("fit", rare / "train.csv", "--target", "kind", "-o", rare / "m.nx").status == 0
    (rare / "far.csv").write_text("a,b,c,kind\n" + "1e200,0,0,often\n0.1,0.2,0.1,often\n" * 15)
    assert call("predict", rare / "m.nx", rare / "far.csv", "-o", rare / "far.out.csv").status == 0
    rows = pl.read_csv(rare / "far.out.csv")
    assert set(rows["decision"][::2]) == {"unknown"}
    assert set(rows["decision"][1::2]) == {"often"}
    assert set(rows["reason"].str.split(" ").list.first()[::2]) == {"a"}
    shown = call("evaluate", rare / "m.nx", rare / "far.csv")
    assert shown.status == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 80


def test_columns_that_are_constant_but_for_a_row_are_no_obstacle(call, tmp_path):
    table = "u,v,w,kind\n" + "".join(f"{int(i == 5)},{2 * int(i == 5)},1,{'ab'[i % 2]}\n" for i in range(90))
    (tmp_path / "rare.csv").write_text(table, encoding="utf-8")
    done = call("fit", tmp_path / "rare.csv", "--target", "kind", "-o", tmp_path / "rare.nx")
    assert done.status == 0, done.err
    assert (tmp_path / "rare.nx").exists()


def test_the_page_bears_the_date(call, rare, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert call("fit", rare / "train.csv", "--target", "kind", "-o", rare / "m.nx").status == 0
    told = call("report", rare / "m.nx", rare / "test.csv", "-o", rare / "r.html", "--json")
    assert told.json["date"] == "2026-01-01"
    assert "2026-01-01" in (rare / "r.html").read_text(encoding="utf-8")
