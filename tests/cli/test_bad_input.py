"""Whatever is wrong with the input: one sentence on standard error, exit status 2, nothing half-written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifact.crafted import manifest_of, sealed_zip

FRUIT = "mass,colour,kind\n"


def rows(n_rows=20, kinds=("apple", "plum")):
    """Lines of a good table."""
    return "".join(f"{50 + 7 * i},{'red' if i % 3 else 'green'},{kinds[i % len(kinds)]}\n" for i in range(n_rows))


def write(path, content):
    """Write text or bytes and return the path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# name of the case: (file name, content, further arguments, parts of the sentence)
FIT = {
    "missing file": ("none.csv", None, [], ["none.csv"]),
    "empty file": ("t.csv", "", [], ["t.csv", "empty"]),
    "header only": ("t.csv", FRUIT, [], ["t.csv", "row"]),
    "wrong delimiter": ("t.csv", (FRUIT + rows()).replace(",", ":"), [], ["t.csv", "'kind'", "mass:colour:kind"]),
    "two delimiters": ("t.csv", FRUIT.replace(",", ";") + rows(), [], ["t.csv", "row 0", "semicolons"]),
    "not UTF-8": ("t.csv", (FRUIT + rows()).replace("apple", "äpfel").encode("latin-1"), [], ["t.csv", "UTF-8"]),
    "target absent": ("t.csv", (FRUIT + rows()), ["--target", "knd"], ["'knd'", "nearest", "'kind'"]),
    "text column absent": ("t.csv", (FRUIT + rows()), ["--text", "colr"], ["'colr'", "'colour'"]),
    "no feature matches": ("t.csv", (FRUIT + rows()), ["--features", "emb_*"], ["emb_*"]),
    "one class only": ("t.csv", FRUIT + rows(kinds=["apple"]), [], ["one class", "'apple'"]),
    "a class with one row": ("t.csv", FRUIT + rows() + "9,red,kiwi\n", [], ["'kiwi'", "row 20"]),
    "empty target": ("t.csv", FRUIT + rows() + "9,red,\n", [], ["'kind'", "row 20"]),
    "no target": ("t.ndjson", '{"x": 1, "kind": 1}\n{"x": 2}\n', [], ["kind", "row 1"]),
    "infinite feature": ("t.csv", FRUIT + rows() + "inf,red,apple\n", [], ["'mass'", "inf"]),
    "unknown suffix": ("t.xyz", FRUIT + rows(), [], [".xyz"]),
    "no such option": ("t.csv", FRUIT + rows(), ["--colour", "red"], ["--colour", "normexp fit --help"]),
    "an option without its value": ("t.csv", FRUIT + rows(), ["--seed"], ["--seed"]),
    "a value of the wrong type": ("t.csv", FRUIT + rows(), ["--seed", "many"], ["--seed"]),
    "a penalty below 0": ("t.csv", FRUIT + rows(), ["-C", "-1"], ["C"]),
    "a parquet file that is none": ("t.parquet", "PAR1 but not really", [], ["t.parquet"]),
    "an npz file that is none": ("t.npz", b"PK\x03\x04 but not really", [], ["t.npz"]),
    "an array of objects": ("t.npy", None, [], ["t.npy"]),
    "ragged lines": ("t.csv", FRUIT + rows() + "1,red\n", [], ["t.csv"]),
    "a gzip file that is none": ("t.csv.gz", FRUIT + rows(), [], ["t.csv.gz"]),
}  # fmt: skip


def refused(done, parts, folder, before):
    """The promises that hold for every bad input."""
    assert done.status == 2, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert len([line for line in lines if not line.startswith("normexp: warning:")]) == 1, done.err
    assert lines[-1].startswith("normexp: ")
    assert lines[-1].rstrip().endswith((".", "--help")), done.err
    for part in parts:
        assert part in lines[-1], f"{part!r} is not in: {lines[-1]}"
    assert snapshot(folder) == before


def snapshot(folder):
    """Every file of a folder, hidden ones too, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", FIT)
def test_fit_refuses(call, tmp_path, case):
    name, content, options, parts = FIT[case]
    table = tmp_path / name
    if name == "t.npy":
        np.save(table, np.array([{}], dtype=object), allow_pickle=True)
    elif content is not None:
        write(table, content)
    before = snapshot(tmp_path)
    target = [] if "--target" in options or name.endswith(".npy") else ["--target", "kind"]
    done = call("fit", table, *target, "-o", tmp_path / "model.nx", *options)
    refused(done, parts, tmp_path, before)


def test_fit_refuses_a_folder_without_arrays(call, tmp_path):
    (tmp_path / "folder").mkdir()
    done = call("fit", tmp_path / "folder", "--target", "kind", "-o", tmp_path / "model.nx")
    refused(done, ["folder"], tmp_path, {})


def _without_mass(frame):
    return frame.drop("mass")


def _with_more(frame):
    return frame.with_columns(shop=pl.lit("north"))


def _of_another_type(frame):
    return frame.with_columns(mass=pl.lit("heavy"))


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report"])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without_mass, ["'mass'", "missing"]),
        (_with_more, ["'shop'"]),
        (_of_another_type, ["'mass'", "heavy"]),
    ],
)
def test_a_table_that_does_not_fit_the_model_is_refused(call, model, tables, tmp_path, verb, change, parts):
    table = tmp_path / "t.csv"
    change(pl.read_csv(tables / "fruit.csv")).write_csv(table)
    before = snapshot(tmp_path)
    output = {"predict": ["-o", tmp_path / "p.csv"], "report": ["-o", tmp_path / "r.html"]}.get(verb, [])
    refused(call(verb, model, table, *output), parts, tmp_path, before)


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_an_unseen_label_is_refused(call, model, tables, tmp_path, verb):
    table = tmp_path / "t.csv"
    frame = pl.read_csv(tables / "fruit.csv")
    frame.with_columns(kind=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("aple")).otherwise("kind")).write_csv(
        table
    )
    before = snapshot(tmp_path)
    output = ["-o", tmp_path / "r.html"] if verb == "report" else []
    refused(call(verb, model, table, *output), ["'aple'", "row 7", "'apple'"], tmp_path, before)


def test_evaluate_refuses_a_table_without_the_classes(call, model, tables, tmp_path):
    pl.read_csv(tables / "fruit.csv").drop("kind").write_csv(tmp_path / "t.csv")
    before = snapshot(tmp_path)
    refused(call("evaluate", model, tmp_path / "t.csv"), ["'kind'"], tmp_path, before)


@pytest.mark.parametrize("requirement", ["accuracy", "accuracy=0.9", "accuracy>=much", ">=0.9", "acuracy>=0.9"])
def test_evaluate_refuses_a_requirement_that_says_nothing(call, model, tables, tmp_path, requirement):
    done = call("evaluate", model, tables / "fruit.csv", "--require", requirement)
    refused(done, ["--require", requirement], tmp_path, {})


# ------------------------------------------------------------------------------------------------- model files


def _truncated(raw):
    return raw[: len(raw) // 2]


def _altered(raw):
    return raw[:1000] + bytes([raw[1000] ^ 1]) + raw[1001:]


def _a_pickle(raw):
    return pickle.dumps({"model": raw})


def _empty(raw):
    return raw[:0]


def _newer(raw):
    fields = manifest_of(raw) | {"format_version": 99}
    return sealed_zip([("manifest.json", json.dumps(fields)), ("payload.skops", b"")])


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report"])
@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (_truncated, ["m.nx", "truncated"]),
        (_altered, ["m.nx", "altered"]),
        (_a_pickle, ["m.nx", "pickle"]),
        (_empty, ["m.nx", "empty"]),
        (_newer, ["m.nx", "format version 99", "pip install -U normexp"]),
    ],
)
def test_a_spoilt_model_file_is_refused(call, model, tables, tmp_path, verb, spoil, parts):
    write(tmp_path / "m.nx", spoil(model.read_bytes()))
    before = snapshot(tmp_path)
    output = {"predict": ["-o", tmp_path / "p.csv"], "report": ["-o", tmp_path / "r.html"]}.get(verb, [])
    refused(call(verb, tmp_path / "m.nx", tables / "fruit.csv", *output), parts, tmp_path, before)


def test_a_model_of_arrays_is_refused_for_tables(call, tables, tmp_path):
    import normexp as nx

    nx.save(nx.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]), tmp_path / "m.nx")
    before = snapshot(tmp_path)
    done = call("evaluate", tmp_path / "m.nx", tables / "fruit.csv")
    refused(done, ["SoftmaxClassifier", "normexp fit"], tmp_path, before)


# ------------------------------------------------------------------------------------------------- outputs


def _commands(model, tables, output):
    """Every verb that writes a file, with another suffix where it needs one."""
    return {
        "fit": ["fit", tables / "fruit.csv", "--target", "kind", "-o", output.with_suffix(".nx")],
        "predict": ["predict", model, tables / "fruit.csv", "-o", output.with_suffix(".csv")],
        "report": ["report", model, tables / "fruit.csv", "-o", output.with_suffix(".html")],
        "softmax": ["softmax", "2", "1", "--plot", output.with_suffix(".png")],
    }


@pytest.mark.parametrize("verb", ["fit", "predict", "report", "softmax"])
def test_an_output_folder_that_does_not_exist_is_found_out_before_the_work(
    call, model, tables, tmp_path, verb, monkeypatch
):
    """No table and no model is opened: nothing expensive was begun."""
    for target in ("normexp.tables.open_source", "normexp.artifact.load", "normexp.ops.softmax"):
        monkeypatch.setattr(target, lambda *_, **__: pytest.fail("the work was begun"))
    done = call(*_commands(model, tables, tmp_path / "nowhere" / "out")[verb])
    refused(done, ["'" + str(tmp_path / "nowhere") + "'", "does not exist"], tmp_path, {})


@pytest.mark.parametrize("verb", ["fit", "predict", "report", "softmax"])
def test_an_output_folder_that_cannot_be_written_is_found_out_before_the_work(
    call, model, tables, tmp_path, verb, monkeypatch
):
    if os.geteuid() == 0:  # permissions do not bind root; /proc binds everybody
        folder = Path("/proc")
        if not folder.is_dir():
            pytest.skip("root can write everywhere here")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    for target in ("normexp.tables.open_source", "normexp.artifact.load", "normexp.ops.softmax"):
        monkeypatch.setattr(target, lambda *_, **__: pytest.fail("the work was begun"))
    done = call(*_commands(model, tables, folder / "out")[verb])
    refused(done, ["not writable"], tmp_path, {})


@pytest.mark.parametrize("verb", ["fit", "predict", "report", "softmax"])
def test_an_output_that_is_a_folder_is_refused(call, model, tables, tmp_path, verb):
    arguments = _commands(model, tables, tmp_path / "out")[verb]
    arguments[-1].mkdir()
    refused(call(*arguments), ["folder"], tmp_path, {})


@pytest.mark.parametrize(("verb", "suffix"), [("predict", ".xlsx"), ("report", ".pdf"), ("softmax", ".bmp")])
def test_an_output_suffix_that_means_nothing_is_refused(call, model, tables, tmp_path, verb, suffix):
    arguments = _commands(model, tables, tmp_path / "out")[verb]
    arguments[-1] = tmp_path / f"out{suffix}"
    refused(call(*arguments), [suffix], tmp_path, {})


def test_the_input_is_never_overwritten(call, model, tables, tmp_path):
    for name in ("fruit.csv",):
        shutil.copy(tables / name, tmp_path / name)
    table = tmp_path / "fruit.csv"
    before = snapshot(tmp_path)
    refused(call("predict", model, table, "-o", table), ["would be lost"], tmp_path, before)
    refused(call("fit", table, "--target", "kind", "-o", table), ["would be lost"], tmp_path, before)
    (tmp_path / "link.csv").symlink_to(table)
    refused(call("predict", model, table, "-o", tmp_path / "link.csv"), ["would be lost"], tmp_path, snapshot(tmp_path))


def test_the_demo_refuses_a_folder_that_cannot_be_made(call, tmp_path):
    write(tmp_path / "file", "")
    before = snapshot(tmp_path)
    refused(call("demo", "--output", tmp_path / "file" / "demo"), ["demo"], tmp_path, before)
    refused(call("demo", "--output", tmp_path / "file"), ["file"], tmp_path, before)


def test_a_command_that_does_not_exist_is_refused(call, tmp_path):
    refused(call("classify"), ["'classify'", "normexp --help"], tmp_path, {})


def test_bench_refuses_rows_that_cannot_be_split(call, tmp_path):
    table = write(tmp_path / "t.csv", FRUIT + rows(3, kinds=["a", "b", "c"]))
    before = snapshot(tmp_path)
    refused(call("bench", "ovr-ovo", table, "--target", "kind"), ["held"], tmp_path, before)


def test_a_column_that_names_its_rows_is_warned_of(call, tmp_path):
    """Words that come again, running text and few rows are none; the fit goes on, and nothing is said without it."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 40)
    frame = pl.DataFrame(
        {
            "id": [f"A{i:03}" for i in range(80)],
            "again": [f"B{i % 79}" for i in range(80)],
            "says": [f"row {i}" for i in range(80)],
            "x": rng.normal(size=80) + (y == "a"),
            "whole": rng.permutation(80),
            "kind": y,
        }
    )
    frame.write_csv(tmp_path / "t.csv")
    frame.drop("id").write_csv(tmp_path / "without.csv")
    frame[20:60].write_csv(tmp_path / "few.csv")
    for name, warns in (("t.csv", True), ("without.csv", False), ("few.csv", False)):
        done = call("fit", tmp_path / name, "--target", "kind", "-o", tmp_path / "m.nx", "--plain", "-C", "1")
        assert done.status == 0, done.err
        assert ("warning" in done.err) == warns
        if warns:
            assert "t.csv: the column 'id' holds another word in each row" in done.err
            assert "--features" in done.err
            assert done.err.count("\n") == 1


def test_row_numbers_and_stray_words_among_numbers_are_warned_of(call, tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 40)
    size = [f"{value:.3f}" for value in rng.normal(size=80) + (y == "a")]
    frame = pl.DataFrame({"Id": range(1, 81), "size": size, "x": rng.normal(size=80) + (y == "a"), "kind": y})
    frame.with_columns(size=pl.Series([*size[:30], "unknown", *size[31:]])).write_csv(tmp_path / "t.csv")
    frame.drop("Id").write_csv(tmp_path / "clean.csv")
    fit = ("--target", "kind", "-o", tmp_path / "m.nx", "--plain", "-C", "1")
    done = call("fit", tmp_path / "t.csv", *fit)
    assert done.status == 0, done.err
    assert "t.csv: the column 'Id' holds the numbers of its rows" in done.err
    assert "the column 'size' holds numbers but for 1 of its 80 values, such as 'unknown'" in done.err
    clean = call("fit", tmp_path / "clean.csv", *fit)
    assert clean.status == 0, clean.err
    assert "warning" not in clean.err


@pytest.mark.parametrize("more", [["--plain"], [], ["--plain", "--checkpoint", "state"]])
@pytest.mark.parametrize("large", [[1e300], [2e200, -3e200, 1e200] * 20])
def test_numbers_whose_squares_overflow_are_named_by_column_and_row(call, tmp_path, monkeypatch, more, large):
    monkeypatch.chdir(tmp_path)
    lines = [f"{0.1 * row},{0.3 * (row % 7)},{'abc'[row % 3]}" for row in range(60)]
    for row, value in enumerate(large, start=2):
        lines[row % 60] = f"{value},{0.3 * (row % 7)},{'abc'[row % 3]}"
    write(tmp_path / "wild.csv", "mass,width,kind\n" + "\n".join(lines) + "\n")
    before = snapshot(tmp_path)
    done = call("fit", "wild.csv", "--target", "kind", *more, "-o", "model.nx")
    refused(done, ["column 'mass' holds", "in row ", "1e+150"], tmp_path, before)
