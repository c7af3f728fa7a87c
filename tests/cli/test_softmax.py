"""`normexp softmax` from numbers, files and pipes."""

import io

import numpy as np
import pytest
from PIL import Image

from normexp.cli.app import run
from oracle import softmax as exact_softmax


def probabilities(done):
    """The rows of probabilities that a call printed as JSON."""
    assert done.status == 0, done.err
    return [row["probabilities"] for row in done.json["rows"]]


@pytest.fixture
def pipe(monkeypatch):
    """Put text where standard input is."""

    def pipe(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return pipe


def test_the_textbook_row_is_shown_in_full(call):
    done = call("softmax", "2.0", "1.0", "0.1")
    assert (done.status, done.err) == (0, "")
    for words in ("2.0", "1.0", "0.1", "0.65900114", "0.24243297", "0.09856589"):
        assert words in done.out
    lines = {line.split()[0]: line.split()[1] for line in done.out.splitlines()[-3:]}
    assert lines["sum"] == "1.00000000"
    assert lines["entropy"] == "0.84673818"
    assert lines["log-sum-exp"] == "2.41703002"


@pytest.mark.parametrize(
    "words", [["-1", "2"], ["--", "-1", "2"], ["-1,2"], ["-1;2"], ["-1 2"], ["-1e0", "+2."], ["-1", "2", "--"]]
)
def test_negative_numbers_are_numbers(call, words):
    done = call("softmax", "--json", *words)
    assert probabilities(done)[0] == pytest.approx([1 / (1 + np.exp(3)), 1 / (1 + np.exp(-3))], rel=1e-15)


def test_options_may_stand_after_negative_numbers(call):
    done = call("softmax", "-1", "-2.5e-3", "-inf", "--json", "--temperature", "2")
    assert done.json["temperature"] == 2
    assert probabilities(done)[0] == pytest.approx(
        [float(p) for p in exact_softmax([-0.5, -1.25e-3, -np.inf])], rel=1e-12
    )


def test_json_says_infinity_in_words(call):
    row = call("softmax", "--json", "-inf", "0").json["rows"][0]
    assert row["logits"] == ["-Infinity", 0.0]
    assert row["probabilities"] == [0.0, 1.0]
    assert row["entropy"] == 0


@pytest.mark.parametrize("temperature", ["0.5", "3"])
def test_the_temperature_divides_the_logits(call, temperature):
    done = call("softmax", "2", "1", "0.1", "--temperature", temperature, "--json")
    scaled = np.array([2, 1, 0.1]) / float(temperature)
    assert probabilities(done)[0] == pytest.approx(list(np.exp(scaled) / np.exp(scaled).sum()), rel=1e-14)
    assert done.json["rows"][0]["logsumexp"] == pytest.approx(np.log(np.exp(scaled).sum()), rel=1e-14)


def test_temperature_zero_takes_the_largest(call):
    done = call("softmax", "3", "1", "3", "--temperature", "0")
    assert done.out.count("0.50000000") == 2
    assert "not defined at temperature 0" in done.out


@pytest.mark.parametrize("temperature", ["-1", "nan", "inf", "warm"])
def test_a_temperature_that_means_nothing_is_refused(call, temperature):
    done = call("softmax", "1", "2", "--temperature", temperature)
    assert (done.status, done.out) == (2, "")
    assert "--temperature" in done.err


ROWS = [[2.0, 1.0, 0.1], [0.0, -3.0, 5.0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("z.txt", "2 1 0.1\n0 -3 5\n"),
        ("z.csv", "2,1,0.1\r\n0,-3,5\r\n"),
        ("z.tsv", "# logits\n\n2\t1\t0.1\n  0 -3\t5  \n"),
        ("z", "\ufeff2; 1; 0.1\n0;-3;5"),
        ("z.npy", np.array(ROWS)),
    ],
)
def test_rows_are_read_from_files(call, tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="")
    else:
        np.save(path, content)
    want = [[float(p) for p in exact_softmax(row)] for row in ROWS]
    np.testing.assert_allclose(probabilities(call("softmax", path, "--json")), want, rtol=1e-14)
    shown = call("softmax", path).out
    assert "row 1" in shown
    assert "0.65900114 0.24243297 0.09856589" in shown


@pytest.mark.parametrize("words", [[], ["-"]])
def test_rows_are_read_from_a_pipe(call, pipe, words):
    pipe("2 1 0.1\n0 -3 5 7\n")
    rows = probabilities(call("softmax", *words, "--json"))
    assert [len(row) for row in rows] == [3, 4]
    assert [sum(row) for row in rows] == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("z.txt", "1 2\n1 two\n", ["line 2", "'two'"]),
        ("z.csv", "a,b\n1,2\n", ["line 1", "'a'", "no heading"]),
        ("z.txt", "", ["no logits"]),
        ("z.txt", "# nothing\n\n", ["no logits"]),
        ("z.txt", b"\xff\xfe1 2", ["not UTF-8"]),
        ("z.npy", b"\x93NUMPY but not really", ["not a .npy file"]),
        ("z.npy", np.array([{}], dtype=object), ["not a .npy file"]),
        ("z.npy", np.zeros((2, 2, 2)), ["(2, 2, 2)"]),
        ("z.npy", np.zeros((0, 2)), ["(0, 2)"]),
        ("z.npy", np.array(["a"]), ["dtype"]),
    ],
)
def test_a_file_without_numbers_is_refused(call, tmp_path, name, content, parts):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = call("softmax", path)
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err
    for part in [name, *parts]:
        assert part in done.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["foo"], "'foo'"),
        (["1", "x", "2"], "'x'"),
        (["--tempreature", "1"], "neither a number nor an option"),
        (["nowhere.csv"], "there is no file nowhere.csv"),
        (["/"], "folder"),
        (["1", ""], "''"),
        (["1,5", "2,5"], "'1,5' could be one number with a decimal comma, or two; write 1.5 or 1 5"),
    ],
)
def test_words_that_are_no_numbers_are_refused(call, words, part):
    done = call("softmax", *words)
    assert (done.status, done.out) == (2, "")
    assert part in done.err


def test_an_empty_pipe_is_refused(call, pipe):
    pipe("")
    done = call("softmax")
    assert done.status == 2
    assert "standard input has no logits" in done.err


@pytest.mark.parametrize("n_classes", [1, 2, 16, 17, 60, 1000])
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_logits_and_probabilities_are_drawn(call, tmp_path, n_classes, suffix):
    logits = np.random.default_rng(n_classes).normal(size=n_classes) * 2
    out = tmp_path / f"bars{suffix}"
    done = call("softmax", *(f"{z:.3f}" for z in logits), "--plot", out)
    assert done.status == 0, done.err
    raw = out.read_bytes()
    assert raw.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    if suffix == ".svg" and n_classes <= 16:
        assert raw.count(b"<!-- ") > 0
    if suffix == ".png":
        with Image.open(out) as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert {(0x4C, 0x6A, 0x92), (0xD9, 0x82, 0x2B)} <= colours


def test_a_bar_is_as_long_as_its_number(tmp_path):
    """The widths of the rectangles in the picture are in the ratio of the probabilities and of the logits."""
    from normexp.cli import bars
    from normexp.cli.logits import evaluate_row

    row = evaluate_row(np.array([2.0, -1.0, 0.5]), temperature=1.0)
    drawn = []
    original = bars._lying

    def watch(axes, *arguments):
        original(axes, *arguments)
        drawn.append([patch.get_width() for patch in axes.patches])

    bars._lying = watch
    try:
        with (tmp_path / "b.png").open("wb") as stream:
            bars.draw_bars([row], stream, file_format="png", temperature=1.0)
    finally:
        bars._lying = original
    np.testing.assert_allclose(drawn, [row.logits, row.probabilities])


def test_infinite_logits_are_drawn_without_a_bar(call, tmp_path):
    assert call("softmax", "1", "-inf", "2", "--plot", tmp_path / "b.png").status == 0


@pytest.mark.parametrize(("word", "name"), [("nan", "NaN"), ("inf", "infinite"), ("1e400", "infinite")])
def test_numbers_without_a_softmax_are_refused_with_their_place(call, word, name):
    done = call("softmax", "1", word)
    assert (done.status, done.out) == (2, "")
    assert f"number 1 of row 0 is {name}" in done.err


def test_a_plot_of_many_rows_shows_the_first_and_says_so(call, tmp_path):
    path = tmp_path / "z.txt"
    path.write_text("1 2 3\n" * 9)
    done = call("softmax", path, "--plot", tmp_path / "b.png")
    assert done.status == 0
    assert "the plot shows the first 6" in done.err


def test_the_same_row_gives_the_same_picture(tmp_path):
    for name in ("a", "b"):
        assert run(["softmax", "2", "1", "0.1", "--plot", str(tmp_path / f"{name}.svg")]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
